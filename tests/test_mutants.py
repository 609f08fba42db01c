"""The lists of planted bugs find their places: a list that does not would end its run at once."""

import ast

import mutants
import mutants_python
import pytest


def test_every_mutant_of_c_finds_its_place_and_leaves_the_brackets_paired() -> None:
    mutants.check_list(mutants.MUTANTS)
    for mutant in mutants.MUTANTS:
        for bracket in ("()", "{}", "[]"):
            before, after = (text.count(bracket[0]) - text.count(bracket[1]) for text in mutant[2:])
            assert before == after, mutant.name


@pytest.mark.parametrize("mutant", mutants_python.MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_of_python_finds_its_place_and_can_be_read(mutant) -> None:
    mutants_python.check_list([mutant])
    text = (mutants_python.INSTALLED / mutant.file).read_text()
    ast.parse(text.replace(mutant.old, mutant.new))

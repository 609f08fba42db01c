"""Imports go one way: a module imports from its own room and from rooms below, annotations
included.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastmlp

SOURCE = Path(fastmlp.__file__).parent
# From the top to the ground; those on one line do not know each other.
FLOORS = [
    "__main__",
    "cli",
    "__init__",
    "linear",
    "sequential",
    "tables training analysis files",
    "network",
    "second_order plot",
    "layers",
    "engine metrics loss_functions",
    "sample_weights optimizers initializers loader",
    "losses schedules averages",
    "ground",
    "_core",
]
FLOOR_OF = {room: i for i, floor in enumerate(FLOORS) for room in floor.split()}
MODULES = sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))


def room_of(module: Path) -> str:
    return module.parts[0].removesuffix(".py")


def imported(module: Path) -> Iterator[tuple[int, str]]:
    """Line and room of every import of fastmlp's own, inside of functions too."""
    for node in ast.walk(ast.parse((SOURCE / module).read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                assert not alias.name.startswith("fastmlp"), f"{module}:{node.lineno} not relative"
        if isinstance(node, ast.ImportFrom):
            own = node.level == 0 and (node.module or "").startswith("fastmlp")
            assert not own, f"{module}:{node.lineno} not relative"
        if isinstance(node, ast.ImportFrom) and node.level == len(module.parts):
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ((node.lineno, name.split(".")[0]) for name in names)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_imports_only_from_its_room_and_from_below(module: Path) -> None:
    room = room_of(module)
    for line, other in imported(module):
        assert other == room or FLOOR_OF[other] > FLOOR_OF[room], f"{module}:{line} {other}"


def modules_imported(module: Path) -> set[Path]:
    """The modules of its own room that a module imports from."""
    found = set()
    for node in ast.walk(ast.parse((SOURCE / module).read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 1 and len(module.parts) > 1:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            paths = [module.with_name(f"{name}.py") for name in names]
            found |= {path for path in paths if (SOURCE / path).exists()}
    return found


def test_no_room_has_a_circle() -> None:
    left = {module: modules_imported(module) for module in MODULES}
    while left:
        free = [module for module, needs in left.items() if not needs & left.keys()]
        assert free, f"a circle among {sorted(map(str, left))}"
        for module in free:
            del left[module]


def test_the_table_names_every_module_and_every_file_of_tests() -> None:
    folder = Path(__file__).parent
    table = [line.split("|") for line in (folder / "README.md").read_text().splitlines()]
    rows = [cells for cells in table if len(cells) == 4]
    modules = {name for cells in rows for name in re.findall(r"`([^`]+)`", cells[1])}
    tests = {name for cells in rows for name in re.findall(r"`([^`]+)`", cells[2])}
    own = {path.as_posix() for path in MODULES if path.name != "__init__.py"}
    assert own <= modules, f"without a line: {own - modules}"
    gone = {m for m in modules - own if not m.startswith(("csrc/", "_core", "mutants"))}
    assert not gone, f"no such module: {gone}"
    assert tests == {path.name for path in folder.glob("test_*.py")}

"""What the report computes: chips, columns, cliffs, targets. `pytest test_report.py`."""

import argparse
import json
import shutil
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import chips
import numpy as np
import page
import pytest
import sweep_points
from kernels import parse_sizes
from machine import RESULTS, clean_environment
from peak import instruction_sets, machine_sets
from products import PRODUCTS, Arrays, Products, compile_products
from sweep_points import REASONS, cliffs, padded_work, points
from targets import chip_of, verdicts

NEW = "GenuineIntel Xeon, family 99, model 7"


@pytest.fixture
def held_to_avx2(monkeypatch: pytest.MonkeyPatch) -> None:
    if "v3" not in chips.known_kernels():
        pytest.skip("needs AVX2")
    monkeypatch.setenv(chips.VARIABLE, "v3")


@pytest.mark.parametrize(
    ("cpu", "name", "folder"),
    [
        ("AMD EPYC, family 25, model 17", "Zen 4", "zen4"),
        ("AMD EPYC 7763 64-Core Processor, family 25, model 1", "Zen 3", "zen3"),
        ("AMD Ryzen 9 5950X, family 25, model 33", "Zen 3", "zen3"),
        ("AMD EPYC 9B14, family 26, model 2", "Zen 5", "zen5"),
        ("AMD EPYC 7B12, family 23, model 49", "Zen 2", "zen2"),
        ("Intel(R) Xeon(R) CPU @ 2.30GHz, family 6, model 63", "Haswell", "haswell"),
        (NEW, NEW, "genuineintel_xeon_family_99_model_7"),
        ("aarch64", "aarch64", "aarch64"),
    ],
)
def test_chips(cpu: str, name: str, folder: str) -> None:
    assert chips.chip(cpu) == name
    assert chips.slug(cpu, None) == folder
    assert chips.slug(cpu, "avx2") == folder + "_avx2"
    header = {"cpu": cpu, "kernels": "v3", "held_to": "avx2"}
    assert chips.column(header) == f"{name}, held to AVX2"


def test_no_two_chips_share_numbers() -> None:
    numbers = [
        (vendor, family, model)
        for vendor, family, first, last, _ in chips._CORES
        for model in range(first, last + 1)
    ]
    assert len(numbers) == len(set(numbers))


def test_a_held_run_holds_everybody(held_to_avx2: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "SkylakeX")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    found = clean_environment(1)
    assert found["FASTMLP_KERNELS"] == "v3"
    assert found["OPENBLAS_CORETYPE"] == "Haswell"
    assert found["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert [s.name for s in instruction_sets()] == ["avx2"]
    monkeypatch.delenv(chips.VARIABLE)
    found = clean_environment(1)
    assert not {"FASTMLP_KERNELS", "OPENBLAS_CORETYPE", "ONEDNN_MAX_CPU_ISA"} & found.keys()


def test_holding_to_the_widest_is_holding_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(chips.VARIABLE, "base")
    chips.hold_to(chips.known_kernels()[0])
    assert chips.held_to() is None
    assert chips.holding() == {}


def test_padded_work_counts_whole_vectors() -> None:
    widths, batch, lanes = (8, 63, 33, 4), 7, 16
    vectors = 0
    for i, (n_in, n_out) in enumerate(pairwise(widths)):
        forward = n_in * len(range(0, n_out, lanes))
        vectors += 2 * forward  # the weight gradient has as many
        if i:
            vectors += n_out * len(range(0, n_in, lanes))
    n_params = 9 * 63 + 64 * 33 + 34 * 4
    assert padded_work(widths, batch, lanes, 0) == batch * lanes * vectors
    assert padded_work(widths, batch, lanes, 20) == batch * lanes * vectors + 20 * n_params


def rows_of(us: dict[int, float], work: dict[int, float] | None = None) -> list[dict[str, Any]]:
    return [
        {"axis": "width", "column": "Adam", "at": at, "us": t, "work": (work or {}).get(at, 100.0)}
        for at, t in us.items()
    ]


def test_a_cliff_is_told_from_its_neighbors() -> None:
    assert cliffs(rows_of({32: 1.0, 64: 1.2, 128: 1.24})) == []
    (found,) = cliffs(rows_of({128: 1.0, 32: 1.1, 64: 1.3}))
    assert (found["at"], found["neighbor"]["at"]) == (64, 128)
    assert found["times"] == pytest.approx(1.3)
    assert found["reason"] is None
    # One column beyond a vector may take as long as the whole vector that it begins.
    assert cliffs(rows_of({16: 1.0, 17: 2.0, 32: 2.0}, {16: 1.0, 17: 2.0, 32: 2.0})) == []
    (last,) = cliffs(rows_of({16: 1.0, 17: 1.3}))
    assert last["at"] == 17


def test_columns_are_lines_of_their_own() -> None:
    slow = [row | {"column": "float64", "us": 9.0} for row in rows_of({8: 1.0, 16: 1.0})]
    assert cliffs(rows_of({8: 1.0, 16: 1.0}) + slow) == []


def test_a_reason_is_named_for_its_rows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REASONS, "a test", lambda row, better, fixed_us: row["at"] == 48)
    found = cliffs(rows_of({32: 1.0, 48: 2.0, 64: 1.0, 65: 2.0}))
    assert {row["at"]: row["reason"] for row in found} == {48: "a test", 65: None}


def test_the_fixed_cost_of_a_step_is_a_reason() -> None:
    fixed, work = 3.0, {64: 1.0, 128: 2.0, 129: 2.0}
    found = cliffs(rows_of({64: 4.0, 128: 5.0, 129: 9.0}, work), fixed)
    assert {row["at"]: row["reason"] is None for row in found} == {64: False, 129: True}
    assert len(cliffs(rows_of({64: 4.0, 128: 5.0, 129: 9.0}, work), 0.0)) == 2


def test_the_sweep_has_what_stands_beside_powers_of_two() -> None:
    full, quick = ({p.key: p for p in points(q)} for q in (False, True))
    assert quick.keys() < full.keys()
    assert len(full) == len(points(False))
    widths = {p.at for p in full.values() if p.axis == "width w-w-w, 128 rows"}
    assert {8, 4096} <= widths
    assert {2**i + d for i in range(4, 12) for d in (-1, 0, 1)} <= widths
    assert {16 * i + d for i in range(1, 9) for d in (0, 1)} <= widths
    for axis in sweep_points.AXES:
        places = [p.at for p in full.values() if p.axis == axis and p.column == "Adam"]
        assert places == sorted(places)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_are_checked(dtype: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for instructions in machine_sets():
            library = compile_products(Path(folder), instructions, dtype)
            for size in ((5, 17, 33), (32, 129, 64)):
                products = Products(library, Arrays(size, dtype, 0))
                for product in PRODUCTS:
                    products.check(product)
                products.shape.n_in -= 1
                with pytest.raises(RuntimeError, match="differs"):
                    products.check("forward")


def test_cold_calls_take_one_copy_after_another() -> None:
    with tempfile.TemporaryDirectory() as folder:
        library = compile_products(Path(folder), machine_sets()[-1])
    arrays = Arrays((3, 4, 5), "float32", 4 * 4 * 5 * 6)
    assert len(arrays.w) == 6
    work = Products(library, arrays).work("weight_grad", "cold")
    arrays.w[:] = np.nan
    work(4)
    assert np.isfinite(arrays.w).all(axis=(1, 2)).tolist() == [True] * 4 + [False] * 2
    arrays.w[:] = np.nan
    work(3)
    assert np.isfinite(arrays.w).all(axis=(1, 2)).tolist() == [True] + [False] * 3 + [True] * 2


def test_shapes_of_the_command_line() -> None:
    assert parse_sizes("7x8x9,7x8x9,1x2x3") == [(7, 8, 9), (1, 2, 3)]
    assert len(parse_sizes("quick")) == 20
    for wrong in ("7x8", "7x8x0", "axbxc", "", "7x-8x9"):
        with pytest.raises(argparse.ArgumentTypeError):
            parse_sizes(wrong)


def test_targets_follow_the_chip() -> None:
    zen4, zen5 = (chip_of(page.load(RESULTS / name)) for name in ("zen4", "zen5"))
    assert (zen4.avx512, zen4.full_width) == (True, False)
    assert (zen5.avx512, zen5.full_width) == (True, True)
    held = page.load(RESULTS / "zen4")
    for result in held.values():
        result["header"] |= {"kernels": "v3", "held_to": "avx2"}
    wanted = {v.what: v.target for v in verdicts(held)}
    assert wanted["share of the peak, Adam included, from 256 wide up, one thread"] == "80%"
    assert wanted["one-row predict 17-64-64-6 in C"] == "0.45 us"


def test_a_new_chip_adds_a_column_by_itself(tmp_path: Path) -> None:
    results, readme = tmp_path / "results", page._README.read_bytes()
    for name in ("zen4", "zen5"):
        shutil.copytree(RESULTS / name, results / name)
    new = results / chips.slug(NEW, "avx2")
    new.mkdir()
    for file in (RESULTS / "zen4").glob("*.json"):
        result = json.loads(file.read_text())
        result["header"] |= {"cpu": NEW, "kernels": "v3", "held_to": "avx2", "commit": "abc1234"}
        (new / file.name).write_text(json.dumps(result))
    page.write_pages(results, tmp_path / "performance.md")
    text = (tmp_path / "performance.md").read_text()
    assert f"{NEW}, held to AVX2 (abc1234)" in text
    for name in ("Zen 4, AVX-512 (", "Zen 5, AVX-512 ("):
        assert name in text
    own = (tmp_path / "performance" / f"{new.name}.md").read_text()
    assert f"# Performance: {NEW}, held to AVX2" in own
    for heading in own.split("\n## ")[3:-1]:  # after the targets and the steps' heading
        assert "held to AVX2, " in heading or "Not measured" in heading
    assert page._README.read_bytes() == readme

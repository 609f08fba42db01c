"""Tests with teeth: one-line bugs planted in the C sources, each of which some test must catch.

    python tests/mutants.py             all of them, one at a time; exit code 1 if one survives
    python tests/mutants.py draw eps    those whose names contain one of these words
    python tests/mutants.py --list      their names

A copy of the source tree goes to a temporary folder; there each bug is planted, the package is
built with `pip install --no-build-isolation` and the tests below run against it until the first
failure. What is installed, and this tree, are left alone. The unchanged copy runs first: its
tests must pass, otherwise "caught" means nothing. The packages of [build-system] and of the
`test` extra are needed.

A new kernel brings its mutant with it: a place where a bug would still give plausible numbers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
# The quick ones first: pytest stops at the first failure.
TESTS = ["golden", "optimizers", "losses", "dropout", "layers", "equivalences", "gradients"]


class Mutant(NamedTuple):
    name: str
    file: str  # inside csrc/
    old: str  # must occur exactly once
    new: str


MUTANTS = [
    Mutant(
        "relu: slope 1 at the kink",
        "kernels/activation.c",
        "pick(y <= 0, (vec){0}, splat(1))",
        "pick(y < 0, (vec){0}, splat(1))",
    ),
    Mutant(
        "gelu: cut too early",
        "kernels/activation.c",
        "pick(z < -60, (vec){0}, z * vnormal_cdf(z))",
        "pick(z < -5, (vec){0}, z * vnormal_cdf(z))",
    ),
    Mutant(
        "silu: 1 - s cancels",
        "kernels/activation.c",
        "vsigmoid(c) * fma_(c, vsigmoid(-c), splat(1))",
        "vsigmoid(c) * fma_(c, 1 - vsigmoid(c), splat(1))",
    ),
    Mutant(
        "activations: last element of a row's rest not written",
        "kernels/activation.c",
        "store_part(y + i, name##_of(load_part(z + i, n - i), splat(a)), n - i);",
        "store_part(y + i, name##_of(load_part(z + i, n - i), splat(a)), n - i - 1);",
    ),
    Mutant(
        "exp: low part of ln 2 with the wrong sign",
        "kernels/vmath.h",
        "r = fma_(*n, splat(-LN2_LOW), r);",
        "r = fma_(*n, splat(LN2_LOW), r);",
    ),
    Mutant(
        "log1p: small arguments lose their digits",
        "kernels/vmath.h",
        "pick(n == 0, x, m - 1)",
        "m - 1",
    ),
    Mutant(
        "dropout: not scaled",
        "kernels/dropout.c",
        "(real)(1.0 / (1.0 - op->attr0))",
        "(real)1",
    ),
    Mutant(
        "dropout: one mask for all rows",
        "kernels/dropout.c",
        "fm_mix64(key ^ (uint64_t)r)",
        "fm_mix64(key)",
    ),
    Mutant(
        "dropout: the mask depends on how rows are split over threads",
        "kernels/dropout.c",
        "fm_mix64(key ^ (uint64_t)r)",
        "fm_mix64(key ^ (uint64_t)(r - r0))",
    ),
    Mutant(
        "dropout: one mask for all layers",
        "kernels/dropout.c",
        "fm_key(ctx->seed, ctx->draw, (uint64_t)op->variant)",
        "fm_key(ctx->seed, ctx->draw, 0)",
    ),
    Mutant(
        "linear: bias gradient without the first row",
        "kernels/linear.c",
        "for (int64_t r = 0; r < rows; r++)\n            sum +=",
        "for (int64_t r = 1; r < rows; r++)\n            sum +=",
    ),
    Mutant(
        "gemm: blocks of k replace each other",
        "kernels/gemm_tile.h",
        "t.accumulate = p > 0;",
        "t.accumulate = 0;",
    ),
    Mutant(
        "gemm: last column of a transposed panel lost",
        "kernels/gemm_tile.h",
        "j + i < width ? load_upto",
        "j + i < width - 1 ? load_upto",
    ),
    Mutant(
        "cross_entropy: largest output not taken off",
        "kernels/loss.c",
        "top[r] = row_max(z + r * n_out, n_out);",
        "top[r] = 0;",
    ),
    Mutant(
        "binary_cross_entropy: loss of large outputs",
        "kernels/loss.c",
        "const vec linear = vmax(z, (vec){0}) - y * z;",
        "const vec linear = vabs(z) - y * z;",
    ),
    Mutant(
        "sgd: averaged momentum is the usual one",
        "kernels/optimizer.c",
        "h->averaged ? 1 - h->momentum : 1",
        "h->averaged ? 1 : 1",
    ),
    Mutant(
        "adam: no eps",
        "kernels/optimizer.c",
        "fma_(vsqrt(v_new), root_scale, eps)",
        "(vsqrt(v_new) * root_scale)",
    ),
    Mutant(
        "adam: root of the second correction forgotten",
        "network.c",
        "sqrt(1 - pow(h.beta2, (double)t))",
        "(1 - pow(h.beta2, (double)t))",
    ),
    Mutant(
        "update: biases decay",
        "network.c",
        "weights ? r->hyper->weight_decay : 0",
        "r->hyper->weight_decay",
    ),
    Mutant(
        "train: biases decay",
        "network.c",
        "update_range(r, op->b, s.n_biases, 0);",
        "update_range(r, op->b, s.n_biases, r->hyper->weight_decay);",
    ),
    Mutant(
        "train: a short batch is divided by the full size",
        "network.c",
        "1.0 / (double)c->rows, r1 - r0",
        "1.0 / (double)job->batch_size, r1 - r0",
    ),
    Mutant(
        "train: the masks never change (draw)",
        "network.c",
        "    c->draw++;\n",
        "",
    ),
    Mutant(
        "shuffle: every epoch in one order",
        "network.c",
        "fm_key(seed, epoch, 0)",
        "fm_key(seed, 0, 0)",
    ),
]


def check_list(mutants: list[Mutant]) -> None:
    """Before any work: does each still find its place?"""
    for mutant in mutants:
        found = (ROOT / "csrc" / mutant.file).read_text().count(mutant.old)
        if found != 1:
            raise SystemExit(
                f"{mutant.name}: {mutant.old!r} stands {found} times in csrc/{mutant.file}, not "
                "once; bring the list in tests/mutants.py up to date"
            )


def plant(tree: Path, mutant: Mutant) -> str:
    """Change one file of the copy; returns what stood there."""
    path = tree / "csrc" / mutant.file
    text = path.read_text()
    path.write_text(text.replace(mutant.old, mutant.new))
    return text


def build(tree: Path) -> None:
    """Into tree/installed; the folder of the compiler's output is kept from mutant to mutant."""
    target = tree / "installed"
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation"]
    command += ["--no-deps", "--disable-pip-version-check", "--target", str(target)]
    command += [f"--config-settings=build-dir={tree / 'compiled'}", str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the build failed:\n{done.stdout}{done.stderr}")


def run_tests(tree: Path) -> str:
    """The name of the first test that fails, or nothing."""
    installed = tree / "installed"
    environment = {**os.environ, "PYTHONPATH": str(installed), "CI": "1"}
    run = partial(subprocess.run, env=environment, cwd=tree, capture_output=True, text=True)
    where = [sys.executable, "-c", "import fastmlp; print(fastmlp.__file__)"]
    found = run(where, check=True).stdout.strip()
    if not Path(found).is_relative_to(installed):
        raise SystemExit(f"the tests would import {found}, not the mutant")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider"]
    command += [f"tests/test_{name}.py" for name in TESTS]
    done = run(command, check=False)
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    if done.returncode == 0:
        return ""
    if done.returncode < 0:
        return "crash"
    if done.returncode != 1 or not failed:  # no test failed: something else is wrong
        raise SystemExit(f"pytest ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return failed[0].removeprefix("FAILED ").split(" - ")[0]


def copy_tree(tree: Path) -> None:
    """The sources, without what builds and tools have left behind."""
    leave = shutil.ignore_patterns(".*", "build", "dist", "benchmarks", "docs", "__pycache__")
    shutil.copytree(ROOT, tree, ignore=leave, dirs_exist_ok=True)


def check(mutants: list[Mutant]) -> int:
    """Try each; returns how many survive."""
    check_list(mutants)
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="fastmlp-mutants-") as folder:
        tree = Path(folder)
        copy_tree(tree)
        build(tree)
        if failed := run_tests(tree):
            raise SystemExit(f"without any bug planted, {failed} fails: mend that first")
        print("control    everything passes without a bug", flush=True)
        for mutant in mutants:
            original = plant(tree, mutant)
            build(tree)
            failed = run_tests(tree)
            (tree / "csrc" / mutant.file).write_text(original)
            survivors += not failed
            print(f"{'caught' if failed else 'SURVIVED':10} {mutant.name}  {failed}", flush=True)
    print(f"{len(mutants) - survivors} of {len(mutants)} caught")
    return survivors


def main(words: list[str]) -> int:
    if words == ["--list"]:
        print("\n".join(mutant.name for mutant in MUTANTS))
        return 0
    chosen = [m for m in MUTANTS if not words or any(word in m.name for word in words)]
    if not chosen:
        raise SystemExit("no mutant has such a name; see --list")
    return 1 if check(chosen) else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

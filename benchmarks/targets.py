"""The targets of the project and what the results say to each: computed, never typed in."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from import_time import over_numpy_ms
from memory import copies_x
from report import most, ratios, steps_by_shape
from shapes import SHAPES

Result = dict[str, Any]
Results = dict[str, Result]  # by the name of the script; only those that are there
LARGE = list(SHAPES)[list(SHAPES).index("784-256-128-10") :]  # from there on up
_NO_ALLOCATION = 0.01  # calls a step: one of fit's own that comes or goes is not one of a step


@dataclass(frozen=True)
class Verdict:
    """A line of the table; `reached` is None where there is no measurement."""

    what: str
    target: str
    measured: str
    reached: bool | None
    quick: bool = False


def verdicts(results: Results) -> Iterator[Verdict]:
    """All lines of the table of targets, also of those that are not measured."""
    for script, what, target, judge in _TARGETS:
        result = results.get(script)
        if result is None:
            yield Verdict(what, target, f"not measured: no {script}.json", None)
            continue
        measured, reached = judge(result)
        yield Verdict(what, target, measured, reached, bool(result["header"].get("quick")))


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def _times(found: dict[str, float], least: float, mean: float) -> tuple[str, bool | None]:
    """Ratios by line: the least must be at least `least`, their geometric mean `mean`."""
    if not found:
        return "no line that counts", None
    worst = min(found, key=lambda name: found[name])
    average = geometric_mean(list(found.values()))
    text = f"least {found[worst]:.2f} ({worst}), geometric mean {average:.2f}, of {len(found)}"
    return text, found[worst] >= least and average >= mean


def _against(peer: str, least: float, mean: float, own: str = "fastmlp") -> Any:
    """Beside each ratio that is too small, and the mean, what it would be at the machine's peak."""

    def judge(result: Result) -> tuple[str, bool | None]:
        found, limits = ratios(result, peer, own), most(result, peer, own)
        text, reached = _times(found, least, mean)
        missed = [name for name in found if found[name] < least and name in limits]
        if missed:
            text += "; in brackets what it would be at the machine's peak: " + ", ".join(
                f"{name} {found[name]:.2f} ({limits[name]:.2f})" for name in missed
            )
        if limits and geometric_mean(list(found.values())) < mean:
            text += f", geometric mean ({geometric_mean(list(limits.values())):.2f})"
        return text, reached

    return judge


def _share_of_peak(result: Result) -> tuple[str, bool | None]:
    grid = steps_by_shape(result)
    found = {
        name: grid[name]["fastmlp"]["share_of_peak"]
        for name in LARGE
        if grid.get(name, {}).get("fastmlp", {}).get("share_of_peak")
    }
    text = ", ".join(f"{share:.0%} ({name})" for name, share in found.items())
    complete = len(found) == len(LARGE)
    return text or "no such net measured", min(found.values()) >= 0.85 if complete else None


def _fit(result: Result) -> tuple[str, bool | None]:
    found = {
        f"{r['data']} {'-'.join(map(str, r['hidden']))}": r["ratio"]
        for r in result["rows"]
        if r["accuracies_agree"]
    }
    text, reached = _times(found, 4, 10)
    left_out = len(result["rows"]) - len(found)
    return text + (f"; {left_out} left out, accuracies differ" if left_out else ""), reached


def _two_threads(where: str, key: str, least: float, large_only: bool = False) -> Any:
    def judge(result: Result) -> tuple[str, bool | None]:
        found = {
            f"{r['shape']}, {r['what']} of {r['batch']:,}": r[where]["2"][key]
            for r in result["rows"]
            if "2" in r[where] and not (large_only and r["shape"] not in LARGE)
        }
        if not found:
            return "not measured on two threads", None
        low = sorted(found, key=lambda name: found[name])
        below = sum(value < least for value in found.values())
        text = ", ".join(f"{found[name]:.2f} ({name})" for name in islice(low, 1 + (below > 1)))
        return f"least {text}; {below} of {len(found)} below", not below

    return judge


def _row_of(way: str, target: float) -> Any:
    def judge(result: Result) -> tuple[str, bool | None]:
        row = next(r for r in result["rows"] if r["way"] == way)
        if not row.get("agrees"):
            return "the output differs or there is none", False
        text = f"{row['us_best']:.2f} us, median {row['us_median']:.2f}"
        return text, row["us_best"] <= target

    return judge


def _in_c(target: float) -> Any:
    """The C door without what a call from Python into it takes."""

    def judge(result: Result) -> tuple[str, bool | None]:
        ways = {row["way"]: row for row in result["rows"]}
        door, empty = ways["c_door"], ways.get("empty_door")
        if not door.get("agrees"):
            return "the output differs or there is none", False
        best = door["us_best"]
        if empty is None:
            return f"{best:.2f} us, with a call from Python", best <= target
        alone = best - empty["us_best"]
        return f"{alone:.2f} us; {best:.2f} with a call from Python", alone <= target

    return judge


def _allocations(result: Result) -> tuple[str, bool | None]:
    found = result["allocations"]
    if "problem" in found:
        return found["problem"], None
    most = max(0.0, *(a["per_step"] for a in found.values()))
    return f"{most:.2f} a step", most < _NO_ALLOCATION


def _memory(result: Result) -> tuple[str, bool | None]:
    lines = [
        f"{r['over_imports'] / 2**20:,.0f} of {r['bound'] / 2**20:,.0f} MB ({r['shape']})"
        for r in result["rows"]
    ]
    return ", ".join(lines), all(r["over_imports"] <= r["bound"] for r in result["rows"])


def _copies(result: Result) -> tuple[str, bool | None]:
    copied = [r["shape"] for r in result["rows"] if copies_x(r)]
    return f"copied: {', '.join(copied) or 'never'}", not copied


def _more_than(other: str, way: str, target: float) -> Any:
    """What a way to train takes on one thread beyond another one."""

    def judge(result: Result) -> tuple[str, bool | None]:
        best = {row["way"]: row["us_best"] for row in result["steps"]}
        more = best[way] - best[other]
        return f"{more:.1f} us", more <= target

    return judge


def _step_time(way: str, target: float) -> Any:
    def judge(result: Result) -> tuple[str, bool | None]:
        found = steps_by_shape(result).get("8-64-64-4", {}).get(way, {})
        if "us_best" not in found:
            return "not measured", None
        text = f"{found['us_best']:.1f} us"
        if share := found.get("share_of_peak"):
            text += (
                f"; its products alone take {found['us_best'] * share:.1f} at the machine's peak"
            )
        return text, found["us_best"] <= target

    return judge


def _second_order(result: Result) -> tuple[str, bool | None]:
    lm, adam = (
        next(r for r in result["rows"] if r["method"] == name)
        for name in ("levenberg_marquardt", "adam")
    )
    text = f"loss {lm['loss']:.1e} in {lm['s_median']:.1f} s, Adam {adam['loss']:.1e} in "
    text += f"{adam['s_median']:.1f} s"
    return text, lm["loss"] < adam["loss"] and lm["s_median"] < adam["s_median"]


def _import(result: Result) -> tuple[str, bool | None]:
    over = over_numpy_ms(result)
    return f"{over:.0f} ms", over <= 50


Judge = Callable[[Result], tuple[str, bool | None]]
_TARGETS: tuple[tuple[str, str, str, Judge], ...] = (
    (
        *("step", "step against PyTorch eager with fused Adam"),
        *("2.5x on every shape, geometric mean 6x", _against("torch", 2.5, 6)),
    ),
    (
        *("step", "step against JAX jit"),
        *("1.3x on every shape, geometric mean 2.5x", _against("jax", 1.3, 2.5)),
    ),
    (
        *("step", "share of the measured FMA peak, Adam included, from 784-256-128-10 up"),
        *("85%", _share_of_peak),
    ),
    (
        *("step", "step of the AVX2 build against PyTorch"),
        *("1.2x on every shape", _against("torch", 1.2, 0, "fastmlp-v3")),
    ),
    (
        *("fit_sklearn", "`fit` against scikit-learn's, same settings and accuracy"),
        *("4x on every shape, geometric mean 10x", _fit),
    ),
    (
        *("scaling", "two threads against one, alone"),
        *("0.95x on every shape", _two_threads("alone", "ratio", 0.95)),
    ),
    (
        *("scaling", "two threads against one, beside a busy process"),
        *("0.95x on every shape", _two_threads("busy", "ratio_of_medians", 0.95)),
    ),
    (
        *("scaling", "two threads against one, from 784-256-128-10 up"),
        *("1.8x", _two_threads("alone", "ratio", 1.8, large_only=True)),
    ),
    (
        *("latency", "one-row predict 17-64-64-6 from Python"),
        *("1 us", _row_of("predict_row_out", 1)),
    ),
    (
        *("latency", "one-row net.predict(X) 17-64-64-6 from Python"),
        *("2.5 us", _row_of("predict", 2.5)),
    ),
    ("latency", "one-row predict 17-64-64-6 in C", "0.5 us", _in_c(0.5)),
    (
        "step",
        "net.train_step of 8-64-64-4 at batch 64",
        "9 us",
        _step_time("fastmlp-train_step", 9),
    ),
    ("step", "a step of 8-64-64-4 at batch 64 inside fit", "8 us", _step_time("fastmlp", 8)),
    (
        *("latency", "net.train_step over the step inside fit, 8-64-64-4"),
        *("1.5 us", _more_than("long_epoch", "train_step", 1.5)),
    ),
    (
        *("latency", "fit over its step, an epoch of one step"),
        *("50 us", _more_than("long_epoch", "epochs_of_one_step", 50)),
    ),
    (
        *("second_order", "Levenberg-Marquardt against 10,000 epochs of Adam"),
        *("a lower loss in less time", _second_order),
    ),
    ("memory", "allocations per step", "none", _allocations),
    (
        *("memory", "peak memory of a fit, over the imports"),
        *("data + 4 x parameters + activations of one batch + 20 MB", _memory),
    ),
    ("memory", "X in float32", "never copied", _copies),
    ("import_time", "import time, over NumPy's own", "50 ms", _import),
)

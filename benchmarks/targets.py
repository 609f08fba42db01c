"""The targets of the project and what the results of a chip say to each: computed, never typed in.

They are shares of what is possible on the chip: of its peak, of another library in the same run.
Two things about a chip decide which number applies: whether fastmlp uses AVX-512 there, and whether
AVX-512 does more work than AVX2 (on Zen 4 it does not).
"""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from chips import instructions
from import_time import over_numpy_ms
from memory import copies_x
from product_report import geometric_mean, place, ratio
from report import most, ratios, steps_by_shape
from shapes import SHAPES, Shape
from sweep_points import CLIFF, cliffs_of, lines

Result = dict[str, Any]
Results = dict[str, Result]  # by the name of the script; only those that are there
_NO_ALLOCATION = 0.01  # calls a step: one of fit's own that comes or goes is not one of a step
_NEAR_NS = 150  # round trip of a cache line between processors that share a cache
_FULL_WIDTH = 1.5  # times the peak of AVX2, where AVX-512 units are wider
LARGE = [s.name for s in SHAPES.values() if max(s.widths[1:-1]) >= 256]
FROM_784 = list(SHAPES)[list(SHAPES).index("784-128-10") :]


@dataclass(frozen=True)
class Chip:
    """What decides which targets apply."""

    avx512: bool
    full_width: bool


@dataclass(frozen=True)
class Found:
    """What was measured, in few words and in all, and whether that reaches the target."""

    short: str
    text: str
    reached: bool | None


@dataclass(frozen=True)
class Verdict:
    """A line of the table; `reached` is None where there is no measurement."""

    what: str
    target: str
    short: str
    measured: str
    reached: bool | None
    quick: bool = False


Judge = Callable[[Results], Found]
Target = tuple[str, str, str, Judge | None]  # script, what, target; None: not measured by any


def chip_of(results: Results) -> Chip:
    """From the header of any result, and the peaks measured with the steps."""
    header = next((r["header"] for r in results.values()), None)
    avx512 = header is not None and instructions(header) == "avx512"
    sets = results.get("step", {}).get("header", {}).get("peak", {}).get("sets", {})
    peaks = [sets[name]["float32"]["one_thread"] for name in ("avx512", "avx2") if name in sets]
    wider = len(peaks) == 2 and peaks[0] >= _FULL_WIDTH * peaks[1]
    return Chip(avx512, avx512 and wider)


def verdicts(results: Results) -> Iterator[Verdict]:
    """All lines of the table of targets, also of those that are not measured."""
    for script, what, target, judge in targets(chip_of(results)):
        if judge is None:
            yield Verdict(what, target, "-", "there is no benchmark of it yet", None)
            continue
        result = results.get(script)
        if result is None:
            yield Verdict(what, target, "-", f"not measured: no {script}.json", None)
            continue
        found = judge(results)
        quick = bool(result["header"].get("quick"))
        yield Verdict(what, target, found.short, found.text, found.reached, quick)


def _times(found: dict[str, float], least: float, mean: float) -> Found:
    """Ratios by line: the least must be at least `least`, their geometric mean `mean`."""
    if not found:
        return Found("-", "no line that counts", None)
    worst = min(found, key=lambda name: found[name])
    average = geometric_mean(list(found.values()))
    text = f"least {found[worst]:.2f} ({worst}), geometric mean {average:.2f}, of {len(found)}"
    short = f"{found[worst]:.2f}, mean {average:.2f}"
    return Found(short, text, found[worst] >= least and average >= mean)


def _against(peer: str, least: float, mean: float) -> Judge:
    """Beside each ratio that is too small, and the mean, what it would be at the machine's peak."""

    def judge(results: Results) -> Found:
        ours, limits = (f(results["step"], peer, "fastmlp") for f in (ratios, most))
        found = _times(ours, least, mean)
        text = found.text
        missed = [name for name in ours if ours[name] < least and name in limits]
        if missed:
            text += "; in brackets what it would be at the machine's peak: " + ", ".join(
                f"{name} {ours[name]:.2f} ({limits[name]:.2f})" for name in missed
            )
        if limits and geometric_mean(list(ours.values())) < mean:
            text += f"; geometric mean at the peak {geometric_mean(list(limits.values())):.2f}"
        return Found(found.short, text, found.reached)

    return judge


def shares_on_one_thread(results: Results) -> dict[str, float]:
    """By net, of the peak of one thread: from scaling.json, whose peak stands there or with step's.

    The number is what `fit` takes on one thread, alone on the machine.
    """
    scaling = results.get("scaling", {})
    peak = scaling.get("peak") or results.get("step", {}).get("header", {}).get("peak", {})
    if not peak.get("sets"):
        return {}
    limit = next(iter(peak["sets"].values()))["float32"]["one_thread"]
    return {
        row["shape"]: row["flop"] / row["alone"]["1"]["us_best"] / 1e3 / limit
        for row in scaling["rows"]
        if row["what"] == "fit"
    }


def shares_on_all_threads(results: Results) -> dict[str, float]:
    grid = steps_by_shape(results["step"])
    found = {name: rows["fastmlp"].get("share_of_peak") for name, rows in grid.items()}
    return {name: share for name, share in found.items() if share}


def _shares(of: Callable[[Results], dict[str, float]], names: list[str], least: float) -> Judge:
    def judge(results: Results) -> Found:
        known = of(results)
        found = {name: known[name] for name in names if name in known}
        if not found:
            return Found("-", "no such net measured", None)
        text = ", ".join(f"{share:.0%} ({name})" for name, share in found.items())
        lowest = min(found.values())
        return Found(f"{lowest:.0%}", text, lowest >= least if len(found) == len(names) else None)

    return judge


def _products(results: Results) -> Found:
    """The ratios of each product, shape, type and instruction set to each library."""
    found = {
        f"{place(r)}, {r['kernels']}, {r['dtype']}, {peer}": value
        for r in results["kernels"]["rows"]
        for peer in ("openblas", "mkl")
        if (value := ratio(r, peer)) is not None
    }
    below = sum(value < 1 for value in found.values())
    judged = _times(found, 1, 1)
    return Found(
        f"{judged.short}, {below} below", f"{judged.text}; {below} below 1", judged.reached
    )


def _products_of_peak(results: Results) -> Found:
    """The geometric mean of each instruction set and type decides."""
    groups: dict[str, list[float]] = {}
    for r in results["kernels"]["rows"]:
        name = f"{r['kernels']}, {r['dtype']}"
        groups.setdefault(name, []).append(r["fastmlp"]["share_of_peak"])
    means = {name: geometric_mean(shares) for name, shares in groups.items()}
    text = ", ".join(f"{means[n]:.0%}, least {min(groups[n]):.0%} ({n})" for n in groups)
    return Found(f"{min(means.values()):.0%}", text, min(means.values()) >= 0.88)


def _cliffs(results: Results) -> Found:
    rows = results["sweep"]["rows"]
    found = cliffs_of(results["sweep"])
    unnamed = [r for r in found if r["reason"] is None]
    worst = max(unnamed, key=lambda r: r["times"], default=None)
    text = f"{len(found)} cliffs of {len(rows)} points, {len(unnamed)} without a named reason"
    if worst:
        place = f"{worst['axis']}, {worst['column']}, {worst['at']:,}"
        text += f"; the worst {worst['times']:.2f} ({place})"
    return Found(f"{len(unnamed)} of {len(rows)}", text, not unnamed)


def _large_batch(results: Results) -> Found:
    line = lines(results["sweep"]["rows"]).get(("batch of 8-64-64-4", "Adam"), [])
    a_row = {r["at"]: r["us"] / r["at"] for r in line}
    if 65_536 not in a_row:
        return Found("-", "not measured at this batch", None)
    best = min(a_row, key=a_row.__getitem__)
    times = a_row[65_536] / a_row[best]
    text = f"{times:.2f} times the {a_row[best] * 1e3:.0f} ns a row of batch {best:,}"
    return Found(f"{times:.2f}", text, times <= 1.2)


def _fit(dtype: str, mean: float) -> Judge:
    def judge(results: Results) -> Found:
        rows = [r for r in results["fit_sklearn"]["rows"] if r.get("dtype", "float32") == dtype]
        found = {
            f"{r['data']} {'-'.join(map(str, r['hidden']))}": r["ratio"]
            for r in rows
            if r["accuracies_agree"]
        }
        judged, left_out = _times(found, 2, mean), len(rows) - len(found)
        more = f"; {left_out} left out, accuracies differ" if left_out else ""
        return Found(judged.short, judged.text + more, judged.reached)

    return judge


def _two_threads(where: str, key: str, least: float, names: list[str], near: bool) -> Judge:
    """`near`: only rows before whose rounds the processors mostly shared a cache."""

    def judge(results: Results) -> Found:
        rows = [r for r in results["scaling"]["rows"] if "2" in r[where] and r["shape"] in names]
        if near:
            rows = [r for r in rows if r["what"] == "fit"]
        far = [r for r in rows if near and not _is_near(r)]
        found = {
            f"{r['shape']}, {r['what']} of {r['batch']:,}": r[where]["2"][key]
            for r in rows
            if r not in far
        }
        left_out = f"; {len(far)} left out, the processors were far apart" if far else ""
        if not found:
            return Found("-", f"not measured on two threads{left_out}", None)
        low = sorted(found, key=lambda name: found[name])
        below = sum(value < least for value in found.values())
        text = ", ".join(f"{found[name]:.2f} ({name})" for name in low[: 1 + (below > 1)])
        text = f"least {text}; {below} of {len(found)} below{left_out}"
        return Found(f"{found[low[0]]:.2f}", text, not below)

    return judge


def _is_near(row: dict[str, Any]) -> bool:
    trips = [ns for ns in row.get("round_trip_ns", []) if ns is not None]
    return not trips or statistics.median(trips) <= _NEAR_NS


def _row_of(way: str, target: float) -> Judge:
    def judge(results: Results) -> Found:
        row = next(r for r in results["latency"]["rows"] if r["way"] == way)
        if not row.get("agrees"):
            return Found("wrong", "the output differs or there is none", False)
        text = f"{row['us_best']:.2f} us, median {row['us_median']:.2f}"
        return Found(f"{row['us_best']:.2f} us", text, row["us_best"] <= target)

    return judge


def _in_c(target: float) -> Judge:
    """The C door without what a call from Python into it takes."""

    def judge(results: Results) -> Found:
        ways = {row["way"]: row for row in results["latency"]["rows"]}
        door, empty = ways["c_door"], ways.get("empty_door")
        if not door.get("agrees"):
            return Found("wrong", "the output differs or there is none", False)
        best = door["us_best"]
        alone = best - (empty["us_best"] if empty else 0)
        text = f"{best:.2f} us with a call from Python"
        if empty:
            text = f"{alone:.2f} us; {text}"
        return Found(f"{alone:.2f} us", text, alone <= target)

    return judge


def _over_the_step(results: Results) -> Found:
    best = {row["way"]: row["us_best"] for row in results["latency"]["steps"]}
    more = best["train_step"] - best["long_epoch"]
    return Found(f"{more:.1f} us", f"{more:.1f} us on one thread, 8-64-64-4", more <= 1.5)


def _second_order(results: Results) -> Found:
    rows = results["second_order"]["rows"]
    lm, adam = (
        next(r for r in rows if r["method"] == name) for name in ("levenberg_marquardt", "adam")
    )
    text = f"loss {lm['loss']:.1e} in {lm['s_median']:.1f} s, Adam {adam['loss']:.1e} in "
    text += f"{adam['s_median']:.1f} s"
    reached = lm["loss"] < adam["loss"] and lm["s_median"] < adam["s_median"]
    return Found(f"{adam['loss'] / lm['loss']:.1f} times lower", text, reached)


def _allocations(results: Results) -> Found:
    found = results["memory"]["allocations"]
    if "problem" in found:
        return Found("-", found["problem"], None)
    most_calls = max(0.0, *(a["per_step"] for a in found.values()))
    return Found(f"{most_calls:.2f}", f"{most_calls:.2f} a step", most_calls < _NO_ALLOCATION)


def _memory(results: Results) -> Found:
    rows = results["memory"]["rows"]
    texts = [
        f"{r['over_imports'] / 2**20:,.0f} of {r['bound'] / 2**20:,.0f} MB ({r['shape']})"
        for r in rows
    ]
    share = max(r["over_imports"] / r["bound"] for r in rows)
    return Found(f"{share:.0%} of it", ", ".join(texts), share <= 1)


def _copies(results: Results) -> Found:
    copied = [r["shape"] for r in results["memory"]["rows"] if copies_x(r)]
    text = f"copied: {', '.join(copied) or 'never'}"
    return Found(text, text, not copied)


def _import(results: Results) -> Found:
    over = over_numpy_ms(results["import_time"])
    return Found(f"{over:.0f} ms", f"{over:.0f} ms", over <= 50)


def targets(chip: Chip) -> list[Target]:
    """The lines of the table for such a chip."""
    return [*_of_steps(chip), *_of_products(), *_of_threads(), *_of_small_things(chip)]


def _of_steps(chip: Chip) -> Iterator[Target]:
    for peer, title, wide, other in (
        ("torch", "PyTorch eager with fused Adam", (2.5, 6.0), (1.15, 4.0)),
        ("jax", "JAX jit", (1.3, 2.5), (1.1, 2.2)),
    ):
        least, mean = wide if chip.full_width else other
        text = f"{least:g}x on every shape, geometric mean {mean:g}x"
        yield "step", f"step against {title}", text, _against(peer, least, mean)
    what = "share of the peak, Adam included, from 256 wide up"
    one, all_threads = (0.85, 0.80) if chip.avx512 else (0.80, 0.75)
    judge = _shares(shares_on_one_thread, LARGE, one)
    yield "scaling", f"{what}, one thread", f"{one:.0%}", judge
    judge = _shares(shares_on_all_threads, LARGE, all_threads)
    yield "step", f"{what}, all threads", f"{all_threads:.0%}", judge
    for name, least in (("8-64-64-4", 0.70), ("10-45-45-10", 0.65), ("4-32-16-4", 0.34)):
        shape: Shape = SHAPES[name]
        what = f"{name} {shape.activation} at batch {shape.batch:,}, one thread"
        yield "scaling", what, f"{least:.0%}", _shares(shares_on_one_thread, [name], least)


def _of_products() -> Iterator[Target]:
    what = "products alone, cold weights, widths 128 to 2,048"
    yield "kernels", what, "no shape below MKL or OpenBLAS", _products
    yield "kernels", f"{what}, share of the peak", "88%, geometric mean", _products_of_peak
    text = f"none beyond {CLIFF}x its better neighbor without a named reason"
    yield "sweep", "cliffs, one thread", text, _cliffs
    what = "8-64-64-4 at batch 65,536, time a row"
    yield "sweep", what, "1.2x the best batch's", _large_batch


def _of_threads() -> Iterator[Target]:
    what, everywhere = "two threads against one", "0.95x on every shape"
    for where, key, title in (
        ("alone", "ratio", "alone"),
        ("busy", "ratio_of_medians", "beside a busy process"),
    ):
        every = [*SHAPES, "2048-2048-2048-10"]
        judge = _two_threads(where, key, 0.95, every, near=False)
        yield "scaling", f"{what}, {title}", everywhere, judge
    what += ", from 784-128-10 up, where the processors are near"
    yield "scaling", what, "1.7x", _two_threads("alone", "ratio", 1.7, FROM_784, near=True)
    text = "1.9x of one thread's member steps on two threads; 4x JAX vmap on 8-64-64-4"
    yield "", "K models in one pass", text, None


def _of_small_things(chip: Chip) -> Iterator[Target]:
    for dtype, mean in (("float64", 4.0), ("float32", 6.0)):
        what = f"`fit` against scikit-learn's, same settings and accuracy, {dtype}"
        text = f"2x on every shape, geometric mean {mean:g}x"
        yield "fit_sklearn", what, text, _fit(dtype, mean)
    in_c = 0.35 if chip.avx512 else 0.45
    row, none = "one-row predict 17-64-64-6", "none"
    yield "latency", "net.train_step over the step inside fit", "1.5 us", _over_the_step
    yield "latency", f"{row} from Python", "1.0 us", _row_of("predict_row_out", 1.0)
    yield "latency", f"{row} in C", f"{in_c} us", _in_c(in_c)
    what = "Levenberg-Marquardt against 10,000 epochs of Adam"
    yield "second_order", what, "a lower loss in less time", _second_order
    yield "memory", "allocations per step", none, _allocations
    bound = "data + 4 x parameters + activations of one batch + 20 MB"
    yield "memory", "peak memory of a fit, over the imports", bound, _memory
    yield "memory", "X in float32", "never copied", _copies
    yield "import_time", "import time, over NumPy's own", "50 ms", _import

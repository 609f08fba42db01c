"""The plots of the report: roofline, nearness to the peak, ratio to peers, threads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import sweep_report
from report import TITLES, ratios, steps_by_shape
from shapes import SHAPES
from targets import chip_of

mpl.use("agg")
mpl.rcParams["svg.hashsalt"] = "fastmlp"  # the same numbers give the same file
import matplotlib.pyplot as plt  # noqa: E402

Result = dict[str, Any]
Series = dict[str, dict[str, float]]  # title -> line -> value
_MARKERS = {  # colors that the color-blind can tell apart (Okabe, Ito), and shapes
    "fastmlp": ("o", "#0072B2"),
    "AVX2 build": ("D", "#56B4E9"),
    "PyTorch": ("s", "#D55E00"),
    "JAX": ("^", "#009E73"),
    "scikit-learn": ("v", "#CC79A7"),
    "NumPy": ("x", "#777777"),
    "alone": ("o", "#0072B2"),
    "beside a busy process": ("s", "#D55E00"),
}


def draw(results: Mapping[str, Result], folder: Path, suffix: str = "svg") -> list[str]:
    """Write the plots that there are results for; returns their names, without suffix."""
    makers = {
        "roofline": ("step", _roofline),
        "peak": ("step", _peak),
        "peers": ("step", _peers),
        "threads": ("scaling", _threads),
        "sweep": ("sweep", sweep_report.draw),
    }
    names = []
    for name, (script, make) in makers.items():
        figure = make(results[script]) if script in results else None
        if figure is not None:
            folder.mkdir(parents=True, exist_ok=True)
            metadata = {"Date": None} if suffix == "svg" else {}
            figure.savefig(folder / f"{name}.{suffix}", metadata=metadata, dpi=110)
            plt.close(figure)
            names.append(name)
    return names


def _roofline(result: Result) -> Any:
    """GFLOP/s over FLOP a byte of memory, below what arithmetic and memory allow (Williams,
    Waterman, Patterson 2009); None where memory was not measured.
    """
    limits = result["header"]["peak"]
    if "memory" not in limits:
        return None
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    bandwidth = limits["memory"]["all_threads"]
    peak = max(numbers["float32"]["all_threads"] for numbers in limits["sets"].values())
    grid = steps_by_shape(result)
    intensity = {name: SHAPES[name].flop / SHAPES[name].memory_bytes for name in grid}
    ends = [2.0, 2 * max(intensity.values())]
    across = [ends[0], peak / bandwidth, ends[1]]
    roof = [min(peak, bandwidth * x) for x in across]
    axes.plot(across, roof, color="#444444", linewidth=1, label=f"{bandwidth:.0f} GB/s, peak")
    for peer in ("fastmlp", "torch", "jax", "sklearn"):
        marker, color = _MARKERS[TITLES[peer]]
        names = [name for name in grid if grid[name].get(peer, {}).get("gflops")]
        heights = [grid[name][peer]["gflops"] for name in names]
        places = [intensity[name] for name in names]
        axes.plot(places, heights, marker, color=color, label=TITLES[peer], markersize=6)
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=(0.4, 1.5 * peak))
    axes.set_xlabel("FLOP for each byte of parameters, moments and mini-batch")
    axes.set_ylabel("GFLOP/s of a training step, all threads")
    for i, name in enumerate(sorted(grid, key=intensity.__getitem__)):
        x, height = intensity[name], 3.4 / 1.45 ** (i % 6)
        axes.vlines(x, height * 1.2, peak, color="#dddddd", linewidth=0.8, zorder=0)
        axes.annotate(name, (x, height), fontsize=8, ha="center", va="center")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(mpl.ticker.FuncFormatter(lambda v, _: f"{v:g}"))
        axis.set_minor_formatter(mpl.ticker.NullFormatter())
    axes.grid(which="major", color="#dddddd", zorder=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=5, frameon=False)
    return figure


def _peak(result: Result) -> Any:
    grid = steps_by_shape(result)
    series: Series = {}
    for shape, rows in grid.items():
        for peer in ("fastmlp", "fastmlp-v3", "torch", "jax", "sklearn"):
            if rows.get(peer, {}).get("gflops"):
                series.setdefault(TITLES[peer], {})[shape] = rows[peer]["gflops"]
    lines = {
        f"peak, {name}": numbers["float32"]["all_threads"]
        for name, numbers in result["header"]["peak"]["sets"].items()
    }
    return _dots(series, lines, "GFLOP/s of a training step, all threads", list(grid))


def _peers(result: Result) -> Any:
    series = {
        TITLES[peer]: found
        for peer in ("torch", "jax", "sklearn", "numpy")
        if (found := ratios(result, peer, "fastmlp"))
    }
    jax, torch = (1.3, 2.5) if chip_of({"step": result}).full_width else (1.1, 1.15)
    lines = {"the same": 1.0, "target, JAX": jax, "target, PyTorch": torch}
    label = "time of a training step by that of fastmlp"
    return _dots(series, lines, label, list(steps_by_shape(result)))


def _threads(result: Result) -> Any:
    series: Series = {"alone": {}, "beside a busy process": {}}
    for row in result["rows"]:
        if "2" not in row["alone"]:
            continue
        line = row["shape"] if row["what"] == "fit" else f"2048 wide, {row['what']}, {row['batch']}"
        series["alone"][line] = row["alone"]["2"]["ratio"]
        series["beside a busy process"][line] = row["busy"]["2"]["ratio_of_medians"]
    lines = {"target, everywhere": 0.95, "target, large nets": 1.7}
    label = "two threads: how many times as fast as one"
    return _dots(series, lines, label, list(series["alone"]), log=False)


def _dots(
    series: Series, limits: dict[str, float], label: str, order: list[str], log: bool = True
) -> Any:
    """A line for each name in `order`, from the top; vertical lines at the limits."""
    figure, axes = plt.subplots(figsize=(8, 1.6 + 0.32 * len(order)), layout="constrained")
    for title, values in series.items():
        marker, color = _MARKERS[title]
        names = [name for name in order if name in values]
        heights = [order.index(name) for name in names]
        numbers = [values[name] for name in names]
        axes.plot(numbers, heights, marker, color=color, label=title, markersize=7)
    for i, (title, value) in enumerate(limits.items()):
        style = ("-", "--", ":")[i % 3]
        axes.axvline(value, color="#444444", linestyle=style, linewidth=1, label=title, zorder=0)
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda v, _: f"{v:g}"))
        axes.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    axes.set_yticks(range(len(order)), order)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlabel(label)
    axes.grid(axis="both", which="major", color="#dddddd", zorder=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    return figure

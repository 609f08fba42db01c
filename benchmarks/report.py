"""The result of `step.py` as a markdown table."""

import math
from typing import Any

from chips import TITLES as INSTRUCTION_TITLES
from chips import column, instructions
from handover import span

TITLES = {
    "torch": "PyTorch",
    "jax": "JAX",
    "sklearn": "scikit-learn",
    "numpy": "NumPy",
    "fastmlp": "fastmlp",
    "fastmlp-train_step": "train_step",
    "fastmlp-v3": "AVX2 build",
}
_OTHERS = ("torch", "jax", "sklearn", "numpy")
_VARIANTS = ("fastmlp-train_step", "fastmlp-v3")
Row = dict[str, Any]


def table(result: dict[str, Any]) -> str:
    """Machine, times and ratios, and what the ratios come to over the grid."""
    grid = steps_by_shape(result)
    others = [p for p in _OTHERS if any(p in rows for rows in grid.values())]
    variants = [p for p in _VARIANTS if any(p in rows for rows in grid.values())]
    parts = [_caption(result["header"]), _times(grid, variants, others)]
    if others:
        parts.append(_summary(grid, variants, others))
    notes = _notes(result["rows"])
    return "\n\n".join(parts + ([notes] if notes else []))


def steps_by_shape(result: dict[str, Any]) -> dict[str, dict[str, Row]]:
    """The rows of a result of `step.py` by net and peer."""
    grid: dict[str, dict[str, Row]] = {}
    for row in result["rows"]:
        grid.setdefault(row["shape"], {})[row["peer"]] = row
    return grid


def ratios(result: dict[str, Any], peer: str, own: str) -> dict[str, float]:
    """By net, how many times longer the peer takes; nets where a loss is wrong are left out."""
    found = {shape: ratio(rows, peer, own) for shape, rows in steps_by_shape(result).items()}
    return {shape: value for shape, value in found.items() if value is not None}


def most(result: dict[str, Any], peer: str, own: str) -> dict[str, float]:
    """By net, what the ratio would be if fastmlp ran at the measured peak."""
    grid = steps_by_shape(result)
    return {
        shape: value / share
        for shape, value in ratios(result, peer, own).items()
        if (share := grid[shape][own].get("share_of_peak"))
    }


def _caption(header: dict[str, Any]) -> str:
    names = {"torch": "PyTorch", "jax": "JAX", "scikit-learn": "scikit-learn", "numpy": "NumPy"}
    shown = [f"{names[k]} {v}" for k, v in header["versions"].items() if k in names]
    sets = header["peak"]["sets"]
    limits = [f"{numbers['float32']['all_threads']:.0f} ({name})" for name, numbers in sets.items()]
    peak = f", peak {' or '.join(limits)} GFLOP/s" if limits else ""
    threads = f"{header['threads']} thread{'s' * (header['threads'] > 1)}"
    return (
        f"Microseconds a training step (forward, cross entropy, backward, Adam; float32), "
        f"{threads}, best of {header['rounds']} rounds; in brackets how many "
        f"times fastmlp's; round trip: how long the two processors take to hand a cache line to "
        f"each other and back. {column(header)} ({header['cpu']}), "
        f"{INSTRUCTION_TITLES[instructions(header)]}{peak}; {', '.join(shown)}; "
        f"{header['date'][:10]}, commit {header['commit']}."
    )


def _times(grid: dict[str, dict[str, Row]], variants: list[str], others: list[str]) -> str:
    columns = ["net", "batch", "round trip, ns", "fastmlp", "GFLOP/s", "of peak"]
    columns += [TITLES[p] for p in (*variants, *others)]
    lines = []
    for shape, rows in grid.items():
        own = rows["fastmlp"]
        cells = [f"{shape} {own['activation']}", f"{own['batch']:,}"]
        cells += [span(own.get("round_trip_ns", [])), _time(own)]
        cells += [number(own.get("gflops")), percent(own.get("share_of_peak"))]
        cells += [_time(rows.get(p)) for p in variants]
        cells += [_time(rows.get(p)) + _bracket(ratio(rows, p, "fastmlp")) for p in others]
        lines.append(cells)
    return markdown(columns, lines)


def _summary(grid: dict[str, dict[str, Row]], variants: list[str], others: list[str]) -> str:
    """Per peer the least ratio and the geometric mean, for each way to run fastmlp."""
    lines = []
    for own in ("fastmlp", *variants):
        cells = [TITLES[own] if own != "fastmlp" else "fastmlp, fit"]
        for peer in others:
            found = [ratio(rows, peer, own) for rows in grid.values()]
            ratios = [r for r in found if r is not None]
            mean = math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None
            cells.append(f"{min(ratios):.2f}, {mean:.2f}" if mean else "-")
        lines.append(cells)
    columns = ["least ratio, geometric mean", *(f"to {TITLES[p]}" for p in others)]
    return markdown(columns, lines)


def ratio(rows: dict[str, Row], peer: str, own: str) -> float | None:
    """How many times longer the peer takes; None unless both have the right loss."""
    pair = rows.get(peer, {}), rows.get(own, {})
    if not all(row.get("loss_agrees") for row in pair):
        return None
    return pair[0]["us_best"] / pair[1]["us_best"]


def _notes(rows: list[Row]) -> str:
    """What is missing from the table, and why."""
    lines, seen = [], set()
    for row in rows:
        if "unavailable" in row:
            note = f"- {TITLES[row['peer']]} on {row['shape']}: {row['unavailable']}"
        elif not row["loss_agrees"]:
            note = (
                f"- (!) {TITLES[row['peer']]} on {row['shape']}: the loss is "
                f"{row['loss_after']:.6f}, expected {row['loss_reference']:.6f}; does not count"
            )
        else:
            continue
        if note not in seen:
            lines.append(note)
            seen.add(note)
    return "\n".join(lines)


def _time(row: Row | None) -> str:
    if row is None or "us_best" not in row:
        return "-"
    return number(row["us_best"]) + ("" if row["loss_agrees"] else " (!)")


def number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _bracket(ratio: float | None) -> str:
    return "" if ratio is None else f" ({ratio:.1f})"


def markdown(columns: list[str], lines: list[list[str]], left: int = 1) -> str:
    """Columns of equal width, the first `left` of them to the left, numbers to the right."""
    widths = [max(len(line[i]) for line in (columns, *lines)) for i in range(len(columns))]

    def join(cells: list[str]) -> str:
        pairs = enumerate(zip(cells, widths, strict=True))
        padded = [text.ljust(w) if i < left else text.rjust(w) for i, (text, w) in pairs]
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * w if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join([join(columns), join(rule), *map(join, lines)])

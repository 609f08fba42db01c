"""What `kernels.py` found, as tables: ratios to each library, and shares of the peak."""

import math
from typing import Any

from chips import INSTRUCTIONS, TITLES
from products import PRODUCTS
from report import markdown, percent

LIBRARIES = {"openblas": "OpenBLAS", "mkl": "MKL", "against": "the other version"}
NAMES = {"forward": "forward", "input_grad": "input gradient", "weight_grad": "weight gradient"}
Row = dict[str, Any]
Result = dict[str, Any]


def ratio(row: Row, peer: str) -> float | None:
    """How many times longer the peer takes."""
    return row[peer]["us_best"] / row["fastmlp"]["us_best"] if peer in row else None


def size(row: Row) -> str:
    return f"{row['rows']:,} x {row['n_in']:,} x {row['n_out']:,}"


def place(row: Row) -> str:
    return f"{NAMES[row['product']]} {size(row)}"


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def runs(result: Result) -> list[tuple[str, str]]:
    """(kernels, type) of the run, in its order."""
    return list(dict.fromkeys((row["kernels"], row["dtype"]) for row in result["rows"]))


def of_run(result: Result, kernels: str, dtype: str) -> list[Row]:
    return [r for r in result["rows"] if (r["kernels"], r["dtype"]) == (kernels, dtype)]


def peers_of(rows: list[Row]) -> list[str]:
    return [peer for peer in LIBRARIES if any(peer in row for row in rows)]


def table(result: Result) -> str:
    parts = [_libraries(result), _summary(result), _below(result)]
    parts += [_all(result, *run) for run in runs(result)]
    return "\n\n".join(part for part in parts if part)


def _libraries(result: Result) -> str:
    """What took part, and what each library chose."""
    lines = []
    for entry in result["libraries"]:
        name = LIBRARIES.get(entry["peer"], "fastmlp")
        what = entry.get("unavailable") or f"{entry['version']}, {entry.get('chooses', 'as built')}"
        lines.append([_title(entry["kernels"]), name, what])
    text = (
        "One thread; rows x inputs x outputs; weights cold, so another copy in every call, from "
        "memory; best of the rounds. fastmlp adds the bias in forward, the others none, and what a "
        "call from Python takes is subtracted from theirs."
    )
    return text + "\n\n" + markdown(["held to", "library", "version and choice"], lines, left=3)


def _title(kernels: str) -> str:
    return TITLES[INSTRUCTIONS[kernels]]


def _summary(result: Result) -> str:
    """For each run and product: shares of the peak, and the ratios to the libraries."""
    peers = peers_of(result["rows"])
    columns = ["instructions", "type", "product", "peak, GFLOP/s", "of peak: least", "mean"]
    for peer in peers:
        name = LIBRARIES[peer]
        columns += [f"{name}, of peak", f"against {name}: least", "mean", "below 1"]
    lines = []
    for kernels, dtype in runs(result):
        run = of_run(result, kernels, dtype)
        products = [p for p in PRODUCTS if any(r["product"] == p for r in run)]
        for product in (*products, None):
            rows = [r for r in run if product in (r["product"], None)]
            shares = [r["fastmlp"]["share_of_peak"] for r in rows]
            cells = [_title(kernels), dtype, NAMES[product] if product else "**all**"]
            cells += [f"{result['peaks'][f'{kernels} {dtype}']:.0f}", percent(min(shares))]
            cells.append(percent(geometric_mean(shares)))
            for peer in peers:
                cells += _against(rows, peer)
            lines.append(cells)
    text = "Means are geometric; a ratio is how many times longer the other library takes."
    return text + "\n\n" + markdown(columns, lines, left=3)


def _against(rows: list[Row], peer: str) -> list[str]:
    found = {place(r): value for r in rows if (value := ratio(r, peer)) is not None}
    if not found:
        return ["-"] * 4
    share = geometric_mean([r[peer]["share_of_peak"] for r in rows if peer in r])
    worst = min(found, key=found.__getitem__)
    below = sum(value < 1 for value in found.values())
    return [
        percent(share),
        f"{found[worst]:.2f} ({worst})",
        f"{geometric_mean(list(found.values())):.2f}",
        f"{below} of {len(found)}",
    ]


def _below(result: Result) -> str:
    """Every shape on which a library has more of the peak, the worst first."""
    peers = [p for p in peers_of(result["rows"]) if p != "against"]
    low = [r for r in result["rows"] if any((ratio(r, p) or 1) < 1 for p in peers)]
    if not low:
        return "No shape is below another library." if peers else ""
    low.sort(key=lambda r: min(ratio(r, p) or 1 for p in peers))
    columns = ["below another library", "instructions", "type", "fastmlp, of peak"]
    columns += [f"{LIBRARIES[p]} (ratio)" for p in peers]
    lines = []
    for r in low:
        cells = [place(r), _title(r["kernels"]), r["dtype"]]
        cells.append(percent(r["fastmlp"]["share_of_peak"]))
        lines.append([*cells, *(_share(r, p) for p in peers)])
    return markdown(columns, lines, left=3)


def _share(row: Row, peer: str) -> str:
    value = ratio(row, peer)
    if value is None:
        return "-"
    return f"{percent(row[peer]['share_of_peak'])} ({value:.2f})"


def _all(result: Result, kernels: str, dtype: str) -> str:
    """Shares of the peak of every shape; in brackets the ratio."""
    rows = of_run(result, kernels, dtype)
    peers = peers_of(rows)
    products = [p for p in PRODUCTS if any(r["product"] == p for r in rows)]
    columns = [f"{_title(kernels)}, {dtype}"]
    for product in products:
        columns += [NAMES[product], *(LIBRARIES[p] for p in peers)]
    by_size: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_size.setdefault(size(row), {})[row["product"]] = row
    lines = []
    for name, found in by_size.items():
        cells = [name]
        for product in products:
            row = found[product]
            cells.append(percent(row["fastmlp"]["share_of_peak"]))
            cells += [_share(row, p) for p in peers]
        lines.append(cells)
    return markdown(columns, lines)

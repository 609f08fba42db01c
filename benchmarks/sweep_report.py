"""What `sweep.py` found: the cliffs, the columns, and a picture."""

from typing import Any

from report import markdown, number, percent
from sweep_points import AXES, CLIFF, COLUMNS, Row, cliffs_of, lines

Result = dict[str, Any]
_FORMULA = (
    "Padded work of a step, in multiply-adds: rows x (2 n_in pad(n_out) + n_out pad(n_in)) summed "
    "over the layers, the last term not for the first one; pad(n) is n rounded up to whole vectors "
    "(forward and weight gradient have n_out columns, the input gradient n_in). Plus the "
    "parameters times what the optimizer takes for one while all is in the cache: {updates} "
    "multiply-adds at the peak. Share: of the time that this work would take at the peak by that "
    "of the step."
)


def table(result: Result) -> str:
    formula = _FORMULA.format(updates=_updates(result))
    parts = [formula, _axes(result), _cliffs(result), _columns(result)]
    return "\n\n".join(part for part in parts if part)


def _updates(result: Result) -> str:
    """What the updates are worth, by column; columns that differ in layers alone left out."""
    sets = result["peak"]["sets"]
    limits = next(iter(sets.values()))
    found = []
    for column, ns in result["update_ns"].items():
        _, _, between, dtype = COLUMNS[column]
        if between is None:
            found.append(f"{ns * limits[dtype]['one_thread'] / 2:.0f} ({column})")
    return ", ".join(found)


def _axes(result: Result) -> str:
    """The best place of each axis and its end: slopes that no neighbor tells."""
    columns = ["axis", "points", "best share", "at", "share at the end", "at", "times the best"]
    body = []
    for (axis, column), line in lines(result["rows"]).items():
        if column != "Adam":
            continue
        best, end = max(line, key=lambda r: r["share"]), line[-1]
        cells = [axis, str(len(line)), percent(best["share"]), f"{best['at']:,}"]
        cells += [percent(end["share"]), f"{end['at']:,}"]
        body.append([*cells, f"{best['share'] / end['share']:.2f}"])
    return markdown(columns, body) if body else ""


def _cliffs(result: Result) -> str:
    found = cliffs_of(result)
    unnamed = sum(r["reason"] is None for r in found)
    text = (
        f"{len(result['rows'])} points. A point is a cliff if it takes more than {CLIFF} times its "
        f"better neighbor's time a unit of padded work: {len(found)} are, {unnamed} of them "
        "without a named reason."
    )
    if "fixed_us" in result:
        text += f" A step of 1-1-2 at batch 1 takes {result['fixed_us']:.2f} us."
    if not found:
        return text
    columns = ["axis", "what", "at", "us a step", "share", "neighbor", "its share"]
    columns += ["times its time", "reason"]
    ordered = sorted(found, key=lambda r: (r["reason"] is not None, -r["times"]))
    body = []
    for r in ordered:
        cells = [r["axis"], r["column"], f"{r['at']:,}", number(r["us"]), percent(r["share"])]
        cells += [f"{r['neighbor']['at']:,}", percent(r["neighbor"]["share"])]
        body.append([*cells, f"{r['times']:.2f}", r["reason"] or "**none**"])
    return text + "\n\n" + markdown(columns, body, left=2)


def _columns(result: Result) -> str:
    """Shares by column, on the axes that have columns; (!): a cliff."""
    found = lines(result["rows"])
    low = {(r["axis"], r["column"], r["at"]) for r in cliffs_of(result)}
    parts = []
    for axis in dict.fromkeys(axis for axis, column in found if column != "Adam"):
        names = [column for a, column in found if a == axis]
        places = sorted({r["at"] for name in names[1:] for r in found[axis, name]})
        body = []
        for at in places:
            cells = [f"{at:,}"]
            for name in names:
                row = next((r for r in found[axis, name] if r["at"] == at), None)
                mark = " (!)" if (axis, name, at) in low else ""
                cells.append(percent(row["share"]) + mark if row else "-")
            body.append(cells)
        parts.append(markdown([axis, *names], body))
    if not parts:
        return ""
    return "Shares by optimizer, layer and type; (!): a cliff.\n\n" + "\n\n".join(parts)


def draw(result: Result) -> Any:
    """Shares over each axis, cliffs in red and named ones in orange."""
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure, grid = plt.subplots(4, 2, figsize=(13, 14), sharey=True, layout="constrained")
    found, low = lines(result["rows"]), cliffs_of(result)
    for axes, (axis, (unit, *_)) in zip(grid.flat, AXES.items(), strict=True):
        line = found.get((axis, "Adam"), [])
        places, heights = [r["at"] for r in line], [r["share"] for r in line]
        axes.plot(places, heights, "o-", color="#0072B2", markersize=3, linewidth=1)
        for named, color in ((True, "#E69F00"), (False, "#D55E00")):
            own = [r for r in low if (r["axis"], r["column"]) == (axis, "Adam")]
            _mark(axes, [r for r in own if (r["reason"] is not None) == named], color)
        axes.set_xscale("log", base=2)
        axes.set_ylim(0, 1.05)
        axes.set_title(axis, fontsize=11, loc="left")
        axes.set_xlabel(unit, fontsize=9)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0%}"))
        axes.grid(which="major", color="#dddddd", zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supylabel("share of the peak, of padded work and update", fontsize=10)
    handles = [
        plt.Line2D([], [], marker="o", color=color, linestyle=style, label=label)
        for color, style, label in (
            ("#0072B2", "-", "a training step, Adam, float32"),
            ("#D55E00", "", "a cliff"),
            ("#E69F00", "", "a cliff with a named reason"),
        )
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False)
    return figure


def _mark(axes: Any, found: list[Row], color: str) -> None:
    places, heights = [r["at"] for r in found], [r["share"] for r in found]
    axes.plot(places, heights, "o", color=color, markersize=6, zorder=3)
    for i, (x, y) in enumerate(zip(places, heights, strict=True)):
        offset = (0, -13 if i % 2 else 7)
        axes.annotate(
            f"{x:,}", (x, y), xytext=offset, textcoords="offset points", fontsize=8, ha="center"
        )

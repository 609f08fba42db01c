"""The page on which the chips stand side by side: one column for each folder of results."""

from collections.abc import Callable
from typing import Any

import product_report
from chips import INSTRUCTIONS, TITLES, column, instructions
from product_report import geometric_mean
from report import TITLES as PEERS
from report import markdown, number, percent, ratios, steps_by_shape
from shapes import SHAPES
from sweep_points import CLIFF, cliffs_of
from targets import Results, Verdict, shares_on_one_thread, verdicts

Chips = dict[str, Results]  # by the name of their folder
_NONE = "-"


def text(chips: Chips, folder: str) -> str:
    """The page; `folder`: of the pages of each chip, beside it."""
    parts = ["# Performance", _introduction(chips)]
    if not chips:
        return "\n\n".join([*parts, "There are no results yet."])
    parts += [_machines(chips, folder)]
    for heading, section in _SECTIONS.items():
        found = section(chips)
        parts += [f"## {heading}", found or "Not measured on any chip."]
    return "\n\n".join(parts)


def _introduction(chips: Chips) -> str:
    return (
        "Every chip that was met is a column here and has a page of its own with all tables. "
        "Made by `python benchmarks/all.py`, which measures the chip it runs on, writes "
        "`benchmarks/results/CHIP/*.json` and makes these pages from what all chips left there; "
        "`--kernels v3` makes the column of a chip held to AVX2, fastmlp and peers alike. How it "
        "is measured: `benchmarks/README.md`. Columns differ in their commits: compare libraries "
        "within a column, chips only with that in mind."
    )


def _title(results: Results, name: str, with_set: bool = True) -> str:
    """Chip, instruction set and commit: what stands above each column."""
    header = results[name]["header"]
    smoke = ", smoke run" if header.get("quick") else ""
    chip = _chip(results) if with_set else column(header)
    return f"{chip} ({header['commit']}{smoke})"


def _machines(chips: Chips, folder: str) -> str:
    columns = ["chip", "processor", "processors", "instructions of fastmlp"]
    columns += ["float32 peak, one thread", "all", "memory, GB/s", "commits", "dates"]
    lines = []
    for name, results in chips.items():
        headers = [r["header"] for r in results.values()]
        header = results.get("step", {"header": headers[0]})["header"]
        sets = header.get("peak", {}).get("sets", {})
        cells = [f"[{column(header)}]({folder}/{name}.md)", header["cpu"]]
        cells += [str(header["processors"]), TITLES[instructions(header)]]
        for which in ("one_thread", "all_threads"):
            found = [f"{v['float32'][which]:.0f} ({TITLES[s]})" for s, v in sets.items()]
            cells.append(", ".join(found) or _NONE)
        memory = header.get("peak", {}).get("memory", {}).get("all_threads")
        cells.append(number(memory))
        cells.append(", ".join(sorted({h["commit"] or "?" for h in headers})))
        dates = sorted({h["date"][:10] for h in headers})
        cells.append(" to ".join(dict.fromkeys((dates[0], dates[-1]))))
        lines.append(cells)
    return markdown(columns, lines, left=len(columns))


def _targets(chips: Chips) -> str:
    """What was measured in each column, by what was wanted there."""
    found = {name: list(verdicts(results)) for name, results in chips.items()}
    first = next(iter(found.values()))
    columns = ["what", "target", *(_chip(chips[name]) for name in chips)]
    lines = []
    for i, line in enumerate(first):
        own = [found[name][i] for name in chips]
        lines.append([line.what, _wanted(chips, own), *(_verdict(v) for v in own)])
    counts = ["**reached**", ""]
    for name in chips:
        reached = sum(v.reached is True and not v.quick for v in found[name])
        counts.append(f"{reached} of {len(found[name])}")
    note = "-: not measured. The page of a chip says more, and what stands in the way."
    return markdown(columns, [*lines, counts], left=len(columns)) + "\n\n" + note


def _chip(results: Results) -> str:
    header = next(iter(results.values()))["header"]
    held = "" if header.get("held_to") else f", {TITLES[instructions(header)]}"
    return f"{column(header)}{held}"


def _wanted(chips: Chips, own: list[Verdict]) -> str:
    """The target; where it differs from chip to chip, that of each."""
    texts = dict.fromkeys(v.target for v in own)
    if len(texts) == 1:
        return own[0].target
    groups = [
        (t, [_chip(r) for r, v in zip(chips.values(), own, strict=True) if v.target == t])
        for t in texts
    ]
    return "; ".join(f"{t} ({', '.join(names)})" for t, names in groups)


def _verdict(v: Verdict) -> str:
    if v.reached is None:
        return v.short
    words = "smoke run" if v.quick else "yes" if v.reached else "**no**"
    return f"{v.short}: {words}"


def _with(chips: Chips, name: str) -> Chips:
    return {slug: results for slug, results in chips.items() if name in results}


def _steps(chips: Chips) -> str:
    """fastmlp's time and share of the peak, and the ratios to the two fastest peers."""
    chips = _with(chips, "step")
    peers = ("torch", "jax")
    columns, lines = ["net, batch"], {name: [f"{name}, {s.batch:,}"] for name, s in SHAPES.items()}
    least, mean = ["**least**"], ["**geometric mean**"]
    for results in chips.values():
        step = results["step"]
        grid = steps_by_shape(step)
        title, chip = _title(results, "step"), column(step["header"])
        columns += [f"{title}: us (of peak)", *(f"{chip}: {PEERS[p]}, times" for p in peers)]
        found = {p: ratios(step, p, "fastmlp") for p in peers}
        for name, cells in lines.items():
            own = grid.get(name, {}).get("fastmlp", {})
            share = f" ({percent(own['share_of_peak'])})" if own.get("share_of_peak") else ""
            cells.append(number(own["us_best"]) + share if "us_best" in own else _NONE)
            cells += [f"{found[p][name]:.2f}" if name in found[p] else _NONE for p in peers]
        for cells, summed in ((least, min), (mean, geometric_mean)):
            cells.append("")
            cells += [f"{summed(list(f.values())):.2f}" if f else _NONE for f in found.values()]
    text = "Adam, float32, all threads, best of the rounds; how many times longer PyTorch eager "
    text += "and JAX jit take in the same run."
    return text + "\n\n" + markdown(columns, [*lines.values(), least, mean]) if chips else ""


def _threads(chips: Chips) -> str:
    """One thread as a share of the peak, and two threads against it."""
    chips = _with(chips, "scaling")
    columns, lines = ["net"], {name: [name] for name in SHAPES}
    for results in chips.values():
        title = _title(results, "scaling")
        chip = column(results["scaling"]["header"])
        columns += [f"{title}: one thread, of peak", f"{chip}: two, times one"]
        columns += [f"{chip}: beside a busy process"]
        shares = shares_on_one_thread(results)
        rows = {r["shape"]: r for r in results["scaling"]["rows"] if r["what"] == "fit"}
        for name, cells in lines.items():
            cells.append(percent(shares.get(name)))
            for where, key in (("alone", "ratio"), ("busy", "ratio_of_medians")):
                two = rows.get(name, {}).get(where, {}).get("2")
                cells.append(f"{two[key]:.2f}" if two else _NONE)
    return markdown(columns, list(lines.values())) if chips else ""


def _products(chips: Chips) -> str:
    """For each column, instruction set and type: shares of the peak and ratios."""
    columns = ["chip", "instructions", "type", "of peak: mean", "least"]
    for title in ("OpenBLAS", "MKL"):
        columns += [f"against {title}: mean", "least", "shapes below"]
    lines = []
    for results in _with(chips, "kernels").values():
        result = results["kernels"]
        for kernels, dtype in product_report.runs(result):
            rows = product_report.of_run(result, kernels, dtype)
            shares = [r["fastmlp"]["share_of_peak"] for r in rows]
            cells = [_title(results, "kernels", False), TITLES[INSTRUCTIONS[kernels]], dtype]
            cells += [percent(geometric_mean(shares)), percent(min(shares))]
            for peer in ("openblas", "mkl"):
                found = [v for r in rows if (v := product_report.ratio(r, peer)) is not None]
                if not found:
                    cells += [_NONE] * 3
                    continue
                cells += [f"{geometric_mean(found):.2f}", f"{min(found):.2f}"]
                cells.append(f"{sum(v < 1 for v in found)} of {len(found)}")
            lines.append(cells)
    text = "One thread, cold weights; a ratio is how many times longer the other library takes."
    return text + "\n\n" + markdown(columns, lines, left=3) if lines else ""


def _sweep(chips: Chips) -> str:
    columns = ["chip", "points", "cliffs", "without a named reason", "the worst of these"]
    lines = []
    for results in _with(chips, "sweep").values():
        rows = results["sweep"]["rows"]
        found = cliffs_of(results["sweep"])
        unnamed = sorted((r for r in found if r["reason"] is None), key=lambda r: -r["times"])
        worst = [f"{r['times']:.2f} ({r['axis']}, {r['column']}, {r['at']:,})" for r in unnamed[:3]]
        cells = [_title(results, "sweep"), str(len(rows)), str(len(found)), str(len(unnamed))]
        lines.append([*cells, "; ".join(worst) or _NONE])
    text = (
        f"One thread; a cliff takes more than {CLIFF} times its better neighbor's time a unit of "
        "padded work. The page of a chip has the picture."
    )
    return text + "\n\n" + markdown(columns, lines, left=5) if lines else ""


def _fits(chips: Chips) -> str:
    chips = _with(chips, "fit_sklearn")
    lines: dict[str, dict[str, str]] = {}
    for name, results in chips.items():
        for r in results["fit_sklearn"]["rows"]:
            hidden = "-".join(map(str, r["hidden"]))
            line = f"{r['data']} {hidden} {r['activation']}, {r.get('dtype', 'float32')}"
            mark = "" if r["accuracies_agree"] else " (!)"
            lines.setdefault(line, {})[name] = f"{r['ratio']:.1f}{mark}"
    columns = ["data, hidden, type", *(_title(r, "fit_sklearn") for r in chips.values())]
    body = [[line, *(cells.get(name, _NONE) for name in chips)] for line, cells in lines.items()]
    text = "How many times longer scikit-learn's `fit` takes; (!): the accuracies differ."
    return text + "\n\n" + markdown(columns, body) if chips else ""


_SECTIONS: dict[str, Callable[[Any], str]] = {
    "Targets": _targets,
    "A training step": _steps,
    "One thread and two": _threads,
    "Products beside OpenBLAS and MKL": _products,
    "Cliffs": _sweep,
    "`fit` against scikit-learn": _fits,
}

"""The report: `docs/performance.md`, the chips side by side, and a page for each of them.

python benchmarks/page.py [--results FOLDER] [--page FILE]

Every folder of results is a chip, or a chip held to fewer instructions. It becomes a column of the
page and a page of its own, `docs/performance/FOLDER.md`. No number in them is typed by hand;
remarks that are, in `docs/performance/FOLDER_notes.md`, are included. The table in the README is
written as well, from the newest results of a chip that was held to nothing, if the page is the one
in docs/.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import fit_sklearn
import import_time
import kernels
import lasso_path
import latency
import layers
import memory
import overview
import plots
import report
import scaling
import second_order
import step_profile
import sweep_report
from chips import TITLES, column, instructions
from machine import RESULTS, ROOT, commit, git, sources_changed_since
from report import markdown
from targets import Results, verdicts

SECTIONS = {  # script -> heading, table, plots
    "step": ("A training step", report.table, ("roofline", "peak", "peers")),
    "step_profile": ("Where the time of a step goes", step_profile.table, ()),
    "scaling": ("Threads and contention", scaling.table, ("threads",)),
    "sweep": ("Cliffs", sweep_report.table, ("sweep",)),
    "kernels": ("Products beside OpenBLAS and MKL", kernels.table, ()),
    "latency": ("One row, and overheads", latency.table, ()),
    "fit_sklearn": ("`fit` against scikit-learn", fit_sklearn.table, ()),
    "lasso_path": ("A lasso path against scikit-learn", lasso_path.table, ()),
    "second_order": ("Levenberg-Marquardt against Adam", second_order.table, ()),
    "memory": ("Memory", memory.table, ()),
    "import_time": ("Import and size", import_time.table, ()),
    "layers": ("What the nets are made of", layers.table, ()),
}
_ALT = {
    "roofline": "GFLOP/s of a training step over its FLOP a byte, below arithmetic and memory",
    "peak": "GFLOP/s of a training step by net and library, beside the measured peak",
    "peers": "How many times longer other libraries take for a training step, by net",
    "threads": "Two threads against one, by net, alone and beside a busy process",
    "sweep": "Share of the peak over batch, width, depth, inputs and outputs; cliffs in red",
}
PAGE = ROOT / "docs" / "performance.md"
_README = ROOT / "README.md"
_BEGIN, _END = "<!-- speed -->", "<!-- end -->"


def load(folder: Path) -> Results:
    """The results that are there."""
    files = {name: folder / f"{name}.json" for name in SECTIONS}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}


def load_all(folder: Path) -> dict[str, Results]:
    """By the name of their folder; folders without results left out."""
    names = sorted(f.name for f in folder.iterdir() if f.is_dir()) if folder.exists() else []
    found = {name: load(folder / name) for name in names}
    return {name: results for name, results in found.items() if results}


def write_pages(folder: Path, page: Path) -> None:
    """The page of all chips, and in a folder of its name one for each with its plots."""
    chips, pages = load_all(folder), page.with_suffix("")
    pages.mkdir(parents=True, exist_ok=True)
    for name, results in chips.items():
        _write_chip(results, folder / name, pages / f"{name}.md")
    page.write_text(overview.text(chips, pages.name) + "\n")
    if page.resolve() == PAGE:
        write_readme(chips)


def _write_chip(results: Results, folder: Path, page: Path) -> None:
    drawn = plots.draw(results, page.with_suffix(""))
    header = header_of(results)
    parts = [f"# Performance: {column(header)}", _introduction(results, folder)]
    parts += ["## Targets", _targets(results)]
    notes = page.with_name(f"{page.stem}_notes.md")
    if notes.exists():
        parts += ["## Remarks", notes.read_text().strip()]
    for name, (heading, table, figures) in SECTIONS.items():
        parts.append(f"## {heading}")
        if name not in results:
            parts.append(f"Not measured: there is no `{name}.json`.")
            continue
        parts += [label(results[name]), _doubts(name, results[name]), table(results[name])]
        parts += [f"![{_ALT[f]}]({page.stem}/{f}.svg)" for f in figures if f in drawn]
    parts += ["## Where the numbers come from", _sources(results)]
    page.write_text("\n\n".join(part for part in parts if part) + "\n")


def header_of(results: Results) -> dict[str, Any]:
    """Of the step if it was measured, which has the peak, else of any result."""
    return (results.get("step") or next(iter(results.values())))["header"]


def label(result: dict[str, Any]) -> str:
    """Chip, instruction set, threads and commit, in a line above each table."""
    h = result["header"]
    threads = f"{h['threads']} thread{'s' * (h['threads'] > 1)}"
    sets = TITLES[instructions(h)]
    if "libraries" in result:  # kernels.json has processes for several instruction sets
        sets = " and ".join(dict.fromkeys(TITLES[n] for n in _sets_of(result)))
    return f"*{column(h)}, {sets}, {threads}; commit {h['commit']}, {h['date'][:10]}.*"


def _sets_of(result: dict[str, Any]) -> list[str]:
    return [instructions(result["header"] | {"kernels": r["kernels"]}) for r in result["rows"]]


def _shown(path: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def _introduction(results: Results, folder: Path) -> str:
    header = header_of(results)
    text = (
        "Made by `python benchmarks/all.py`; every number in the tables is computed from the JSON "
        f"files in `{_shown(folder)}/`. How it is measured: `benchmarks/README.md`. "
        f"[All chips side by side](../performance.md). Machine: {header['cpu']}, "
        f"{header['processors']} processors; fastmlp uses {TITLES[instructions(header)]}."
    )
    if header.get("held_to"):
        text += (
            " fastmlp and every library that has a switch for it (OpenBLAS, MKL, oneDNN, PyTorch, "
            f"XLA, NumPy) were held to {TITLES[header['held_to']]}; ONNX Runtime has none."
        )
    limits = header.get("peak", {}).get("sets", {})
    peaks = [
        f"{limit['float32']['one_thread']:.0f} GFLOP/s on one thread and "
        f"{limit['float32']['all_threads']:.0f} on {header['threads']} ({TITLES[name]})"
        for name, limit in limits.items()
    ]
    return text + (f" Measured float32 peak: {'; '.join(peaks)}." if peaks else "")


def _targets(results: Results) -> str:
    words = {True: "yes", False: "**no**", None: "?"}
    found = list(verdicts(results))
    lines = [
        [v.what, v.target, v.measured, "smoke run" if v.quick else words[v.reached]] for v in found
    ]
    count = sum(v.reached is True and not v.quick for v in found)
    text = f"{label(results.get('step') or next(iter(results.values())))} "
    text += f"{count} of {len(found)} reached, on this chip; ?: not measured."
    return text + "\n\n" + markdown(["what", "target", "measured", "reached"], lines, left=3)


def _doubts(name: str, result: dict[str, Any]) -> str:
    """What speaks against the numbers of a section; empty where nothing does."""
    header = result["header"]
    said = []
    if header.get("quick"):
        said.append("a smoke run, whose numbers say nothing")
    if "-dirty" in (header["commit"] or "-dirty"):
        said.append("measured with sources that are in no commit")
    elif sources_changed_since(header["commit"]) is not False:
        said.append(f"measured on {header['commit']}; the package's sources have changed since")
    if header.get("installed_is_older") or header.get("installed_differs"):
        said.append("the installed package was not built from these sources")
    return f"**{name}.json: {'; '.join(said)}.**" if said else ""


def _sources(results: Results) -> str:
    head = git("rev-parse", "--short", "HEAD")
    columns = ["file", "commit", "date", "kernels", "compiler", "flags", "threads"]
    columns += ["load before", "after"]
    lines = []
    for name in SECTIONS:
        if name not in results:
            lines.append([f"{name}.json", "missing", *("-" * (len(columns) - 2))])
            continue
        h = results[name]["header"]
        here = "" if h["commit"] == head else " (not HEAD)"
        cells = [f"{name}.json", f"{h['commit']}{here}", h["date"][:16].replace("T", " ")]
        cells += [TITLES[instructions(h)], h.get("compiler") or "?", h["flags"] or "?"]
        lines.append([*cells, str(h["threads"]), h["load_average_before"], h["load_average_after"]])
    versions: dict[str, str] = {}
    for result in results.values():
        versions |= result["header"]["versions"]
    text = ", ".join(f"{package} {version}" for package, version in versions.items())
    return (
        f"This page was written at commit {commit()}. Loads are the averages of the last 1, 5 and "
        f"15 minutes. Versions: {text or 'unknown'}.\n\n"
        + markdown(columns, lines, left=len(columns))
    )


def write_readme(chips: dict[str, Results]) -> None:
    """The table of the newest chip between the two marks, with links to all."""
    free = {n: r for n, r in chips.items() if "step" in r and not header_of(r).get("held_to")}
    if not free:
        return
    newest = max(free, key=lambda name: free[name]["step"]["header"]["date"])
    header = free[newest]["step"]["header"]
    links = [f"[{column(header_of(r))}](docs/performance/{name}.md)" for name, r in chips.items()]
    text = (
        f"Measured on {column(header)} with {TITLES[instructions(header)]}, "
        f"commit {header['commit']}. All peers reach the same losses in these steps. From "
        f"[benchmarks/results/{newest}/step.json](benchmarks/results/{newest}/step.json).\n"
        "[The chips side by side](docs/performance.md), and all of each: " + ", ".join(links) + "."
    )
    before, _, rest = _README.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    table = report.table(free[newest]["step"])
    _README.write_text(f"{before}{_BEGIN}\n{table}\n\n{text}\n{_END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="of all chips, a folder each")
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    write_pages(args.results, args.page)
    print(args.page)


if __name__ == "__main__":
    main()

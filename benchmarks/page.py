"""The report: `docs/performance.md` from the JSON files of all benchmarks.

python benchmarks/page.py [--results FOLDER] [--page FILE]

No number in it is typed by hand. Remarks that are, in `docs/performance_notes.md` (for another PAGE
in PAGE_notes.md beside it), are included.
Results that are missing, of another commit or of a smoke run are said to be so.
"""

import argparse
import json
from pathlib import Path

import fit_sklearn
import import_time
import kernels
import lasso_path
import latency
import layers
import memory
import plots
import report
import scaling
import second_order
import step_profile
from machine import RESULTS, ROOT, commit, git, sources_changed_since
from report import markdown
from targets import Results, verdicts

SECTIONS = {  # script -> heading, table, plots
    "step": ("A training step", report.table, ("roofline", "peak", "peers")),
    "step_profile": ("Where the time of a step goes", step_profile.table, ()),
    "scaling": ("Threads and contention", scaling.table, ("threads",)),
    "latency": ("One row, and overheads", latency.table, ()),
    "fit_sklearn": ("`fit` against scikit-learn", fit_sklearn.table, ()),
    "lasso_path": ("A lasso path against scikit-learn", lasso_path.table, ()),
    "second_order": ("Levenberg-Marquardt against Adam", second_order.table, ()),
    "memory": ("Memory", memory.table, ()),
    "import_time": ("Import and size", import_time.table, ()),
    "kernels": ("Products beside OpenBLAS and MKL", kernels.table, ()),
    "layers": ("Products and all else of the nets' layers", layers.table, ()),
}
_ALT = {
    "roofline": "GFLOP/s of a training step over its FLOP a byte, below arithmetic and memory",
    "peak": "GFLOP/s of a training step by net and library, beside the measured peak",
    "peers": "How many times longer other libraries take for a training step, by net",
    "threads": "Two threads against one, by net, alone and beside a busy process",
}
PAGE = ROOT / "docs" / "performance.md"


def load(folder: Path) -> Results:
    """The results that are there."""
    files = {name: folder / f"{name}.json" for name in SECTIONS}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}


def write_page(results_folder: Path, page: Path) -> None:
    """The page, and its plots in a folder of the same name."""
    results = load(results_folder)
    drawn = plots.draw(results, page.with_suffix(""))
    parts = ["# Performance", _introduction(results, results_folder)]
    parts += ["## Targets", _targets(results)]
    notes = page.with_name(f"{page.stem}_notes.md")
    if notes.exists():
        parts += ["## Remarks", notes.read_text().strip()]
    for name, (heading, table, figures) in SECTIONS.items():
        parts.append(f"## {heading}")
        if name not in results:
            parts.append(f"Not measured: there is no `{name}.json`.")
            continue
        parts += [_doubts(name, results[name]), table(results[name])]
        parts += [f"![{_ALT[f]}]({page.stem}/{f}.svg)" for f in figures if f in drawn]
    parts += ["## Where the numbers come from", _sources(results)]
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n\n".join(part for part in parts if part) + "\n")


def _introduction(results: Results, folder: Path) -> str:
    folder = folder.resolve()
    shown = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder.name
    text = (
        "Made by `python benchmarks/all.py`; every number in the tables is computed from the JSON "
        f"files in `{shown}/`. How it is measured: `benchmarks/README.md`."
    )
    header = next((r["header"] for r in results.values()), None)
    if header is None:
        return text + " There are no results yet."
    limits = results.get("step", {}).get("header", {}).get("peak", {}).get("sets", {})
    peaks = [
        f"{limit['float32']['one_thread']:.0f} GFLOP/s on one thread and "
        f"{limit['float32']['all_threads']:.0f} on {header['threads']} ({name})"
        for name, limit in limits.items()
    ]
    peak = f" Measured float32 peak: {'; '.join(peaks)}." if peaks else ""
    return f"{text} Machine: {header['cpu']}, {header['processors']} processors.{peak}"


def _targets(results: Results) -> str:
    words = {True: "yes", False: "**no**", None: "?"}
    found = list(verdicts(results))
    lines = [
        [v.what, v.target, v.measured, "smoke run" if v.quick else words[v.reached]] for v in found
    ]
    count = sum(v.reached is True and not v.quick for v in found)
    text = f"{count} of {len(found)} reached, in this run and on this machine; ?: not measured."
    return text + "\n\n" + markdown(["what", "target", "measured", "reached"], lines, left=3)


def _doubts(name: str, result: dict) -> str:
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
    columns = ["file", "commit", "date", "compiler", "flags", "threads", "load before", "after"]
    lines = []
    for name in SECTIONS:
        if name not in results:
            lines.append([f"{name}.json", "missing", *("-" * (len(columns) - 2))])
            continue
        h = results[name]["header"]
        here = "" if h["commit"] == head else " (not HEAD)"
        cells = [f"{name}.json", f"{h['commit']}{here}", h["date"][:16].replace("T", " ")]
        cells += [h.get("compiler") or "?", h["flags"] or "?", str(h["threads"])]
        lines.append([*cells, h["load_average_before"], h["load_average_after"]])
    versions: dict[str, str] = {}
    for result in results.values():
        versions |= result["header"]["versions"]
    text = ", ".join(f"{package} {version}" for package, version in versions.items())
    return (
        f"This page was written at commit {commit()}. Loads are the averages of the last 1, 5 and "
        f"15 minutes. Versions: {text or 'unknown'}.\n\n"
        + markdown(columns, lines, left=len(columns))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    write_page(args.results, args.page)
    print(args.page)


if __name__ == "__main__":
    main()

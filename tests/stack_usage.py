"""How much stack the kernels of a build take, held against what fastmlp asks for.

    python tests/stack_usage.py BUILD

BUILD: the folder of a build with GCC, which leaves a call graph beside every variant
(CMakeLists.txt).
"""

import re
import sys
from functools import cache
from pathlib import Path

import fastmlp._core as core

# between the check and a kernel: passes, the OpenMP region, the frame of a signal
CALLERS = 32_768
NODE = re.compile(r'node: \{ title: "([^"]+)" label: "[^"]*?\\n(\d+) bytes \(([^)]*)\)')
EDGE = re.compile(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"')


def deepest(graph: str) -> tuple[int, list[str]]:
    """The bytes of the longest chain of calls in a translation unit, and its functions."""
    sizes = {name: int(size) for name, size, _ in NODE.findall(graph)}
    unbounded = [name for name, _, kind in NODE.findall(graph) if kind == "dynamic"]
    if not sizes or unbounded:
        raise ValueError(f"no sizes of frames, or none for {unbounded}")
    calls: dict[str, set[str]] = {}
    for caller, callee in EDGE.findall(graph):
        calls.setdefault(caller, set()).add(callee)

    @cache
    def below(name: str) -> tuple[int, tuple[str, ...]]:
        called = (below(callee) for callee in calls.get(name, ()) if callee != name)
        most, chain = max(called, default=(0, ()))
        return most + sizes.get(name, 0), (name, *chain)

    most, chain = max(below(name) for name in sizes)
    return most, [name.rpartition(":")[2] for name in chain]


def main(build: Path) -> int:
    """1 where a chain of calls needs more than is asked for, or no call graph is there."""
    graphs = sorted(build.rglob("variant_*.dir/**/*.ci"))
    too_deep = not graphs
    for path in graphs:
        most, chain = deepest(path.read_text())
        name = next(part for part in path.parts if part.startswith("variant_"))
        print(f"{name.removesuffix('.dir'):20}{most:>10,}  {' > '.join(chain)}")
        too_deep |= most + CALLERS > core.STACK_BYTES
    print(f"{len(graphs)} variants; {core.STACK_BYTES:,} bytes are asked for")
    return int(too_deep)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

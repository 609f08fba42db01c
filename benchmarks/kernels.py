"""The three products of `Linear` beside OpenBLAS's and MKL's, as shares of the peak of this run.

python benchmarks/kernels.py                                     # the record: minutes
python benchmarks/kernels.py --quick --kernels v3 --dtype float32    # 20 shapes, half a minute
python benchmarks/kernels.py --shapes 128x784x256,256x2048x2048 --repeats 9 --against ../other/csrc

One thread. Each library has a process of its own (OpenBLAS through NumPy, MKL through PyTorch), and
they take turns; each instruction set has processes of its own, held to it as far as a library can
be: the widest is left to the library's own choice, which the table of libraries names.

Weights are cold: each call has the next copy of W, or of dW where that is written, from a pool
larger than the caches; x and z stay where they are. fastmlp's products are called in a loop in C
and add the bias in forward; those of the others are called from Python without a bias, and what the
same call takes on 2 x 2 matrices is subtracted.
"""

import argparse
import random
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from children import Child, serve
from chips import holding, known_kernels
from product_peers import PEERS, start_peer
from product_report import table
from products import PRODUCTS, Size
from script import Result, run_script

POOL_BYTES = 128 * 2**20
_DTYPES = ("float32", "float64")
_WIDTHS = (
    *(128, 129, 192, 255, 256, 257, 384, 511, 512, 513, 768, 1000),
    *(1023, 1024, 1025, 1536, 2032, 2047, 2048, 2049, 2064),
)
_OTHERS = (  # rectangular, or of other batches
    *((100, 300, 300), (192, 640, 640), (200, 784, 128), (128, 784, 256), (128, 784, 512)),
    *((256, 256, 1024), (256, 1024, 256), (256, 1024, 2048), (256, 2048, 1000)),
)
GROUPS: dict[str, list[Size]] = {
    "all": [*((rows, n, n) for n in _WIDTHS for rows in (32, 128, 512)), *_OTHERS],
    "quick": [
        *((128, n, n) for n in (128, 129, 256, 257, 512, 513, 768, 1000, 1024, 1025, 2032)),
        *((rows, n, n) for rows in (32, 512) for n in (256, 1024)),
        *((128, 2048, 2048), (32, 2048, 2048), (128, 2064, 2064)),
        *((128, 784, 256), (256, 1024, 2048)),
    ],
}


def parse_sizes(text: str) -> list[Size]:
    """A group, or ROWSxINxOUT separated by commas."""
    sizes: list[Size] = []
    for word in text.split(","):
        if word in GROUPS:
            sizes += GROUPS[word]
            continue
        numbers = [int(n) if n.isdigit() else 0 for n in word.split("x")]
        if len(numbers) != 3 or min(numbers) < 1:
            known = ", ".join(GROUPS)
            raise argparse.ArgumentTypeError(f"{word}: neither ROWSxINxOUT nor one of {known}")
        sizes.append((numbers[0], numbers[1], numbers[2]))
    return list(dict.fromkeys(sizes))


def some_of(known: tuple[str, ...]) -> Any:
    """A parser of names separated by commas."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            text = f"{', '.join(unknown)} unknown; known: {', '.join(known)}"
            raise argparse.ArgumentTypeError(text)
        return names

    return parse


def add_options(parser: argparse.ArgumentParser) -> None:
    known = tuple(known_kernels())
    default = [k for k in known if k != "base"] or list(known)
    text = "fastmlp's kernels, each beside peers held to the same instructions; default: "
    parser.add_argument(
        "--kernels", type=some_of(known), default=default, help=text + ",".join(default)
    )
    text = f"{', '.join(GROUPS)} or ROWSxINxOUT, by commas; default: all"
    parser.add_argument("--shapes", type=parse_sizes, help=text)
    parser.add_argument("--dtype", type=some_of(_DTYPES), help="default: both")
    parser.add_argument("--products", type=some_of(PRODUCTS), default=list(PRODUCTS))
    parser.add_argument("--peers", type=some_of(PEERS), default=list(PEERS))
    text = "csrc folder of another version of fastmlp, to be timed as well"
    parser.add_argument("--against", type=Path, metavar="FOLDER", help=text)


class Runner(Child):
    """A process with the products of one library, held to one instruction set."""

    def __init__(self, peer: str, kernels: str, csrc: Path | None = None) -> None:
        self.peer, self.kernels = peer, kernels
        self.seconds: dict[str, list[float]] = {}
        # The widest kernels have peers that choose for themselves.
        environment = {} if kernels == known_kernels()[0] else holding(kernels)
        library = "fastmlp" if csrc else peer
        words = ["--child", library, kernels, *([str(csrc.resolve())] if csrc else [])]
        super().__init__(f"{peer}, {kernels}", "kernels.py", words, 1, environment)


def measure_size(
    runners: list[Runner], size: Size, dtype: str, args: argparse.Namespace
) -> list[dict[str, Any]]:
    """A row for each kernels and product of one size."""
    about = {"size": size, "dtype": dtype, "products": args.products, "pool": POOL_BYTES}
    for r in runners:
        r.ask(rest=False, do="load", seconds=args.seconds, **about)
        r.seconds = {product: [] for product in args.products}
    for turn in range(args.rounds):
        for r in random.Random(turn).sample(runners, len(runners)):
            for product, seconds in r.ask(rest=False, do="round").items():
                r.seconds[product].append(seconds)
    flop = 2 * size[0] * size[1] * size[2]
    rows = []
    for kernels in args.kernels:
        own = [r for r in runners if r.kernels == kernels]
        for product in args.products:
            row = {"kernels": kernels, "dtype": dtype, "product": product}
            row |= dict(zip(("rows", "n_in", "n_out"), size, strict=True))
            rows.append(row | {r.peer: timing(r.seconds[product], flop) for r in own})
    return rows


def timing(seconds: list[float], flop: int) -> dict[str, float]:
    best, median = min(seconds), statistics.median(seconds)
    return {
        "us_best": round(best * 1e6, 3),
        "us_median": round(median * 1e6, 3),
        "gflops": round(flop / best * 1e-9, 2),
    }


def measure(args: argparse.Namespace) -> Result:
    """All sizes; then the shares of the best peak that was seen between them."""
    dtypes = args.dtype or (_DTYPES[:1] if args.quick else _DTYPES)
    sizes = args.shapes or GROUPS["quick" if args.quick else "all"]
    with ExitStack() as stack:
        started = [
            stack.enter_context(Runner(peer, kernels))
            for kernels in args.kernels
            for peer in ("fastmlp", *args.peers)
        ]
        if args.against:
            started += [
                stack.enter_context(Runner("against", k, args.against)) for k in args.kernels
            ]
        able = [r for r in started if "unavailable" not in r.wait().ready]
        peaks = {f"{k} {dtype}": 0.0 for k in args.kernels for dtype in dtypes}
        rows = []
        for dtype in dtypes:
            for size in sizes:
                rows += measure_size(able, size, dtype, args)
                for r in (r for r in able if r.peer == "fastmlp"):
                    key = f"{r.kernels} {dtype}"
                    peaks[key] = max(peaks[key], r.ask(rest=False, do="peak", dtype=dtype))
    for row in rows:
        for numbers in (v for v in row.values() if isinstance(v, dict)):
            share = numbers["gflops"] / peaks[f"{row['kernels']} {row['dtype']}"]
            numbers["share_of_peak"] = round(share, 4)
    about = [{"peer": r.peer, "kernels": r.kernels, **r.ready} for r in started]
    against = str(args.against) if args.against else None
    return {"libraries": about, "peaks": peaks, "against": against, "rows": rows}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        serve(lambda: start_peer(*sys.argv[2:]))
    else:
        quick = "20 shapes, float32 unless --dtype says otherwise, best of 3 short rounds"
        run_script(
            *("kernels", __doc__, measure, table),
            seconds=0.02,
            threads=1,
            options=add_options,
            quick=quick,
            quick_rounds=3,
        )

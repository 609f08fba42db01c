"""What the grid's nets are made of: their products as a share of peak, all else in ns an element.

python benchmarks/layers.py [--quick] [--json FILE]

One thread, float32. The three products of every layer of the nets run (`products.py`) with weights
that stay in the cache, and with a new copy each time from a pool larger than the caches. The others
run through the installed package on arrays that fit the second cache; their times include the call
from Python (below 0.02 ns an element), those of activations backward a copy of the gradient.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from children import Answer, Child, calibrated, serve, timed
from peak import Peak, instruction_sets
from products import PRODUCTS, Arrays, Products, compile_products
from report import markdown, percent
from script import Result, run_script
from shapes import SHAPES
from worker import use_processors

POOL_BYTES = 256 * 2**20  # more than the caches hold
_QUICK_POOL_BYTES = 2**20
_ROWS, _WIDTH = 128, 256  # 128 KB of float32


def sizes() -> list[tuple[int, int, int]]:
    """(rows, n_in, n_out) of the grid's layers, each once."""
    found = [
        (shape.batch, n, m)
        for shape in SHAPES.values()
        for n, m in itertools.pairwise(shape.widths)
    ]
    return list(dict.fromkeys(found))


# ---- the child: products -------------------------------------------------------------------------


def start_products(pool: int) -> tuple[Answer, Callable[[Answer], Answer]]:
    use_processors(1)
    with tempfile.TemporaryDirectory() as folder:
        library = compile_products(Path(folder), instruction_sets()[0])
    peak = Peak(1)

    def answer(request: Answer) -> Answer:
        size, rounds = tuple(request["size"]), request["rounds"]
        found: dict[str, Any] = {}
        for product in PRODUCTS:
            Products(library, Arrays(size, "float32", 0)).check(product)
        products = Products(library, Arrays(size, "float32", pool))
        works = {
            f"{product}_{where}": products.work(product, where)
            for product in PRODUCTS
            for where in products.copies
        }
        times = {name: calibrated(work, request["seconds"]) for name, work in works.items()}
        seconds: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(rounds):
            peak.measure(rounds=1)
            for name, work in works.items():
                seconds[name].append(timed(work, times[name]) / times[name])
        flop = 2 * size[0] * size[1] * size[2]
        for name, s in seconds.items():
            found[name] = {
                "us_best": round(min(s) * 1e6, 4),
                "us_median": round(statistics.median(s) * 1e6, 4),
                "gflops": round(flop / min(s) * 1e-9, 2),
            }
        return {"found": found, "peak": peak.as_dict(), "limit": peak.limit()}

    return {}, answer


# ---- the child: all else -------------------------------------------------------------------------


def normal(*shape: int) -> Any:
    return np.random.default_rng(1).standard_normal(shape, dtype=np.float32)


def activation_works() -> dict[str, tuple[int, Callable[[], Any]]]:
    """ "name forward" and "name backward" -> elements and a call."""
    import fastmlp

    works: dict[str, tuple[int, Callable[[], Any]]] = {}
    for name, kind in fastmlp.layers.ACTIVATION_CLASSES.items():
        layer, x, dz = kind(), normal(_ROWS, _WIDTH), normal(_ROWS, _WIDTH)
        layer.forward(x)  # makes the executor
        context, dx = layer._executor.context, np.empty_like(x)
        works[f"{name} forward"] = x.size, lambda c=context, x=x: c.forward(x, False, 1)
        works[f"{name} backward"] = x.size, lambda c=context, z=dz, dx=dx: c.backward(z, dx, 1)
    return works


def loss_works() -> dict[str, tuple[int, Callable[[], Any]]]:
    """Loss and gradient by name and number of outputs."""
    from fastmlp import losses

    works: dict[str, tuple[int, Callable[[], Any]]] = {}
    for n_out in (10, 1000):
        z = normal(_ROWS * _WIDTH // n_out, n_out)
        values, labels = (normal(*z.shape) > 0).astype(np.float32), np.arange(len(z)) % n_out
        for name in losses.LOSSES:
            loss, dz = losses.get_loss(name), np.empty_like(z)
            columns = loss.target_columns(n_out)
            y = labels if loss.needs_labels else np.ascontiguousarray(values[:, :columns])
            works[f"{name} of {n_out}"] = (
                z.size,
                lambda loss=loss, z=z, y=y, dz=dz: loss.value(z, y, dz),
            )
    return works


def optimizer_works() -> dict[str, tuple[int, Callable[[], Any]]]:
    """An update of 32,896 parameters from gradients that stay, by optimizer."""
    import fastmlp
    from fastmlp import _core, optimizers

    works: dict[str, tuple[int, Callable[[], Any]]] = {}
    for name, kind in optimizers.OPTIMIZERS.items():
        optimizer = kind(lr=1e-6)
        net = fastmlp.Sequential([fastmlp.Linear(_WIDTH, _ROWS)], seed=0)
        net.grads[:] = normal(net.n_params) * np.float32(1e-3)
        net.update(optimizer, threads=1)  # makes the moments
        index, settings = _core.OPTIMIZERS[name]["index"], optimizer.settings
        works[name] = (
            net.n_params,
            lambda c=net._engine.context, i=index, s=settings, keep=net: c.update(i, s, 1),
        )
    return works


def start_elements() -> tuple[Answer, Callable[[Answer], Answer]]:
    use_processors(1)
    groups = {
        "activation": activation_works(),
        "loss": loss_works(),
        "optimizer": optimizer_works(),
    }

    def answer(request: Answer) -> Answer:
        rows = []
        for group, works in groups.items():
            for name, (elements, call) in works.items():

                def run(times: int, call: Callable[[], Any] = call) -> None:
                    for _ in itertools.repeat(None, times):
                        call()

                times = calibrated(run, request["seconds"])
                seconds = [timed(run, times) / times for _ in range(request["rounds"])]
                rows.append(
                    {
                        "group": group,
                        "kernel": name,
                        "elements": elements,
                        "ns_best": round(min(seconds) / elements * 1e9, 5),
                        "ns_median": round(statistics.median(seconds) / elements * 1e9, 5),
                    }
                )
        return {"rows": rows}

    return {}, answer


# ---- the parent ----------------------------------------------------------------------------------


def measure(args: argparse.Namespace) -> Result:
    settings = {"rounds": args.rounds, "seconds": args.seconds}
    pool = _QUICK_POOL_BYTES if args.quick else POOL_BYTES
    result: Result = {"instructions": instruction_sets()[0].name, "products": [], "peak": None}
    with Child("products", "layers.py", ["--child", "products", str(pool)], 1) as child:
        if "unavailable" in child.wait().ready:
            result["problem"] = child.ready["unavailable"]
        else:
            for size in sizes()[: 3 if args.quick else None]:
                found = child.ask(size=size, **settings)
                rows, n_in, n_out = size
                line = {"rows": rows, "n_in": n_in, "n_out": n_out, **found["found"]}
                result["products"].append(line)
                result["peak"], limit = found["peak"], found["limit"]
            for line in result["products"]:
                for numbers in (v for v in line.values() if isinstance(v, dict)):
                    numbers["share_of_peak"] = round(numbers["gflops"] / limit, 4)
    with Child("elements", "layers.py", ["--child", "elements"], 1) as child:
        if "unavailable" in child.wait().ready:
            raise SystemExit(child.ready["unavailable"])
        result["elements"] = child.ask(**settings)["rows"]
    return result


def table(result: Result) -> str:
    """The products' shares of peak, then nanoseconds an element."""
    parts = [result["problem"]] if "problem" in result else []
    if result["products"]:
        columns = ["rows, n_in, n_out"]
        for product in PRODUCTS:
            name = product.replace("_", " ")
            columns += [f"{name}, GFLOP/s", "of peak", "cold"]
        lines = []
        for r in result["products"]:
            cells = [f"{r['rows']:,}, {r['n_in']:,}, {r['n_out']:,}"]
            for product in PRODUCTS:
                warm, cold = r[f"{product}_warm"], r[f"{product}_cold"]
                cells += [f"{warm['gflops']:.0f}", percent(warm["share_of_peak"])]
                cells.append(percent(cold["share_of_peak"]))
            lines.append(cells)
        peak = result["peak"]["sets"][result["instructions"]]["float32"]["one_thread"]
        parts.append(
            f"One thread; the peak is {peak:.0f} GFLOP/s ({result['instructions']}). Cold: the "
            "share of peak with another copy of the weights in every call, from memory."
        )
        parts.append(markdown(columns, lines))
    for group in ("activation", "loss", "optimizer"):
        rows = [r for r in result["elements"] if r["group"] == group]
        lines = [[r["kernel"], f"{r['ns_best']:.3f}", f"{r['ns_median']:.3f}"] for r in rows]
        parts.append(markdown([group, "best, ns an element", "median"], lines))
    return "\n\n".join(parts)


if __name__ == "__main__":
    if "--child" not in sys.argv:
        run_script("layers", __doc__, measure, table, seconds=0.05, threads=1)
    elif sys.argv[2] == "products":
        serve(lambda: start_products(int(sys.argv[3])))
    else:
        serve(start_elements)

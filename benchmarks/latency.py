"""Overhead: one row through 17-64-64-6, beside other libraries; a small step; an epoch of `fit`.

python benchmarks/latency.py [--quick] [--json FILE]

One thread. Every way to predict has a process of its own and they take turns. Their outputs for the
same row and weights are compared with float64 first: who differs by more than 1e-5 does not count.
"""

import argparse
import itertools
import random
import statistics
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
from children import Answer, Child, calibrated, serve, timed
from report import markdown
from script import Result, run_script
from worker import use_processors

WIDTHS = (17, 64, 64, 6)
TOLERANCE = 1e-5
_STEP_WIDTHS, _STEP_BATCH, _LONG_EPOCH = (8, 64, 64, 4), 64, 256
_SEED = 5
Array = np.ndarray
Call = Callable[[], Any]


def weights() -> tuple[Array, list[Array], list[Array]]:
    """A row x (n_in,), W (n_in, n_out) and b (n_out,) of each layer; all peers have these."""
    rng = np.random.default_rng(_SEED)
    x = rng.standard_normal(WIDTHS[0], dtype=np.float32)
    ws = [
        rng.standard_normal((n, m), dtype=np.float32) * np.float32(np.sqrt(2 / n))
        for n, m in itertools.pairwise(WIDTHS)
    ]
    return x, ws, [rng.standard_normal(m, dtype=np.float32) * np.float32(0.1) for m in WIDTHS[1:]]


def expected() -> Array:
    """The output in float64."""
    x, ws, bs = weights()
    y = x.astype(np.float64)
    for i, (w, b) in enumerate(zip(ws, bs, strict=True)):
        y = y @ w.astype(np.float64) + b
        y = np.maximum(y, 0) if i + 1 < len(ws) else y
    return y


# ---- the ways to predict: each returns its version and a call that gives the output --------------


def own_net() -> Any:
    """The network of fastmlp."""
    import fastmlp

    _, ws, bs = weights()
    layers = [layer for w in ws for layer in (fastmlp.Linear(*w.shape), fastmlp.ReLU())]
    net = fastmlp.Sequential(layers[:-1])
    for layer, w, b in zip(net.layers[::2], ws, bs, strict=True):
        layer.weight[:], layer.bias[:] = w, b
    return net


def predict_row_out() -> Call:
    net, x, out = own_net(), weights()[0], np.empty(WIDTHS[-1], np.float32)
    return lambda: net.predict_row(x, out)


def predict_row() -> Call:
    net, x = own_net(), weights()[0]
    return lambda: net.predict_row(x)


def predict() -> Call:
    net, x = own_net(), weights()[0][None]
    return lambda: net.predict(x, threads=1)


def predict_default() -> Call:
    net, x = own_net(), weights()[0][None]
    return lambda: net.predict(x)


def c_door() -> Call:
    """The Cython function alone: what a caller in C pays, and one call from Python."""
    x, out = weights()[0], np.empty(WIDTHS[-1], np.float32)
    net = own_net()
    call, turns = net._engine.context.predict_row, net._engine.turns

    def run() -> Array:
        call(x, out, turns)
        return out

    run.alone = (call, x, out, turns)  # type: ignore[attr-defined]
    return run


def empty_door() -> Call:
    """A call from Python into the same module that does nothing, to be taken off the one above."""
    from fastmlp import _core

    run = predict_row()
    run.alone = (_core.fixed_block,)  # type: ignore[attr-defined]
    return run


def numpy_buffers() -> Call:
    x, ws, bs = weights()
    outs = [np.empty(w.shape[1], np.float32) for w in ws]
    hidden = list(zip(ws[:-1], bs[:-1], outs[:-1], strict=True))
    last, bias, out = ws[-1], bs[-1], outs[-1]

    def run() -> Array:
        h = x
        for w, b, o in hidden:
            np.dot(h, w, out=o)
            np.add(o, b, out=o)
            h = np.maximum(o, 0, out=o)
        np.dot(h, last, out=out)
        return np.add(out, bias, out=out)

    return run


def torch_eager() -> Call:
    import torch

    torch.set_num_threads(1)
    mode = torch.inference_mode()
    mode.__enter__()  # for as long as this process lives
    x, ws, bs = weights()
    layers: list[Any] = []
    for w, b in zip(ws, bs, strict=True):
        linear = torch.nn.Linear(*w.shape)
        linear.weight.copy_(torch.from_numpy(w.T))
        linear.bias.copy_(torch.from_numpy(b))
        layers += [linear, torch.nn.ReLU()]
    net, row = torch.nn.Sequential(*layers[:-1]), torch.from_numpy(x)

    def run(_alive: Any = mode) -> Any:
        return net(row)

    return run


def onnxruntime() -> Call:
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    x, ws, bs = weights()
    nodes, constants, name = [], [], "x"
    for i, (w, b) in enumerate(zip(ws, bs, strict=True)):
        constants += [numpy_helper.from_array(w, f"w{i}"), numpy_helper.from_array(b, f"b{i}")]
        nodes.append(helper.make_node("Gemm", [name, f"w{i}", f"b{i}"], [f"z{i}"]))
        name = f"z{i}"
        if i + 1 < len(ws):
            nodes.append(helper.make_node("Relu", [name], [f"h{i}"]))
            name = f"h{i}"
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, width])
        for n, width in (("x", WIDTHS[0]), (name, WIDTHS[-1]))
    ]
    graph = helper.make_graph(nodes, "mlp", ends[:1], ends[1:], constants)
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feed, names = {"x": x[None]}, [name]
    return lambda: session.run(names, feed)[0]


def sklearn_predict() -> Call:
    from sklearn.neural_network import MLPRegressor

    x, ws, bs = weights()
    net = MLPRegressor(hidden_layer_sizes=WIDTHS[1:-1], max_iter=1, batch_size=8)
    net.partial_fit(np.zeros((8, WIDTHS[0]), np.float32), np.zeros((8, WIDTHS[-1]), np.float32))
    for own, given in zip((*net.coefs_, *net.intercepts_), (*ws, *bs), strict=True):
        own[:] = given
    row = x[None]
    return lambda: net.predict(row)


def jax_jit() -> Call:
    import jax
    import jax.numpy as jnp

    x, ws, bs = weights()
    params = [(jnp.array(w), jnp.array(b)) for w, b in zip(ws, bs, strict=True)]

    @jax.jit
    def forward(params: Any, x: Any) -> Any:
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b)
        w, b = params[-1]
        return x @ w + b

    row = jnp.array(x)
    return lambda: forward(params, row).block_until_ready()


WAYS: dict[str, tuple[str, Callable[[], Call], dict[str, str]]] = {
    "predict_row_out": ("fastmlp, net.predict_row(x, out)", predict_row_out, {}),
    "predict_row": ("fastmlp, net.predict_row(x)", predict_row, {}),
    "predict": ("fastmlp, net.predict(X, threads=1) of one row", predict, {}),
    "predict_default": ("fastmlp, net.predict(X) of one row", predict_default, {}),
    "c_door": ("fastmlp, the C door alone", c_door, {}),
    "empty_door": ("fastmlp, a door that does nothing", empty_door, {}),
    "numpy": ("NumPy, with buffers", numpy_buffers, {}),
    "onnxruntime": ("ONNX Runtime", onnxruntime, {}),
    "jax": ("JAX, jit", jax_jit, {"JAX_PLATFORMS": "cpu"}),
    "torch": ("PyTorch, eager in inference_mode", torch_eager, {}),
    "sklearn": ("scikit-learn, MLPRegressor.predict", sklearn_predict, {}),
}


# ---- overheads of training -----------------------------------------------------------------------

_STEP_TITLES = {
    "long_epoch": f"a step inside an epoch of {_LONG_EPOCH}",
    "train_step": "net.train_step(x, y)",
    "train_step_anew": "net.train_step(x, y), optimizer made anew, threads left out",
    "train_step_weighted": "net.train_step(x, y, sample_weight=w)",
    "epochs_of_one_step": "fit: an epoch of one step",
    "one_fit_each": "a whole fit of one step",
}


def step_works() -> dict[str, Callable[[int], Any]]:
    """name -> what makes so many steps of 8-64-64-4 on 64 rows, in one or another way."""
    import fastmlp

    rng = np.random.default_rng(_SEED)
    rows = _STEP_BATCH * _LONG_EPOCH
    X = rng.standard_normal((rows, _STEP_WIDTHS[0]), dtype=np.float32)
    y = X[:, : _STEP_WIDTHS[-1]].argmax(axis=1)
    layers = [
        layer
        for n, m in itertools.pairwise(_STEP_WIDTHS)
        for layer in (fastmlp.Linear(n, m), fastmlp.ReLU())
    ]
    net = fastmlp.Sequential(layers[:-1], seed=0)
    settings: dict[str, Any] = {
        "loss": "cross_entropy",
        "optimizer": fastmlp.Adam(lr=1e-7),  # nothing learned by heart: that ends in denormals
        "threads": 1,
    }
    x1, y1, w1 = X[:_STEP_BATCH], y[:_STEP_BATCH], np.ones(_STEP_BATCH)

    def train_step(steps: int) -> None:
        for _ in range(steps):
            net.train_step(x1, y1, **settings)

    def train_step_anew(steps: int) -> None:
        for _ in range(steps):
            net.train_step(x1, y1, loss="cross_entropy", optimizer=fastmlp.Adam(lr=1e-7))

    def train_step_weighted(steps: int) -> None:
        for _ in range(steps):
            net.train_step(x1, y1, sample_weight=w1, **settings)

    def long_epoch(steps: int) -> None:
        n = max(1, steps // _LONG_EPOCH)
        net.fit(X, y, batch_size=_STEP_BATCH, epochs=n, shuffle=False, **settings)

    def epochs_of_one_step(steps: int) -> None:
        net.fit(x1, y1, batch_size=_STEP_BATCH, epochs=steps, shuffle=False, **settings)

    def one_fit_each(steps: int) -> None:
        for _ in range(steps):
            net.fit(x1, y1, batch_size=_STEP_BATCH, epochs=1, shuffle=False, **settings)

    works = (train_step, train_step_anew, train_step_weighted)
    return {f.__name__: f for f in (*works, long_epoch, epochs_of_one_step, one_fit_each)}


# ---- child and parent ----------------------------------------------------------------------------


def start(name: str) -> tuple[Answer, Callable[[Answer], Answer]]:
    """The child's side: one way to predict, or all ways to make a step."""
    use_processors(1)
    if name == "steps":
        works = step_works()
        return {}, lambda request: answer(works[request["way"]], request)
    call = WAYS[name][1]()
    output = np.asarray(call(), dtype=np.float64).ravel()
    difference = float(np.abs(output - expected()).max())
    function, *arguments = getattr(call, "alone", (call,))

    def run(times: int) -> None:
        for _ in itertools.repeat(None, times):
            function(*arguments)

    return {"difference": difference}, lambda request: answer(run, request)


def answer(run: Callable[[int], Any], request: Answer) -> Answer:
    if request["do"] == "calibrate":
        return {"times": calibrated(run, request["seconds"])}
    run(max(1, request["times"] // 10))
    return {"seconds": timed(run, request["times"])}


def timing(name: str, seconds: list[float]) -> dict[str, Any]:
    best, median = min(seconds), statistics.median(seconds)
    return {"way": name, "us_best": round(best * 1e6, 4), "us_median": round(median * 1e6, 4)}


def measure_rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    """One row of the result a way to predict."""
    with ExitStack() as stack:
        children = [
            stack.enter_context(Child(name, "latency.py", ["--child", name], 1, environment))
            for name, (_, _, environment) in WAYS.items()
        ]
        able = [c for c in children if "unavailable" not in c.wait().ready]
        times = {c.name: c.ask(do="calibrate", seconds=args.seconds)["times"] for c in able}
        seconds: dict[str, list[float]] = {c.name: [] for c in able}
        for turn in range(args.rounds):
            for c in random.Random(turn).sample(able, len(able)):
                took = c.ask(do="round", times=times[c.name])["seconds"]
                seconds[c.name].append(took / times[c.name])
    rows = []
    for c in children:
        if c not in able:
            rows.append({"way": c.name, "unavailable": c.ready["unavailable"]})
            continue
        agrees = c.ready["difference"] <= TOLERANCE
        row = timing(c.name, seconds[c.name]) | {"calls": times[c.name] * args.rounds}
        rows.append(row | {"difference": c.ready["difference"], "agrees": agrees})
    return rows


def measure_steps(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The ways to make a step, in one process and in turns."""
    ways = tuple(_STEP_TITLES)
    with Child("steps", "latency.py", ["--child", "steps"], 1) as child:
        if "unavailable" in child.wait().ready:
            raise SystemExit(child.ready["unavailable"])
        times: dict[str, int] = {}
        for way in ways:
            n = child.ask(do="calibrate", way=way, seconds=args.seconds)["times"]
            times[way] = -(-n // _LONG_EPOCH) * _LONG_EPOCH if way == "long_epoch" else n
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(args.rounds):
            for way in ways:
                took = child.ask(do="round", way=way, times=times[way])["seconds"]
                seconds[way].append(took / times[way])
    return [timing(way, seconds[way]) for way in ways]


def measure(args: argparse.Namespace) -> Result:
    return {"rows": measure_rows(args), "steps": measure_steps(args)}


def table(result: Result) -> str:
    """Two tables: one row, and the overheads of training."""
    columns = ["one row through 17-64-64-6", "best, us", "median, us", "difference"]
    lines: list[list[str]] = []
    notes: list[str] = []
    for row in result["rows"]:
        title = WAYS[row["way"]][0]
        if "unavailable" in row:
            lines.append([title, "-", "-", "-"])
            notes.append(f"- {title}: {row['unavailable']}")
            continue
        mark = "" if row["agrees"] else " (!)"
        cells = [f"{row[key]:.2f}" for key in ("us_best", "us_median")]
        lines.append([title + mark, *cells, f"{row['difference']:.0e}"])
    ways = {row["way"]: row for row in result["steps"]}
    step = ways["long_epoch"]
    step_lines = []
    for way, title in _STEP_TITLES.items():
        if way not in ways:  # a result of before
            continue
        cells = [f"{ways[way][key]:.2f}" for key in ("us_best", "us_median")]
        over = ways[way]["us_best"] - step["us_best"]
        step_lines.append([title, *cells, f"{over:.2f}" if way != "long_epoch" else "-"])
    step_columns = ["8-64-64-4, 64 rows, one thread", "best, us", "median, us", "over the step"]
    parts = [markdown(columns, lines), *notes, markdown(step_columns, step_lines)]
    return "\n\n".join(parts)


if __name__ == "__main__":
    if "--child" in sys.argv:
        serve(lambda: start(sys.argv[2]))
    else:
        run_script("latency", __doc__, measure, table, rounds=15, seconds=0.1, threads=1)

"""Small nets train in panels, rows along the vectors: whatever they are made of, the bits are those
of row by row. One object holds both ways against each other for every item of the registry.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import pytest
from helpers import (
    ACTIVATIONS,
    AROUND,
    DTYPES,
    LOSSES,
    NORMS,
    OPTIMIZERS,
    activation,
    fitting,
    inputs,
    native_only,
    targets,
)

from fastmlp import (
    GLU,
    Adam,
    BatchNorm,
    Dropout,
    Layer,
    LayerNorm,
    Linear,
    PReLU,
    ReLU,
    Residual,
    RMSNorm,
    Sequential,
    Standardize,
    Tanh,
    _core,
)

pytestmark = native_only

SIZES = [1, 2, 3, 17, 33, 49]
ROWS = [1, 2, 15, 16, 17, 1025, 2500]
N_IN = 7
Layers = Callable[[], list[Layer]]


def of_outputs(y: np.ndarray, out: np.ndarray) -> float:
    """A number that any bit of the outputs moves."""
    return float(zlib.crc32(out.tobytes()))


class TwoWays:
    """A net that trains in panels, and its twin that trains row by row."""

    def __init__(self, layers: Layers, dtype: str = "float32") -> None:
        self.nets = [Sequential(layers(), seed=3, dtype=dtype) for _ in range(2)]
        self.dtype = dtype
        for net, panels in zip(self.nets, (True, False), strict=True):
            net._engine.context.panels = panels

    def fit(self, rows: int, loss: str = "squared_error", threads: int = 1, **settings) -> None:
        """Train both on `rows` rows: all that is left behind agrees to the bit."""
        first, second = (self._fit(net, rows, loss, threads, settings) for net in self.nets)
        batch = settings.get("batch_size", rows)
        assert [net._engine.context.in_panels(batch) for net in self.nets] == [True, False]
        assert first.keys() == second.keys()
        for name in first:
            assert np.isfinite(first[name]).all(), name
            assert np.array_equal(first[name], second[name]), name

    def _fit(self, net, rows, loss, threads, settings) -> dict[str, np.ndarray]:
        x = inputs(rows, net.n_in, self.dtype)
        y = targets(loss, rows, net.n_out, self.dtype)
        known = {"epochs": 2, "batch_size": rows, "optimizer": Adam(0.01), "metrics": [of_outputs]}
        history = net.fit(x, y, loss=LOSSES[loss], threads=threads, **(known | settings))
        found = {f"history {name}": values for name, values in history.items()}
        found |= {"params": net.params, "grads": net.grads, "stats": net.stats}
        found |= {f"state {i}": array for i, array in enumerate(net._state)}
        return {name: np.array(array) for name, array in found.items()}


def mlp(between: Layers, width: int = 17, n_out: int = 3) -> Layers:
    return lambda: [Linear(N_IN, width), *between(), Linear(width, n_out)]


# ---- what nets are made of -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str, dtype: str) -> None:
    TwoWays(mlp(lambda: [activation(name)]), dtype).fit(50)


ROW_NORMS = {name: norm for name, norm in NORMS.items() if norm.func is not BatchNorm}
PARTS: dict[str, Callable[[int], list[Layer]]] = {
    "linear": lambda n: [Linear(n, n)],
    "no bias": lambda n: [Linear(n, n, bias=False), ReLU()],
    "dropout": lambda n: [Dropout(0.4)],
    "prelu": lambda n: [PReLU(-0.3)],
    **{
        f"glu {gate}": lambda n, gate=gate: [Linear(n, 2 * n), GLU(gate)]
        for gate in ("sigmoid", "swish", "gelu")
    },
    **{name: lambda n, norm=norm: [norm()] for name, norm in ROW_NORMS.items()},
    "residual": lambda n: [Residual([Linear(n, n), Tanh(), Dropout(0.2)]), Tanh()],
    "norms in a residual": lambda n: [Residual([LayerNorm(), Linear(n, n), RMSNorm()])],
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", PARTS)
def test_layers(name: str, n: int, dtype: str) -> None:
    for rows in (16, 50):
        TwoWays(mlp(lambda: PARTS[name](n), width=n, n_out=n), dtype).fit(rows)
        TwoWays(lambda: [*PARTS[name](n), Linear(n, 2)], dtype).fit(rows)
        TwoWays(lambda: [Linear(N_IN, n), *PARTS[name](n)], dtype).fit(rows)


@pytest.mark.parametrize("dtype", DTYPES)
def test_standardize(dtype: str) -> None:
    TwoWays(lambda: [Standardize(), Linear(5, 9), ReLU(), Linear(9, 2)], dtype).fit(50)


def test_every_op_of_the_registry_stands_in_these_tests() -> None:
    here = {"linear", "activation", "dropout", "layer_norm", "rms_norm", "standardize"}
    here |= {"prelu", "glu"}
    assert here | {"branch", "add", "batch_norm"} == set(_core.OPS)


@pytest.mark.parametrize("scale", [True, False])
def test_batch_norm_goes_the_other_way(scale: bool) -> None:
    net = Sequential(mlp(lambda: [BatchNorm(scale=scale, shift=scale)])())
    net._engine.context.panels = True
    net.fit(inputs(50, N_IN), targets("squared_error", 50, 3), loss="squared_error", epochs=1)
    assert not net._engine.context.in_panels(50)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("n", [1, 3, 17, 33])
def test_losses(name: str, n: int, dtype: str) -> None:
    net = mlp(lambda: [Tanh()], n_out=fitting(name, n))
    TwoWays(net, dtype).fit(50, name)
    TwoWays(net, dtype).fit(50, name, sample_weight=np.linspace(0, 2, 50), batch_size=20)


@pytest.mark.parametrize("name", OPTIMIZERS | AROUND)
def test_optimizers(name: str) -> None:
    optimizer = (OPTIMIZERS | AROUND)[name]
    TwoWays(mlp(lambda: [Tanh()], width=33)).fit(50, optimizer=optimizer, batch_size=17, epochs=4)
    TwoWays(mlp(lambda: [Tanh()], width=33)).fit(2500, optimizer=optimizer)


# ---- sizes ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 2, 9])
@pytest.mark.parametrize("rows", ROWS)
def test_rows(rows: int, threads: int, dtype: str) -> None:
    def layers() -> list[Layer]:
        inside = [RMSNorm(), Linear(33, 33), ReLU(), RMSNorm(scale=False), Dropout(0.3)]
        some = [LayerNorm(scale=False), Tanh(), LayerNorm(shift=False)]
        norms = [LayerNorm(), Residual(inside), *some]
        return [Linear(N_IN, 33), Tanh(), *norms, Linear(33, 5)]

    TwoWays(layers, dtype).fit(rows, "cross_entropy", threads)
    TwoWays(layers, dtype).fit(rows, "huber", threads, shuffle=False)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_in", [*SIZES, 256])
@pytest.mark.parametrize("n_out", [*SIZES, 256])
def test_widths(n_in: int, n_out: int, dtype: str) -> None:
    def layers() -> list[Layer]:
        return [Linear(n_in, n_out), ReLU(), Linear(n_out, n_in), Tanh(), Linear(n_in, 2)]

    TwoWays(layers, dtype).fit(33, epochs=1)
    TwoWays(layers, dtype).fit(1100, epochs=1, threads=2)


def test_wide_nets_and_few_rows_go_row_by_row() -> None:
    def in_panels(rows: int, width: int) -> bool:
        net = Sequential(mlp(lambda: [ReLU(), Linear(width, width), ReLU()], width=width)())
        x, y = inputs(rows, N_IN), targets("squared_error", rows, 3)
        net.fit(x, y, loss="squared_error", epochs=1, batch_size=rows)
        return net._engine.context.in_panels(rows)

    assert in_panels(64, 33)
    assert in_panels(5000, 33)
    assert not in_panels(64, 257)
    if _core.build_info()["kernels"] != "base":
        assert not in_panels(1, 64)


def test_outputs_of_a_step_and_what_follows_it() -> None:
    """forward, backward and predict go row by row, whatever a step has left in the buffers."""
    x, y = inputs(100, N_IN, "float32"), targets("cross_entropy", 100, 3)
    nets = [Sequential(mlp(lambda: [Tanh(), LayerNorm()])(), seed=1) for _ in range(2)]
    for net, panels in zip(nets, (True, False), strict=True):
        net._engine.context.panels = panels
    for _ in range(3):
        values = [net.train_step(x, y, loss="cross_entropy", optimizer=Adam(0.1)) for net in nets]
        assert values[0] == values[1]
        outputs = [net.forward(x, training=True) for net in nets]
        assert np.array_equal(*outputs)
        assert np.array_equal(*(net.backward(np.ones_like(outputs[0])) for net in nets))
        assert np.array_equal(nets[0].grads, nets[1].grads)
        assert np.array_equal(*(net.predict(x) for net in nets))

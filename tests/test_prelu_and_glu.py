"""Layers that act on columns and are neither an activation of the list nor a normalization: against
their twins and PyTorch, at every size, however the work is cut, and in files.
"""

import copy
import functools
import pickle

import numpy as np
import pytest
import reference
from helpers import DTYPES, assert_within, inputs, native_only, relative_error, rounding

from fastmlp import (
    GLU,
    AdamW,
    LeakyReLU,
    Linear,
    PReLU,
    Residual,
    Sequential,
    Tanh,
    check_gradients,
)
from fastmlp.analysis import derivatives

GATES = ["sigmoid", "swish", "gelu", "identity", "tanh"]
# name -> (layer, its twin over the arrays of the layer, the number of inputs for n outputs)
LAYERS = {
    "prelu": (PReLU, lambda layer: reference.PReLU(layer.slope.astype(float)), 1),
    **{
        f"glu {gate}": (
            functools.partial(GLU, gate),
            lambda layer: reference.GLU(layer.gate),
            2,
        )
        for gate in GATES
    },
}
SIZES = [1, 2, 7, 16, 33, 70]


def filled(layer, n, dtype="float64"):
    """The layer alone with arrays that are not those of the beginning; slopes of either sign."""
    layer.forward(np.ones((1, n), dtype))
    for array in layer.arrays().values():
        array[...] = np.random.default_rng(5).uniform(-0.5, 1.0, array.shape)
    return layer


def network(name, dtype="float64", n_out=3):
    make, _, times = LAYERS[name]
    layers = [Linear(5, 8 * times), make(), Linear(8, 8 * times), make(), Tanh()]
    inner = Residual([Linear(8 * times), make()])
    net = Sequential([*layers, inner, Linear(8, n_out)], seed=1, dtype=dtype)
    rng = np.random.default_rng(2)
    net.params[...] = rng.standard_normal(net.n_params) / 3
    return net


# ---- alone -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", LAYERS)
def test_it_equals_its_twin_at_every_size(name, n, dtype):
    make, make_twin, times = LAYERS[name]
    x, dy = inputs(37, n * times, dtype), inputs(37, n, dtype, seed=1)
    layer = filled(make(), n * times, dtype)
    twin, before = make_twin(layer), x.copy()
    assert_within(layer.forward(x), twin.forward(x.astype(float)), 8, c=8)
    assert_within(layer.backward(dy), twin.backward(dy.astype(float)), 8, c=8)
    for part in layer.arrays():
        assert_within(getattr(layer, f"{part}_grad"), getattr(twin, f"{part}_grad"), 8, n=37)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("name", LAYERS)
def test_nan_stays_in_its_place(name):
    make, _, times = LAYERS[name]
    x = np.zeros((3, 5 * times), np.float32)
    x[1, 2] = np.nan
    assert np.argwhere(np.isnan(make().forward(x))).tolist() == [[1, 2]]


def test_the_slopes_of_prelu():
    layer = PReLU(0.1)
    assert repr(layer) == "PReLU(init=0.1)"
    with pytest.raises(ValueError, match="input width"):
        _ = layer.slope
    x = np.array([[-2.0, 0.0, 3.0]])
    np.testing.assert_array_equal(layer.forward(x), [[-0.2, 0, 3]])
    layer.slope = [-1.0, 2.0, 3.0]  # with a negative slope the output is above 0 on both sides
    np.testing.assert_array_equal(layer.forward(x), [[2, 0, 3]])
    np.testing.assert_array_equal(layer.backward([[1.0, 1.0, 1.0]]), [[-1, 2, 1]])
    np.testing.assert_array_equal(layer.slope_grad, [-2, 0, 0])
    layer.slope_grad = np.zeros(3)
    assert not layer.slope_grad.any()
    for init in (np.nan, np.inf, "x", None):
        with pytest.raises(ValueError, match="init must be a finite number, not"):
            PReLU(init)
    with pytest.raises(ValueError, match="init may be at most"):
        PReLU(1e39).forward(np.ones((1, 1), "f"))
    assert PReLU().init == 0.25


def test_the_gates_of_glu():
    assert repr(GLU("swish")) == repr(GLU("silu")) == "GLU(gate='silu')"
    x = np.array([[2.0, 3.0, 0.0, 1e4]])  # the gate is the second half
    np.testing.assert_array_equal(GLU().forward(x), [[1, 3]])
    for gate in ("relu", "elu", "softplus", "Sigmoid", "", 3, None):
        with pytest.raises(ValueError, match="is unknown; use one of swish, identity, gelu,"):
            GLU(gate)
    with pytest.raises(ValueError, match=r"halves .* but 5 come in; .* Linear\(6\) before it"):
        GLU().forward(np.ones((2, 5)))
    with pytest.raises(ValueError, match="halves"):
        Sequential([Linear(4, 7), GLU(), Linear(2)])
    with pytest.raises(ValueError, match="takes 8 features in, but its layers end with 4"):
        Sequential([Linear(4, 8), Residual([GLU()])])


def test_widths_around_glu_are_known_when_they_can_be():
    assert Sequential([Linear(8), GLU()]).n_out == 4
    assert Sequential([Linear(4, 8), GLU(), Residual([Linear(8), GLU()])]).n_out == 4
    assert Sequential([GLU()], n_in=6).n_out == 3
    for layers in ([GLU()], [Tanh(), GLU(), Tanh()]):
        with pytest.raises(ValueError, match="do not tell the input width"):
            Sequential(layers)
    net = Sequential([GLU(), Linear(3, 2)])  # the data tell the width, which is not that of Linear
    assert net.n_out == 2
    net.fit(inputs(9, 6), np.arange(9) % 2, epochs=1)
    assert (net.n_in, net.n_out) == (6, 2)


def test_slopes_are_not_decayed():
    net = Sequential([Linear(3, 4), PReLU(), Linear(4, 2)], dtype="float64")
    x, y = np.zeros((5, 3)), np.zeros((5, 2))  # every gradient of weights and slopes is 0
    before = net.layers[0].weight.copy()
    net.train_step(x, y, loss="squared_error", optimizer=AdamW(0.1, weight_decay=0.1, l2=0.3))
    assert (net.layers[1].slope == 0.25).all()
    assert (net.layers[0].weight != before).all()


def test_the_first_weights_before_it_are_those_before_leaky_relu():
    nets = [Sequential([Linear(3, 4), layer, Linear(4, 2)]) for layer in (PReLU(), LeakyReLU())]
    np.testing.assert_array_equal(*(net.layers[0].weight for net in nets))


# ---- in networks -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_by_differences(name):
    """Central differences of the loss, in float64, of every parameter."""
    net, step = network(name), 1e-5
    x, y = inputs(6, 5, seed=4), inputs(6, 3, seed=5)
    grad = net.gradient(x, y, loss="squared_error")[1]
    found = np.empty_like(grad)
    for i in range(net.n_params):
        middle, ends = net.params[i], []
        for move in (step, -step):
            net.params[i] = middle + move
            ends.append(net.evaluate(x, y, loss="squared_error")["loss"])
        net.params[i] = middle
        found[i] = (ends[0] - ends[1]) / (2 * step)
    assert np.mean(grad != 0) > 0.9  # a slope has none if all rows of its unit are above 0
    assert relative_error(found, grad) < 1e-8
    lines = check_gradients(net, x, y, loss="squared_error", verbose=False)
    assert all(line.ok for line in lines), derivatives.format_checks(lines)


@native_only
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LAYERS)
def test_threads_and_the_way_change_no_bit(name, dtype):
    """Panels, rows, layer by layer, blocks: 3 rows on 8 threads of a wide net go by layers."""
    make, _, times = LAYERS[name]
    for rows, width in ((3, 400), (64, 33), (2500, 17)):
        x, y = inputs(rows, 5, dtype), np.arange(rows) % 3
        found = []
        for threads in (1, 2, 8):
            layers = [Linear(5, width * times), make(), Linear(width, width * times), make()]
            net = Sequential([*layers, Linear(width, 3)], seed=2, dtype=dtype)
            for _ in range(3):
                net.train_step(x, y, optimizer=AdamW(0.01), threads=threads)
            found.append(net.params.copy())
        assert all(np.array_equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LAYERS)
def test_files_copies_and_pickles(name, dtype, tmp_path):
    net, x, labels = network(name, dtype), inputs(90, 5), np.arange(90) % 3
    net.fit(x, labels, epochs=2, batch_size=30)
    net.save(tmp_path / "net")
    twins = [Sequential.load(tmp_path / "net"), copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    twins.append(net.fold())
    for twin in twins:
        assert [repr(layer) for layer in twin.layers] == [repr(layer) for layer in net.layers]
        np.testing.assert_array_equal(twin.params, net.params)
        np.testing.assert_array_equal(twin.predict(x), net.predict(x))
    net.fit(x, labels, epochs=2, batch_size=30)
    for twin in twins[:3]:
        twin.fit(x, labels, epochs=2, batch_size=30)
        np.testing.assert_array_equal(twin.params, net.params)
    alone = copy.deepcopy(net.layers[1])
    assert [(k, v.tolist()) for k, v in alone.arrays().items()] == [
        (k, v.tolist()) for k, v in net.layers[1].arrays().items()
    ]


@pytest.mark.parametrize("name", LAYERS)
def test_summary_tells_widths_and_parameters(name):
    make, _, times = LAYERS[name]
    net = network(name)
    lines = [line.split() for line in net.summary().splitlines()]
    size = sum(a.size for a in net.layers[1].arrays().values())
    kind = type(make()).__name__
    assert lines[2] == [kind, str(8 * times), "8", str(size) if size else "-"]
    assert lines[-1] == ["total", str(net.n_params)]


# ---- PyTorch ---------------------------------------------------------------------------------


def torch_twin(torch, name):
    times = LAYERS[name][2]

    class Gate(torch.nn.Module):
        def forward(self, x):
            a, b = x.chunk(2, dim=1)
            g = {
                "glu swish": torch.nn.functional.silu,
                "glu gelu": torch.nn.functional.gelu,
                "glu identity": lambda b: b,
                "glu tanh": torch.tanh,
            }
            return a * g[name](b)

    def act():
        kinds = {"prelu": lambda: torch.nn.PReLU(8), "glu sigmoid": torch.nn.GLU}
        return kinds.get(name, Gate)()

    class Skip(torch.nn.Sequential):
        def forward(self, x):
            return x + super().forward(x)

    def some(n_in):
        return torch.nn.Linear(n_in, 8 * times), act()

    layers = [*some(5), *some(8), torch.nn.Tanh(), Skip(*some(8)), torch.nn.Linear(8, 3)]
    return torch.nn.Sequential(*layers).to(torch.float64)


def trained(net):
    leaves = [leaf for layer in net.layers for leaf in layer.leaves()]
    return [(kind, array) for leaf in leaves for kind, array in leaf.arrays().items()]


@pytest.mark.parametrize("name", LAYERS)
def test_training_equals_pytorch(name):
    """30 steps of AdamW; slopes and biases are not decayed."""
    torch = pytest.importorskip("torch")
    net, other = network(name), torch_twin(torch, name)
    ours, theirs = trained(net), list(other.parameters())
    assert len(ours) == len(theirs)
    groups = {0.1: [], 0.0: []}
    for (kind, array), tensor in zip(ours, theirs, strict=True):
        tensor.data = torch.tensor(array.T.copy())
        groups[0.1 if kind == "weight" else 0.0].append(tensor)
    steps = torch.optim.AdamW(
        [{"params": p, "weight_decay": w} for w, p in groups.items()], lr=0.01
    )
    x, y = inputs(240, 5), inputs(240, 3, seed=1)
    for first in range(0, 240, 8):
        rows = slice(first, first + 8)
        steps.zero_grad()
        torch.nn.functional.mse_loss(other(torch.tensor(x[rows])), torch.tensor(y[rows])).backward()
        steps.step()
    how = {"optimizer": AdamW(0.01, weight_decay=0.1), "batch_size": 8, "shuffle": False}
    net.fit(x, y, loss="squared_error", epochs=1, **how)
    for (_, array), tensor in zip(ours, theirs, strict=True):
        assert np.abs(array - tensor.detach().numpy().T).max() <= 1e-10
    got, want = net.predict(x), other(torch.tensor(x)).detach().numpy()
    assert relative_error(got, want) < 1e3 * rounding("float64", n=240)

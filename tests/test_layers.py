"""Each layer alone against its twin: every size around the vector and tile widths, and the far
ends of the line."""

import copy
import pickle

import numpy as np
import pytest
import reference
from helpers import ACTIVATIONS, DTYPES, activation, assert_within, inputs
from hypothesis import example, given
from hypothesis import strategies as st

import fastmlp
from fastmlp import Dropout, Linear, ReLU, Residual, Sequential, _core

sizes = st.integers(1, 70)
dtypes = st.sampled_from(DTYPES)


def test_every_registered_op_has_a_twin():
    assert set(_core.OPS) == set(reference.OPS)


# ---- linear ----------------------------------------------------------------------------------


def whole_numbers(rng, *shape):
    """Products and sums of these are exact in float32, so that results have no tolerance."""
    return rng.integers(-4, 5, shape).astype(np.float64)


def check_linear_exactly(rows, n_in, n_out, dtype, bias, seed=0):
    rng = np.random.default_rng(seed)
    x, weight = whole_numbers(rng, rows, n_in), whole_numbers(rng, n_in, n_out)
    b, dy = whole_numbers(rng, n_out), whole_numbers(rng, rows, n_out)
    layer = Linear(n_in, n_out, bias=bias, dtype=dtype)
    layer.weight[...] = weight
    if bias:
        layer.bias[...] = b
    y = layer.forward(x.astype(dtype))
    dx = layer.backward(dy.astype(dtype))
    want_dx, want_dw, want_db = reference.linear_backward(x, weight, dy)
    assert y.dtype == dx.dtype == dtype
    np.testing.assert_array_equal(y, reference.linear(x, weight, b if bias else None))
    np.testing.assert_array_equal(dx, want_dx)
    np.testing.assert_array_equal(layer.weight_grad, want_dw)
    if bias:
        np.testing.assert_array_equal(layer.bias_grad, want_db)


@given(sizes, sizes, sizes, dtypes, st.booleans(), st.integers(0, 1000))
@example(1, 1, 1, "float32", True, 0)
@example(70, 70, 70, "float64", True, 0)
def test_linear_is_exact_on_whole_numbers(rows, n_in, n_out, dtype, bias, seed):
    check_linear_exactly(rows, n_in, n_out, dtype, bias, seed)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", range(1, 71))
def test_linear_at_every_width(n, dtype):
    """Each width once as rows, inputs and outputs: the edges of every tile and vector."""
    check_linear_exactly(n, 3, 5, dtype, True)
    check_linear_exactly(5, n, 3, dtype, True)
    check_linear_exactly(3, 5, n, dtype, True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape",
    [(1, 1100, 3), (257, 300, 129), (1030, 5, 49), (2, 3, 1027), (16, 64, 1100), (129, 1024, 64)],
)
def test_linear_beyond_one_block(shape, dtype):
    check_linear_exactly(*shape, dtype, True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 5, 4), (64, 64, 64), (100, 257, 31), (300, 784, 20)])
def test_linear_rounds_like_a_sum(shape, dtype, rng):
    """On real numbers: n terms of random sign, so c eps sqrt(n) times the size of the terms."""
    rows, n_in, n_out = shape
    x, dy = (
        rng.standard_normal((rows, n_in)).astype(dtype),
        rng.standard_normal((rows, n_out)).astype(dtype),
    )
    layer = Linear(n_in, n_out, dtype=dtype, seed=3)
    layer.bias[...] = rng.standard_normal(n_out)
    x64, w64, dy64 = x.astype(float), layer.weight.astype(float), dy.astype(float)
    y, dx = layer.forward(x), layer.backward(dy)
    want_dx, want_dw, want_db = reference.linear_backward(x64, w64, dy64)

    def size(a, b):  # root of the sum of squares of the terms
        return np.sqrt(a**2 @ b**2)

    terms = size(x64, w64) + np.abs(layer.bias)
    assert_within(y, reference.linear(x64, w64, layer.bias.astype(float)), terms, n=n_in)
    assert_within(dx, want_dx, size(dy64, w64.T), n=n_out)
    assert_within(layer.weight_grad, want_dw, size(x64.T, dy64), n=rows)
    assert_within(layer.bias_grad, want_db, np.sqrt((dy64**2).sum(axis=0)), n=rows)


@pytest.mark.parametrize("shape", [(300_000, 3, 5), (300_000, 3, 40), (40_000, 1024, 20)])
def test_linear_gradients_of_many_rows_keep_their_digits(shape):
    """Terms of one sign, where a single chain of float32 additions would lose three digits."""
    rows, n_in, n_out = shape
    layer = Linear(n_in, n_out)
    x, dy = np.full((rows, n_in), 0.1, "float32"), np.full((rows, n_out), 0.7, "float32")
    layer.forward(x)
    layer.backward(dy)
    dw, db = rows * float(x[0, 0]) * float(dy[0, 0]), rows * float(dy[0, 0])
    eps, chain = np.finfo("float32").eps, 1024  # as in tile.h; errors of both sums add up
    tolerance = eps * (chain + rows / chain) / 4
    np.testing.assert_allclose(layer.weight_grad, dw, rtol=tolerance)
    np.testing.assert_allclose(layer.bias_grad, db, rtol=tolerance)


def test_linear_gradients_are_overwritten_not_added():
    layer = Linear(3, 2, seed=0)
    x, dy = inputs(4, 3, "float32"), inputs(4, 2, "float32", seed=1)
    layer.forward(x)
    layer.backward(dy)
    first = layer.weight_grad.copy(), layer.bias_grad.copy()
    layer.forward(x)
    layer.backward(dy)
    np.testing.assert_array_equal(layer.weight_grad, first[0])
    np.testing.assert_array_equal(layer.bias_grad, first[1])
    assert np.abs(first[0]).max() > 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_parameters_are_views(dtype):
    """What is written into them is what the next forward uses, and the other way round."""
    layer = Linear(2, 2, dtype=dtype)
    assert (layer.weight.shape, layer.bias.shape) == ((2, 2), (2,))
    assert (layer.weight_grad.shape, layer.bias_grad.shape) == ((2, 2), (2,))
    assert layer.weight.dtype == layer.bias.dtype == layer.weight_grad.dtype == dtype
    layer.weight[...] = [[1, 2], [3, 4]]
    layer.bias[:] = [10, 20]
    x = np.array([[1, 1]], dtype)
    np.testing.assert_array_equal(layer.forward(x), [[14, 26]])
    layer.weight[0, 1] = -4
    np.testing.assert_array_equal(layer.forward(x), [[14, 20]])


def test_network_parameters_are_views_into_flat_arrays():
    net = Sequential([Linear(3, 4), ReLU(), Linear(4, 2)], n_in=3)
    for layer in (net.layers[0], net.layers[2]):
        for part, flat in [
            (layer.weight, net.params),
            (layer.bias, net.params),
            (layer.weight_grad, net.grads),
            (layer.bias_grad, net.grads),
        ]:
            assert np.shares_memory(part, flat)
    assert net.params.ndim == net.grads.ndim == 1
    assert net.n_params == 3 * 4 + 4 + 4 * 2 + 2
    net.params[...] = 0
    assert not net.layers[2].weight.any()
    net.layers[2].bias[...] = 7
    np.testing.assert_array_equal(net.predict(np.ones((1, 3), np.float32)), [[7, 7]])
    assert np.count_nonzero(net.params) == 2


def test_linear_starts_from_its_seed_with_zero_bias():
    a, b, c = (Linear(30, 20, seed=s) for s in (5, 5, 6))
    np.testing.assert_array_equal(a.weight, b.weight)
    assert (a.weight != c.weight).mean() > 0.99
    assert not a.bias.any()


def test_linear_without_bias_has_none():
    layer = Linear(3, 2, bias=False)
    assert layer.bias is None
    np.testing.assert_array_equal(layer.forward(np.zeros((2, 3), np.float32)), np.zeros((2, 2)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_linear_passes_nonfinite_values_on_in_their_row_only(value):
    layer = Linear(5, 4, seed=0)
    x = inputs(3, 5, "float32")
    clean = layer.forward(x)
    x[1, 2] = value
    with np.errstate(invalid="ignore"):
        want = x[1, 2] * layer.weight[2]
    got = layer.forward(x)
    np.testing.assert_array_equal(got[1], want)
    np.testing.assert_array_equal(got[[0, 2]], clean[[0, 2]])


# ---- activations -----------------------------------------------------------------------------


def test_every_registered_activation_has_a_twin():
    assert set(_core.ACTIVATIONS) <= set(reference.ACTIVATIONS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_class_and_default(name):
    info = _core.ACTIVATIONS[name]
    layer = activation(name)
    assert type(layer).__name__ == info["class_name"] in fastmlp.__all__
    assert reference.ACTIVATIONS[name].default == info["default"]
    if info["attr"]:
        assert getattr(layer, info["attr"]) == info["default"]


def check_activation(name, z, dy, attr=None, c=8):
    """Forward: the result for an argument that a few roundings have moved, so c eps times the
    larger of |f| and |z f'|. Backward: c eps times dy times the derivative's size, but at least 1,
    since it may come from an output that is rounded."""
    layer = activation(name, attr)
    twin = reference.ACTIVATIONS[name]
    a = twin.default if attr is None else attr
    z64 = z.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        want, slope = twin.f(z64, a), twin.df(z64, a)
        y, dx = layer.forward(z), layer.backward(dy)
    assert y.dtype == dx.dtype == z.dtype
    moved = np.abs(np.clip(z64, -1000, 1000) * slope)
    assert_within(y, want, np.maximum(np.abs(want), moved), c=c)
    known = ~np.isnan(slope)
    size = np.maximum(1, np.abs(slope)) * np.abs(dy)
    assert_within(dx[known], (dy * slope)[known], size[known], c=c)


def sweep(dtype):
    """Both signs, every magnitude from the smallest normal number to far beyond all thresholds,
    and densely where the curves bend."""
    powers = np.logspace(-37, 4.5, 3000)
    dense = np.linspace(0, 40, 6001)
    z = np.concatenate([powers, dense])
    return np.concatenate([z, -z]).astype(dtype)[None, :]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_keeps_its_digits_everywhere(name, dtype):
    z = sweep(dtype)
    check_activation(name, z, np.ones_like(z))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_at_the_ends_of_the_line(name, dtype):
    """Zeros, subnormals, the thresholds of exp in both types, the largest numbers, infinities,
    NaN."""
    info = np.finfo(dtype)
    ends = [
        0,
        info.smallest_subnormal,
        info.tiny,
        info.eps,
        1,
        17,
        30,
        37,
        87.3,
        88.8,
        89,
        103.9,
        104.1,
    ]
    ends += [700, 709.7, 710, 745, 746.5, 1000.5, 1e4, 1e18, info.max, np.inf]
    z = np.array([*ends, *np.negative(ends), np.nan], dtype)[None, :]
    check_activation(name, z, np.ones_like(z))


@pytest.mark.parametrize("name", ACTIVATIONS)
@given(rows=sizes, n=sizes, dtype=dtypes, seed=st.integers(0, 1000))
def test_activation_at_any_size(name, rows, n, dtype, seed):
    check_activation(name, 3 * inputs(rows, n, dtype, seed), inputs(rows, n, dtype, seed + 1))


@pytest.mark.parametrize("name", [n for n in ACTIVATIONS if _core.ACTIVATIONS[n]["attr"]])
@pytest.mark.parametrize("attr", [0.125, 0.7, 1.5])
def test_activation_attribute(name, attr):
    check_activation(name, 3 * inputs(9, 7), inputs(9, 7, seed=1), attr=attr)


@pytest.mark.parametrize("name", [n for n in ACTIVATIONS if _core.ACTIVATIONS[n]["attr"]])
@pytest.mark.parametrize("attr", [np.nan, np.inf, -1.0, "x"])
def test_activation_attribute_is_checked(name, attr):
    with pytest.raises((ValueError, TypeError)):
        activation(name, attr).forward(np.ones((1, 1)))


@pytest.mark.parametrize(("kind", "name"), [(fastmlp.Softplus, "beta"), (fastmlp.CELU, "alpha")])
@pytest.mark.parametrize("value", [0.0, 1e-9, "x"])
def test_some_settings_must_be_such_that_one_can_divide_by_them(kind, name, value):
    with pytest.raises(ValueError, match=f"{name} must be a finite number >= 1e-06"):
        kind(value)
    with pytest.raises(ValueError, match=f"{name} may be at most"):
        kind(1e39).forward(np.ones((1, 1), "f"))


@pytest.mark.parametrize("beta", [1e-6, 1e-3, 30.0, 1e6, 1e30])
@pytest.mark.parametrize("dtype", DTYPES)
def test_softplus_of_any_beta_keeps_its_digits(beta, dtype):
    z = sweep(dtype)
    exact = z.astype(float)
    want = reference.softplus(exact, beta)
    moved = np.abs(exact * reference.softplus_slope(exact, beta))
    with np.errstate(over="ignore"):
        got = fastmlp.Softplus(beta).forward(z)
    assert_within(got, want, np.maximum(np.abs(want), moved), c=8)


def test_the_tanh_form_of_gelu_is_named():
    with pytest.raises(TypeError, match=r"GELUTanh\(\) the one with tanh"):
        fastmlp.GELU(approximate="tanh")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_does_not_depend_on_the_place(name, dtype, rng):
    """A value in the middle of a vector and the same value in the rest at the end give the same
    bits."""
    z = (4 * rng.standard_normal(67)).astype(dtype)
    alone = np.concatenate([activation(name).forward(v.reshape(1, 1))[0] for v in z])
    np.testing.assert_array_equal(activation(name).forward(z[None, :])[0], alone)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_passes_nan_on_alone(name):
    z = np.zeros((3, 5), np.float32)
    z[1, 2] = np.nan
    assert np.argwhere(np.isnan(activation(name).forward(z))).tolist() == [[1, 2]]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_multiplies_by_dy(name):
    """NaN in dy stays in its place, and a zero dy gives exactly zero."""
    layer = activation(name)
    layer.forward(inputs(2, 5, "float32"))
    dy = np.zeros((2, 5), np.float32)
    dy[0, 3] = np.nan
    dx = layer.backward(dy)
    assert np.argwhere(np.isnan(dx)).tolist() == [[0, 3]]
    assert not dx[~np.isnan(dx)].any()


# ---- every layer -----------------------------------------------------------------------------

LAYERS = {name: lambda name=name: activation(name) for name in ACTIVATIONS}
LAYERS |= {"linear": lambda: Linear(5, 5, seed=0), "dropout": lambda: Dropout(0.3)}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_layer_leaves_its_input_and_earlier_results_alone(make):
    layer = make()
    x, dy = inputs(6, 5, "float32"), inputs(6, 5, "float32", seed=1)
    x_before, dy_before = x.copy(), dy.copy()
    y, dx = layer.forward(x), layer.backward(dy)
    y_before, dx_before = y.copy(), dx.copy()
    layer.forward(2 * x)
    layer.backward(3 * dy)
    np.testing.assert_array_equal(x, x_before)
    np.testing.assert_array_equal(dy, dy_before)
    np.testing.assert_array_equal(y, y_before)
    np.testing.assert_array_equal(dx, dx_before)


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_layer_refuses_impossible_shapes(make):
    layer = make()
    for bad in [
        np.ones((0, 5), np.float32),
        np.ones((2, 5, 1), np.float32),
        np.ones((2, 0), np.float32),
    ]:
        with pytest.raises(ValueError, match=r"x (is empty|has 3 dimensions|has 0 columns)"):
            layer.forward(bad)
    layer.forward(np.ones((2, 5), np.float32))
    for shape in [(3, 5), (2, 4), (5, 2), (1, 10), (10,)]:
        with pytest.raises(ValueError, match="dz"):
            layer.backward(np.ones(shape, np.float32))


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_layer_needs_a_forward_before_backward(make):
    with pytest.raises(RuntimeError, match="forward"):
        make().backward(np.ones((2, 5), np.float32))


# ---- what is fixed ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", fastmlp.layers.LAYERS)
def test_settings_of_a_layer_are_fixed(name):
    """C runs a program made of them: a change would be shown and saved, but not computed."""
    kind = fastmlp.layers.LAYERS[name]
    arguments = {"Linear": (4, 4), "Residual": ([Linear(4, 4)],)}.get(name, ())
    layer = kind(*arguments)
    shown = repr(layer)
    for setting in (*layer.config(), "n_in"):
        with pytest.raises(AttributeError):
            setattr(layer, setting, 1)
    assert repr(layer) == shown


def test_layers_of_a_network_are_fixed():
    net = Sequential([Linear(4, 8), Residual([Linear(8, 8)]), Dropout(0.1), Linear(8, 2)])
    for layers in (net.layers, net.layers[1].layers):
        assert isinstance(layers, tuple)
    for name, value in (("layers", []), ("seed", 3), ("dtype", "float64")):
        with pytest.raises(AttributeError):
            setattr(net, name, value)
    with pytest.raises(AttributeError, match=r"p of Dropout\(p=0.1\) is fixed; make a new layer"):
        net.layers[2].p = 0.9


# ---- the message names the layer as the user sees it ---------------------------------------------


def test_width_errors_count_layers_as_the_user_does():
    block = [fastmlp.LayerNorm(), Linear(9, 8), ReLU()]

    def message(*layers, **settings):
        with pytest.raises(ValueError, match="what comes in has") as refused:
            Sequential(layers, **settings)
        return str(refused.value)

    assert message(Linear(3, 8), ReLU(), Linear(9, 2)) == (
        "layer 2 is Linear(9, 2), but what comes in has 8 features; use Linear(8, 2) or Linear(2)"
    )
    assert message(Linear(3, 8), Residual(block)).startswith("layer 1.layers.1 is Linear(9, 8)")
    inner = Residual([ReLU(), Residual([Linear(8, 8), Linear(7, 8)])])
    assert message(Linear(3, 8), ReLU(), inner, Linear(8, 2)).startswith(
        "layer 2.layers.1.layers.1 is Linear(7, 8)"
    )
    # behind a block, whose own two ends are no layers of the user's
    fits = Residual([Linear(8, 8), ReLU()])
    assert message(Linear(3, 8), fits, Linear(9, 2)).startswith("layer 2 is Linear(9, 2)")
    with pytest.raises(ValueError, match=r"^Residual\.layers\.1 is Linear\(7, 8\), but"):
        Residual([Linear(8, 8), Linear(7, 8)]).forward(np.ones((2, 8)))


def test_a_layer_that_has_seen_other_data_is_named():
    used = fastmlp.Standardize().adapt(np.arange(15.0).reshape(3, 5))
    with pytest.raises(
        ValueError, match=r"layer 0 is Standardize\(\), but what comes in has 4 .* with 5;"
    ):
        Sequential([used, Linear(4, 2)])
    norm = fastmlp.LayerNorm()
    norm.forward(np.ones((2, 5)))
    with pytest.raises(ValueError, match=r"layer 1 is LayerNorm\(.* with 5;"):
        Sequential([Linear(4, 4), norm])


# ---- summary -------------------------------------------------------------------------------------


def test_summary_lists_layers_shapes_and_parameters():
    block = Residual([fastmlp.LayerNorm(), Linear(64, 64, bias=False), ReLU()])
    net = Sequential([Linear(8, 64), fastmlp.Dropout(0.25), block, Linear(64, 3)], dtype="float64")
    lines = net.summary().splitlines()
    assert [line.split() for line in lines] == [
        ["layer", "in", "out", "parameters"],
        ["Linear", "8", "64", "576"],
        ["Dropout(0.25)", "64", "64", "-"],
        ["Residual", "64", "64", "4,224"],
        ["LayerNorm", "64", "64", "128"],
        ["Linear", "64", "64", "4,096"],
        ["ReLU", "64", "64", "-"],
        ["Linear", "64", "3", "195"],
        ["total", "4,995"],
    ]
    assert net.n_params == 4995
    inside = next(line for line in lines if "LayerNorm" in line)
    assert len(inside) - len(inside.lstrip()) > len(lines[1]) - len(lines[1].lstrip())
    with pytest.raises(ValueError, match="input width is not known"):
        Sequential([Linear(3)]).summary()


# ---- copies of layers ----------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_of_a_network_s_layer_is_free(copied):
    """So that what one network has learned can begin another."""
    block = Residual([fastmlp.LayerNorm(), Linear(64), ReLU()])
    layers = [fastmlp.Standardize(), Linear(5, 64), fastmlp.BatchNorm(), fastmlp.GELU(), block]
    net, x = Sequential([*layers, Dropout(0.1), Linear(64, 3)], seed=1), inputs(40, 5, "float32")
    net.fit(x, np.arange(40) % 3, epochs=1, batch_size=20)
    kept = [copied(layer) for layer in net.layers[:-1]]
    other = Sequential([*kept, Linear(64, 2)], seed=2)
    for old, new in zip(net.layers[:-1], other.layers, strict=False):
        assert repr(old) == repr(new)
        np.testing.assert_array_equal(old.forward(x), new.forward(x))
        x = old.forward(x)
    x = inputs(40, 5, "float32")
    other.fit(x, np.arange(40) % 2, epochs=1)
    assert not np.array_equal(net.layers[1].weight, other.layers[1].weight)
    # alone it has its own parameters, and no others
    alone = copied(net.layers[1])
    np.testing.assert_array_equal(alone.forward(x), net.layers[1].forward(x))
    alone.weight[:] = 0
    assert net.layers[1].weight.all()
    assert len(pickle.dumps(net.layers[-1])) < 5_000
    assert len(pickle.dumps(net.layers[3])) < 1_200


def test_a_star_import_has_every_layer():
    names: dict[str, object] = {}
    exec("from fastmlp.layers import *", names)
    assert names.keys() >= fastmlp.layers.LAYERS.keys()

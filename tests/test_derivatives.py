"""Gradient, Jacobian and Hessian of a network, against the twin and PyTorch's autograd."""

import dataclasses
import functools

import numpy as np
import pytest
import reference
from helpers import (
    ACTIVATIONS,
    DTYPES,
    LOSSES,
    activation,
    assert_within,
    digest,
    inputs,
    loss_function,
    randomize,
    relative_error,
    rounding,
    targets,
    twin,
)

import fastmlp
from fastmlp import (
    ELU,
    GELU,
    GLU,
    BatchNorm,
    Dropout,
    LayerNorm,
    LeakyReLU,
    Linear,
    PReLU,
    ReLU,
    Residual,
    RMSNorm,
    Sequential,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
    check_gradients,
)
from fastmlp.analysis import derivatives

N_IN, N_OUT = 5, 6


def network(name="tanh", dtype="float64", bias=True):
    layers = [Linear(N_IN, 7), activation(name), Linear(7, 6, bias=bias), activation(name)]
    net = Sequential([*layers, Dropout(0.3), Linear(6, N_OUT)], dtype=dtype, seed=0)
    randomize(net)
    return net


def twin_gradients(layers):
    """The flat layout of `params`: weights, then biases."""
    found = [layer for layer in layers if isinstance(layer, reference.Linear)]
    weights = [layer.weight_grad for layer in found]
    biases = [layer.bias_grad for layer in found if layer.bias is not None]
    return np.concatenate([g.ravel() for g in [*weights, *biases]])


# ---- gradient and Jacobian -----------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_is_that_of_the_loss(loss, dtype):
    net, x, y = network(dtype=dtype), inputs(40, N_IN, dtype), targets(loss, 40, N_OUT, dtype)
    value, gradient = net.gradient(x, y, loss=LOSSES[loss])
    want, dz = loss_function(loss)(net.forward(x), y)
    net.backward(dz)
    assert gradient.dtype == dtype
    assert gradient is not net.grads
    np.testing.assert_array_equal(gradient, net.grads)
    assert value == pytest.approx(want, rel=1e-14)


def test_weights_count_as_copies_of_rows():
    """Half the rows twice, or all with weights 2 and 0 (and the mean over twice as many rows)."""
    net, x, y = network(), inputs(8, N_IN, "float64"), targets("cross_entropy", 8, N_OUT, "float64")
    twice = np.repeat(x[:4], 2, axis=0), np.repeat(y[:4], 2)
    weights, v = np.repeat([2.0, 0.0], 4), np.ones(net.n_params)
    for method, more in (("gradient", ()), ("hessian_vector", (v,)), ("hessian", ())):
        weighted = getattr(net, method)(x, y, *more, sample_weight=weights)
        plain = getattr(net, method)(*twice, *more)
        if method == "gradient":
            assert weighted[0] == pytest.approx(plain[0], rel=1e-14)
            weighted, plain = weighted[1], plain[1]
        np.testing.assert_allclose(weighted, plain, rtol=0, atol=1e-9 * np.abs(plain).max())
    assert all(line.ok for line in check_gradients(net, x, y, sample_weight=weights, verbose=False))


def test_gradient_over_blocks(monkeypatch):
    net, x, y = network(), inputs(90, N_IN), targets("squared_error", 90, N_OUT)
    whole = net.gradient(x, y)
    monkeypatch.setattr("fastmlp.second_order.objective.BLOCK_ROWS", 32)
    parts = net.gradient(x, y)
    assert relative_error(parts[1], whole[1]) < rounding("float64", 90)
    assert parts[0] == pytest.approx(whole[0], rel=rounding("float64", 90))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_jacobian_equals_the_twin(name, dtype):
    """Row by row and output by output, a backward pass of the textbook network."""
    net, x = network(name, dtype, bias=False), inputs(9, N_IN, dtype)
    jacobian = net.jacobian(x)
    assert jacobian.shape == (9, N_OUT, net.n_params)
    assert jacobian.dtype == dtype
    layers = twin(net)
    for row in range(9):
        for j in range(N_OUT):
            reference.forward(layers, x[row : row + 1].astype(np.float64))
            reference.backward(layers, np.eye(N_OUT)[j : j + 1])
            want = twin_gradients(layers)
            assert_within(jacobian[row, j], want, np.abs(want).max() + 1, n=20)


def test_jacobian_is_the_same_in_blocks_and_on_threads(monkeypatch):
    net, x = network(dtype="float32"), inputs(50, N_IN, "float32")
    before = digest(net.params)
    whole = net.jacobian(x, threads=1)
    monkeypatch.setattr("fastmlp.analysis.derivatives.BLOCK_NUMBERS", 7 * N_OUT * net.n_params)
    for threads in (1, 2, 3):
        np.testing.assert_array_equal(net.jacobian(x, threads=threads), whole)
    assert digest(net.params) == before


def test_jacobian_times_residual_is_the_gradient():
    net, x, y = network("gelu"), inputs(30, N_IN), targets("squared_error", 30, N_OUT)
    r = net.predict(x) - y
    want = 2 / r.size * np.einsum("rj,rjp->p", r, net.jacobian(x))
    assert relative_error(net.gradient(x, y)[1], want) < rounding("float64", 90)


# ---- Hessian -------------------------------------------------------------------------------------


def torch_function(net, x, y, loss):
    """(torch, outputs of the flat parameters, loss of them): the same network in PyTorch."""
    torch = pytest.importorskip("torch")
    functions = torch.nn.functional
    error = {
        "cross_entropy": functions.cross_entropy,
        "binary_cross_entropy": functions.binary_cross_entropy_with_logits,
        "squared_error": functions.mse_loss,
        "absolute_error": functions.l1_loss,
        "poisson": functions.poisson_nll_loss,
    }[loss]
    x, y = (torch.tensor(a if a.dtype == np.int64 else a.astype(np.float64)) for a in (x, y))

    def part(p, array):
        first = (array.ctypes.data - net.params.ctypes.data) // net.dtype.itemsize
        return p[first : first + array.size].reshape(array.shape)

    def outputs(p):
        h = x
        for layer in net.layers:
            name = type(layer).__name__
            if name == "Linear":
                h = h @ part(p, layer.weight)
                h = h if layer.bias is None else h + part(p, layer.bias)
            elif name == "LayerNorm":
                one, zero = torch.ones_like(h[0]), torch.zeros_like(h[0])
                scale = one if layer.scale is None else part(p, layer.scale)
                shift = zero if layer.shift is None else part(p, layer.shift)
                h = functions.layer_norm(h, scale.shape, scale, shift, layer.eps)
            elif name == "RMSNorm":
                mean = (h**2).mean(axis=1, keepdims=True)
                scale = 1 if layer.scale is None else part(p, layer.scale)
                h = h / torch.sqrt(mean + layer.eps) * scale
            elif name == "GLU":
                a, b = h.chunk(2, dim=1)
                h = a * getattr(functions, layer.gate)(b)
            elif name == "PReLU":
                h = functions.prelu(h, part(p, layer.slope))
            elif name != "Dropout":
                h = getattr(functions, "leaky_relu" if name == "LeakyReLU" else name.lower())(h)
        return h

    return torch, outputs, lambda p: error(outputs(p), y)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "squared_error"])
@pytest.mark.parametrize("name", ["tanh", "gelu", "mish"])
def test_derivatives_equal_autograd(name, loss):
    net, x, y = network(name), inputs(20, N_IN), targets(loss, 20, N_OUT)
    torch, outputs, value = torch_function(net, x, y, loss)
    p = torch.tensor(net.params.copy())
    jacobian = torch.func.jacrev(outputs)(p).numpy()
    assert np.abs(net.jacobian(x) - jacobian).max() <= 1e-12 * np.abs(jacobian).max()
    want = torch.func.hessian(value)(p).numpy()
    hessian = net.hessian(x, y, loss=loss)
    assert np.abs(hessian - want).max() <= 1e-10 * np.abs(want).max()
    np.testing.assert_array_equal(hessian, hessian.T)
    for scale in (1e-6, 1.0, 1e6):
        v = scale * np.random.default_rng(3).standard_normal(net.n_params)
        got = net.hessian_vector(x, y, v, loss=loss)
        assert np.abs(got - want @ v).max() <= 1e-10 * np.abs(want @ v).max()


@pytest.mark.parametrize(
    ("name", "size"), [("relu", 1), ("leaky_relu", 1), ("elu", 1), ("tanh", 300)]
)
def test_hessian_beside_kinks_and_on_large_inputs(name, size):
    """Steps of 1e-3 crossed so many kinks that a ReLU network's Hessian was wrong by half."""
    net, x = network(name), size * inputs(200, N_IN, "float64")
    y = targets("squared_error", 200, N_OUT, "float64")
    torch, _, value = torch_function(net, x, y, "squared_error")
    exact = torch.autograd.functional.hessian(value, torch.tensor(net.params.copy())).numpy()
    error = np.abs(net.hessian(x, y, loss="squared_error") - exact).max()
    assert error <= 1e-7 * np.abs(exact).max()


def test_rows_on_a_kink_are_named(recwarn):
    """In a new network, biases of 0, a row of zeros stands on the kink of every ReLU: its Hessian
    was 1,000 times too large without a word.
    """
    net = Sequential([Linear(N_IN, 7), ReLU(), Linear(7, 2)], dtype="float64", seed=0)
    x, y = inputs(8, N_IN, "float64"), targets("squared_error", 8, 2, "float64")
    x[3] = 0
    v = np.ones(net.n_params)
    how = {"loss": "squared_error"}
    for weights in (None, np.arange(8) != 3):  # a row that does not count does no harm
        net.hessian(x, y, sample_weight=weights, **how)
        net.hessian_vector(x, y, v, sample_weight=weights, **how)
        lines = check_gradients(net, x, y, sample_weight=weights, verbose=False, **how)
        told = [str(w.message).partition(" an activation")[0] for w in recwarn]
        assert told == ([] if weights is not None else ["row 3 of X brings"] * 3)
        assert all(line.ok for line in lines) == (weights is not None)
        recwarn.clear()
    net.layers[0].bias[:] = 0.1
    net.hessian(x, y, **how)
    assert all(line.ok for line in check_gradients(net, x, y, verbose=False, **how))
    assert not recwarn.list


SMOOTH, KINKED, FAR = 1e-9, 1e-7, 3e-6  # errors: FAR for inputs of 1e6
NETWORKS = {
    "tanh": ([Linear, Tanh], SMOOTH),
    "tanh, 10 layers": ([Linear, Tanh] * 10, SMOOTH),
    "gelu": ([Linear, GELU] * 2, SMOOTH),
    "softplus": ([Linear, Softplus] * 2, SMOOTH),
    "layer norm": ([Linear, LayerNorm, SiLU] * 2, SMOOTH),
    "rms norm": ([Linear, RMSNorm, Sigmoid], SMOOTH),
    "norms without": (
        [
            *(Linear, functools.partial(LayerNorm, scale=False), SiLU),
            *(Linear, functools.partial(LayerNorm, shift=False), Tanh),
            *(Linear, functools.partial(RMSNorm, scale=False), Sigmoid),
        ],
        SMOOTH,
    ),
    "linear": ([Linear, Linear], SMOOTH),
    "relu": ([Linear, ReLU] * 2, KINKED),
    "leaky relu": ([Linear, LeakyReLU] * 2, KINKED),
    "elu": ([Linear, ELU] * 2, KINKED),
    "glu": ([Linear, LayerNorm, functools.partial(GLU, "gelu"), Linear, LayerNorm, GLU], SMOOTH),
    "prelu": ([Linear, PReLU] * 2, 2 * KINKED),  # for tiny inputs rounding is all there is
    "kinks and curves": ([Linear, ReLU, Linear, Tanh], KINKED),
}
TASKS = ["squared_error", "cross_entropy", "poisson", "absolute_error"]
SCALED_TASKS = [
    (loss, scale)
    for loss in TASKS
    for scale in (1e-6, 1.0, 1e6)
    if (loss, scale) != ("absolute_error", 1e6)  # its kinks ask for steps of 1e-12, below rounding
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("loss", "scale"), SCALED_TASKS)
@pytest.mark.parametrize("name", NETWORKS)
def test_hessian_vector_at_any_scale_of_the_inputs(name, loss, scale, dtype):
    """Steps of 1e-6 in the parameters were 62% off for inputs of 1e6."""
    kinds, tolerance = NETWORKS[name]
    layers = [kind(6) if kind is Linear else kind() for kind in kinds]
    net = Sequential([*layers, Linear(N_OUT)], n_in=N_IN, dtype=dtype)
    randomize(net)
    x, y = scale * inputs(60, N_IN, dtype), targets(loss, 60, N_OUT, dtype)
    if scale > 1:
        tolerance = FAR
        net.layers[-1].weight[:] /= scale  # outputs stay in the range of exp
    elif loss == "absolute_error":
        tolerance = KINKED
    torch, _, value = torch_function(net, x, y, loss)
    p, rng = torch.tensor(net.params.astype(np.float64)), np.random.default_rng(3)
    first = np.zeros(net.n_params)
    first[: N_IN * 6] = rng.standard_normal(N_IN * 6)  # weights of the inputs alone
    for v in (rng.standard_normal(net.n_params), 1e9 * first, np.eye(net.n_params)[0]):
        _, want = torch.autograd.functional.hvp(value, p, torch.tensor(v))
        got, size = net.hessian_vector(x, y, v, loss=loss), np.abs(want.numpy()).max()
        assert np.abs(got - want.numpy()).max() <= tolerance * size


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("name", NETWORKS)
def test_check_gradients_at_any_scale_of_the_inputs(name, scale):
    layers = [kind(6) if kind is Linear else kind() for kind in NETWORKS[name][0]]
    net = Sequential([*layers, Linear(N_OUT)], n_in=N_IN, dtype="float64")
    randomize(net)
    net.layers[-1].weight[:] /= max(scale, 1)
    x, y = scale * inputs(6, N_IN), targets("squared_error", 6, N_OUT)
    lines = check_gradients(net, x, y, loss="squared_error", verbose=False)
    assert all(line.ok for line in lines), derivatives.format_checks(lines)


def test_hessian_of_linear_least_squares():
    """2 X^T X / (rows n_out), the lecture's, and the same for a float32 network."""
    for dtype in DTYPES:
        net = Sequential([Linear(N_IN, 1)], dtype=dtype)
        x = inputs(30, N_IN, dtype)
        a = np.c_[x, np.ones(30)].astype(np.float64)
        got = net.hessian(x, x[:, :1])
        np.testing.assert_allclose(got, 2 / 30 * a.T @ a, atol=1e-11)
        assert got.dtype == np.float64


def test_hessian_leaves_the_network_alone():
    net, x, y = network(dtype="float32"), inputs(9, N_IN, "float32"), inputs(9, N_OUT, "float32")
    net.gradient(x, y)
    before = digest(net.params, net.grads)
    v = np.ones(net.n_params)
    net.hessian_vector(x, y, v)
    np.testing.assert_array_equal(net.hessian_vector(x, y, 0 * v), 0 * v)
    tiny = net.hessian_vector(x, y, np.ldexp(v, -1040))  # whose inverse overflows
    want = net.hessian_vector(x, y, v)
    np.testing.assert_allclose(np.ldexp(tiny, 1040), want, rtol=1e-4, atol=1e-4)
    assert digest(net.params, net.grads) == before


def test_bad_input_is_refused():
    net, x, y = network(), inputs(9, N_IN), inputs(9, N_OUT)
    with pytest.raises(ValueError, match="v must hold"):
        net.hessian_vector(x, y, np.ones(3))
    with pytest.raises(ValueError, match="v must hold"):
        net.hessian_vector(x, y, np.full(net.n_params, np.nan))
    with pytest.raises(ValueError, match="step must be"):
        net.hessian(x, y, step=0)
    big = Sequential([Linear(N_IN, 2000), Tanh(), Linear(2000, N_OUT)])
    with pytest.raises(ValueError, match="use hessian_vector"):
        big.hessian(x, y)
    for call in (net.gradient, net.hessian, lambda x, y: check_gradients(net, x, y)):
        with pytest.raises(ValueError, match="columns"):
            call(x[:, :2], y)
        with pytest.raises(ValueError, match="y has 8 rows"):
            call(x, y[:8])
    with pytest.raises(ValueError, match="holds NaN"):
        net.jacobian(x * np.nan)


# ---- check ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_check_gradients_passes_right_ones(dtype, loss, capsys):
    net, x = network(dtype=dtype, bias=False), inputs(6, N_IN, dtype)
    lines = check_gradients(net, x, targets(loss, 6, N_OUT, dtype), loss=LOSSES[loss])
    assert [line.name for line in lines] == [
        "layers.0.weight",
        "layers.0.bias",
        "layers.2.weight",
        "layers.5.weight",
        "layers.5.bias",
    ]
    assert all(line.ok and 0 <= line.relative <= line.tolerance for line in lines)
    assert lines[0].shape == (N_IN, 7)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1 + len(lines)
    assert all(line.endswith("ok") for line in printed[1:])


def test_check_gradients_finds_a_wrong_element(monkeypatch, capsys):
    net, x, y = network(), inputs(6, N_IN), inputs(6, N_OUT)
    right = derivatives.gradient
    place = next(p for name, _, p in derivatives.parameter_places(net) if name == "layers.2.weight")

    def wrong(*arguments):
        loss, gradient = right(*arguments)
        gradient[place.start + 3] += 1e-5
        return loss, gradient

    monkeypatch.setattr(derivatives, "gradient", wrong)
    lines = fastmlp.check_gradients(net, x, y, verbose=False)
    assert capsys.readouterr().out == ""
    assert [line.name for line in lines if not line.ok] == ["layers.2.weight"]
    bad = next(line for line in lines if not line.ok)
    assert bad.difference == pytest.approx(1e-5, rel=1e-3)
    assert "differs" in derivatives.format_checks(lines)


@pytest.mark.parametrize("dtype", DTYPES)
def test_where_the_gradient_is_zero_rounding_is_no_difference(dtype):
    """At the minimum of least squares; a gradient that is wrong there still is found."""
    x, y = inputs(40, N_IN, dtype), inputs(40, 2, dtype, seed=1)
    net = Sequential([Linear(N_IN, 2)], dtype=dtype)
    design = np.c_[x, np.ones(40)].astype(np.float64)
    best = np.linalg.lstsq(design, y, rcond=None)[0]
    net.layers[0].weight[:], net.layers[0].bias[:] = best[:-1], best[-1]
    lines = check_gradients(net, x, y, verbose=False)
    assert all(line.ok for line in lines)
    assert any(line.relative > line.tolerance for line in lines)
    net.layers[0].bias[0] += 0.1
    wrong = dataclasses.replace(lines[1], difference=0.1, relative=1.0)
    assert not wrong.ok
    assert check_gradients(net, x, y, verbose=False)[1].ok


@pytest.mark.parametrize("has", [{}, {"scale": False}])
def test_norms_and_residuals_too(capsys, has):
    """Statistics are not trained; layers inside a residual block are found."""
    inside = [LayerNorm(**has), Linear(6), Tanh(), RMSNorm(**has)]
    layers = [Linear(N_IN, 6), BatchNorm(**has), Tanh(), Residual(inside), Linear(6, N_OUT)]
    net, x = Sequential(layers, dtype="float64", seed=0), inputs(8, N_IN)
    net.fit(x, targets("squared_error", 8, N_OUT), epochs=1, batch_size=4)
    lines = check_gradients(net, x, targets("squared_error", 8, N_OUT))
    assert all(line.ok for line in lines)
    assert sum(np.prod(line.shape) for line in lines) == net.n_params
    shown = capsys.readouterr().out
    assert "layers.1.shift" in shown
    assert ("layers.1.scale" in shown) == (not has)


def test_full_batch_methods_refuse_batch_norm():
    net = Sequential([Linear(N_IN, 6), BatchNorm(), Linear(6, N_OUT)], dtype="float64")
    with pytest.raises(ValueError, match="cannot train BatchNorm"):
        net.fit(inputs(8, N_IN), targets("squared_error", 8, N_OUT), optimizer="lbfgs")

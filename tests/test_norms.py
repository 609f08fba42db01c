"""Normalization, input standardization, residual blocks and folding: against the twins, against
finite differences, and what must not depend on threads, files or bad luck."""

import numpy as np
import pytest
import reference
from helpers import DTYPES, NORMS, assert_within, digest, inputs, relative_error, targets
from hypothesis import given
from hypothesis import strategies as st

import fastmlp
from fastmlp import (
    SGD,
    Adam,
    BatchNorm,
    Dropout,
    EarlyStopping,
    Identity,
    LayerNorm,
    Linear,
    ReLU,
    Residual,
    RMSNorm,
    Sequential,
    Standardize,
    Tanh,
    cross_entropy,
    squared_error,
)

STEP, TOLERANCE = 1e-5, 1e-8  # of the central differences, as in test_gradients.py
X, LABELS = inputs(200, 5), np.random.default_rng(1).integers(0, 3, 200)


def shake(layer, seed=3):
    """Scale and shift that are neither 1 nor 0."""
    rng = np.random.default_rng(seed)
    for name, array in layer.arrays().items():
        if name in ("scale", "shift"):
            array[:] = rng.standard_normal(array.shape) + 0.5


def twin_of(layer):
    held = {name: array.astype(np.float64) for name, array in layer.arrays().items()}
    held = {name: a for name, a in held.items() if not name.startswith("running")}
    return getattr(reference, type(layer).__name__)(**held)


@pytest.mark.parametrize("far", [1e6, -3.3e7, 0.1])
@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("name", ["LayerNorm", "BatchNorm"])
def test_what_is_constant_becomes_exactly_the_shift(name, far, bare):
    """However far from zero: a rounded mean would leave differences, which 1 / sqrt(eps)
    enlarges."""
    layer = NORMS[name](shift=not bare)
    x = np.full((37, 23), far, np.float32)
    x += np.arange(37)[:, None] * (name == "LayerNorm") + np.arange(23) * (name == "BatchNorm")
    layer.forward(x, training=True)
    shake(layer)
    y = layer.forward(x, training=True)
    np.testing.assert_array_equal(y, np.broadcast_to(0 if bare else layer.shift, y.shape))


# ---- each layer alone ------------------------------------------------------------------------


@given(
    st.sampled_from(list(NORMS)),
    st.integers(2, 70),
    st.integers(1, 140),
    st.sampled_from(DTYPES),
)
def test_norms_equal_their_twins(name, rows, n, dtype):
    x, dy = inputs(rows, n, dtype), inputs(rows, n, dtype, seed=1)
    layer = NORMS[name]()
    layer.forward(x)  # without training: nothing is learned
    shake(layer)
    twin = twin_of(layer)
    y, want = layer.forward(x, training=True), twin.forward(x.astype(np.float64))
    # a small variance makes xhat larger than the rounding of x allows for: 1 / sqrt(var + eps)
    large = float(twin.inv_std.max())
    assert_within(y, want, (1 + large) * 8, n=max(rows, n))
    dx, want = layer.backward(dy), twin.backward(dy.astype(np.float64))
    size = (1 + large) ** 2 * 32
    assert_within(dx, want, size * (1 + large), n=max(rows, n))
    held = layer.arrays()
    for part in ("scale", "shift"):
        assert (part in held) == (part not in name and (part, layer.kind) != ("shift", "rms_norm"))
        if part in held:
            got, want = getattr(layer, f"{part}_grad"), getattr(twin, f"{part}_grad")
            assert_within(got, want, size * np.sqrt(rows), n=max(rows, n))
    if layer.kind == "batch_norm":
        assert_within(layer.running_mean, twin.running_mean, 4, n=rows)
        assert_within(layer.running_var, twin.running_var, 16, n=rows)


@pytest.mark.parametrize("dtype", DTYPES)
def test_batch_norm_outside_of_training_goes_by_its_running_statistics(dtype):
    x, dy = inputs(40, 21, dtype), inputs(40, 21, dtype, seed=1)
    layer = BatchNorm(momentum=0.3)
    for seed in range(5):
        layer.forward(2 * inputs(40, 21, dtype, seed=seed) + 1, training=True)
    shake(layer)
    before = layer.running_mean.copy(), layer.running_var.copy()
    mean, var = (a.astype(np.float64) for a in before)
    factor = layer.scale / np.sqrt(var + layer.eps)
    assert_within(layer.forward(x), (x - mean) * factor + layer.shift, 16)
    assert_within(layer.backward(dy), dy * factor, 16)
    xhat = (x - mean) / np.sqrt(var + layer.eps)
    assert_within(layer.scale_grad, (dy * xhat).sum(axis=0), 16 * np.sqrt(40), n=40)
    assert np.array_equal(before, (layer.running_mean, layer.running_var))


def test_a_column_far_from_zero_keeps_its_digits():
    """Two passes: x^2 - mean^2 would have none left in float32."""
    x = (1e4 + inputs(64, 3)).astype(np.float32)
    exact = x.astype(np.float64)
    want = (exact - exact.mean(axis=0)) / np.sqrt(exact.var(axis=0) + 1e-5)
    got = BatchNorm().forward(x, training=True)
    assert np.abs(got - want).max() < 1e4 * np.finfo(np.float32).eps * 4


# ---- gradients -------------------------------------------------------------------------------


def networks():
    yield "batch", [Linear(5, 7), BatchNorm(), Tanh(), Linear(7, 3)]
    yield "batch first", [BatchNorm(), Linear(5, 3), BatchNorm()]
    for name, norm in NORMS.items():
        if "without" in name:
            yield name, [norm(), Linear(5, 7), norm(), Tanh(), Linear(7, 3)]
            yield f"{name} last", [Linear(5, 4), Residual([norm()]), Linear(4, 3), norm()]
    yield "layer", [LayerNorm(), Linear(5, 7), LayerNorm(), Tanh(), Linear(7, 3)]
    yield "rms", [RMSNorm(), Linear(5, 7), RMSNorm(), Tanh(), Linear(7, 3), RMSNorm()]
    yield "standardize", [Standardize().adapt(inputs(30, 5) * 3 + 1), Linear(5, 3)]
    yield "residual", [Residual([Linear(5, 7), Tanh(), Linear(7, 5)]), Linear(5, 3)]
    inner = Residual([BatchNorm(), Linear(7), Tanh()])
    yield "nested", [Linear(5, 7), Residual([LayerNorm(), Linear(7), inner]), Tanh(), Linear(7, 3)]
    yield "last", [Linear(5, 3), Residual([Residual([RMSNorm()]), Linear(3)])]


@pytest.mark.parametrize("name", dict(networks()))
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_gradients(name, training, loss):
    net = Sequential(dict(networks())[name], dtype="float64", n_in=5)
    rng = np.random.default_rng(2)
    net.params[:] += rng.standard_normal(net.n_params) / 4
    x, y = inputs(6, 5), targets(loss, 6, 3)
    error = cross_entropy if loss == "cross_entropy" else squared_error
    stats = net.stats.copy()

    def value():
        net.stats[:] = stats  # that of a training pass changes nothing that it computes
        return error(net.forward(x, training=training), y)[0]

    value()
    dx = net.backward(error(net.forward(x, training=training), y)[1])
    for got, array in ((net.grads.copy(), net.params), (dx, x)):
        want = np.empty_like(array)
        for i in np.ndindex(array.shape):
            middle = array[i]
            array[i] = middle + STEP
            above = value()
            array[i] = middle - STEP
            want[i] = (above - value()) / (2 * STEP)
            array[i] = middle
        assert np.abs(got).max() > 1e-6
        assert relative_error(got, want) < TOLERANCE


def test_a_residual_block_equals_its_twin():
    inner, outer = Linear(9, seed=1), Linear(9, 9, seed=2)
    block = Residual([outer, Tanh(), Residual([inner])])
    x, dy = inputs(33, 9), inputs(33, 9, seed=1)
    y, dx = block.forward(x), block.backward(dy)

    def linear(layer):
        return reference.Linear(layer.weight, layer.bias)

    first, second = linear(outer), linear(inner)
    twin = reference.Residual([first, reference.Activate("tanh"), reference.Residual([second])])
    assert_within(y, twin.forward(x), 8, n=9)
    assert_within(dx, twin.backward(dy), 16, n=9)
    assert_within(outer.weight_grad, first.weight_grad, 64, n=33)
    assert_within(inner.weight_grad, second.weight_grad, 64, n=33)


# ---- whole networks --------------------------------------------------------------------------


def deep(dtype="float32", seed=0, some=False):
    """`some`: no normalization has all of its arrays."""
    bare = {"scale": False, "shift": False} if some else {}
    no_scale, no_shift = ({"scale": False}, {"shift": False}) if some else ({}, {})
    inner = Residual([BatchNorm(**no_scale), Linear(70)])
    body = [LayerNorm(**no_shift), Linear(70), ReLU(), inner, RMSNorm(**no_scale)]
    layers = [Standardize(), Linear(5, 70, bias=False), BatchNorm(**bare), ReLU(), Dropout(0.1)]
    layers += [Residual(body), *([LayerNorm(**bare)] if some else []), Linear(70, 3)]
    return Sequential(layers, dtype=dtype, seed=seed)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch_size", [2, 33, 200])
@pytest.mark.parametrize("some", [False, True])
def test_the_number_of_threads_changes_no_bit(dtype, batch_size, some):
    def run(threads):
        net = deep(dtype, some=some)
        for optimizer in (Adam(), SGD(lr=0.01, clip_norm=0.1)):
            net.fit(
                X, LABELS, epochs=2, batch_size=batch_size, threads=threads, optimizer=optimizer
            )
        out = net.predict(X, threads=threads)
        z = net.forward(X, training=True, threads=threads)
        dx = net.backward(z, threads=threads)
        return digest(net.params, net.stats, out, z, dx, net.grads)

    assert run(1) == run(2) == run(7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("some", [False, True])
def test_resuming_from_a_file_gives_the_same_bits(tmp_path, dtype, some):
    net, whole = deep(dtype, some=some), deep(dtype, some=some)
    whole.fit(X, LABELS, epochs=5, batch_size=32)
    net.fit(X, LABELS, epochs=2, batch_size=32)
    net.save(tmp_path / "net")
    loaded = Sequential.load(tmp_path / "net")
    assert repr(loaded) == repr(net)
    assert loaded.predict(X).tobytes() == net.predict(X).tobytes()
    loaded.fit(X, LABELS, epochs=3, batch_size=32)
    assert digest(loaded.params, loaded.stats) == digest(whole.params, whole.stats)


def test_scale_and_shift_are_not_decayed():
    net = Sequential([Linear(5, 4), BatchNorm(), Linear(4, 3)])
    norm = net.layers[1]
    net.grads[:] = 0
    net.update(fastmlp.AdamW(lr=0.1, weight_decay=0.5))
    assert np.all(norm.scale == 1)
    assert np.abs(net.layers[0].weight).max() > 0


def test_one_row_of_a_mini_batch_is_refused_before_any_work():
    net = Sequential([Linear(5, 4), BatchNorm(), Linear(4, 3)])
    before = net.params.copy()
    for call in (
        lambda: net.fit(X, LABELS, batch_size=199),
        lambda: net.fit(X, LABELS, batch_size=1),
        lambda: net.train_step(X[:1], LABELS[:1]),
        lambda: net.forward(X[:1], training=True),
    ):
        with pytest.raises(ValueError, match="at least 2 rows"):
            call()
    assert np.array_equal(net.params, before)
    assert net.step == 0
    assert net.predict(X[:1]).shape == (1, 3)
    net.fit(X, LABELS, batch_size=199, drop_last=True, epochs=1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_divergence_leaves_finite_statistics(dtype):
    net = Sequential(
        [Linear(5, 8), BatchNorm(), Linear(8, 8), BatchNorm(), Linear(8, 3)], dtype=dtype
    )
    lr = 1e30 if dtype == "float32" else 1e200
    with pytest.raises(fastmlp.DivergenceError):
        net.fit(X, X[:, :3], optimizer=SGD(lr=lr), epochs=50, batch_size=50)
    assert np.isfinite(net.stats).all()
    assert np.isfinite(net.params).all()
    huge = np.full((4, 5), np.sqrt(np.finfo(dtype).max), dtype) * [[1], [-1], [1], [-1]]
    net.params[:] = 1
    net.forward(huge.astype(dtype), training=True)  # the variance overflows
    assert np.isfinite(net.stats).all()


def test_early_stopping_brings_the_statistics_back():
    net = deep()
    stopping = EarlyStopping(patience=1, monitor="val_loss")
    seen = []

    class Watch(fastmlp.Callback):
        def on_epoch_end(self, run):
            seen.append((run.logs["val_loss"], digest(run.net.stats)))

    net.fit(
        X, LABELS, validation_split=0.3, epochs=60, callbacks=[stopping, Watch()], batch_size=35
    )
    assert stopping.stopped_epoch is not None
    assert digest(net.stats) == min(seen)[1] != seen[-1][1]


# ---- input standardization -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_standardize_takes_mean_and_std_and_keeps_constants_safe(dtype):
    x = (inputs(9000, 4) * [1, 1e-3, 50, 0] + [0, 1, -3, 0.1]).astype(dtype)
    layer = Standardize().adapt(x)
    exact = x.astype(np.float64)
    assert_within(layer.mean, exact.mean(axis=0), 1 + np.abs(exact.mean(axis=0)), n=len(x))
    assert_within(layer.std[:3], exact.std(axis=0)[:3], exact.std(axis=0)[:3], n=len(x))
    assert layer.std[3] == 1
    y = layer.forward(x)
    assert np.all(y[:, 3] == 0)
    spread = np.array([1, 1e3, 1, 1])  # the mean's rounding, by the standard deviation
    assert np.all(np.abs(y.mean(axis=0)) <= 4 * np.finfo(dtype).eps * spread * 100)


def test_the_first_fit_adapts_to_its_training_rows_alone():
    net = Sequential([Standardize(), Linear(5, 3)], dtype="float64")
    net.fit(X, LABELS, validation_split=0.25, epochs=1)
    layer = net.layers[0]
    assert not np.allclose(layer.mean, X.mean(axis=0), atol=1e-6)
    before = net.stats.copy()
    net.fit(X + 1, LABELS, epochs=1)
    assert np.array_equal(net.stats, before)
    layer.adapt(X + 1)
    assert_within(layer.mean, (X + 1).mean(axis=0), 4)


def test_standardize_without_data_is_refused():
    net = Sequential([Standardize(), Linear(5, 3)])
    for call in (
        lambda: net.predict(X),
        lambda: net.predict_row(X[0].astype(np.float32)),
        lambda: net.forward(X),
        lambda: net.train_step(X, LABELS),
        lambda: net.evaluate(X, LABELS),
        lambda: net.layers[0].forward(X),
    ):
        with pytest.raises(ValueError, match="adapt"):
            call()
    with pytest.raises(ValueError, match="first"):
        Sequential([Linear(5, 3), Standardize()])
    with pytest.raises(ValueError, match="column 1"):
        Standardize().adapt(np.array([[0.0, 1e300], [1.0, -1e300]]))


# ---- folding ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in NORMS if name.startswith("BatchNorm")])
def test_a_folded_network_gives_the_same_outputs(dtype, name):
    norm = NORMS[name]
    inner = [norm(), Linear(8), BatchNorm(), Tanh()]
    layers = [norm(), BatchNorm(), Linear(5, 8, bias=False), norm(), norm(), ReLU()]
    layers += [Residual(inner), BatchNorm(), Linear(8, 3), norm()]
    net = Sequential(layers, dtype=dtype)
    net.fit(2 * X + 1, LABELS, epochs=5, batch_size=50)
    folded = net.fold()
    assert "BatchNorm" not in repr(folded)
    assert folded.stats.size == 0
    want = net.predict(2 * X + 1)
    assert_within(folded.predict(2 * X + 1), want, 16 * np.abs(want).max(), n=8 * len(layers))
    net.params[:] = 0
    assert np.abs(folded.predict(X)).max() > 0  # it shares nothing
    assert folded.predict_proba(X).shape == (200, 3)


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [Linear(5, 4), Dropout(0.3), BatchNorm(), ReLU(), Linear(4, 3)],
        lambda: [Linear(5, 4), ReLU(), BatchNorm(), Dropout(0.3), Linear(4, 3)],
        lambda: [Linear(5, 4), ReLU(), BatchNorm(), Identity(), BatchNorm(), Linear(4, 3)],
        lambda: [Linear(5, 3), Identity(), Dropout(0.3), BatchNorm()],
    ],
)
def test_folding_looks_through_what_does_nothing_at_inference(layers):
    net = Sequential(layers(), seed=0, dtype="float64")
    net.fit(X, LABELS, epochs=3)
    folded = net.fold()
    assert not any(isinstance(layer, BatchNorm) for layer in folded.layers)
    np.testing.assert_allclose(folded.predict(X), net.predict(X), rtol=0, atol=1e-13)


def test_what_cannot_be_folded_is_named():
    net = Sequential([Linear(5, 8), ReLU(), Residual([ReLU(), BatchNorm(), ReLU()]), Linear(8, 3)])
    with pytest.raises(ValueError, match=r"layer 2\.layers\.1 is a BatchNorm without"):
        net.fold()


# ---- bad input -------------------------------------------------------------------------------


def test_bad_settings_are_refused():
    for bad in (0, -1, np.nan, "small", True, 2):
        with pytest.raises(ValueError, match="eps"):
            LayerNorm(eps=bad)
    for bad in (-0.1, 1.1, np.nan, None):
        with pytest.raises(ValueError, match="momentum"):
            BatchNorm(momentum=bad)
    with pytest.raises(ValueError, match=r"end them with Linear\(5\)"):
        Sequential([Residual([Linear(5, 4)]), Linear(4, 3)])
    with pytest.raises(ValueError, match="empty"):
        Residual([])
    with pytest.raises(TypeError, match="list of layers"):
        Residual(Linear(3, 3))
    with pytest.raises(ValueError, match="input width"):
        _ = BatchNorm().scale
    shared = Linear(5, 5)
    with pytest.raises(ValueError, match="twice"):
        Sequential([shared, Residual([shared])])


# ---- blocks alone --------------------------------------------------------------------------------


def test_a_block_alone_takes_no_layer_from_a_network():
    """It had: fit then trained other weights than those that the layer showed and a file held."""
    net = Sequential([Linear(4, 4), ReLU(), Linear(4, 2)], seed=0)
    before = net.layers[0].weight.copy()
    with pytest.raises(ValueError, match="already belongs to a network"):
        Residual([net.layers[0]]).forward(np.ones((2, 4)))
    assert np.may_share_memory(net.layers[0].weight, net.params)
    np.testing.assert_array_equal(net.layers[0].weight, before)


def test_a_block_holds_a_layer_once():
    layer = Linear(3, 3)
    with pytest.raises(ValueError, match="appears twice"):
        Residual([layer, layer])
    with pytest.raises(ValueError, match="appears twice"):
        Residual([Residual([layer]), layer])
    for wrong in (None, 3, [3], layer):
        with pytest.raises(TypeError, match="layers must be a list of layers"):
            Residual(wrong)
    assert len(Residual(Linear(3, 3) for _ in range(2)).layers) == 2


def test_blocks_alone_draw_masks_and_weights_of_their_own():
    x = np.ones((50, 20), np.float32)
    one, same, other = (
        Residual([Dropout(0.5, seed=seed)]).forward(x, training=True) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    free = [Residual([Dropout(0.5), Linear(20)]) for _ in range(2)]
    outputs = [block.forward(x, training=True) for block in free]
    assert not np.array_equal(*outputs)
    assert not np.array_equal(*(block.layers[1].weight for block in free))
    assert Residual([Linear(20, 20, dtype="float64")]).forward(x).dtype == np.float64


# ---- inputs far from zero ------------------------------------------------------------------------


def test_columns_that_float32_cannot_tell_apart_are_named():
    times = 1.7e9 + np.arange(200.0)[:, np.newaxis]
    with pytest.warns(UserWarning, match="column 0 of X holds values that float32"):
        Sequential([Standardize(), Linear(1, 1)], seed=0).fit(times, np.arange(200.0), epochs=1)
    net = Sequential([Standardize(), Linear(1, 1)], seed=0, dtype="float64")
    net.fit(times, np.arange(200.0), epochs=1)
    assert net._standardize.std[0] == pytest.approx(times.std(), rel=1e-6)


def test_small_differences_of_large_numbers_are_no_constant():
    x = 1.7e18 + 1e6 * np.random.default_rng(0).standard_normal((100, 1))
    layer = Standardize().adapt(x)
    assert layer.forward(x).std() == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize(("middle", "width"), [(1.7e9, 60), (1.7e9 - 1, 1e-3), (0, 1e-60)])
def test_a_column_that_float32_makes_constant_is_named(by_hand, middle, width):
    """Times within a minute: in float32 all of them are one number."""
    times = middle + np.linspace(0, width, 200)
    x = np.column_stack([inputs(200, 1)[:, 0], np.full(200, 0.1), times])
    net = Sequential([Standardize(), Linear(3, 1)], seed=0)
    learn = net.layers[0].adapt if by_hand else net.fit
    how = () if by_hand else (np.arange(200.0),)
    with pytest.warns(UserWarning, match="column 2 of X holds values that float32"):
        learn(x.tolist(), *how)
    assert net._standardize.std[2] == 1


def test_constant_columns_are_no_reason_to_warn(recwarn):
    x = np.column_stack(
        [np.full(50, 0.1), np.full(50, 1.7e9), np.zeros(50), 0.1 * 3 + inputs(50, 1)]
    )
    x[::2, 0] = np.nextafter(0.1, 1)  # what rounding leaves of a constant
    Sequential([Standardize(), Linear(4, 1)], seed=0).fit(x, x[:, 3], epochs=1)
    assert not recwarn.list

"""Normalizations that have no scale, no shift or neither: what is missing is 1 or 0 to the bit, and
nothing else about them is different.
"""

import copy
import hashlib
import json
import pickle

import numpy as np
import pytest
from helpers import DTYPES, NORMS, inputs

import fastmlp
from fastmlp import (
    Adam,
    BatchNorm,
    LayerNorm,
    LevenbergMarquardt,
    Linear,
    ReLU,
    Residual,
    RMSNorm,
    Sequential,
    Tanh,
)
from fastmlp.files import model_file as checkpoint

X, LABELS = inputs(90, 5), np.arange(90) % 3
BARE = [name for name in NORMS if "without" in name]
FIRST = {"scale": 1.0, "shift": 0.0}  # what is missing is


def whole(name):
    """The same kind with all of its arrays."""
    return NORMS[name.partition(" ")[0]]


def parts_of(content):
    """Header and data of a model file."""
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


# ---- alone -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BARE)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("n", [1, 3, 16, 33, 70])
def test_the_bits_are_those_of_ones_and_zeros(name, training, n, dtype):
    bare, full = NORMS[name](), whole(name)()
    x, dy = 2 * inputs(50, n, dtype) + 1, inputs(50, n, dtype, seed=1)
    for layer in (bare, full):
        layer.forward(x, training=True)  # running statistics that are not those of the beginning
    for part, values in bare.arrays().items():
        values[...] = np.random.default_rng(3).uniform(0.5, 2, n)
        full.arrays()[part][...] = values
    np.testing.assert_array_equal(bare.forward(x, training), full.forward(x, training))
    np.testing.assert_array_equal(bare.backward(dy), full.backward(dy))
    for part in FIRST.keys() & bare.arrays().keys():
        got, want = getattr(bare, f"{part}_grad"), getattr(full, f"{part}_grad")
        np.testing.assert_array_equal(got, want)
        assert got.any() or n == 1  # one column less its own mean is 0


@pytest.mark.parametrize("name", NORMS)
def test_settings_and_arrays(name):
    layer = NORMS[name]()
    missing = [part for part in FIRST if part in name]
    assert {k: v for k, v in layer.config().items() if k in FIRST} == dict.fromkeys(missing, False)
    assert repr(type(layer)(**layer.config())) == repr(layer)
    for part in FIRST:
        assert (f"{part}=False" in repr(layer)) == (part in missing)
    layer.forward(np.ones((3, 4)))
    has = [part for part in FIRST if part in layer.arrays()]
    assert sorted([*has, *missing]) == ["scale", "shift"][: 2 - isinstance(layer, RMSNorm)]
    for part in has:
        assert (getattr(layer, part) == FIRST[part]).all()
    for part in missing:
        assert getattr(layer, part) is None
        assert getattr(layer, f"{part}_grad") is None
        for place in (part, f"{part}_grad"):
            message = rf"{part}=False.*\) has no {place}; make it with {part}=True"
            with pytest.raises(ValueError, match=message):
                setattr(layer, place, np.ones(4))
    with pytest.raises(AttributeError, match=r"has_scale of .* is fixed"):
        layer.has_scale = True


def test_before_the_width_is_known():
    assert LayerNorm(scale=False).scale is None
    with pytest.raises(ValueError, match="input width"):
        _ = LayerNorm(scale=False).shift


# ---- in networks -----------------------------------------------------------------------------


def build(name, dtype="float64", n_out=3):
    norm = NORMS[name]
    layers = [norm(), Linear(5, 8), norm(), Tanh(), Residual([norm(), Linear(8)])]
    return Sequential([*layers, Linear(8, n_out)], seed=1, dtype=dtype)


@pytest.mark.parametrize("name", NORMS)
def test_the_flat_arrays_hold_what_there_is(name):
    net = build(name)
    arrays = len(NORMS[name]().parts) - 2 * name.startswith("BatchNorm")
    assert net.n_params == arrays * (5 + 8 + 8) + (5 * 8 + 8) + (8 * 8 + 8) + (8 * 3 + 3)
    lines = [line.split() for line in net.summary().splitlines()]
    assert lines[1] == [name.partition(" ")[0], "5", "5", str(arrays * 5) if arrays else "-"]
    seen = np.zeros(net.n_params, int)
    for leaf in (leaf for layer in net.layers for leaf in layer.leaves()):
        for array in leaf.arrays().values():
            if np.may_share_memory(array, net.params):
                first = (array.ctypes.data - net.params.ctypes.data) // 8
                seen[first : first + array.size] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("name", BARE)
@pytest.mark.parametrize("rows", [7, 90])
def test_one_step_is_that_of_ones_and_zeros(name, rows):
    """The gradients of all else, after which the full norms have another scale or shift."""
    bare, full = build(name), build(name.partition(" ")[0])
    x, labels = X[:rows], LABELS[:rows]
    values = [net.train_step(x, labels, optimizer=Adam(0.01)) for net in (bare, full)]
    assert values[0] == values[1]
    for a, b in zip(bare.layers, full.layers, strict=True):
        for one, other in zip(a.leaves(), b.leaves(), strict=True):
            for part, array in one.arrays().items():
                np.testing.assert_array_equal(array, other.arrays()[part])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NORMS)
def test_files_copies_and_pickles(name, dtype, tmp_path):
    net = build(name, dtype)
    net.fit(X, LABELS, epochs=2, batch_size=30)
    net.save(tmp_path / "net")
    twins = [Sequential.load(tmp_path / "net"), copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    for twin in twins:
        assert repr(twin) == repr(net)
        np.testing.assert_array_equal(twin.predict(X), net.predict(X))
    layer = copy.deepcopy(net.layers[2])  # a layer of its own, for another network
    other = Sequential([Linear(5, 8), layer, Linear(8, 2)], dtype=dtype)
    for part, array in net.layers[2].arrays().items():
        np.testing.assert_array_equal(layer.arrays()[part], array)
    other.fit(X, LABELS % 2, epochs=1)
    net.fit(X, LABELS, epochs=2, batch_size=30)
    for twin in twins:
        twin.fit(X, LABELS, epochs=2, batch_size=30)
        np.testing.assert_array_equal(twin.params, net.params)
        np.testing.assert_array_equal(twin.stats, net.stats)


@pytest.mark.parametrize("name", ["LayerNorm", "RMSNorm", "BatchNorm"])
def test_files_of_norms_with_both_are_what_they_were(name):
    header, _ = parts_of(checkpoint.to_bytes(build(name), {}))
    first = json.loads(header["__metadata__"]["network"])["layers"][0]
    momentum = {"momentum": 0.1} if name == "BatchNorm" else {}
    assert first == {"type": name, **momentum, "eps": 1e-5}  # files are what they were


@pytest.mark.parametrize("value", [True, None, 2, "no", []])
def test_a_file_that_says_something_else_than_it_holds_is_refused(value):
    content = checkpoint.to_bytes(build("LayerNorm without shift"), {})
    header, data = parts_of(content)
    network = json.loads(header["__metadata__"]["network"])
    assert network["layers"][0].pop("shift") is False
    network["layers"][0] |= {} if value is True else {"shift": value}
    header["__metadata__"] |= {"network": json.dumps(network), "checksum": "0" * 64}
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + data
    digest = hashlib.sha256(content).hexdigest().encode()
    with pytest.raises(fastmlp.CheckpointError, match=r"shift|size|bytes"):
        checkpoint.from_bytes(Sequential, content.replace(b"0" * 64, digest, 1))


@pytest.mark.parametrize("name", NORMS)
def test_a_network_of_norms_alone(name):
    net = Sequential([NORMS[name](), NORMS[name]()], n_in=3, dtype="float64")
    net.fit(X[:, :3], X[:, 1:4], loss="squared_error", epochs=2, batch_size=30)
    assert np.isfinite(net.predict(X[:, :3])).all()
    assert net.backward(net.forward(X[:, :3], training=True)).shape == (90, 3)


@pytest.mark.parametrize("name", [name for name in NORMS if not name.startswith("BatchNorm")])
def test_jacobian_and_full_batch_methods(name):
    net, step = build(name, n_out=2), 1e-5
    jacobian = net.jacobian(X[:4])
    for i in range(net.n_params):
        middle = net.params[i]
        net.params[i] = middle + step
        above = net.predict(X[:4])
        net.params[i] = middle - step
        slope = (above - net.predict(X[:4])) / (2 * step)
        net.params[i] = middle
        assert np.abs(jacobian.reshape(4, 2, -1)[:, :, i] - slope).max() < 1e-8
    before = net.evaluate(X, X[:, :2], loss="squared_error")
    net.fit(X, X[:, :2], loss="squared_error", optimizer=LevenbergMarquardt(), epochs=10)
    assert net.evaluate(X, X[:, :2], loss="squared_error")["loss"] < before["loss"] / 2


@pytest.mark.parametrize("name", [name for name in NORMS if name.startswith("BatchNorm")])
def test_the_jacobian_of_running_statistics(name):
    net = build(name, n_out=2)
    net.fit(X, X[:, :2], loss="squared_error", epochs=3, batch_size=30)
    stats, dz = net.stats.copy(), inputs(6, 2, seed=5)
    net.forward(X[:6])
    net.backward(dz)
    want = np.einsum("rop,ro->p", net.jacobian(X[:6]).reshape(6, 2, -1), dz)
    np.testing.assert_allclose(net.grads, want, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(net.stats, stats)


def test_statistics_from_data():
    net = Sequential([Linear(5, 8), BatchNorm(scale=False, shift=False), ReLU(), Linear(8, 3)])
    net.fit(X, LABELS, epochs=2, batch_size=30)
    net.update_statistics(X)
    z = net.layers[0].forward(X)
    np.testing.assert_allclose(net.layers[1].running_mean, z.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(net.layers[1].running_var, z.var(axis=0, ddof=1), rtol=1e-5)


# ---- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [LayerNorm, BatchNorm, RMSNorm])
def test_what_is_no_truth_value_is_refused(kind):
    for setting in ("scale", "shift")[: 1 + (kind is not RMSNorm)]:
        for bad in (None, "False", 2, -1, 0.0, 1.5, np.nan, [True], np.ones(3), "no"):
            with pytest.raises(TypeError, match=f"{setting} must be True or False, not"):
                kind(**{setting: bad})
        assert repr(kind(**{setting: np.bool_(False)})) == repr(kind(**{setting: False}))
        assert repr(kind(**{setting: 1})) == repr(kind())
    with pytest.raises(TypeError):
        kind(False)


def test_names_of_other_libraries_are_translated():
    for kind, name, advice in (
        (BatchNorm, "affine", "use scale and shift"),
        (LayerNorm, "elementwise_affine", "use scale and shift"),
        (LayerNorm, "bias", "use shift"),
        (BatchNorm, "center", "use shift"),
        (RMSNorm, "elementwise_affine", "use scale$"),
        (RMSNorm, "shift", "it takes eps, scale|use scale"),
    ):
        with pytest.raises(TypeError, match=f"takes no argument '{name}'; .*{advice}"):
            kind(**{name: False})
    assert fastmlp.Linear(3, bias=False).has_bias is False

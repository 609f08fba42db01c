"""What users pass: NumPy's scalars, odd arrays, names, generators; and copies of what they made."""

import copy
import dataclasses
import pickle
import re
import threading

import numpy as np
import pytest

import fastmlp
from fastmlp import (
    EMA,
    SGD,
    SWA,
    Adam,
    Callback,
    CosineDecay,
    DataLoader,
    Dropout,
    EarlyStopping,
    LeakyReLU,
    Linear,
    ReduceOnPlateau,
    ReLU,
    Sequential,
)
from fastmlp.ground.checks import _checks_of, check_number
from fastmlp.losses import LOSS_CLASSES
from fastmlp.optimizers import OPTIMIZERS
from fastmlp.schedules import SCHEDULES
from fastmlp.second_order.methods import METHODS

rng = np.random.default_rng(4)
X = rng.standard_normal((120, 4)).astype(np.float32)
LABELS = rng.integers(0, 3, 120)


def make(**kwargs):
    return Sequential([Linear(4, 8), ReLU(), Linear(8, 3)], **kwargs)


# ---- numbers -------------------------------------------------------------------------------------

SCALARS = {
    "lr": (lambda v: SGD(lr=v).lr, np.float32(0.5), 0.5),
    "momentum": (lambda v: SGD(momentum=v).momentum, np.float16(0.5), 0.5),
    "clip_norm": (lambda v: SGD(clip_norm=v).clip_norm, np.int64(2), 2.0),
    "nesterov": (lambda v: SGD(momentum=0.5, nesterov=v).nesterov, np.True_, True),
    "schedule": (lambda v: CosineDecay(v, steps=9).lr, np.float32(0.5), 0.5),
    "steps": (lambda v: CosineDecay(0.1, steps=v).steps, np.int32(9), 9),
    "decay": (lambda v: EMA(v).decay, np.float32(0.5), 0.5),
    "start": (lambda v: SWA(v).start, np.uint8(3), 3),
    "p": (lambda v: Dropout(v).p, np.float32(0.5), 0.5),
    "slope": (lambda v: LeakyReLU(v).slope, np.float32(0.5), 0.5),
    "patience": (lambda v: EarlyStopping(patience=v).patience, np.int64(5), 5),
    "min_delta": (lambda v: EarlyStopping(min_delta=v).min_delta, np.float32(0.5), 0.5),
    "factor": (lambda v: ReduceOnPlateau(factor=v).factor, np.float32(0.5), 0.5),
    "cooldown": (lambda v: ReduceOnPlateau(cooldown=v).cooldown, np.int64(5), 5),
    "seed": (lambda v: make(seed=v).seed, np.uint64(5), 5),
}


@pytest.mark.parametrize("name", SCALARS)
def test_numpy_scalars_become_numbers_of_python(name):
    read, value, want = SCALARS[name]
    got = read(value)
    assert got == want
    assert type(got) is type(want)


@pytest.mark.parametrize("name", SCALARS)
@pytest.mark.parametrize("bad", ["a", 10**400, 1j, [1.0]], ids=["text", "huge", "complex", "list"])
def test_what_is_no_number_is_refused_by_name(name, bad):
    argument = "lr" if name == "schedule" else name
    with pytest.raises((ValueError, TypeError), match=argument):
        SCALARS[name][0](bad)


def test_a_network_trained_with_numpy_flags_can_be_saved(tmp_path):
    net = make()
    net.fit(X, LABELS, optimizer=SGD(momentum=0.9, nesterov=np.True_), epochs=1)
    net.save(tmp_path / "m")
    assert Sequential.load(tmp_path / "m").optimizer == net.optimizer


@pytest.mark.parametrize("flag", ["false", 1, None])
def test_flags_are_true_or_false(flag):
    with pytest.raises(TypeError, match="averaged must be True or False"):
        SGD(momentum=0.9, averaged=flag)


def test_a_capital_is_pointed_out():
    with pytest.raises(ValueError, match="use 'adam'"):
        make().fit(X, LABELS, optimizer="Adam")


@pytest.mark.parametrize("share", ["0.1", np.nan, -0.1, 1.0, 1j])
def test_impossible_shares_are_refused(share):
    with pytest.raises(ValueError, match="validation_split must lie between 0 and 1"):
        make().fit(X, LABELS, validation_split=share)


# ---- arrays --------------------------------------------------------------------------------------


def test_labels_may_lie_anywhere_in_memory():
    buffer = bytearray(8 * len(LABELS) + 1)
    shifted = np.frombuffer(buffer, np.int64, offset=1)
    shifted[:] = LABELS
    assert not shifted.flags.aligned
    history = make().fit(X, shifted, epochs=1)
    assert history == make().fit(X, LABELS, epochs=1)


def test_labels_in_a_column_are_labels():
    net = make()
    net.fit(X, LABELS[:, None], epochs=1)
    assert net.loss == "cross_entropy"


class NAType:
    """Looks like pandas.NA."""


ODD = {
    "none": (lambda: make().predict(None), TypeError, "X is None"),
    "missing": (
        lambda: make().predict(np.array([[1.0, 2.0, NAType(), 4.0]], object)),
        ValueError,
        "missing values",
    ),
    "digits": (lambda: make().predict(np.array([["1"] * 4], object)), TypeError, "not numbers"),
    "words": (lambda: make().fit(X, LABELS.astype(str)), TypeError, "y has the type"),
    "counts": (
        lambda: Sequential([Linear(4, 1)]).fit(X, LABELS),
        ValueError,
        '"squared_error" for amounts',
    ),
    "float labels": (lambda: make().fit(X, LABELS + 0.0), ValueError, 'loss="cross_entropy"'),
    "ragged": (lambda: ReLU().forward([[1.0], [1.0, 2.0]]), ValueError, "x is no rectangular"),
    "ragged z": (lambda: fastmlp.squared_error([[1.0], [1, 2]], X), ValueError, "z is no rectan"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_arrays_are_named(name):
    act, error, match = ODD[name]
    with pytest.raises(error, match=match):
        act()


def test_the_loader_cuts_batches_as_fit_does():
    loader = DataLoader(X, LABELS, batch_size=500, drop_last=True)
    assert [len(x) for x, _ in loader] == [120]
    for bad in ({"seed": -1}, {"seed": 2**64}, {"batch_size": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            DataLoader(X, LABELS, **bad)
    with pytest.raises(ValueError, match="no rows"):
        DataLoader(X[:0], LABELS[:0])


# ---- metrics and callbacks -----------------------------------------------------------------------


def test_names_of_metrics_are_their_own():
    def loss(y, out):
        return 0.0

    def val_x(y, out):
        return 0.0

    def accuracy(y, out):
        return 0.0

    for metrics in (
        [lambda y, out: 1.0, lambda y, out: 2.0],
        [loss],
        [val_x],
        ["accuracy", accuracy],
        [accuracy, "accuracy"],
    ):
        with pytest.raises(ValueError, match="metric"):
            make().fit(X, LABELS, metrics=metrics)
    with pytest.raises(TypeError, match="list"):
        make().fit(X, LABELS, metrics=loss)


def test_a_metric_returns_a_number():
    def shares(y, out):
        return np.ones(3)

    with pytest.raises(TypeError, match="'shares' must return a number"):
        make().fit(X, LABELS, metrics=[shares], epochs=1)


def test_generators_of_metrics_and_callbacks_are_used():
    seen = []

    class Note(Callback):
        def on_epoch_end(self, run):
            seen.append(run.epoch)

    net = make()
    metrics, callbacks = (m for m in ["accuracy"]), (c for c in [Note()])
    history = net.fit(X, LABELS, epochs=2, metrics=metrics, callbacks=callbacks)
    assert list(history) == ["loss", "accuracy"]
    assert seen == [1, 2]
    assert net.metrics == ("accuracy",)


def test_evaluate_after_ctrl_c_goes_by_that_fit():
    class Stop(Callback):
        def on_epoch_end(self, run):
            raise KeyboardInterrupt

    def spread(y, out):
        return out.std()

    net = make()
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, LABELS, metrics=[spread], callbacks=[Stop()])
    assert set(net.evaluate(X, LABELS)) == {"loss", "spread"}


def test_probabilities_after_training_by_hand():
    net = make()
    z = net.forward(X)
    net.backward(fastmlp.cross_entropy(z, LABELS)[1])
    net.update(SGD())
    with pytest.raises(ValueError, match=r'pass loss="cross_entropy"'):
        net.predict_proba(X)
    proba = net.predict_proba(X, loss="cross_entropy")
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-6)
    with pytest.raises(ValueError, match="unknown"):
        net.predict_proba(X, loss="nope")


# ---- copies --------------------------------------------------------------------------------------


class Named(Sequential):
    def __init__(self, width, name="x"):
        super().__init__([Linear(4, width), ReLU(), Linear(width, 3)])
        self.name = name


COPIES = [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))]


@pytest.mark.parametrize("twin_of", COPIES, ids=["deepcopy", "pickle"])
def test_copies_know_what_the_network_knew(twin_of):
    net = make()
    net.metadata = {"not": {"json", "able"}}
    net.fit(X, LABELS, epochs=2)
    twin = twin_of(net)
    assert twin.history == net.history
    assert twin.history is not net.history
    assert twin.metadata == net.metadata
    net.fit(X, LABELS, epochs=1)
    assert len(twin.history["loss"]) == 2
    twin.fit(X, LABELS, epochs=1)
    assert twin.params.tobytes() == net.params.tobytes()


def test_a_deep_copy_keeps_metrics_that_are_functions():
    def spread(y, out):
        return out.std()

    net = make()
    net.fit(X, LABELS, epochs=1, metrics=[spread])
    assert copy.deepcopy(net).evaluate(X, LABELS) == net.evaluate(X, LABELS)
    pickle.dumps(net)  # without them: a local function cannot be pickled


@pytest.mark.parametrize("twin_of", COPIES, ids=["deepcopy", "pickle"])
def test_a_network_that_saw_no_data_can_be_copied(twin_of):
    net = Sequential([Linear(8, seed=3), Dropout(0.2), Linear(3)], seed=7)
    twin = twin_of(net)
    for one in (net, twin):
        one.fit(X, LABELS, epochs=1)
    assert twin.params.tobytes() == net.params.tobytes()


@pytest.mark.parametrize("twin_of", COPIES, ids=["deepcopy", "pickle"])
def test_a_subclass_can_be_copied_and_loaded(twin_of, tmp_path):
    net = Named(8, name="y")
    twin = twin_of(net)
    assert type(twin) is Named
    assert twin.name == "y"
    assert np.array_equal(twin.params, net.params)
    net.save(tmp_path / "m")
    loaded = Named.load(tmp_path / "m")
    assert type(loaded) is Named
    assert np.array_equal(loaded.params, net.params)


@pytest.mark.parametrize("twin_of", COPIES, ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("make_layer", [ReLU, Dropout, lambda: Linear(4, 3)])
def test_a_layer_that_ran_can_be_copied(twin_of, make_layer):
    layer = make_layer()
    z = layer.forward(X)
    assert np.array_equal(twin_of(layer).forward(X), z)


# ---- turns ---------------------------------------------------------------------------------------


def test_layers_take_the_turn_of_their_network():
    errors = []

    class Meddle(Callback):
        def on_epoch_end(self, run):
            run.net.layers[0].forward(X)  # its own thread may

            def forward():
                try:
                    run.net.layers[0].forward(X)
                except RuntimeError as error:
                    errors.append(error)

            thread = threading.Thread(target=forward)
            thread.start()
            thread.join()

    net = make()
    net.fit(X, LABELS, optimizer=Adam(), epochs=2, callbacks=[Meddle()])
    assert len(errors) == 2
    net.layers[0].forward(X)


def test_the_version_has_the_usual_name():
    assert fastmlp.__version__ == fastmlp.get_config()["version"]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fastmlp.nothing


SETTINGS = [*OPTIMIZERS.values(), *SCHEDULES.values(), *LOSS_CLASSES.values(), *METHODS.values()]


@pytest.mark.parametrize("kind", SETTINGS, ids=lambda kind: kind.__name__)
def test_every_field_declares_its_range(kind):
    """A field without a check would pass anything on to C."""
    names = {field.name for field in dataclasses.fields(kind) if field.init}
    by_hand = {"reduction", "schedules"}  # checked in __post_init__
    assert names - by_hand <= {name for name, _, _ in _checks_of(kind)}


def test_another_default_keeps_the_range_of_the_base():
    @dataclasses.dataclass(frozen=True, repr=False)
    class Slow(Adam):
        lr: float = 1e-6
        beta1: float = 1.5

    with pytest.raises(ValueError, match=r"beta1 must be a number with 0 <= beta1 < 1, not 1\.5"):
        Slow()
    assert type(Slow(lr=np.float32(1), beta1=0.5).lr) is float
    with pytest.raises(ValueError, match="lr must be a finite number >= 0, not -1"):
        Slow(lr=-1, beta1=0.5)


@pytest.mark.parametrize(
    ("limits", "value", "message"),
    [
        ({}, -1, "be a finite number >= 0, not -1"),
        ({}, "1", "be a finite number >= 0, not '1'"),
        ({}, True, "be a finite number >= 0, not True"),
        ({}, 10**400, "be a finite number >= 0, not 1000"),
        ({"positive": True}, 0, "be a finite number above 0, not 0"),
        ({"low": 1e-30}, 0, "be a finite number >= 1e-30, not 0"),
        ({"below": 1}, 1, "be a number with 0 <= x < 1, not 1"),
        ({"high": 1}, 1.5, "be a number with 0 <= x <= 1, not 1.5"),
        ({"positive": True, "high": 1}, 0, "be a number with 0 < x <= 1, not 0"),
        ({"positive": True, "below": 1}, 1, "lie between 0 and 1, not 1"),
        ({"advice": ", or None"}, np.nan, "be a finite number >= 0, or None, not nan"),
    ],
)
def test_the_message_names_the_range(limits, value, message):
    with pytest.raises(ValueError, match=re.escape(f"x must {message}")):
        check_number(value, "x", **limits)


def test_a_value_that_is_no_number_may_be_a_type_error():
    with pytest.raises(TypeError, match=r"delta must be a number with .* not '1'"):
        fastmlp.Huber("1")

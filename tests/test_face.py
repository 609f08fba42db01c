"""The face: names of a network, threads by name, second names, and the hint of raw outputs."""

import copy
import inspect
import warnings

import numpy as np
import pytest

import fastmlp
from fastmlp import (
    SGD,
    GaussianNLL,
    LearningHint,
    Linear,
    Pinball,
    Poisson,
    ReLU,
    Sequential,
)
from fastmlp.losses import LOSS_CLASSES, Loss

RNG = np.random.default_rng(2)
X = RNG.standard_normal((40, 3))
COUNTS = RNG.poisson(3, (40, 1)).astype(float)
PUBLIC = [
    "averaged",
    "averaged_params",
    "averaged_stats",
    "backward",
    "dtype",
    "epoch",
    "evaluate",
    "feature_names_in_",
    "fit",
    "fold",
    "forward",
    "grads",
    "gradient",
    "hessian",
    "hessian_vector",
    "history",
    "jacobian",
    "keeps_average",
    "layers",
    "load",
    "load_params",
    "loss",
    "metadata",
    "metrics",
    "n_epochs",
    "n_in",
    "n_out",
    "n_params",
    "n_steps",
    "optimizer",
    "params",
    "predict",
    "predict_proba",
    "predict_raw",
    "predict_response",
    "predict_row",
    "save",
    "seed",
    "set_params",
    "stats",
    "step",
    "summary",
    "train_step",
    "update",
    "update_statistics",
    "use_optimizer",
]


def net(n_out=1):
    return Sequential([Linear(3, 8), ReLU(), Linear(8, n_out)], seed=1)


def trained(loss, n_out=1, y=COUNTS):
    model = net(n_out)
    model.train_step(X, y, loss=loss)
    return model


def test_public_names_of_a_network():
    model = trained("poisson")
    assert [name for name in dir(model) if not name.startswith("_")] == sorted(PUBLIC)
    model.fit(X, COUNTS, optimizer=SGD(1e-3, weight_average=fastmlp.EMA(0.9)), epochs=1)
    assert [name for name in dir(model) if not name.startswith("_")] == sorted(PUBLIC)
    named = Sequential([Linear(3, 8), Linear(8, 1)])
    pandas = pytest.importorskip("pandas")
    named.train_step(pandas.DataFrame(X, columns=["a", "b", "c"]), COUNTS, loss="poisson")
    assert set(dir(named)) - set(dir(model)) == set()
    assert list(named.feature_names_in_) == ["a", "b", "c"]


def public_functions():
    """All public functions, and the public methods of all public classes."""
    for name in fastmlp.__all__:
        found = getattr(fastmlp, name)
        if inspect.isclass(found):
            for own, method in inspect.getmembers(found, callable):
                if not own.startswith("_") or own == "__init__":
                    yield f"{name}.{own}", method
        elif callable(found):
            yield name, found


def test_threads_is_given_by_name_everywhere():
    seen = set()
    for name, function in public_functions():
        try:
            parameter = inspect.signature(function).parameters.get("threads")
        except (TypeError, ValueError):  # a method of C, such as dict.fromkeys
            continue
        if parameter is not None:
            assert parameter.kind is parameter.KEYWORD_ONLY, name
            seen.add(name)
    assert seen >= {
        *(f"Sequential.{m}" for m in ("fit", "forward", "backward", "update", "predict")),
        *(f"Sequential.{m}" for m in ("predict_proba", "predict_response", "update_statistics")),
        "check_gradients",
    }


def test_threads_by_place_is_refused_by_python():
    with pytest.raises(TypeError, match="positional argument"):
        net().predict(X, 1)
    with pytest.raises(TypeError, match="positional argument"):
        net().forward(X, True, 1)


MISLEADING = {
    "poisson": (Poisson(), 1, "logarithms of rates"),
    "gaussian_nll": (GaussianNLL(), 2, "means and variances before softplus"),
    "pinball": (Pinball((0.1, 0.9)), 2, "lowest quantiles and gaps"),
}


@pytest.mark.parametrize(("loss", "n_out", "told"), MISLEADING.values(), ids=MISLEADING)
def test_predict_tells_once_that_raw_outputs_mislead(loss, n_out, told):
    model = trained(loss, n_out)
    with pytest.warns(LearningHint, match=f"{told}.*predict_response") as caught:
        out = model.predict(X)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert "\n" not in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.predict(X).tobytes() == out.tobytes() == model.predict_raw(X).tobytes()
        model.train_step(X, COUNTS)
        model.loss = copy.copy(loss)
        model.predict(X)
    with pytest.warns(LearningHint):  # another network
        copy.deepcopy(trained(loss, n_out)).predict(X)


def test_a_network_of_a_file_tells_too(tmp_path):
    trained("poisson").save(tmp_path / "net.safetensors")
    with pytest.warns(LearningHint, match="poisson"):
        Sequential.load(tmp_path / "net.safetensors").predict(X)


@pytest.mark.parametrize("loss", [*MISLEADING.values()], ids=MISLEADING)
def test_calls_that_mean_raw_outputs_or_responses_tell_nothing(loss):
    kind, n_out, _ = loss
    model = trained(kind, n_out)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict_raw(X), model.predict_response(X), model.predict_row(X[0])
        model.evaluate(X, COUNTS, metrics=["mae", lambda y, out: out.mean()])
        model.fit(X, COUNTS, validation_split=0.2, metrics=["rmse"], epochs=1)
        model.forward(X), model.gradient(X, COUNTS), model.jacobian(X)


@pytest.mark.parametrize(
    ("loss", "n_out", "y"),
    [
        ("squared_error", 1, COUNTS),
        ("absolute_error", 1, COUNTS),
        ("huber", 1, COUNTS),
        (Pinball(0.5), 1, COUNTS),
        ("cross_entropy", 4, RNG.integers(0, 4, 40)),
        ("binary_cross_entropy", 1, (COUNTS > 2).astype(float)),
        (None, 1, COUNTS),
    ],
)
def test_predict_tells_nothing_if_raw_outputs_are_meant(loss, n_out, y):
    model = net(n_out) if loss is None else trained(loss, n_out, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(X)


@pytest.mark.parametrize("kind", LOSS_CLASSES.values(), ids=LOSS_CLASSES)
def test_every_loss_on_values_with_a_response_of_its_own_says_what_raw_outputs_are(kind):
    loss = Pinball((0.1, 0.9)) if kind is Pinball else kind()
    transforms = kind.response is not Loss.response and loss.predicts == "values"
    assert bool(loss.raw_outputs()) == transforms


def test_predict_response_takes_a_loss():
    model = net(2)
    with pytest.raises(ValueError, match=r"goes by the loss.*pass loss="):
        model.predict_response(X)
    out = model.predict_raw(X)
    for loss in ("poisson", "cross_entropy", GaussianNLL(), Pinball((0.1, 0.9))):
        want = fastmlp.losses.get_loss(loss).response(out)
        np.testing.assert_array_equal(model.predict_response(X, loss=loss, threads=1), want)
    with pytest.raises(ValueError, match="gaussian_nll needs"):
        net(3).predict_response(X, loss="gaussian_nll")
    assert model.loss is None


def test_second_names_of_a_network():
    model = trained("poisson")
    model.fit(X, COUNTS, epochs=2, batch_size=40)
    assert model.n_steps == model.step == 3
    assert model.n_epochs == model.epoch == 2
    for name in ("load_params", "set_params"):
        getattr(model, name)(np.arange(model.n_params))
        np.testing.assert_array_equal(model.params, np.arange(model.n_params))
        model.params = np.zeros(model.n_params)


def test_dampened_is_averaged():
    one, two = SGD(0.1, 0.9, averaged=True), SGD(0.1, 0.9, dampened=True)
    assert one == two
    assert one.config() == two.config()
    assert two.averaged
    assert two.dampened
    assert not SGD().dampened
    assert "dampened" in inspect.signature(SGD).parameters
    assert repr(copy.deepcopy(two)) == repr(one) == "SGD(lr=0.1, momentum=0.9, averaged=True)"
    with pytest.raises(ValueError, match="nesterov or averaged"):
        SGD(0.1, 0.9, nesterov=True, dampened=True)
    with pytest.raises(ValueError, match="two names of one flag"):
        SGD(0.1, 0.9, averaged=True, dampened=False)
    with pytest.raises(TypeError, match="no argument 'dampend'"):
        SGD(dampend=True)


def test_widths_of_linear():
    for layer in (Linear(3, 4), Linear(n_in=3, n_out=4), Linear(3, n_out=4), Linear(4, n_in=3)):
        assert (layer.n_in, layer.n_out) == (3, 4)
    for layer in (Linear(4), Linear(n_out=4)):
        assert (layer.n_in, layer.n_out) == (None, 4)
    for wrong in (lambda: Linear(), lambda: Linear(n_in=4)):
        with pytest.raises(TypeError, match=r"Linear\(n_out\) or Linear\(n_in, n_out\)"):
            wrong()
    for wrong in (lambda: Linear(3, 4, n_out=5), lambda: Linear(3, n_in=1, n_out=2)):
        with pytest.raises(TypeError, match="twice"):
            wrong()

"""Names of other libraries end in an error that says how it is written here."""

import copy
import inspect
import pickle
import pydoc
import typing

import numpy as np
import pytest

import fastmlp
from fastmlp import (
    SGD,
    Adam,
    BatchNorm,
    CrossEntropy,
    Dropout,
    EarlyStopping,
    History,
    Huber,
    Lasso,
    Layer,
    LeakyReLU,
    Linear,
    LogisticRegression,
    ReLU,
    Residual,
    Ridge,
    Sequential,
    Standardize,
)
from fastmlp.ground.dialects import ARGUMENTS, WAYS
from fastmlp.losses import LOSSES

X, Y = np.random.default_rng(0).standard_normal((30, 4)), np.arange(30) % 3
NET = Sequential([Linear(4, 8), ReLU(), Linear(8, 3)], seed=0)
LAYER = NET.layers[0]

CALLS = {
    "Softmax": (lambda: fastmlp.Softmax(), AttributeError, r"net\.predict_proba\(X\)"),
    "Dense": (lambda: fastmlp.Dense(3), AttributeError, r"use Linear\(n_in, n_out\)"),
    "Relu": (lambda: fastmlp.Relu(), AttributeError, "use ReLU"),
    "MSELoss": (lambda: fastmlp.MSELoss(), AttributeError, "use SquaredError"),
    "load": (lambda: fastmlp.load("m"), AttributeError, r"use Sequential\.load\(path\)"),
    "add": (lambda: NET.add(ReLU()), AttributeError, r"in one list: Sequential\(\["),
    "net(X)": (lambda: NET(X), TypeError, r"net\.predict\(X\) predicts, net\.forward"),
    "layer(X)": (lambda: LAYER(X), TypeError, r"write layer\.forward\(x\)"),
    "parameters": (lambda: NET.parameters(), AttributeError, r"net\.params holds all"),
    "zero_grad": (lambda: NET.zero_grad(), AttributeError, "leave it out"),
    "zero_grad of Adam": (lambda: Adam().zero_grad(), AttributeError, "leave it out"),
    "step of Adam": (lambda: Adam().step(), AttributeError, r"net\.update\(optimizer\)"),
    "loss.backward": (lambda: CrossEntropy().backward(), AttributeError, r"net\.backward\(dz\)"),
    "compile": (lambda: NET.compile("adam"), AttributeError, "give loss=, optimizer="),
    "kernel": (lambda: LAYER.kernel, AttributeError, r"use layer\.weight"),
    "history.history": (lambda: History().history, AttributeError, "the dict itself"),
    "learning_rate": (lambda: Adam(learning_rate=0.1), TypeError, "Adam takes no .*; use lr$"),
    "affine": (lambda: BatchNorm(affine=False), TypeError, "use scale and shift$"),
    "betas": (lambda: Adam(betas=(0.9, 0.99)), TypeError, "use beta1 and beta2$"),
    "decay": (lambda: SGD(decay=0.1), TypeError, "use weight_decay$"),
    "typing error": (lambda: SGD(momentun=0.9), TypeError, "use momentum$"),
    "unheard of": (lambda: Dropout(zzz=1), TypeError, "it takes p, seed$"),
    "rate": (lambda: Dropout(rate=0.5), TypeError, "use p$"),
    "in_features": (lambda: Linear(in_features=3), TypeError, "use n_in$"),
    "activation": (lambda: Linear(4, 8, activation="relu"), TypeError, "layers of their own"),
    "C": (lambda: LogisticRegression(C=1.0), TypeError, "LogisticRegression takes .*l2 = 1 / C$"),
    "alpha": (lambda: Ridge(alpha=1.0), TypeError, "use l2$"),
    "alpha of lasso": (lambda: Lasso(alpha=1.0), TypeError, "use l1$"),
    "beta of Huber": (lambda: Huber(beta=1.0), TypeError, "use delta$"),
    "min_deta": (lambda: EarlyStopping(min_deta=1), TypeError, "use min_delta$"),
    "negative_slope": (lambda: LeakyReLU(negative_slope=1), TypeError, "takes slope alone"),
    "too many": (lambda: Linear(4, 8, 3), TypeError, r"by place; name the others: init=\.\.\."),
    "mse": (lambda: NET.fit(X, Y, loss="mse"), ValueError, "calls it 'squared_error'"),
    "MAE": (lambda: NET.fit(X, Y, loss="MAE"), ValueError, "calls it 'absolute_error'"),
    "metric mse": (lambda: NET.fit(X, Y, metrics=["mse"]), ValueError, "'rmse' is its root"),
    "auc": (lambda: NET.fit(X, Y, metrics=["auc"]), ValueError, r"a function f\(y, out\)"),
    "acc": (lambda: NET.evaluate(X, Y, metrics=["acc"]), ValueError, "use 'accuracy'"),
    "batch by place": (lambda: NET.fit(X, Y, 32), TypeError, r"fit\(X, y, batch_size=32\)"),
    "nepochs": (lambda: NET.fit(X, Y, nepochs=3), TypeError, "use epochs$"),
    "varargs": (lambda: Sequential(Linear(4, 8), ReLU()), TypeError, r"in one list: Sequential"),
    "empty": (lambda: Sequential(), TypeError, r"in one list: Sequential"),
    "varargs of a block": (lambda: Residual(ReLU(), ReLU()), TypeError, r"list: Residual\(\["),
    "text": (lambda: Sequential([Linear(4, 8), "relu"]), TypeError, r"not 'relu'; write ReLU\(\)"),
    "class": (lambda: Sequential([Linear(4, 8), ReLU]), TypeError, r"write ReLU\(\)"),
    "function": (lambda: Sequential([Linear(4, 8), np.tanh]), TypeError, r"write Tanh\(\)"),
    "only text": (lambda: Sequential("relu"), TypeError, "not 'relu'"),
    "layer as loss": (lambda: NET.fit(X, Y, loss=ReLU()), TypeError, "loss must be a name"),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_error_names_the_way(name):
    call, error, message = CALLS[name]
    before = NET.params.copy()
    with pytest.raises(error, match=message):
        call()
    np.testing.assert_array_equal(NET.params, before)


def test_imports_say_it_too():
    with pytest.raises(ImportError, match=r"use Linear\(n_in, n_out\)"):
        exec("from fastmlp import Dense")
    with pytest.raises(ImportError, match="cannot import name 'Nothing'"):
        exec("from fastmlp import Nothing")
    assert not hasattr(fastmlp, "Dense")
    assert not hasattr(NET, "parameters")
    assert "parameters" not in dir(NET)
    assert "params" in dir(NET)


def test_the_table_names_what_there_is():
    assert set(WAYS["loss"].values()) <= set(LOSSES)
    for place, own in (
        ("network", NET),
        ("layer", LAYER),
        ("optimizer", Adam()),
        ("history", History()),
    ):
        assert not [name for name in WAYS[place] if hasattr(own, name)]
    assert not [name for name in WAYS["module"] if name in map(str.lower, fastmlp.__all__)]
    own = [function for _, function in public_functions()]
    taken = {name for function in own for name in inspect.signature(function).parameters}
    for words, note in ARGUMENTS.values():
        assert note or taken & set(words)


def test_errors_from_inside_stay_what_they_are():
    with pytest.raises(TypeError, match="y is None"):
        NET.fit(X, None)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        NET.predict_row()


def test_explained_classes_are_what_they_were():
    assert repr(Ridge(2.0)) == "Ridge(l2=2.0)"
    assert str(inspect.signature(Ridge)).startswith("(l2: 'float' = 1.0, *")
    for made in (Adam(0.1), Huber(2.0), copy.copy(LAYER), NET):
        assert repr(pickle.loads(pickle.dumps(made))) == repr(made)
        assert repr(copy.deepcopy(made)) == repr(made)


# ---- a layer of one's own ------------------------------------------------------------------------


class Scale(Layer):
    """As one would write it in PyTorch."""

    def forward(self, x, training=False):
        return 2 * x


class Empty(Layer):
    pass


class Twice(ReLU):
    """Ran as a ReLU, without a word."""

    def forward(self, x, training=False):
        return 2 * super().forward(x)


@pytest.mark.parametrize("kind", [Scale, Empty, Twice])
def test_a_layer_of_ones_own_is_told_what_is_possible(kind):
    for make in (
        lambda: Sequential([Linear(2, 2), kind()]),
        lambda: Sequential([Linear(2), kind()]),
        lambda: Sequential([Linear(2, 2), Residual([kind()])]),
    ):
        with pytest.raises(TypeError, match=r"layers run in C.*Residual.*a loss of your own"):
            make()
    if kind is Empty:
        with pytest.raises(TypeError, match="layers run in C"):
            kind().forward(X)


def test_settings_of_ones_own_are_possible():
    class Narrow(Linear):
        def __init__(self):
            super().__init__(4, 2, init="zeros")

    assert not Sequential([Standardize().adapt(X), Narrow()]).predict(X).any()


# ---- help ----------------------------------------------------------------------------------------


def public_functions():
    for name in fastmlp.__all__:
        own = getattr(fastmlp, name)
        if not callable(own) or (inspect.isclass(own) and issubclass(own, Exception | dict)):
            continue
        yield name, own
        if inspect.isclass(own):
            members = vars(own).items()
            yield from ((f"{name}.{k}", v) for k, v in members if k[0] != "_" and callable(v))


def test_signatures_can_be_read():
    """NumPy's ArrayLike alone prints as 200 letters; that of fit had 2,514."""
    for name, function in public_functions():
        shown = str(inspect.signature(function))
        assert len(shown) < 620, name
        assert "_NestedSequence" not in shown, name


def test_help_of_fit_opens_with_its_signature():
    text = pydoc.plain(pydoc.render_doc(Sequential.fit))
    assert "X: 'ArrayLike', y: 'ArrayLike', *, loss: 'str | Loss | LossFunction | None'" in text
    hints = typing.get_type_hints(Sequential.fit)
    assert hints["epochs"] is int
    assert hints["return"] is fastmlp.History

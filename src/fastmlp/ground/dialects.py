"""The names that other libraries use, and what to write in fastmlp instead: for error messages.

None of these names works, so that there is one way to write each thing.
"""

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from functools import wraps
from inspect import getattr_static
from typing import Any, NoReturn, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])

_NO_SOFTMAX = (
    "cross_entropy applies the softmax itself: end with Linear, net.predict_proba(X) gives "
    "probabilities"
)
_NO_ZEROING = "backward writes gradients, it does not add to them: leave it out"
_LIST = "give the layers in one list: Sequential([Linear(4, 8), ReLU(), Linear(8, 3)])"
_PARAMS = "net.params holds all of them, net.layers[0].weight those of a layer"
_BY_HAND = "net.update(optimizer) is a step along net.grads, net.train_step(x, y) a whole one"
_DATA = "NumPy arrays are the data: fit(X, y), or DataLoader(X, y) for a loop of your own"
_FUNCTION = "pass a function f(y, out) of the raw outputs, with scikit-learn's inside for instance"

# place -> name there (of the module, losses and metrics in lower case) -> advice
WAYS: dict[str, dict[str, str]] = {
    "module": {
        **dict.fromkeys(("softmax", "logsoftmax"), _NO_SOFTMAX),
        **dict.fromkeys(("dense", "fullyconnected"), "use Linear(n_in, n_out) or Linear(n_out)"),
        **dict.fromkeys(("module", "model", "nn", "mlp", "mlpclassifier", "mlpregressor"), _LIST),
        **dict.fromkeys(("tensor", "tensordataset", "dataset"), _DATA),
        **dict.fromkeys(("batchnorm1d", "batchnormalization"), "use BatchNorm()"),
        **dict.fromkeys(("normalization", "standardscaler"), "use Standardize()"),
        **dict.fromkeys(("crossentropyloss", "nllloss"), "use CrossEntropy()"),
        **dict.fromkeys(("bceloss", "bcewithlogitsloss"), "use BinaryCrossEntropy()"),
        **dict.fromkeys(("huberloss", "smoothl1loss"), "use Huber()"),
        **dict.fromkeys(("manual_seed", "set_seed"), "use Sequential([...], seed=0)"),
        "activation": "activations are layers: ReLU(), Tanh(), Sigmoid()",
        "flatten": "give X.reshape(len(X), -1)",
        "gaussiannllloss": "use GaussianNLL()",
        "input": "use Linear(n_in, n_out) first, or Sequential([...], n_in=...)",
        "l1loss": "use AbsoluteError()",
        "layernormalization": "use LayerNorm()",
        "load": "use Sequential.load(path)",
        "mseloss": "use SquaredError()",
        "no_grad": "net.predict and net.evaluate keep nothing for backward: leave it out",
        "poissonnllloss": "use Poisson()",
        "save": "use net.save(path)",
    },
    "network": {
        **dict.fromkeys(("add", "append"), _LIST),
        **dict.fromkeys(("parameters", "named_parameters", "weights", "get_weights"), _PARAMS),
        **dict.fromkeys(("load_state_dict", "load_weights"), "use Sequential.load(path)"),
        **dict.fromkeys(("to", "cpu", "cuda"), "it runs on CPUs; Sequential(dtype=) sets the type"),
        **dict.fromkeys(("float", "double"), 'use Sequential([...], dtype="float64")'),
        "compile": "give loss=, optimizer= and metrics= to fit",
        "count_params": "use net.n_params",
        "eval": "predict and evaluate run without dropout: leave it out",
        "partial_fit": "fit goes on from where it stands; net.train_step(x, y) is one mini-batch",
        "predict_classes": "use net.predict(X).argmax(axis=1), or > 0 where there is one output",
        "score": "use net.evaluate(X, y)",
        "set_weights": "use net.load_params(params)",
        "state_dict": "use net.save(path), or net.params",
        "train": "net.fit(X, y) trains; net.forward(x, training=True) is a pass with dropout",
        "train_on_batch": "use net.train_step(x, y)",
        "zero_grad": _NO_ZEROING,
    },
    "layer": {
        **dict.fromkeys(("W", "weights", "kernel"), "use layer.weight"),
        **dict.fromkeys(("b", "biases"), "use layer.bias"),
        **dict.fromkeys(("units", "out_features"), "use layer.n_out"),
        "beta": "use layer.shift",
        "gamma": "use layer.scale",
        "grad": "use layer.weight_grad and layer.bias_grad",
        "in_features": "use layer.n_in",
        "parameters": "use layer.arrays()",
        "zero_grad": _NO_ZEROING,
    },
    "optimizer": {
        **dict.fromkeys(("step", "minimize", "apply_gradients"), _BY_HAND),
        "backward": "fastmlp.cross_entropy(z, y) returns (loss, dz); then net.backward(dz)",
        "learning_rate": "use optimizer.lr",
        "param_groups": "settings are fixed; lr may be a schedule, CosineDecay(0.1, steps)",
        "state_dict": "net.save(path) keeps it",
        "zero_grad": _NO_ZEROING,
    },
    "history": {
        "epoch": 'they count from 1: len(history["loss"]) of them',
        "history": 'it is the dict itself: history["loss"]',
    },
    "loss": {
        **dict.fromkeys(("mse", "mean_squared_error", "l2", "quadratic"), "squared_error"),
        **dict.fromkeys(("mae", "mean_absolute_error", "l1"), "absolute_error"),
        **dict.fromkeys(("bce", "binary_crossentropy", "sigmoid"), "binary_cross_entropy"),
        **dict.fromkeys(("smooth_l1", "huber_loss"), "huber"),
        **dict.fromkeys(
            (
                *("crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy"),
                *("softmax", "nll", "log_loss", "logloss", "ce"),
            ),
            "cross_entropy",
        ),
        "quantile": "pinball",
    },
    "metric": {
        **dict.fromkeys(("mse", "mean_squared_error"), "'rmse' is its root, or " + _FUNCTION),
        **dict.fromkeys(("auc", "roc_auc", "precision", "recall", "f1"), _FUNCTION),
        **dict.fromkeys(("acc", "binary_accuracy"), "use 'accuracy'"),
        "mean_absolute_error": "use 'mae'",
        "root_mean_squared_error": "use 'rmse'",
        "r2_score": "use 'r2'",
    },
    "call": {
        "Residual": "give the layers in one list: Residual([Linear(8, 8), ReLU()])",
        "Sequential": _LIST,
        "Sequential.fit": "X and y stand first, all else has a name: fit(X, y, batch_size=32)",
    },
}
# argument in other libraries -> (its names here, of which a function takes some; further advice)
ARGUMENTS: dict[str, tuple[tuple[str, ...], str]] = {
    **dict.fromkeys(("learning_rate", "learning_rate_init", "eta", "step_size"), (("lr",), "")),
    **dict.fromkeys(("in_features", "input_dim", "input_size", "n_inputs"), (("n_in",), "")),
    **dict.fromkeys(("out_features", "units", "output_size", "n_outputs"), (("n_out",), "")),
    **dict.fromkeys(("n_epochs", "nb_epoch", "num_epochs", "max_epochs"), (("epochs",), "")),
    **dict.fromkeys(("random_state", "rng", "random_seed"), (("seed",), "")),
    **dict.fromkeys(("max_iter", "maxiter"), (("max_steps", "max_sweeps", "epochs"), "")),
    **dict.fromkeys(("rate", "prob", "drop_prob"), (("p",), "")),
    **dict.fromkeys(("affine", "elementwise_affine"), (("scale", "shift"), "")),
    "C": (("l2",), "l2 = 1 / C"),
    "activation": ((), "activations are layers of their own: Linear(4, 8), ReLU()"),
    "alpha": (("l2", "l1", "slope"), ""),
    "betas": (("beta1", "beta2"), ""),
    "bias": (("shift",), ""),
    "center": (("shift",), ""),
    "approximate": ((), "GELU() is the exact form, GELUTanh() the one with tanh"),
    "batch": (("batch_size",), ""),
    "decay": (("weight_decay",), ""),
    "etas": (("shrink", "grow"), ""),
    "input_shape": (("n_in",), ""),
    "kernel_initializer": (("init",), ""),
    "n_jobs": (("threads",), ""),
    "penalty": (("l2", "l1"), ""),
    "rho": (("beta2", "decay"), ""),
    "step_sizes": (("min_step", "max_step"), ""),
    "use_bias": (("bias",), ""),
    "validation": (("validation_data", "validation_split"), ""),
}


def way(place: str, name: str) -> str | None:
    """Return what to write instead of `name`, or None."""
    return WAYS[place].get(name.lower())


class Elsewhere:
    """A stand-in for an attribute of other libraries: an AttributeError with advice.

    A class with `__getattr__` would need no such stand-ins. But each look-up of an existing
    attribute would then take longer, by a fifth of a small step. Attributes of these names that
    subclasses and users define come first.
    """

    def __init__(self, name: str, told: str) -> None:
        self.name, self.told = name, told

    def __get__(self, obj: object, owner: type) -> NoReturn:
        message = f"{owner.__name__!r} object has no attribute {self.name!r}; {self.told}"
        raise AttributeError(message, name=self.name, obj=obj)

    def __repr__(self) -> str:
        return f"<not here: {self.told}>"


class Translated:
    """Base of classes that answer to the names of the table, without listing them."""

    def __init_subclass__(cls, dialect: str | None = None, **more: Any) -> None:
        super().__init_subclass__(**more)
        for name, told in WAYS[dialect].items() if dialect else ():
            if name not in vars(cls):
                setattr(cls, name, Elsewhere(name, told))

    def __dir__(self) -> list[str]:
        there = getattr_static
        return [
            name
            for name in super().__dir__()
            if not isinstance(there(type(self), name, None), Elsewhere)
        ]


def explained(function: _F) -> _F:
    """Wrap a function so that a call that does not fit its parameters gets an error with advice."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            is_inside = error.__traceback__ is not None and error.__traceback__.tb_next is not None
            told = None if is_inside else _explain(function, args, kwargs)
            if told is None:
                raise
            raise TypeError(told) from None

    return call  # type: ignore[return-value]


def explain_construction(*classes: type) -> None:
    """Make `explained` of the constructors of these classes and of their bases in this package."""
    package = __name__.partition(".")[0]
    for kind in {base: None for given in classes for base in given.__mro__}:
        if "__init__" in vars(kind) and kind.__module__.partition(".")[0] == package:
            setattr(kind, "__init__", explained(vars(kind)["__init__"]))  # noqa: B010


def _explain(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> str | None:
    """Return what is wrong with the arguments; None if Python's own message is good."""
    owner = type(args[0]).__name__
    if function.__name__ != "__init__":
        owner += f".{function.__name__}"
    parameters = list(inspect.signature(function).parameters.values())[1:]  # without self
    names = [parameter.name for parameter in parameters]
    strange = next((name for name in kwargs if name not in names), None)
    if strange is not None:
        found, note = ARGUMENTS.get(strange, ((), ""))
        words = [name for name in found if name in names] or get_close_matches(strange, names, 2)
        advice = f"use {' and '.join(words)}" if words else f"it takes {', '.join(names)}"
        return f"{owner} takes no argument {strange!r}; {note or advice}"
    if (whole := WAYS["call"].get(owner)) is not None:
        return f"{owner} cannot be called like that; {whole}"
    by_place = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    if len(args) - 1 <= len(by_place):
        return None
    named = [f"{name}=..." for name in names if name not in by_place]
    return (
        f"{owner} takes {', '.join(by_place) or 'nothing'} by place"
        + f"; name the others: {', '.join(named)}" * bool(named)
    )

"""What several test files share: tolerances, the registry as objects, small problems, twins of
networks."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import reference

import fastmlp
from fastmlp import (
    EMA,
    SGD,
    SWA,
    Adadelta,
    AdaGrad,
    Adam,
    Adamax,
    AdamW,
    AMSGrad,
    BatchNorm,
    BinaryCrossEntropy,
    BinaryFocal,
    CosineDecay,
    CrossEntropy,
    Focal,
    GaussianNLL,
    Huber,
    LayerNorm,
    LinearWarmup,
    Lion,
    NAdam,
    OneCycle,
    Pinball,
    RAdam,
    RMSNorm,
    RMSprop,
    Rprop,
    ScheduleFreeAdamW,
    SoftCrossEntropy,
    SquaredError,
    Tweedie,
    _core,
)
from fastmlp.losses import get_loss

native_only = pytest.mark.skipif(
    fastmlp.get_config()["gemm"] != "native", reason="a BLAS gives other bits for other shapes"
)

DTYPES = ["float32", "float64"]
ACTIVATIONS = list(_core.ACTIVATIONS)
# Every loss of the registry with its default settings under its name, and some with others.
LOSSES = {name: get_loss(name) for name in _core.LOSSES} | {
    "cross_entropy-smooth": CrossEntropy(label_smoothing=0.1),
    "cross_entropy-sum": CrossEntropy(reduction="sum"),
    "cross_entropy-ignoring": CrossEntropy(label_smoothing=0.2, ignore_index=-100),
    "binary_cross_entropy-smooth": BinaryCrossEntropy(label_smoothing=0.2),
    "binary_cross_entropy-weighted": BinaryCrossEntropy(0.1, pos_weight=2.5),
    "squared_error-sum": SquaredError(reduction="sum"),
    "huber-0.3": Huber(delta=0.3),
    "tweedie-poisson": Tweedie(1.0),
    "tweedie-gamma": Tweedie(2.0),
    "tweedie-1.1": Tweedie(1.1),
    "pinball-low": Pinball(0.05),
    "pinball-three": Pinball((0.1, 0.5, 0.95), reduction="sum"),
    "gaussian_nll-wide": GaussianNLL(min_variance=0.5, reduction="sum"),
    "focal-3.5": Focal(gamma=3.5),
    "focal-ignoring": Focal(gamma=1.5, ignore_index=-1),
    "soft_cross_entropy-smooth": SoftCrossEntropy(label_smoothing=0.1, reduction="sum"),
    "binary_focal-alpha": BinaryFocal(gamma=1.5, alpha=0.25),
}

# Every normalization that is trained, with all, some and none of its arrays.
NORMS = {
    kind.__name__ + "".join(f" without {name}" for name, has in flags.items() if not has): (
        functools.partial(kind, **flags)
    )
    for kind, names in ((LayerNorm, 2), (RMSNorm, 1), (BatchNorm, 2))
    for flags in (
        dict(zip(("scale", "shift"), has, strict=False))
        for has in itertools.product((True, False), repeat=names)
    )
}

# One of each kind of update, with settings that make every term count.
OPTIMIZERS = {
    "sgd": SGD(lr=0.05),
    "sgd-momentum": SGD(lr=0.02, momentum=0.9),
    "sgd-nesterov": SGD(lr=0.02, momentum=0.9, nesterov=True),
    "sgd-averaged": SGD(lr=0.05, momentum=0.8, averaged=True),
    "sgd-decay": SGD(lr=0.05, momentum=0.5, weight_decay=0.1),
    "adam": Adam(lr=0.01),
    "adam-betas": Adam(lr=0.01, beta1=0.7, beta2=0.9, eps=1e-3),
    "adamw": AdamW(lr=0.01, weight_decay=0.1),
    "amsgrad": AMSGrad(lr=0.01, beta2=0.9, weight_decay=0.1),
    "nadam": NAdam(lr=0.01, momentum_decay=0.1, weight_decay=0.1),
    "radam": RAdam(lr=0.01, beta2=0.9, weight_decay=0.1),
    "adagrad": AdaGrad(lr=0.05, weight_decay=0.1),
    "rmsprop": RMSprop(lr=0.01, beta2=0.9, momentum=0.5, weight_decay=0.1),
    "rmsprop-centered": RMSprop(lr=0.01, beta2=0.9, momentum=0.5, weight_decay=0.1, centered=True),
    "lion": Lion(lr=0.003, weight_decay=0.1),
    "schedule_free_adamw": ScheduleFreeAdamW(lr=0.01, weight_decay=0.1),
    "adadelta": Adadelta(lr=0.5, beta2=0.8, eps=1e-4, weight_decay=0.1),
    "adamax": Adamax(lr=0.01, beta1=0.8, beta2=0.95, weight_decay=0.1),
    "rprop": Rprop(lr=0.003, shrink=0.6, grow=1.3, min_step=1e-3, max_step=0.01),
}

# What stands around an optimizer: penalties, clipping, schedules, averages. Each acts on the
# networks of the tests.
AROUND = {
    "penalties": Adam(lr=0.01, l1=0.01, l2=0.1),
    "clip_norm": SGD(lr=0.1, momentum=0.9, clip_norm=0.1),
    "clip_value": AdamW(lr=0.01, clip_value=0.003, l2=0.01),
    "max_norm": Adam(lr=0.02, max_norm=0.8),
    "ema": Adam(lr=0.01, weight_average=EMA(0.8)),
    "swa": SGD(lr=0.005, weight_average=SWA(start=3, every=2)),
    "schedule": AdamW(lr=CosineDecay(0.02, steps=12, warmup=3)),
    "everything": NAdam(
        lr=OneCycle(0.02, steps=20),
        l1=0.001,
        l2=0.01,
        clip_norm=0.1,
        max_norm=0.8,
        weight_average=SWA(start=2),
    ),
    "schedule_free-warmup": ScheduleFreeAdamW(lr=LinearWarmup(0.02, warmup=5), l2=0.01),
}

# ---- tolerances ------------------------------------------------------------------------------


def rounding(dtype, n: int = 1, c: float = 4.0) -> float:
    """c eps sqrt(n): how far n roundings of random sign carry a value of size 1; c covers bad
    luck and the few operations around them."""
    return c * float(np.finfo(dtype).eps) * float(np.sqrt(n))


def assert_within(got, want, scale=1.0, *, n: int = 1, c: float = 4.0, dtype=None) -> None:
    """|got - want| <= rounding * scale for each element; NaN and infinities stand where they
    should.

    `dtype` is the type that was computed in, that of `got` unless said otherwise."""
    got, want = np.asarray(got), np.asarray(want)
    dtype = np.dtype(dtype or got.dtype)
    assert got.shape == want.shape
    with np.errstate(over="ignore"):
        want = want.astype(dtype).astype(np.float64)  # what overflows the type is infinite in both
    got = got.astype(np.float64)
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite])
    allowed = rounding(dtype, n, c) * np.broadcast_to(scale, got.shape) + np.finfo(dtype).tiny
    excess = np.abs(got[finite] - want[finite]) / allowed[finite]
    assert not excess.size or excess.max() <= 1, f"{excess.max():.3g} times the allowed error"


def relative_error(a, b) -> float:
    """||a - b|| / (||a|| + ||b||), 0 where both are 0."""
    size = float(np.linalg.norm(a) + np.linalg.norm(b))
    return float(np.linalg.norm(np.subtract(a, b))) / size if size else 0.0


# ---- the registry as objects -----------------------------------------------------------------


def activation(name: str, attr: float | None = None):
    info = _core.ACTIVATIONS[name]
    layer = getattr(fastmlp, info["class_name"])
    return layer() if attr is None else layer(**{info["attr"]: attr})


def loss_settings(case: str) -> dict:
    """The settings of one of LOSSES as keywords."""
    return LOSSES[case].__getstate__()


def loss_function(case: str):
    """(z, y) -> (loss, dz), by hand."""
    return functools.partial(getattr(fastmlp, LOSSES[case].name), **loss_settings(case))


def twin_loss(case: str):
    """The same in reference.py."""
    return functools.partial(reference.LOSSES[LOSSES[case].name], **loss_settings(case))


def loss_kink(case: str, z, y) -> float:
    """How near an example is to a jump of the loss's derivatives."""
    kinks = reference.LOSS_KINKS.get(LOSSES[case].name)
    settings = {name: v for name, v in loss_settings(case).items() if name != "reduction"}
    return float(np.min(kinks(z, y, **settings))) if kinks else np.inf


def suits(case: str, n_out: int) -> bool:
    """Whether a loss takes so many outputs."""
    loss = LOSSES[case]
    if loss.needs_labels or isinstance(loss, SoftCrossEntropy):
        return n_out > 1
    return _core.target_columns(loss.index, loss.settings, n_out) > 0


def fitting(case: str, n: int) -> int:
    """The smallest number of outputs from n on that the loss takes."""
    return next(m for m in range(n, n + 100) if suits(case, m))


# ---- networks and data -----------------------------------------------------------------------


def inputs(rows: int, n: int, dtype="float64", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, n)).astype(dtype)


def targets(loss: str, rows: int, n_out: int, dtype="float64", seed: int = 1) -> np.ndarray:
    """Targets of a case for n_out outputs of the network: labels, or values in the loss's range."""
    rng = np.random.default_rng(seed)
    if LOSSES[loss].needs_labels:
        labels, ignored = rng.integers(0, n_out, rows), LOSSES[loss].ignore_index
        return labels if ignored is None else np.where(rng.random(rows) < 0.3, ignored, labels)
    shape = rows, LOSSES[loss].target_columns(n_out)
    if isinstance(LOSSES[loss], SoftCrossEntropy):
        return rng.dirichlet(np.ones(n_out), rows).astype(dtype)
    if LOSSES[loss].high == 1:
        return rng.random(shape).astype(dtype)
    if isinstance(LOSSES[loss], Tweedie) and LOSSES[loss].power == 2:
        return rng.gamma(2.0, size=shape).astype(dtype)
    if LOSSES[loss].low == 0:
        return rng.poisson(2.0, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def linears(net) -> list:
    return [layer for layer in net.layers if isinstance(layer, fastmlp.Linear)]


def parameters(net) -> list[np.ndarray]:
    """weight, bias, weight, bias, ...: views, in the order of the layers."""
    return [a for layer in linears(net) for a in (layer.weight, layer.bias) if a is not None]


def gradients(net) -> list[np.ndarray]:
    return [
        a for layer in linears(net) for a in (layer.weight_grad, layer.bias_grad) if a is not None
    ]


def copies(arrays) -> list[np.ndarray]:
    return [np.array(a) for a in arrays]


def randomize(net, seed: int = 2) -> None:
    """Weights of variance 1 / n_in and biases that are not zero: no term of any formula is left
    out."""
    rng = np.random.default_rng(seed)
    for layer in linears(net):
        layer.weight[...] = rng.standard_normal(layer.weight.shape) / np.sqrt(len(layer.weight))
        if layer.bias is not None:
            layer.bias[...] = rng.standard_normal(layer.bias.shape) / 2


def twin(net) -> list:
    """The same network in reference.py, with the weights as they are now. Dropout drops nothing."""
    names = {info["class_name"]: name for name, info in _core.ACTIVATIONS.items()}
    layers = []
    for layer in net.layers:
        kind = type(layer).__name__
        if kind == "Linear":
            bias = None if layer.bias is None else layer.bias.astype(np.float64)
            layers.append(reference.Linear(layer.weight.astype(np.float64), bias))
        elif kind == "Dropout":
            layers.append(reference.Dropout(layer.p))
        else:
            attr = _core.ACTIVATIONS[names[kind]]["attr"]
            layers.append(reference.Activate(names[kind], getattr(layer, attr) if attr else 0.0))
    return layers


def twin_parameters(layers: list) -> list[np.ndarray]:
    found = [layer for layer in layers if isinstance(layer, reference.Linear)]
    return [a for layer in found for a in (layer.weight, layer.bias) if a is not None]


def settings(optimizer) -> tuple[str, dict]:
    """The twin's name and keywords for one of the package's optimizers, without what all have."""
    shared = {field.name for field in dataclasses.fields(fastmlp.Optimizer)} - {"lr"}
    own = [f.name for f in dataclasses.fields(optimizer) if f.name not in shared]
    return optimizer.name, {name: getattr(optimizer, name) for name in own}


def everything(net) -> list[np.ndarray]:
    """Parameters, the optimizer's state, averaged weights."""
    return [net.params, *net._state] + ([] if net._average is None else [net._average])


def digest(*arrays) -> str:
    """One hash of all bits."""
    h = hashlib.sha256()
    for a in arrays:
        h.update(np.ascontiguousarray(a).tobytes())
    return h.hexdigest()


def _heed_ctrl_c():
    """Commands that a shell starts in the background ignore it, and so would their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def child_process(command, cwd=None):
    """A child with its output in pipes that Ctrl-C reaches; it does not outlive the test."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=cwd, preexec_fn=_heed_ctrl_c, **pipes) as child:
        try:
            yield child
        finally:
            child.kill()


def interrupted(program, cwd, delay):
    """What a child running `program` prints after "ready", Ctrl-C coming `delay` seconds later."""
    with child_process([sys.executable, "-c", program], cwd) as child:
        assert child.stdout.readline().strip() == "ready"
        time.sleep(delay)
        child.send_signal(signal.SIGINT)
        return child.communicate(timeout=120)


class ToldError(Exception):
    """What the handler of the fixture `alarm` raises."""

"""NumPy twins of every op, activation, loss and optimizer of fastmlp: the oracle, and the textbook.

Everything here is float64, one equation per function, and slow on purpose. Examples are rows:

    x (rows, n_in)    weight (n_in, n_out)    bias (n_out,)    y (rows, n_out)

A derivative carries a `d`: dy stands for d(loss)/dy and has the shape of y. Every function is
written so that no input overflows on the way to a finite result; the comment beside it says how.

Read it in this order: ops, activations, losses, optimizers, and `train`, which puts them together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

import fastmlp._core

Array = np.ndarray


# ---- linear: y = x W + b ---------------------------------------------------------------------


def linear(x: Array, weight: Array, bias: Array | None) -> Array:
    """(rows, n_in) @ (n_in, n_out) + (n_out,) -> (rows, n_out)."""
    return x @ weight if bias is None else x @ weight + bias


def linear_backward(x: Array, weight: Array, dy: Array) -> tuple[Array, Array, Array]:
    """dx = dy W^T (rows, n_in); dW = x^T dy (n_in, n_out); db = sum of dy over rows (n_out,)."""
    return dy @ weight.T, x.T @ dy, dy.sum(axis=0)


# ---- dropout: y = x mask / (1 - p) -----------------------------------------------------------


def dropout(x: Array, mask: Array, p: float) -> Array:
    """`mask` is 1 where a value is kept. Dividing by 1 - p leaves the expected value as it was,
    so that nothing at all has to be done at test time (inverted dropout). Its derivative is
    itself, applied to dy."""
    return x * mask / (1.0 - p)


# ---- activations: y = f(z), and the derivative df(z) = dy/dz ---------------------------------
#
# `a` is the attribute of those that have one (slope, alpha). At a kink the derivative is the one
# from the left.


def _clip(z: Array) -> Array:
    """Beyond +-1000 the curves below are at their limits: no inf * 0, no overflow."""
    return np.clip(z, -1000.0, 1000.0)


def identity(z: Array, a: float = 0.0) -> Array:
    return z.copy()


def identity_slope(z: Array, a: float = 0.0) -> Array:
    return np.ones_like(z)


def relu(z: Array, a: float = 0.0) -> Array:
    return np.where(z <= 0, 0.0, z)  # not max(z, 0), so that NaN stays NaN


def relu_slope(z: Array, a: float = 0.0) -> Array:
    return np.where(z <= 0, 0.0, 1.0)


def leaky_relu(z: Array, a: float = 0.01) -> Array:
    return np.where(z <= 0, a * z, z)


def leaky_relu_slope(z: Array, a: float = 0.01) -> Array:
    return np.where(z <= 0, a, 1.0)


def elu(z: Array, a: float = 1.0) -> Array:
    return np.where(z <= 0, a * np.expm1(np.minimum(z, 0.0)), z)


def elu_slope(z: Array, a: float = 1.0) -> Array:
    return np.where(z <= 0, a * np.exp(np.minimum(z, 0.0)), 1.0)


def celu(z: Array, a: float = 1.0) -> Array:
    """ELU of z / a, times a: the slope at 0 is 1 for every a (Barron 2017)."""
    return np.where(z <= 0, a * np.expm1(np.minimum(z, 0.0) / a), z)


def celu_slope(z: Array, a: float = 1.0) -> Array:
    return np.where(z <= 0, np.exp(np.minimum(z, 0.0) / a), 1.0)


# The fixed point of Klambauer et al. 2017, appendix A: with these two, inputs of mean 0 and
# variance 1 give outputs of mean 0 and variance 1.
SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717


def selu(z: Array, a: float = 0.0) -> Array:
    return SELU_SCALE * elu(z, SELU_ALPHA)


def selu_slope(z: Array, a: float = 0.0) -> Array:
    return SELU_SCALE * elu_slope(z, SELU_ALPHA)


def sigmoid(z: Array, a: float = 0.0) -> Array:
    """1 / (1 + exp(-z)) = exp(z) / (1 + exp(z)): of the two, the one whose exp cannot overflow."""
    e = np.exp(-np.abs(z))
    return np.where(z < 0, e, 1.0) / (1.0 + e)


def sigmoid_slope(z: Array, a: float = 0.0) -> Array:
    """s (1 - s), with 1 - s = sigmoid(-z) so that nothing cancels."""
    return sigmoid(z) * sigmoid(-z)


def tanh(z: Array, a: float = 0.0) -> Array:
    return np.tanh(z)


def tanh_slope(z: Array, a: float = 0.0) -> Array:
    """1 - tanh^2 = 4 s(2z) s(-2z), s the sigmoid: nothing cancels where tanh is near 1."""
    return 4.0 * sigmoid_slope(2.0 * _clip(z))


def softplus(z: Array, a: float = 1.0) -> Array:
    """log(1 + exp(a z)) / a = max(z, 0) + log(1 + exp(-|a z|)) / a: the exp is at most 1."""
    return np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(a * z))) / a


def softplus_slope(z: Array, a: float = 1.0) -> Array:
    return sigmoid(a * z)


_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def normal_cdf(z: Array) -> Array:
    """Phi(z), the probability that a standard normal variable is below z; erfc keeps the digits
    of its tail."""
    return 0.5 * _erfc(-z / math.sqrt(2.0))


def gelu(z: Array, a: float = 0.0) -> Array:
    """z Phi(z), the exact form; its limit at -inf is 0."""
    z = np.maximum(z, -1000.0)
    return z * normal_cdf(z)


def gelu_slope(z: Array, a: float = 0.0) -> Array:
    """Phi(z) + z phi(z), phi the density of the normal distribution."""
    c = _clip(z)
    return normal_cdf(c) + c * np.exp(-0.5 * c * c) / math.sqrt(2.0 * math.pi)


def gelu_tanh(z: Array, a: float = 0.0) -> Array:
    """z (1 + tanh(u / 2)) / 2 = z sigmoid(u), u = 2 sqrt(2 / pi) (z + 0.044715 z^3): Phi to three
    digits (Hendrycks, Gimpel 2016)."""
    z = np.maximum(z, -1000.0)
    c = _clip(z)
    return z * sigmoid(math.sqrt(8.0 / math.pi) * (c + 0.044715 * c**3))


def gelu_tanh_slope(z: Array, a: float = 0.0) -> Array:
    """s + z s (1 - s) u'."""
    c = _clip(z)
    u = math.sqrt(8.0 / math.pi) * (c + 0.044715 * c**3)
    return sigmoid(u) + c * sigmoid_slope(u) * math.sqrt(8.0 / math.pi) * (1.0 + 0.134145 * c * c)


def hardswish(z: Array, a: float = 0.0) -> Array:
    """z min(max(z + 3, 0), 6) / 6 (Howard et al. 2019): 0 up to -3, z from 3 on."""
    c = np.clip(z, -3.0, 3.0)
    return np.where(z > 3, z, c * (c + 3.0) / 6.0)


def hardswish_slope(z: Array, a: float = 0.0) -> Array:
    """(2 z + 3) / 6 between -3 and 3. At 3 it is the one from the right, as in PyTorch."""
    return np.where(z <= -3, 0.0, np.where(z >= 3, 1.0, (2.0 * _clip(z) + 3.0) / 6.0))


def silu(z: Array, a: float = 0.0) -> Array:
    """z sigmoid(z), also called swish; its limit at -inf is 0."""
    z = np.maximum(z, -1000.0)
    return z * sigmoid(z)


def silu_slope(z: Array, a: float = 0.0) -> Array:
    """s + z s (1 - s), s = sigmoid(z)."""
    c = _clip(z)
    return sigmoid(c) + c * sigmoid_slope(c)


def _tanh_softplus(z: Array) -> tuple[Array, Array]:
    """t = tanh(log(1 + e^z)) and 1 - t.

    With w = e^z: t = (w^2 + 2w) / (w^2 + 2w + 2) and 1 - t = 2 / (w^2 + 2w + 2). For z > 0 both
    fractions are divided by w^2, so that only e^-|z| <= 1 appears: nothing overflows and nothing
    cancels."""
    e = np.exp(-np.abs(z))
    above, below = (1.0 + 2.0 * e, e * (e + 2.0))  # numerators of t for z > 0 and z <= 0
    rest_above, rest_below = (2.0 * e * e, 2.0)  # numerators of 1 - t
    t = np.where(z > 0, above / (above + rest_above), below / (below + rest_below))
    rest = np.where(z > 0, rest_above / (above + rest_above), rest_below / (below + rest_below))
    return t, rest


def mish(z: Array, a: float = 0.0) -> Array:
    """z tanh(softplus(z)) (Misra 2019); its limit at -inf is 0."""
    z = np.maximum(z, -1000.0)
    return z * _tanh_softplus(z)[0]


def mish_slope(z: Array, a: float = 0.0) -> Array:
    """t + z (1 - t^2) sigmoid(z), t = tanh(softplus(z)); 1 - t^2 = (1 - t) (1 + t)."""
    c = _clip(z)
    t, rest = _tanh_softplus(c)
    return t + c * rest * (1.0 + t) * sigmoid(c)


class Activation(NamedTuple):
    f: Callable[[Array, float], Array]
    df: Callable[[Array, float], Array]
    default: float  # of the attribute; 0 where there is none


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(identity, identity_slope, 0.0),
    "relu": Activation(relu, relu_slope, 0.0),
    "leaky_relu": Activation(leaky_relu, leaky_relu_slope, 0.01),
    "elu": Activation(elu, elu_slope, 1.0),
    "celu": Activation(celu, celu_slope, 1.0),
    "selu": Activation(selu, selu_slope, 0.0),
    "gelu": Activation(gelu, gelu_slope, 0.0),
    "gelu_tanh": Activation(gelu_tanh, gelu_tanh_slope, 0.0),
    "silu": Activation(silu, silu_slope, 0.0),
    "hardswish": Activation(hardswish, hardswish_slope, 0.0),
    "mish": Activation(mish, mish_slope, 0.0),
    "softplus": Activation(softplus, softplus_slope, 1.0),
    "sigmoid": Activation(sigmoid, sigmoid_slope, 0.0),
    "tanh": Activation(tanh, tanh_slope, 0.0),
}

# Where the derivative jumps: finite differences are wrong for a sample that lies across it.
KINKS: dict[str, tuple[float, ...]] = {
    name: (-facts["kink"], facts["kink"])
    for name, facts in fastmlp._core.ACTIVATIONS.items()
    if not np.isnan(facts["kink"])
}


# ---- losses: (loss, dz) from raw outputs z (rows, n_out) -------------------------------------
#
# Each computes the loss of every element (or row) and its derivative by z; `reduced` then takes the
# mean or the sum, and weighs the rows.


def reduced(
    losses: Array, slopes: Array, reduction: str, sample_weight: Array | None
) -> tuple[float, Array]:
    """`losses` (rows, terms), `slopes` (rows, n_out): d(sum of a row's terms)/dz. The mean is that
    over all terms, also where rows are weighted: it divides by their number, not by the weights."""
    weight = np.ones(len(losses)) if sample_weight is None else np.asarray(sample_weight, float)
    divisor = 1.0 if reduction == "sum" else float(losses.size)
    weighed = losses * weight[:, np.newaxis]
    return float(weighed.sum() / divisor), slopes * weight[:, np.newaxis] / divisor


def log_softmax(z: Array) -> Array:
    """The largest output is taken off first: exp then is at most 1, and the sum at least 1."""
    shifted = z - z.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def cross_entropy(
    z: Array,
    labels: Array,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    sample_weight: Array | None = None,
    ignore_index: int | None = None,
) -> tuple[float, Array]:
    """That of the distribution onehot(label)."""

    def of(z: Array, labels: Array, weight: Array | None) -> tuple[float, Array]:
        onehot = np.eye(z.shape[1])[labels]
        return soft_cross_entropy(z, onehot, label_smoothing, reduction, weight)

    return of_counted(of, z, labels, sample_weight, ignore_index)


def of_counted(
    loss: Callable[..., tuple[float, Array]],
    z: Array,
    labels: Array,
    sample_weight: Array | None,
    ignore_index: int | None,
) -> tuple[float, Array]:
    """The loss of the rows alone whose label is another; the others have the gradient 0."""
    counts = np.full(len(z), True) if ignore_index is None else labels != ignore_index
    dz = np.zeros_like(z)
    if not counts.any():
        return 0.0, dz
    weight = None if sample_weight is None else np.asarray(sample_weight)[counts]
    value, dz[counts] = loss(z[counts], labels[counts], weight)
    return value, dz


def soft_cross_entropy(
    z: Array,
    y: Array,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """-sum_j t_j log softmax(z)_j, dz = softmax(z) sum_j t_j - t, with the target distribution
    t = (1 - label_smoothing) y + label_smoothing / classes."""
    log_p = log_softmax(z)
    t = (1.0 - label_smoothing) * y + label_smoothing / z.shape[1]
    terms = np.multiply(t, log_p, where=t > 0, out=np.zeros_like(z))  # 0 log 0 = 0
    dz = np.exp(log_p) * t.sum(axis=1, keepdims=True) - t
    return reduced(-terms.sum(axis=1, keepdims=True), dz, reduction, sample_weight)


def focal(
    z: Array,
    labels: Array,
    gamma: float = 2.0,
    reduction: str = "mean",
    sample_weight: Array | None = None,
    ignore_index: int | None = None,
) -> tuple[float, Array]:
    """See `focal_of_all`."""

    def of(z: Array, labels: Array, weight: Array | None) -> tuple[float, Array]:
        return focal_of_all(z, labels, gamma, reduction, weight)

    return of_counted(of, z, labels, sample_weight, ignore_index)


def focal_of_all(
    z: Array, labels: Array, gamma: float, reduction: str, sample_weight: Array | None
) -> tuple[float, Array]:
    """-(1 - p)^gamma log p, p = softmax(z)[label]. By the chain rule through log p,
    d(loss)/d(log p) = -(1 - p)^gamma + gamma (1 - p)^(gamma - 1) p log p, and
    d(log p)/dz = onehot(label) - softmax(z)."""
    all_log_p, right = log_softmax(z), (np.arange(len(z)), labels)
    log_p = all_log_p[right][:, np.newaxis]
    wrong = -np.expm1(log_p)
    ratio = np.divide(log_p, wrong, where=wrong > 0, out=-np.ones_like(wrong))  # its limit at p = 1
    slope = -(wrong**gamma) * (1.0 - gamma * np.exp(log_p) * ratio)
    dz = slope * (np.eye(z.shape[1])[labels] - np.exp(all_log_p))
    return reduced(-(wrong**gamma) * log_p, dz, reduction, sample_weight)


def binary_cross_entropy(
    z: Array,
    y: Array,
    label_smoothing: float = 0.0,
    pos_weight: float | Array | None = None,
    output_weight: Array | None = None,
    reduction: str = "mean",
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """-w (p t log s + (1 - t) log(1 - s)), s = sigmoid(z), with a weight w and a pos_weight p of
    each output; dz = s - t where both are 1.

    -log s = softplus(-z) and -log(1 - s) = softplus(z): a sum of positive terms; nothing
    cancels."""
    t = (1.0 - label_smoothing) * y.reshape(z.shape) + label_smoothing / 2.0
    each = np.ones(z.shape[1]) if output_weight is None else np.asarray(output_weight)
    on = each * (1.0 if pos_weight is None else np.asarray(pos_weight)) * t
    off = each * (1.0 - t)
    terms = on * softplus(-z) + off * softplus(z)
    return reduced(terms, off * sigmoid(z) - on * sigmoid(-z), reduction, sample_weight)


def binary_focal(
    z: Array,
    y: Array,
    gamma: float = 2.0,
    alpha: float | None = None,
    reduction: str = "mean",
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """The focal loss of either answer, times how much of the target it is: f(z) for 1 and f(-z)
    for 0, f(z) = (1 - s)^gamma softplus(-z), s = sigmoid(z).
    f'(z) = -(1 - s)^gamma (gamma s softplus(-z) + 1 - s)."""
    y = y.reshape(z.shape)
    on, off = (1.0, 1.0) if alpha is None else (alpha, 1.0 - alpha)

    def f(z: Array) -> Array:
        return sigmoid(-z) ** gamma * softplus(-z)

    def slope(z: Array) -> Array:
        return -(sigmoid(-z) ** gamma) * (gamma * sigmoid(z) * softplus(-z) + sigmoid(-z))

    terms = on * y * f(z) + off * (1.0 - y) * f(-z)
    return reduced(terms, on * y * slope(z) - off * (1.0 - y) * slope(-z), reduction, sample_weight)


def squared_error(
    z: Array, y: Array, reduction: str = "mean", sample_weight: Array | None = None
) -> tuple[float, Array]:
    """(z - y)^2, dz = 2 (z - y)."""
    error = z - y.reshape(z.shape)
    return reduced(error**2, 2.0 * error, reduction, sample_weight)


def absolute_error(
    z: Array, y: Array, reduction: str = "mean", sample_weight: Array | None = None
) -> tuple[float, Array]:
    """|z - y|, dz = sign(z - y)."""
    error = z - y.reshape(z.shape)
    return reduced(np.abs(error), np.sign(error), reduction, sample_weight)


def huber(
    z: Array,
    y: Array,
    delta: float = 1.0,
    reduction: str = "mean",
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """e^2 / 2 up to |e| = delta, a straight line from there on."""
    e = z - y.reshape(z.shape)
    terms = np.where(np.abs(e) <= delta, e**2 / 2.0, delta * (np.abs(e) - delta / 2.0))
    return reduced(terms, np.clip(e, -delta, delta), reduction, sample_weight)


def poisson(
    z: Array, y: Array, reduction: str = "mean", sample_weight: Array | None = None
) -> tuple[float, Array]:
    """rate - y log(rate), rate = exp(z); dz = rate - y."""
    y = y.reshape(z.shape)
    with np.errstate(over="ignore"):
        return reduced(np.exp(z) - y * z, np.exp(z) - y, reduction, sample_weight)


def tweedie(
    z: Array,
    y: Array,
    power: float = 1.5,
    reduction: str = "mean",
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """Half of the unit deviance: the integral of (t - y) / t^p from y to the mean exp(z)."""
    y, a, b = y.reshape(z.shape).astype(np.float64), 1.0 - power, 2.0 - power
    with np.errstate(over="ignore", divide="ignore"):
        m, pull = np.exp(z), y * np.exp(a * z)  # pull = y m^(1-p)
        log_y = np.log(np.where(y > 0, y, 1.0))
        if power == 1:
            terms = y * (log_y - z) - y + m
        elif power == 2:
            terms = z - log_y + pull - 1.0
        else:
            terms = np.where(y > 0, y**b / (a * b), 0.0) - pull / a + np.exp(b * z) / b
        return reduced(terms, np.exp(b * z) - pull, reduction, sample_weight)


def quantiles_of(z: Array, k: int) -> Array:
    """(rows, columns, k): the first of k outputs, then steps of softplus(z) up from it."""
    z = z.reshape(len(z), -1, k)
    return np.cumsum(np.concatenate([z[:, :, :1], softplus(z[:, :, 1:])], axis=2), axis=2)


def pinball(
    z: Array,
    y: Array,
    quantiles: tuple[float, ...] = (0.5,),
    reduction: str = "mean",
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """max(t e, (t - 1) e), e = y - q. Every q depends on its own output and those before it, so the
    gradient of an output is the sum over its own q and those after it."""
    tau, k, rows = np.array(quantiles), len(quantiles), len(z)
    e = y.reshape(rows, -1, 1) - quantiles_of(z, k)
    by_q = np.where(e > 0, -tau, np.where(e < 0, 1.0 - tau, 0.0))
    dz = np.cumsum(by_q[:, :, ::-1], axis=2)[:, :, ::-1].copy()
    dz[:, :, 1:] *= sigmoid(z.reshape(rows, -1, k)[:, :, 1:])
    terms = np.maximum(tau * e, (tau - 1.0) * e)
    return reduced(terms.reshape(rows, -1), dz.reshape(z.shape), reduction, sample_weight)


def gaussian_nll(
    z: Array,
    y: Array,
    min_variance: float = 1e-6,
    reduction: str = "mean",
    sample_weight: Array | None = None,
) -> tuple[float, Array]:
    """(log(2 pi v) + e^2 / v) / 2, e = y - mean: minus the log of the normal density."""
    mean, spread = np.split(z, 2, axis=1)
    v, e = softplus(spread) + min_variance, y.reshape(mean.shape) - mean
    by_v = (1.0 - e**2 / v) / (2.0 * v)
    terms = (np.log(2.0 * math.pi * v) + e**2 / v) / 2.0
    dz = np.concatenate([-e / v, by_v * sigmoid(spread)], axis=1)
    return reduced(terms, dz, reduction, sample_weight)


LOSSES: dict[str, Callable[..., tuple[float, Array]]] = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "squared_error": squared_error,
    "absolute_error": absolute_error,
    "huber": huber,
    "poisson": poisson,
    "tweedie": tweedie,
    "pinball": pinball,
    "gaussian_nll": gaussian_nll,
    "focal": focal,
    "binary_focal": binary_focal,
    "soft_cross_entropy": soft_cross_entropy,
}

# How far an example is from where the derivative, or the one after it, jumps: finite differences
# are wrong across it.
LOSS_KINKS: dict[str, Callable[..., Array]] = {
    "absolute_error": lambda z, y: np.abs(z - y),
    "huber": lambda z, y, delta=1.0: np.abs(np.abs(z - y) - delta),
    "pinball": lambda z, y, quantiles=(0.5,): np.abs(
        y.reshape(len(y), -1, 1) - quantiles_of(z, len(quantiles))
    ),
}


# ---- optimizers: the new value of one parameter array ----------------------------------------
#
# p, g: parameter and gradient of one shape; t = 1, 2, ...: number of the step; `state` is a dict
# that each parameter keeps for itself, empty before the first step.


def decay(p: Array, lr: float, weight_decay: float) -> Array:
    """Decoupled (Loshchilov, Hutter 2019): shrink first, then step. Never for biases."""
    return p - lr * weight_decay * p


def sgd(
    p: Array,
    g: Array,
    state: dict[str, Array],
    t: int,
    lr: float = 0.01,
    momentum: float = 0.0,
    nesterov: bool = False,
    averaged: bool = False,
    weight_decay: float = 0.0,
) -> Array:
    """Usual: v <- m v + g, p <- p - lr v. Averaged (the lecture's): v <- m v + (1 - m) g.

    Nesterov looks one step ahead along v: it uses the velocity that another step with this
    gradient would have, m v + g. It belongs to the usual form."""
    inflow = (1.0 - momentum) * g if averaged else g
    state["v"] = momentum * state.get("v", np.zeros_like(p)) + inflow
    direction = inflow + momentum * state["v"] if nesterov else state["v"]
    return decay(p, lr, weight_decay) - lr * direction


def adam(
    p: Array,
    g: Array,
    state: dict[str, Array],
    t: int,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Array:
    """Kingma, Ba 2015. m, v: running means of g and g^2, which start at 0 and so are too small
    by the factors 1 - beta1^t and 1 - beta2^t; p <- p - lr m / (sqrt(v) + eps) with both
    corrected."""
    state["m"] = beta1 * state.get("m", np.zeros_like(p)) + (1.0 - beta1) * g
    state["v"] = beta2 * state.get("v", np.zeros_like(p)) + (1.0 - beta2) * g * g
    m = state["m"] / (1.0 - beta1**t)
    v = state["v"] / (1.0 - beta2**t)
    return decay(p, lr, weight_decay) - lr * m / (np.sqrt(v) + eps)


def adamw(
    p: Array,
    g: Array,
    state: dict[str, Array],
    t: int,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> Array:
    """Adam with decoupled weight decay."""
    return adam(p, g, state, t, lr, beta1, beta2, eps, weight_decay)


def amsgrad(
    p: Array,
    g: Array,
    state: dict[str, Array],
    t: int,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Array:
    """Reddi, Kale, Kumar 2018: Adam that divides by the root of the largest v so far."""
    state["m"] = beta1 * state.get("m", np.zeros_like(p)) + (1.0 - beta1) * g
    state["v"] = beta2 * state.get("v", np.zeros_like(p)) + (1.0 - beta2) * g * g
    state["top"] = np.maximum(state.get("top", 0.0), state["v"])
    m = state["m"] / (1.0 - beta1**t)
    v = state["top"] / (1.0 - beta2**t)
    return decay(p, lr, weight_decay) - lr * m / (np.sqrt(v) + eps)


def nadam(
    p: Array,
    g: Array,
    state: dict[str, Array],
    t: int,
    lr: float = 2e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    momentum_decay: float = 4e-3,
    weight_decay: float = 0.0,
) -> Array:
    """Dozat 2016, in PyTorch's form: Adam with a momentum mu_t that grows with t, one step ahead.

    The product of all mu so far takes the place of beta1^t."""

    def mu(step: int) -> float:
        return beta1 * (1.0 - 0.5 * 0.96 ** (step * momentum_decay))

    state["m"] = beta1 * state.get("m", np.zeros_like(p)) + (1.0 - beta1) * g
    state["v"] = beta2 * state.get("v", np.zeros_like(p)) + (1.0 - beta2) * g * g
    state["product"] = state.get("product", 1.0) * mu(t)
    ahead = (1.0 - mu(t)) / (1.0 - state["product"]) * g
    ahead += mu(t + 1) / (1.0 - state["product"] * mu(t + 1)) * state["m"]
    v = state["v"] / (1.0 - beta2**t)
    return decay(p, lr, weight_decay) - lr * ahead / (np.sqrt(v) + eps)


def radam(
    p: Array,
    g: Array,
    state: dict[str, Array],
    t: int,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Array:
    """Liu et al. 2020: Adam times r, which makes up for the variance of 1 / sqrt(v) over few steps.
    rho_t is the number of steps that v is worth; up to 5 of them, v is left out."""
    state["m"] = beta1 * state.get("m", np.zeros_like(p)) + (1.0 - beta1) * g
    state["v"] = beta2 * state.get("v", np.zeros_like(p)) + (1.0 - beta2) * g * g
    m = state["m"] / (1.0 - beta1**t)
    rho = 2.0 / (1.0 - beta2) - 1.0
    rho_t = rho - 2.0 * t * beta2**t / (1.0 - beta2**t)
    if rho_t > 5.0:
        r = np.sqrt((rho_t - 4) * (rho_t - 2) * rho / ((rho - 4) * (rho - 2) * rho_t))
        m = m * r * np.sqrt(1.0 - beta2**t) / (np.sqrt(state["v"]) + eps)
    return decay(p, lr, weight_decay) - lr * m


def adagrad(
    p: Array,
    g: Array,
    state: dict[str, Array],
    t: int,
    lr: float = 0.01,
    eps: float = 1e-10,
    weight_decay: float = 0.0,
) -> Array:
    """Duchi, Hazan, Singer 2011: the root of the sum of all g^2 divides the step."""
    state["v"] = state.get("v", 0.0) + g * g
    return decay(p, lr, weight_decay) - lr * g / (np.sqrt(state["v"]) + eps)


def rmsprop(
    p: Array,
    g: Array,
    state: dict[str, Array],
    t: int,
    lr: float = 0.01,
    beta2: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    centered: bool = False,
) -> Array:
    """Tieleman, Hinton 2012: the root of the running mean of g^2 divides it, or, centered, of the
    running variance; then momentum."""
    state["v"] = beta2 * state.get("v", 0.0) + (1.0 - beta2) * g * g
    state["m"] = beta2 * state.get("m", 0.0) + (1.0 - beta2) * g
    v = np.maximum(state["v"] - state["m"] ** 2, 0.0) if centered else state["v"]
    state["u"] = momentum * state.get("u", 0.0) + g / (np.sqrt(v) + eps)
    return decay(p, lr, weight_decay) - lr * state["u"]


def lion(
    p: Array,
    g: Array,
    state: dict[str, Array],
    t: int,
    lr: float = 1e-4,
    beta1: float = 0.9,
    beta2: float = 0.99,
    weight_decay: float = 0.0,
) -> Array:
    """Chen et al. 2023: lr along the sign of one mean of m and g; another one is kept."""
    m = state.get("m", np.zeros_like(p))
    state["m"] = beta2 * m + (1.0 - beta2) * g
    return decay(p, lr, weight_decay) - lr * np.sign(beta1 * m + (1.0 - beta1) * g)


def schedule_free_adamw(
    p: Array,
    g: Array,
    state: dict[str, Array],
    t: int,
    lr: float = 2.5e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Array:
    """Defazio et al. 2024, in the paper's words: z takes the steps, x is the mean of the z, p is y
    between the two. The mean weighs each z by the square of the largest lr until then."""
    z, x = state.get("z", p), state.get("x", p)
    state["v"] = beta2 * state.get("v", 0.0) + (1.0 - beta2) * g * g
    d = g / (np.sqrt(state["v"] / (1.0 - beta2**t)) + eps) + weight_decay * p
    state["lr"] = max(state.get("lr", 0.0), lr)
    state["sum"] = state.get("sum", 0.0) + state["lr"] ** 2
    c = state["lr"] ** 2 / state["sum"] if state["sum"] > 0 else 0.0
    state["z"] = z - lr * d
    state["x"] = (1.0 - c) * x + c * state["z"]
    return (1.0 - beta1) * state["z"] + beta1 * state["x"]


def adadelta(
    p: Array,
    g: Array,
    state: dict[str, Array],
    t: int,
    lr: float = 1.0,
    beta2: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
) -> Array:
    """Zeiler 2012: a step has the unit of p, by the running means of d^2 and g^2."""
    state["v"] = beta2 * state.get("v", 0.0) + (1.0 - beta2) * g * g
    d = np.sqrt(state.get("u", 0.0) + eps) / np.sqrt(state["v"] + eps) * g
    state["u"] = beta2 * state.get("u", 0.0) + (1.0 - beta2) * d * d
    return decay(p, lr, weight_decay) - lr * d


def adamax(
    p: Array,
    g: Array,
    state: dict[str, Array],
    t: int,
    lr: float = 2e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Array:
    """Kingma, Ba 2015, section 7.1: Adam with the largest |g|, fading by beta2, as its divisor."""
    state["m"] = beta1 * state.get("m", np.zeros_like(p)) + (1.0 - beta1) * g
    state["u"] = np.maximum(beta2 * state.get("u", 0.0), np.abs(g) + eps)
    return decay(p, lr, weight_decay) - lr * state["m"] / (1.0 - beta1**t) / state["u"]


def rprop(
    p: Array,
    g: Array,
    state: dict[str, Array],
    t: int,
    lr: float = 0.01,
    shrink: float = 0.5,
    grow: float = 1.2,
    min_step: float = 1e-6,
    max_step: float = 50.0,
) -> Array:
    """Riedmiller, Braun 1993: a step for each element, by the signs of this gradient and the last.
    After a change of sign the element rests, and there is no last gradient."""
    agreement = np.sign(g) * np.sign(state.get("g", np.zeros_like(p)))
    factor = np.choose(agreement.astype(int) + 1, [shrink, 1.0, grow])
    least = min_step if lr > 0 else 0.0
    state["step"] = np.clip(factor * state.get("step", lr), least, max_step)
    state["g"] = np.where(agreement < 0, 0.0, g)
    return p - np.sign(state["g"]) * state["step"]


OPTIMIZERS: dict[str, Callable[..., Array]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
    "amsgrad": amsgrad,
    "nadam": nadam,
    "radam": radam,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "lion": lion,
    "schedule_free_adamw": schedule_free_adamw,
    "adadelta": adadelta,
    "adamax": adamax,
    "rprop": rprop,
}


# ---- around the optimizer --------------------------------------------------------------------


def clip_by_norm(grads: list[Array], limit: float) -> list[Array]:
    """Pascanu et al. 2013: the gradient of all parameters together is no longer than `limit`."""
    norm = np.sqrt(sum(np.sum(g * g) for g in grads))
    return [g * (limit / norm) for g in grads] if norm > limit else grads


def clip_by_value(g: Array, limit: float) -> Array:
    return np.clip(g, -limit, limit)


def penalized(g: Array, w: Array, l1: float = 0.0, l2: float = 0.0) -> Array:
    """The gradient of the loss with sum(l1 |w| + l2 / 2 w^2) added. Never for biases."""
    return g + l1 * np.sign(w) + l2 * w


def max_norm(w: Array, limit: float) -> Array:
    """Srivastava et al. 2014: no column of W (n_in, n_out) is longer than `limit`."""
    norm = np.sqrt((w * w).sum(axis=0))
    return w * np.where(norm > limit, limit / np.maximum(norm, limit), 1.0)


def ema(weights: list[Array], decay: float) -> Array:
    """Exponential moving average of weights after steps 1, 2, ..."""
    a = weights[0]
    for p in weights[1:]:
        a = decay * a + (1.0 - decay) * p
    return a


def swa(weights: list[Array], start: int, every: int = 1) -> Array:
    """Mean of the weights after the steps start, start + every, ...; weights[0] is step 1's."""
    chosen = [p for t, p in enumerate(weights, 1) if t >= start and (t - start) % every == 0]
    return np.mean(chosen, axis=0) if chosen else weights[-1]


# ---- layers, and whole training --------------------------------------------------------------


@dataclass
class Linear:
    """forward keeps x, backward leaves the gradients of the parameters and returns dx."""

    weight: Array  # (n_in, n_out)
    bias: Array | None  # (n_out,)
    weight_state: dict[str, Array] = field(default_factory=dict)
    bias_state: dict[str, Array] = field(default_factory=dict)

    def forward(self, x: Array) -> Array:
        self.x = x
        return linear(x, self.weight, self.bias)

    def backward(self, dy: Array) -> Array:
        dx, self.weight_grad, self.bias_grad = linear_backward(self.x, self.weight, dy)
        return dx


@dataclass
class Activate:
    name: str
    attr: float = 0.0

    def forward(self, z: Array) -> Array:
        self.z = z
        return ACTIVATIONS[self.name].f(z, self.attr)

    def backward(self, dy: Array) -> Array:
        return dy * ACTIVATIONS[self.name].df(self.z, self.attr)


@dataclass
class PReLU:
    """He et al. 2015: slope x where x is not above 0, with a trained slope for each column."""

    slope: Array  # (n,)

    def forward(self, x: Array) -> Array:
        self.x = x
        return np.where(x <= 0, self.slope * x, x)

    def backward(self, dy: Array) -> Array:
        self.slope_grad = (dy * np.where(self.x <= 0, self.x, 0.0)).sum(axis=0)
        return dy * np.where(self.x <= 0, self.slope, 1.0)


@dataclass
class GLU:
    """Dauphin et al. 2017: the first half of the columns times g of the second, the gate."""

    gate: str = "sigmoid"

    def forward(self, x: Array) -> Array:
        self.a, self.b = np.split(x, 2, axis=1)
        return self.a * ACTIVATIONS[self.gate].f(self.b, 0.0)

    def backward(self, dy: Array) -> Array:
        g = ACTIVATIONS[self.gate]
        return np.hstack([dy * g.f(self.b, 0.0), dy * self.a * g.df(self.b, 0.0)])


@dataclass
class Dropout:
    """`masks` gives the mask of each training pass in turn; without it nothing is dropped."""

    p: float
    masks: Iterator[Array] | None = None

    def forward(self, x: Array) -> Array:
        keep_all = np.ones_like(x) * (1.0 - self.p)
        self.mask = keep_all if self.masks is None else next(self.masks)
        return dropout(x, self.mask, self.p)

    def backward(self, dy: Array) -> Array:
        return dropout(dy, self.mask, self.p)


@dataclass
class LayerNorm:
    """Ba et al. 2016: y = xhat scale + shift, xhat = (x - mean) / sqrt(var + eps) along each row.

    backward is the product with the Jacobian of xhat, which for one row is
    (I - 1/n - xhat xhat^T / n) / sqrt(var + eps); where nothing is centered, 1/n is missing."""

    scale: Array | float = 1.0  # (n,)
    shift: Array | float = 0.0  # (n,)
    eps: float = 1e-5
    axis: int = 1
    centers: bool = True

    def forward(self, x: Array) -> Array:
        mean = x.mean(axis=self.axis, keepdims=True) if self.centers else 0.0
        var = ((x - mean) ** 2).mean(axis=self.axis, keepdims=True)
        self.inv_std = 1.0 / np.sqrt(var + self.eps)
        self.xhat = (x - mean) * self.inv_std
        return self.xhat * self.scale + self.shift

    def backward(self, dy: Array) -> Array:
        self.scale_grad, self.shift_grad = (dy * self.xhat).sum(axis=0), dy.sum(axis=0)
        d = dy * self.scale
        along = (d * self.xhat).mean(axis=self.axis, keepdims=True)
        mean = d.mean(axis=self.axis, keepdims=True) if self.centers else 0.0
        return (d - mean - self.xhat * along) * self.inv_std


class RMSNorm(LayerNorm):
    """Zhang, Sennrich 2019: the same without a mean and without a shift."""

    def __init__(self, scale: Array | float = 1.0, eps: float = 1e-5) -> None:
        super().__init__(scale, 0.0, eps, centers=False)


class BatchNorm(LayerNorm):
    """Ioffe, Szegedy 2015: the same along each column; `running` follows the batches, with the
    variance that divides by rows - 1."""

    def __init__(
        self,
        scale: Array | float = 1.0,
        shift: Array | float = 0.0,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__(scale, shift, eps, axis=0)
        self.momentum = momentum
        self.running_mean, self.running_var = 0.0, 1.0

    def forward(self, x: Array) -> Array:
        self.running_mean += self.momentum * (x.mean(axis=0) - self.running_mean)
        self.running_var += self.momentum * (x.var(axis=0, ddof=1) - self.running_var)
        return super().forward(x)


@dataclass
class Standardize:
    """Each column less its mean, by its standard deviation; both are given."""

    mean: Array
    std: Array

    def forward(self, x: Array) -> Array:
        return (x - self.mean) / self.std

    def backward(self, dy: Array) -> Array:
        return dy / self.std


@dataclass
class Residual:
    """He et al. 2016: y = x + f(x), so dx = dy + what comes back through f."""

    layers: list

    def forward(self, x: Array) -> Array:
        return x + forward(self.layers, x)

    def backward(self, dy: Array) -> Array:
        return dy + backward(self.layers, dy)


OPS = {
    "linear": Linear,
    "activation": Activate,
    "glu": GLU,
    "prelu": PReLU,
    "dropout": Dropout,
    "layer_norm": LayerNorm,
    "rms_norm": RMSNorm,
    "batch_norm": BatchNorm,
    "standardize": Standardize,
    "branch": Residual,
    "add": Residual,
}


def forward(layers: list, x: Array) -> Array:
    """Each layer's output is the next one's input."""
    for layer in layers:
        x = layer.forward(x)
    return x


def backward(layers: list, dz: Array) -> Array:
    """The chain rule, from the last layer to the first; returns the gradient by the input."""
    for layer in reversed(layers):
        dz = layer.backward(dz)
    return dz


def update(layers: list, optimizer: str, t: int, **hyper: float) -> None:
    """One optimizer step over all parameters; weights are decayed, biases are not."""
    rule = OPTIMIZERS[optimizer]
    for layer in layers:
        if isinstance(layer, Linear):
            layer.weight = rule(layer.weight, layer.weight_grad, layer.weight_state, t, **hyper)
            if layer.bias is not None:
                free = {**hyper, "weight_decay": 0.0} if "weight_decay" in hyper else hyper
                layer.bias = rule(layer.bias, layer.bias_grad, layer.bias_state, t, **free)


def train(
    layers: list,
    batches: Iterable[tuple[Array, Array]],
    loss: str,
    optimizer: str,
    **hyper: float,
) -> list[float]:
    """The loop of the lecture, one step for each (x, y); returns the loss before each step."""
    losses = []
    for t, (x, y) in enumerate(batches, start=1):
        z = forward(layers, np.asarray(x, np.float64))
        value, dz = LOSSES[loss](z, y)
        backward(layers, dz)
        update(layers, optimizer, t, **hyper)
        losses.append(value)
    return losses

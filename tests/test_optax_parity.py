"""The optimizers that PyTorch does not have, clipping and warm-up, as optax has them: in float64,
1e-10 over a hundred steps.
"""

import numpy as np
import pytest
from helpers import copies, gradients, inputs, linears, parameters, randomize, relative_error

from fastmlp import (
    SGD,
    Adam,
    CosineDecay,
    Linear,
    LinearWarmup,
    Lion,
    ScheduleFreeAdamW,
    Sequential,
    Tanh,
    squared_error,
)

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

STEPS, TOLERANCE = 100, 1e-10
X, Y = inputs(23, 9), inputs(23, 4, seed=1)


@pytest.fixture(autouse=True)
def _float64():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def weights_only(params):
    return [p.ndim == 2 for p in params]


def masked(make):
    """An optax optimizer whose decay spares the biases, as ours does."""
    return optax.with_extra_args_support(
        optax.multi_transform(
            {True: make(0.1), False: make(0.0)},
            lambda params: [p.ndim == 2 for p in params],
        )
    )


def exactly(schedule):
    """Their schedules divide 32-bit step numbers in float32; not if the number is a float64."""
    return lambda count: schedule(count.astype("float64"))


CASES = {
    "lion": (lambda: Lion(lr=0.003), lambda: optax.lion(0.003, 0.9, 0.99, weight_decay=0.0)),
    "lion-decay": (
        lambda: Lion(lr=0.003, beta1=0.8, beta2=0.95, weight_decay=0.1),
        lambda: optax.lion(0.003, 0.8, 0.95, weight_decay=0.1, mask=weights_only),
    ),
    "schedule-free": (
        lambda: ScheduleFreeAdamW(lr=0.01),
        lambda: optax.contrib.schedule_free_adamw(0.01),
    ),
    "schedule-free-decay": (
        lambda: ScheduleFreeAdamW(lr=0.01, beta1=0.8, beta2=0.9, weight_decay=0.1),
        lambda: masked(
            lambda decay: optax.contrib.schedule_free_adamw(
                0.01, b1=0.8, b2=0.9, weight_decay=decay
            )
        ),
    ),
    "clip_norm": (
        lambda: Adam(lr=0.01, clip_norm=0.05),
        lambda: optax.chain(optax.clip_by_global_norm(0.05), optax.adam(0.01)),
    ),
    "clip_value": (
        lambda: SGD(lr=0.1, clip_value=0.01),
        lambda: optax.chain(optax.clip(0.01), optax.sgd(0.1)),
    ),
    "warm-up and cosine": (
        lambda: SGD(lr=CosineDecay(0.1, steps=80, final=0.01, warmup=9)),
        lambda: optax.sgd(
            exactly(optax.warmup_cosine_decay_schedule(0.01, 0.1, 9, 80, end_value=0.01))
        ),
    ),
    "warm-up": (
        lambda: Adam(lr=LinearWarmup(0.01, warmup=19)),
        lambda: optax.adam(exactly(optax.linear_schedule(0.0005, 0.01, 19))),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_hundred_steps(name):
    make_ours, make_theirs = CASES[name]
    optimizer, theirs = make_ours(), make_theirs()
    net = Sequential([Linear(9, 13), Tanh(), Linear(13, 4)], dtype="float64")
    randomize(net)
    params = [jax.numpy.asarray(p) for p in copies(parameters(net))]
    state = theirs.init(params)
    start = net.params.copy()
    step = jax.jit(theirs.update)
    for _ in range(STEPS):
        _, dz = squared_error(net.forward(X, training=True), Y)
        net.backward(dz)
        net.update(optimizer)
        grads = jax.grad(loss_of)(params)
        updates, state = step(grads, state, params)
        params = optax.apply_updates(params, updates)
        for got, want in zip(parameters(net), params, strict=True):
            assert relative_error(got, np.asarray(want)) <= TOLERANCE
    assert relative_error(net.params, start) > 0.01
    if name == "schedule-free":
        averaged = optax.contrib.schedule_free_eval_params(state, params)
        with net.averaged():
            for got, want in zip(parameters(net), averaged, strict=True):
                assert relative_error(got, np.asarray(want)) <= TOLERANCE


def loss_of(params):
    w1, b1, w2, b2 = params
    out = jax.numpy.tanh(X @ w1 + b1) @ w2 + b2
    return ((out - Y) ** 2).mean()


def test_the_gradients_are_the_same_to_begin_with():
    net = Sequential([Linear(9, 13), Tanh(), Linear(13, 4)], dtype="float64")
    randomize(net)
    _, dz = squared_error(net.forward(X, training=True), Y)
    net.backward(dz)
    assert len(linears(net)) == 2
    grads = jax.grad(loss_of)([jax.numpy.asarray(p) for p in copies(parameters(net))])
    for got, want in zip(gradients(net), grads, strict=True):
        assert relative_error(got, np.asarray(want)) <= 1e-13

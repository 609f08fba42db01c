"""JAX: one jit-compiled step with donated buffers, Adam by hand."""

from functools import partial

import jax
import jax.numpy as jnp
from shapes import BETA1, BETA2, EPSILON, LEARNING_RATE, Problem

_ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh}


def _cross_entropy(params, x, y, activation):
    for weight, bias in params[:-1]:
        x = activation(x @ weight + bias)
    weight, bias = params[-1]
    z = x @ weight + bias
    picked = jnp.take_along_axis(z, y[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(z, axis=1) - picked)


@partial(jax.jit, static_argnames="activation", donate_argnames=("params", "m", "v", "t"))
def _step(params, m, v, t, x, y, activation):
    grads = jax.grad(_cross_entropy)(params, x, y, activation)
    t = t + 1
    m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, grads)
    v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, grads)
    size = LEARNING_RATE / (1 - BETA1**t)
    scale = 1 / jnp.sqrt(1 - BETA2**t)
    params = jax.tree.map(
        lambda p, m, v: p - size * m / (jnp.sqrt(v) * scale + EPSILON), params, m, v
    )
    return params, m, v, t


class Peer:
    version = jax.__version__

    def __init__(self, problem: Problem, threads: int) -> None:
        # The number of threads comes from the CPU affinity, which the worker has set.
        self.activation = _ACTIVATIONS[problem.shape.activation]
        params = [
            (jnp.array(w), jnp.array(b))
            for w, b in zip(problem.weights, problem.biases, strict=True)
        ]
        m, v = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
        self.state = params, m, v, jnp.zeros((), jnp.float32)
        self.batches = [(jnp.array(x), jnp.array(y)) for x, y in problem.batches()]

    def run(self, steps: int) -> None:
        n = len(self.batches)
        for i in range(steps):
            self.state = _step(*self.state, *self.batches[i % n], activation=self.activation)
        jax.block_until_ready(self.state)

    def loss(self) -> float:
        return float(_cross_entropy(self.state[0], *self.batches[-1], self.activation))

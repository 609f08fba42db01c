"""NumPy: the step as one would write it by hand. In float64 it is the reference for the losses."""

import numpy as np
from numpy.typing import NDArray
from shapes import BETA1, BETA2, EPSILON, LEARNING_RATE, Problem

Array = NDArray[np.floating]


class Peer:
    version = np.__version__
    dtype = np.dtype(np.float32)

    def __init__(self, problem: Problem, threads: int) -> None:
        # The number of threads is the BLAS's, which the worker's environment has set.
        self.relu = problem.shape.activation == "relu"
        self.weights = [w.astype(self.dtype) for w in problem.weights]
        self.biases = [b.astype(self.dtype) for b in problem.biases]
        self.params = self.weights + self.biases
        self.m, self.v = ([np.zeros_like(p) for p in self.params] for _ in range(2))
        self.t = 0
        self.batches = [(x.astype(self.dtype), y) for x, y in problem.batches()]

    def run(self, steps: int) -> None:
        n = len(self.batches)
        for i in range(steps):
            x, y = self.batches[i % n]
            self._update(self._backward(self._forward(x), y))

    def loss(self) -> float:
        x, y = self.batches[-1]
        z = self._forward(x)[-1]
        z = z - z.max(axis=1, keepdims=True)
        return float(np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y]))

    def _forward(self, x: Array) -> list[Array]:
        """Input, activations of the hidden layers, logits."""
        outputs = [x]
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x @ weight
            x += bias
            if i + 1 < len(self.weights):
                x = np.maximum(x, 0, out=x) if self.relu else np.tanh(x, out=x)
            outputs.append(x)
        return outputs

    def _backward(self, outputs: list[Array], y: NDArray[np.int64]) -> list[Array]:
        """Gradients by weights, then by biases."""
        z = outputs[-1]
        dz = np.exp(z - z.max(axis=1, keepdims=True))
        dz /= dz.sum(axis=1, keepdims=True)
        dz[np.arange(len(y)), y] -= 1
        dz /= len(y)
        weight_grads, bias_grads = [], []
        for i in reversed(range(len(self.weights))):
            x = outputs[i]
            weight_grads.append(x.T @ dz)
            bias_grads.append(dz.sum(axis=0))
            if i:
                dz = dz @ self.weights[i].T
                dz *= x > 0 if self.relu else 1 - x * x
        return weight_grads[::-1] + bias_grads[::-1]

    def _update(self, grads: list[Array]) -> None:
        """Adam."""
        self.t += 1
        size = LEARNING_RATE / (1 - BETA1**self.t)
        scale = 1 / np.sqrt(1 - BETA2**self.t)
        for p, m, v, g in zip(self.params, self.m, self.v, grads, strict=True):
            m *= BETA1
            m += (1 - BETA1) * g
            v *= BETA2
            v += (1 - BETA2) * g * g
            p -= size * m / (np.sqrt(v) * self.dtype.type(scale) + EPSILON)


class ReferencePeer(Peer):
    """The same in float64."""

    dtype = np.dtype(np.float64)

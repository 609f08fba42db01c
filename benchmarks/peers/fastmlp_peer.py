"""fastmlp: steps inside `fit` on a resident data set, or one `train_step` call each."""

from shapes import BETA1, BETA2, EPSILON, LEARNING_RATE, Problem

import fastmlp
from fastmlp import Adam, Linear, ReLU, Sequential, Tanh

from . import cycles

_ACTIVATIONS = {"relu": ReLU, "tanh": Tanh}


class Peer:
    def __init__(self, problem: Problem, threads: int) -> None:
        config = fastmlp.get_config()
        self.version = config["version"]
        self.info = {k: config[k] for k in ("compiler", "kernels", "gemm", "blas", "blas_core")}
        self.problem, self.batch = problem, problem.shape.batch
        layers = []
        for weight in problem.weights:
            layers += [Linear(*weight.shape), _ACTIVATIONS[problem.shape.activation]()]
        self.net = Sequential(layers[:-1])
        for layer, weight, bias in zip(
            self.net.layers[::2], problem.weights, problem.biases, strict=True
        ):
            layer.weight[:], layer.bias[:] = weight, bias
        self.settings = {
            "loss": "cross_entropy",
            "optimizer": Adam(lr=LEARNING_RATE, beta1=BETA1, beta2=BETA2, eps=EPSILON),
            "threads": threads,
        }

    def run(self, steps: int) -> None:
        for passes, n in cycles(steps, self.problem.shape.n_batches):
            rows = slice(n * self.batch)
            self.net.fit(
                self.problem.X[rows],
                self.problem.y[rows],
                batch_size=self.batch,
                epochs=passes,
                shuffle=False,
                **self.settings,
            )

    def loss(self) -> float:
        x, y = self.problem.held_out()
        return self.net.evaluate(x, y)["loss"]


class TrainStepPeer(Peer):
    """One Python call a step."""

    def __init__(self, problem: Problem, threads: int) -> None:
        super().__init__(problem, threads)
        self.batches = problem.batches()

    def run(self, steps: int) -> None:
        n = len(self.batches)
        for i in range(steps):
            self.net.train_step(*self.batches[i % n], **self.settings)

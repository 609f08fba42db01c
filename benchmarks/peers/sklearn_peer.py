"""scikit-learn: `MLPClassifier.partial_fit`, a whole pass over the mini-batches a call."""

import numpy as np
import sklearn
from shapes import BETA1, BETA2, EPSILON, LEARNING_RATE, Problem
from sklearn.neural_network import MLPClassifier

from . import cycles


class Peer:
    version = sklearn.__version__

    def __init__(self, problem: Problem, threads: int) -> None:
        # The number of threads is NumPy's BLAS's, which the worker's environment has set.
        shape = problem.shape
        n_classes = shape.widths[-1]
        self.problem, self.y = problem, problem.y
        if n_classes == 2:  # it would make one logistic output of integers: columns keep both
            self.y = np.eye(n_classes, dtype=np.int64)[problem.y]
        self.net = MLPClassifier(
            hidden_layer_sizes=shape.widths[1:-1],
            activation=shape.activation,
            solver="adam",
            alpha=0,
            batch_size=shape.batch,
            learning_rate_init=LEARNING_RATE,
            beta_1=BETA1,
            beta_2=BETA2,
            epsilon=EPSILON,
            shuffle=False,
        )
        rows = slice(shape.batch)
        self.net.partial_fit(problem.X[rows], self.y[rows], classes=np.arange(n_classes))
        self.net.out_activation_ = "softmax"  # two columns are two logistic outputs otherwise
        for own, given in zip(self.net.coefs_, problem.weights, strict=True):
            own[:] = given
        for own, given in zip(self.net.intercepts_, problem.biases, strict=True):
            own[:] = given
        del self.net._optimizer  # that step's moments; the next call begins anew

    def run(self, steps: int) -> None:
        for passes, n in cycles(steps, self.problem.shape.n_batches):
            rows = slice(n * self.problem.shape.batch)
            for _ in range(passes):
                self.net.partial_fit(self.problem.X[rows], self.y[rows])

    def loss(self) -> float:
        x, y = self.problem.held_out()
        probability = self.net.predict_proba(x)[np.arange(len(y)), y]
        return float(-np.log(probability).mean(dtype=np.float64))

"""Logistic and softmax regression: the lecture's "Logistic regression" and "Softmax regression".

    model = LogisticRegression().fit(X, y)       # y: any two labels
    model.predict(X_new), model.predict_proba(X_new)

Both minimize a cost summed over the rows, in which the intercept is not penalized:

    -log p(y | x, theta) + l1 |coefficients|_1 + l2 / 2 |coefficients|^2

scikit-learn's C is 1 / (l1 + l2), and its l1_ratio is l1 / (l1 + l2). Without penalties this is
maximum likelihood. Sample weights are frequency weights: a row of weight 2 counts as two rows, in
the standard errors too, and a row of weight 0 is left out.
"""

from __future__ import annotations  # signatures that can be read

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..ground.arrays import Array, Matrix
from ..ground.checks import check_count, check_number
from ..ground.conversion import Weights
from ..ground.errors import ConvergenceWarning, warn
from ..ground.lapack import interruptible
from ..layers import Linear
from ..losses import CrossEntropy, probabilities
from ..losses.targets import encode_labels
from ..optimizers import SGD
from ..sample_weights import class_weights, combined
from ..schedules import CosineDecay
from ..sequential import Sequential
from ..training.run import History
from .estimator import Estimator, accuracy_score, check_choice, inputs, used_rows
from .softmax_cost import SoftmaxCost, minimize_lbfgs, minimize_newton
from .sparse_classes import minimize_sparse

_FAR = 0.01  # sgd warns if its end is farther above the minimum than this share of the cost
_SOLVERS = ("auto", "newton", "lbfgs", "sgd")
_OF_A_SOLVER = ("_spread", "_covariance", "n_steps_", "history_")
# "auto" is newton up to this number of parameters, (n_in + 1) (n_classes - 1); ...
_SMALL = 100
_EXACT = 500  # ... up to this one if l2 = 0: only newton always detects a missing minimum
_NO_HESSIAN = 'standard errors need the Hessian; fit with solver="newton"'


class Classifier(Estimator):
    """Base of logistic and softmax regression: labels, solvers and probabilities.

    l2: the penalty l2 / 2 |coefficients|^2, at least 0.
    l1: the penalty l1 |coefficients|_1, at least 0. l1 > 0 makes coefficients exactly 0, by newton
        steps whose model keeps the penalty ("auto" and "newton" mean these, at any size). There are
        then no standard errors.
    solver: how the cost is minimized.
        "newton": iteratively reweighted least squares, with the exact Hessian; a step is halved
        while the cost rises. Only newton gives standard errors, computed at the first access.
        "lbfgs": for many features. Time and memory are proportional to their number; newton's grow
        with its third power and its square.
        "sgd": mini-batches through `Sequential`. Prefer another solver if you need many digits.
        "auto": newton if (n_in + 1) (n_classes - 1) is at most 100 (500 if l2 = 0), and otherwise
        lbfgs.
    fit_intercept: whether there is an intercept, which is not penalized.
    tol: newton ends when no logit changes by more than `tol`. lbfgs ends when no element of the
        gradient of the mean cost exceeds `tol` and no step promises to lower that cost by more than
        tol^2.
    max_steps: the most steps of newton and lbfgs. If they are not enough, a ConvergenceWarning is
        given.
    lr: the learning rate of sgd. It falls from `lr` to 0 along half a cosine. If one batch has all
        rows, it stays constant, because the gradient has no noise.
    momentum: the Nesterov momentum of sgd.
    batch_size: the rows in a mini-batch of sgd.
    epochs: the number of epochs of sgd, which always runs all of them. It ends near the minimum if
        the columns of X are standardized. If gradient and Hessian show that the cost is more than
        1% above its minimum, it warns with ConvergenceWarning.
    seed: the seed of sgd.
    class_weight: {label: weight}, with weight 1 for the other labels, or "balanced". "balanced" is
        rows / (classes times rows of the class), as in scikit-learn; each row counts as its
        sample_weight. Class and sample weights are multiplied.
    """

    _estimator_type = "classifier"
    _binary: ClassVar[bool]  # whether the model has one logit, with a sigmoid
    classes_: Array
    coef_: Matrix
    intercept_: float | Matrix
    _spread: tuple[Matrix, Matrix, Matrix]
    _covariance: Matrix

    def __init__(
        self,
        l2: float = 0.0,
        *,
        l1: float = 0.0,
        solver: str = "auto",
        fit_intercept: bool = True,
        tol: float = 1e-8,
        max_steps: int = 1000,
        lr: float = 0.1,
        momentum: float = 0.9,
        batch_size: int = 32,
        epochs: int = 100,
        seed: int = 0,
        class_weight: str | Mapping[Any, float] | None = None,
    ) -> None:
        self.class_weight = class_weight
        self.l1, self.l2, self.solver, self.fit_intercept = l1, l2, solver, fit_intercept
        self.tol, self.max_steps = tol, max_steps
        self.lr, self.momentum, self.seed = lr, momentum, seed
        self.batch_size, self.epochs = batch_size, epochs

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the coefficients to X and y.

        X: the inputs, (rows, n_in).
        y: the labels, (rows,): integers, booleans or strings.
        sample_weight: (rows,), how often each row counts.

        Raises ValueError for invalid settings, NaN, shapes that do not match, and too few or too
        many classes. For l2 = 0, newton and lbfgs also raise it if there is no finite minimum or no
        single one: the classes can be separated, or columns of X depend on each other. lbfgs
        notices complete separation only.
        """
        l1, l2 = self._penalties()
        tol = check_number(self.tol, "tol", positive=True)
        max_steps = check_count(self.max_steps, "max_steps")
        matrix, classes, labels, weights = self._data(X, y, sample_weight)
        contrast = self._contrast(classes)
        for name in _OF_A_SOLVER:  # drop the results of an earlier fit with another solver
            vars(self).pop(name, None)
        if l1 > 0 and not self._binary:
            contrast = np.eye(len(classes))  # the l1 of each class is separate
        cost = SoftmaxCost(matrix, labels, contrast, l2, bool(self.fit_intercept), weights)
        solver = self._solver(cost.zero.size, l2)
        if solver == "sgd":
            theta = self._fit_sgd(matrix - cost.mean, labels, weights, len(classes), l2)
            if self.fit_intercept:
                theta[0] -= cost.mean @ theta[1:]
            self._warn_if_far(cost, cost.phi(theta))
        else:
            if l1 > 0:
                phi, self.n_steps_ = minimize_sparse(cost, l1, tol, max_steps)
            else:
                minimize = minimize_newton if solver == "newton" else minimize_lbfgs
                phi, self.n_steps_ = minimize(cost, tol, max_steps)
                if solver == "newton":
                    self._spread = *cost.spread(phi), contrast
            theta = cost.theta(phi)
        first = int(bool(self.fit_intercept))
        intercept = theta[0] if first else np.zeros(len(classes))
        self.classes_ = classes
        self._learn(theta[first:], intercept)
        self.n_in_ = matrix.shape[1]
        self._learn_names(X)
        return self

    def _penalties(self) -> tuple[float, float]:
        """Return l1 and l2; raises ValueError if the solver cannot take them."""
        check_choice(self.solver, "solver", _SOLVERS)
        l1, l2 = check_number(self.l1, "l1"), check_number(self.l2, "l2")
        if l1 > 0 and self.solver in ("lbfgs", "sgd"):
            raise ValueError(
                f"solver={self.solver!r} has no exact zeros, so it takes no l1; leave the solver "
                'out, or use "newton"'
            )
        return l1, l2

    def _solver(self, n_params: int, l2: float) -> str:
        """Return the solver that "auto" stands for, or the chosen one."""
        if self.solver != "auto":
            return self.solver
        return "newton" if n_params <= (_SMALL if l2 > 0 else _EXACT) else "lbfgs"

    def _phi_covariance(self) -> Matrix:
        """Return the inverse Hessian of phi for [1, X], (p, q, p, q), computed at the first call.

        Raises ValueError if the solver was not newton.
        """
        if not hasattr(self, "_spread"):
            raise ValueError(_NO_HESSIAN)
        if not hasattr(self, "_covariance"):
            hessian, back, contrast = self._spread
            p, q = len(back), contrast.shape[1]
            C = interruptible(np.linalg.inv, hessian).reshape(p, q, p, q)
            self._covariance = np.einsum("ai,ijkl,bk->ajbl", back, C, back, optimize=True)
        return self._covariance

    def decision_function(self, X: ArrayLike) -> Matrix:
        """Return the logits X coef_ + intercept_ for X (rows, n_in).

        They are (rows,) for LogisticRegression and (rows, n_classes) for SoftmaxRegression. Raises
        ValueError before `fit`, for other columns than in `fit`, and for NaN and infinity.
        """
        return np.asarray(self._new_inputs(X) @ self.coef_ + self.intercept_)

    def predict(self, X: ArrayLike) -> Array:
        """Return the most probable label of each row of X (rows, n_in): (rows,).

        Raises ValueError as `decision_function` does.
        """
        places = self._logits(X).argmax(axis=1)
        return np.asarray(self.classes_[places])

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the accuracy: the share of rows whose label `predict` returns.

        X: the inputs, (rows, n_in).
        y: the labels, (rows,).
        sample_weight: (rows,), how often each row counts.

        Raises ValueError as `predict` does, and for shapes that do not match.
        """
        return accuracy_score(y, self.predict(X), sample_weight)

    def predict_proba(self, X: ArrayLike) -> Matrix:
        """Return the probabilities of X (rows, n_in): (rows, n_classes), ordered as `classes_`.

        Raises ValueError as `decision_function` does.
        """
        return probabilities("cross_entropy", self._logits(X))

    def _contrast(self, classes: Array) -> Matrix:
        """Return B (n_classes, q), with which the logits are X phi B^T."""
        raise NotImplementedError

    def _learn(self, coef: Matrix, intercept: Matrix) -> None:
        """Store coef (n_in, n_classes) and intercept (n_classes,)."""
        raise NotImplementedError

    def _logits(self, X: ArrayLike) -> Matrix:
        """Return one logit per class, (rows, n_classes)."""
        raise NotImplementedError

    def _data(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None
    ) -> tuple[Matrix, Array, NDArray[np.int64], Weights | None]:
        """Return X, the classes, labels 0, 1, .. and weights, without the rows of weight 0."""
        matrix = inputs(X)
        classes, labels = encode_labels(y, len(matrix))
        weights = None
        if (counted := used_rows(sample_weight, len(matrix))) is not None:
            used, weights = counted
            matrix = matrix[used]
            classes, labels = encode_labels(classes[labels[used]], len(used))
        if (own := self.class_weight) is not None:
            if isinstance(own, Mapping):
                own = _by_index(own, classes)
            rows = np.arange(len(labels))
            by_class = class_weights(own, CrossEntropy(), labels, rows, len(classes), weights)
            weights = combined(weights, by_class)
        return matrix, classes, labels, weights

    def _fit_sgd(
        self,
        X: Matrix,
        labels: NDArray[np.int64],
        weights: Weights | None,
        n_classes: int,
        l2: float,
    ) -> Matrix:
        """Train one Linear layer, from zero, on the mean cost.

        l2 is divided by the sum of the weights, and the weights by their mean: the length of a step
        must not depend on their unit. X is centered, because columns far from zero would be nearly
        parallel to the column of ones.
        """
        binary, n = self._binary, len(X)
        mean = 1.0
        if weights is not None:
            mean = float(weights.mean())
            weights = weights / mean
        batch_size = check_count(self.batch_size, "batch_size")
        epochs = check_count(self.epochs, "epochs")
        steps = epochs * -(-n // batch_size)
        n_out = 1 if binary else n_classes
        layer = Linear(X.shape[1], n_out, init="zeros", bias=bool(self.fit_intercept))
        net = Sequential([layer], seed=self.seed, dtype="float64")
        net._gives_hints = False  # the classifier gives its own warning
        self.history_: History = net.fit(
            X,
            labels.astype(np.float64) if binary else labels,
            loss="binary_cross_entropy" if binary else "cross_entropy",
            optimizer=SGD(
                lr=self.lr if batch_size >= n else CosineDecay(self.lr, steps),
                momentum=self.momentum,
                nesterov=self.momentum != 0,
                l2=l2 / (n * mean),
            ),
            batch_size=batch_size,
            epochs=epochs,
            sample_weight=weights,
        )
        theta = layer.weight if layer.bias is None else np.vstack([layer.bias, layer.weight])
        return np.column_stack([np.zeros(len(theta)), theta]) if binary else theta.copy()

    def _warn_if_far(self, cost: SoftmaxCost, phi: Matrix) -> None:
        with np.errstate(all="ignore"):  # weights may have grown without bound
            distance, value = cost.distance(phi), cost.value(phi)
        if not (math.isfinite(value) and distance <= _FAR * value):
            warn(
                f"sgd ended far from the minimum after epochs={self.epochs}; standardize the "
                f"columns of X, allow more epochs, change lr={self.lr:g} (lower it where history_ "
                'is not calm), use l2 > 0, or take solver="newton"',
                ConvergenceWarning,
            )


class LogisticRegression(Classifier):
    """Logistic regression for two classes, p(y = 1 | x) = sigmoid(x theta).

    The lecture, "Logistic regression". Class 1 is the second of `classes_`. It minimizes

        sum over the rows of -log p(y | x, theta), plus l1 |coef_|_1 + l2 / 2 |coef_|^2

    l2: the penalty of the squares, at least 0; 0 is maximum likelihood.
    l1: the penalty of the absolute values, at least 0; above 0 it makes coefficients exactly 0.
    solver: "newton" (exact Hessian), "lbfgs" (for many features), "sgd" (mini-batches), or "auto":
        newton if (n_in + 1) (n_classes - 1) is at most 100 (500 if l2 = 0), and otherwise lbfgs.
        Details are in `Classifier`.
    fit_intercept: whether there is an intercept, which is not penalized.
    tol: the tolerance of newton (change of a logit) and lbfgs (gradient of the mean cost).
    max_steps: the most steps of newton and lbfgs.
    lr: the learning rate of sgd, which falls from `lr` to 0 along half a cosine.
    momentum: the Nesterov momentum of sgd.
    batch_size: the rows in a mini-batch of sgd.
    epochs: the number of epochs of sgd.
    seed: the seed of sgd.
    class_weight: {label: weight}, or "balanced": rows / (classes times rows of the class).

    Learned by `fit`:

    classes_: the two labels, sorted.
    coef_: (n_in,).
    intercept_: a float; 0 without an intercept.
    n_steps_: the number of steps; after newton and lbfgs.
    history_: the `History` of the training; after sgd.
    covariance_: (p, p), the inverse Hessian (X^T S X + l2 I)^-1 of theta, intercept first; after
        newton with l1 = 0.
    coef_std_, intercept_std_: the square roots of its diagonal: for l2 = 0 the usual standard
        errors, for l2 > 0 those of the Laplace approximation.
    """

    _binary = True

    def _contrast(self, classes: Array) -> Matrix:
        if len(classes) != 2:
            raise ValueError(f"y holds {len(classes)} classes; use SoftmaxRegression for them")
        return np.array([[0.0], [1.0]])

    def _learn(self, coef: Matrix, intercept: Matrix) -> None:
        self.coef_, self.intercept_ = coef[:, 1].copy(), float(intercept[1])

    @property
    def covariance_(self) -> Matrix:
        """The covariance of theta, (p, p), intercept first.

        Raises AttributeError unless newton was the solver, with l1 = 0.
        """
        try:
            return np.asarray(self._phi_covariance()[:, 0, :, 0])
        except ValueError as error:
            raise AttributeError(str(error)) from None

    @property
    def coef_std_(self) -> Matrix:
        """The standard errors of coef_, (n_in,); raises AttributeError as `covariance_` does."""
        return np.sqrt(self.covariance_.diagonal())[int(bool(self.fit_intercept)) :]

    @property
    def intercept_std_(self) -> float:
        """The standard error of intercept_; 0 without an intercept."""
        return float(np.sqrt(self.covariance_[0, 0])) if self.fit_intercept else 0.0

    def _logits(self, X: ArrayLike) -> Matrix:
        z = self.decision_function(X)
        return np.column_stack([np.zeros(len(z)), z])


class SoftmaxRegression(Classifier):
    """Softmax regression for two classes or more, p(y = c | x) = softmax_c(x theta).

    The lecture, "Softmax regression". It minimizes

        sum over the rows of -log p(y | x, theta), plus l1 |coef_|_1 + l2 / 2 |coef_|^2

    The same shift of all theta_c changes no probability. Of all equal solutions, `fit` takes the
    one whose coefficients, and intercepts, sum to zero over the classes. So with two classes,
    theta_1 - theta_0 is the theta of logistic regression with half the l2.

    The settings are those of `LogisticRegression`.

    Learned by `fit`:

    classes_: the labels, sorted.
    coef_: (n_in, n_classes).
    intercept_: (n_classes,).
    n_steps_: the number of steps; after newton and lbfgs.
    history_: the `History` of the training; after sgd.
    """

    _binary = False

    def _contrast(self, classes: Array) -> Matrix:
        n = len(classes)  # orthonormal columns, orthogonal to (1, .., 1)
        q, _ = np.linalg.qr(np.column_stack([np.ones(n), np.eye(n)[:, : n - 1]]))
        return np.ascontiguousarray(q[:, 1:])

    def _learn(self, coef: Matrix, intercept: Matrix) -> None:
        self.coef_, self.intercept_ = coef, intercept

    def log_odds(self, reference: Any) -> tuple[Matrix, Matrix]:
        """Return theta_c - theta_reference for each class c, and the standard errors.

        Both are (p, n_classes), with the intercept, if any, first. Statistics packages print these.

        reference: the label of the reference class.

        Raises ValueError unless newton was the solver, with l1 = 0, and for a label that is none of
        `classes_`.
        """
        self._check_fitted()
        covariance = self._phi_covariance()
        place = np.flatnonzero(self.classes_ == reference)
        if len(place) != 1:
            raise ValueError(f"{reference!r} is none of the classes {self.classes_.tolist()}")
        contrast = self._spread[2]
        theta = np.vstack([self.intercept_, self.coef_]) if self.fit_intercept else self.coef_
        apart = contrast - contrast[place]
        variance = np.einsum("cj,ajak,ck->ac", apart, covariance, apart)
        return theta - theta[:, place], np.sqrt(variance)

    def _logits(self, X: ArrayLike) -> Matrix:
        return self.decision_function(X)


def _by_index(by_label: Mapping[Any, float], classes: Array) -> dict[int, float]:
    """Return {index of a class: weight}; raises ValueError for unknown labels and bad weights."""
    known = classes.tolist()
    strange = [label for label in by_label if label not in known]
    if strange:
        raise ValueError(f"class_weight names {strange[0]!r}, but y holds {known}")
    return {
        known.index(label): check_number(weight, f"class_weight of {label!r}", positive=True)
        for label, weight in by_label.items()
    }

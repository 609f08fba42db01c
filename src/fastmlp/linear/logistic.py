"""Logistic and softmax regression: the lecture's "Logistic regression" and "Softmax regression".

    model = LogisticRegression().fit(X, y)       # y: any two labels
    model.predict(X_new), model.predict_proba(X_new)

Both minimise, summed over the rows, -log p(y | x, theta) + l1 |coefficients|_1 + l2 / 2
|coefficients|^2; the intercept is not penalised. scikit-learn's C is 1 / (l1 + l2), its l1_ratio
l1 / (l1 + l2); l2 = 0 is maximum likelihood. A row of weight 2 counts
as if it stood there twice, in the standard errors too (frequency weights), one of weight 0 as none.
"""

from __future__ import annotations  # signatures that can be read

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..ground.arrays import Array, Matrix
from ..ground.checks import check_count, check_number
from ..ground.errors import ConvergenceWarning, warn
from ..layers import Linear
from ..losses import CrossEntropy, probabilities
from ..losses.targets import encode_labels
from ..optimizers import SGD
from ..sample_weights import Weights, class_weights, combined
from ..schedules import CosineDecay
from ..sequential import Sequential
from ..training.run import History
from .estimator import Estimator, check_choice, inputs, used_rows
from .softmax_cost import SoftmaxCost, minimize_lbfgs, minimize_newton
from .sparse_classes import minimize_sparse

_FAR = 0.01  # above the minimum, as a share of the cost
_SOLVERS = ("auto", "newton", "lbfgs", "sgd")
_OF_A_SOLVER = ("_spread", "_covariance", "n_steps_", "history_")
_SMALL = 100  # parameters of a class times classes less one, up to which "auto" is newton ...
_EXACT = 500  # ... and without penalties, where newton alone tells whether there is a minimum
_NO_HESSIAN = 'standard errors need the Hessian; fit with solver="newton"'


class Classifier(Estimator):
    """Base of the two: labels, solvers, and the probabilities.

    solver: "newton" (iteratively reweighted least squares: exact Hessian, the step halved while the
    cost rises), "lbfgs" (for many features: time and memory grow with their number, not its third
    power and square), "sgd" (mini-batches through `Sequential`: `lr`, `momentum`, `batch_size`,
    `epochs` and `seed` are its own), or "auto": newton where (n_in + 1) (n_classes - 1) is at most
    100, with l2 = 0 at most 500, else lbfgs. newton ends when no logit changes by more than `tol`,
    lbfgs when no element of the gradient of the mean cost exceeds it and no step promises to lower
    that cost by more than its square; both take at most `max_steps` steps and warn with
    ConvergenceWarning if those are not enough. What was learned from the Hessian, standard errors
    for instance, is there after newton alone, and computed when it is asked for.

    l1 > 0 makes coefficients exactly 0, by newton steps whose model keeps the penalty ("auto" and
    "newton" mean these for any size). There are then no standard errors.

    sgd has Nesterov momentum, and a rate that falls from `lr` to 0 along half a cosine; with all
    rows in one batch, whose gradient has no noise, the rate stays. It ends after `epochs`, near the
    minimum where columns are standardised, and warns with ConvergenceWarning where gradient and
    Hessian say that the cost is more than 1% above it. Take one of the others where digits count.

    class_weight: {label: weight}, 1 for labels that it lacks, or "balanced": rows / (classes times
    rows of the class), every row counting as its sample_weight, as in scikit-learn; both multiply.
    """

    _binary: ClassVar[bool]  # whether SGD trains one logit with a sigmoid
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
        """Learn from X (rows, n_in) and labels y (rows,): integers, booleans or strings; rows count
        sample_weight (rows,) times.

        Raises ValueError for bad settings, NaN, shapes that do not fit, too few or too many
        classes; for l2 = 0, with newton and lbfgs, also where classes can be separated or columns
        of X depend on each other, for then there is no finite or no single minimum (lbfgs notices
        complete separation only).
        """
        l1, l2 = self._penalties()
        tol = check_number(self.tol, "tol", positive=True)
        max_steps = check_count(self.max_steps, "max_steps")
        matrix, classes, labels, weights = self._data(X, y, sample_weight)
        contrast = self._contrast(classes)
        for name in _OF_A_SOLVER:  # what another one has learned is not true of this fit
            vars(self).pop(name, None)
        if l1 > 0 and not self._binary:
            contrast = np.eye(len(classes))  # each class has a penalty of its own
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
        """l1 and l2; ValueError for those that the solver cannot take."""
        check_choice(self.solver, "solver", _SOLVERS)
        l1, l2 = check_number(self.l1, "l1"), check_number(self.l2, "l2")
        if l1 > 0 and self.solver in ("lbfgs", "sgd"):
            raise ValueError(
                f"solver={self.solver!r} has no exact zeros, so it takes no l1; leave the solver "
                'out, or use "newton"'
            )
        return l1, l2

    def _solver(self, n_params: int, l2: float) -> str:
        """The one that "auto" stands for."""
        if self.solver != "auto":
            return self.solver
        return "newton" if n_params <= (_SMALL if l2 > 0 else _EXACT) else "lbfgs"

    def _phi_covariance(self) -> Matrix:
        """The inverse Hessian of phi for [1, X], (p, q, p, q), made at the first call; ValueError
        without a Hessian.
        """
        if not hasattr(self, "_spread"):
            raise ValueError(_NO_HESSIAN)
        if not hasattr(self, "_covariance"):
            hessian, back, contrast = self._spread
            p, q = len(back), contrast.shape[1]
            C = np.linalg.inv(hessian).reshape(p, q, p, q)
            self._covariance = np.einsum("ai,ijkl,bk->ajbl", back, C, back, optimize=True)
        return self._covariance

    def decision_function(self, X: ArrayLike) -> Matrix:
        """The logits X coef_ + intercept_: (rows,), or (rows, n_classes) for softmax."""
        return np.asarray(self._new_inputs(X) @ self.coef_ + self.intercept_)

    def predict(self, X: ArrayLike) -> Array:
        """The most probable label for each row, (rows,)."""
        places = self._logits(X).argmax(axis=1)
        return np.asarray(self.classes_[places])

    def predict_proba(self, X: ArrayLike) -> Matrix:
        """Probabilities (rows, n_classes), in the order of `classes_`."""
        return probabilities("cross_entropy", self._logits(X))

    def _contrast(self, classes: Array) -> Matrix:
        """B (n_classes, q): the logits are X phi B^T."""
        raise NotImplementedError

    def _learn(self, coef: Matrix, intercept: Matrix) -> None:
        """Keep coef (n_in, n_classes) and intercept (n_classes,)."""
        raise NotImplementedError

    def _logits(self, X: ArrayLike) -> Matrix:
        """One logit a class, (rows, n_classes)."""
        raise NotImplementedError

    def _data(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None
    ) -> tuple[Matrix, Array, NDArray[np.int64], Weights | None]:
        """X, the classes, labels 0, 1, .. and weights of the rows that count."""
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
        """Train one Linear layer from zero on the mean cost, so that l2 counts by the row, weights
        by their share: steps are as long in whatever unit they come. X is centred: columns far from
        zero would be all but parallel to the ones.
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
        net._gives_hints = False  # the classifier says by itself where it ended
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
        with np.errstate(all="ignore"):  # of weights that grew without bound
            distance, value = cost.distance(phi), cost.value(phi)
        if not (math.isfinite(value) and distance <= _FAR * value):
            warn(
                f"sgd ended far from the minimum after epochs={self.epochs}; standardise the "
                f"columns of X, allow more epochs, change lr={self.lr:g} (lower it where history_ "
                'is not calm), use l2 > 0, or take solver="newton"',
                ConvergenceWarning,
            )


class LogisticRegression(Classifier):
    """Two classes: p(y = 1 | x) = sigmoid(x theta), 1 standing for the second of `classes_`.

    Learned: `classes_` (sorted), `coef_` (n_in,), `intercept_` (0 without one); with newton and
    lbfgs `n_steps_`; with sgd `history_`. With newton also `covariance_` (p, p) of theta, intercept
    first: the inverse Hessian (X^T S X + l2 I)^-1, and its square roots `coef_std_` and
    `intercept_std_`: the usual standard errors for l2 = 0, those of the Laplace approximation else.
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
        """Of theta, intercept first, (p, p). AttributeError unless newton was the solver."""
        try:
            return np.asarray(self._phi_covariance()[:, 0, :, 0])
        except ValueError as error:
            raise AttributeError(str(error)) from None

    @property
    def coef_std_(self) -> Matrix:
        """The standard errors of coef_, (n_in,)."""
        return np.sqrt(self.covariance_.diagonal())[int(bool(self.fit_intercept)) :]

    @property
    def intercept_std_(self) -> float:
        """The standard error of intercept_, 0 without one."""
        return float(np.sqrt(self.covariance_[0, 0])) if self.fit_intercept else 0.0

    def _logits(self, X: ArrayLike) -> Matrix:
        z = self.decision_function(X)
        return np.column_stack([np.zeros(len(z)), z])


class SoftmaxRegression(Classifier):
    """Two classes or more: p(y = c | x) = softmax_c(x theta).

    A shift of all theta_c changes no probability; of all equal solutions the one is taken whose
    coefficients, and intercepts, sum to zero over the classes. So with two classes theta_1 -
    theta_0 is the theta of logistic regression, with half the l2.

    Learned: `classes_` (sorted), `coef_` (n_in, n_classes), `intercept_` (n_classes,); with newton
    and lbfgs `n_steps_`; with sgd `history_`.
    """

    _binary = False

    def _contrast(self, classes: Array) -> Matrix:
        n = len(classes)  # orthonormal columns, orthogonal to (1, .., 1)
        q, _ = np.linalg.qr(np.column_stack([np.ones(n), np.eye(n)[:, : n - 1]]))
        return np.ascontiguousarray(q[:, 1:])

    def _learn(self, coef: Matrix, intercept: Matrix) -> None:
        self.coef_, self.intercept_ = coef, intercept

    def log_odds(self, reference: Any) -> tuple[Matrix, Matrix]:
        """theta_c - theta_reference for each class c, and their standard errors: (p, n_classes)
        both, the intercept first where there is one. This is what statistics packages print.

        Needs solver="newton". Raises ValueError for a label that was not learned.
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
    """{index of a class: weight}; ValueError for labels that y does not hold and bad weights."""
    known = classes.tolist()
    strange = [label for label in by_label if label not in known]
    if strange:
        raise ValueError(f"class_weight names {strange[0]!r}, but y holds {known}")
    return {
        known.index(label): check_number(weight, f"class_weight of {label!r}", positive=True)
        for label, weight in by_label.items()
    }

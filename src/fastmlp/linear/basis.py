"""Basis functions: a linear model of phi(x) is not linear in x (the lecture, "Non-linear (basis,
kernel)").

    basis = PolynomialBasis(degree=3)
    model = LinearRegression().fit(basis.fit_transform(X), y)
    model.predict(basis.transform(X_new))

The column of ones is left to the model, which has an intercept; `bias=True` adds it.
"""

from __future__ import annotations  # signatures that can be read

from collections.abc import Sequence
from itertools import combinations_with_replacement
from math import comb
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from ..ground.arrays import Matrix
from ..ground.checks import check_count, check_number
from ..ground.frames import ColumnNames, column_names
from .estimator import Estimator, inputs

_MOST_COLUMNS = 10_000_000  # beyond that even one row is too long to be meant


class Basis(Estimator):
    """Base: `fit` learns what the functions are, `transform` evaluates them."""

    n_out_: int

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Learn from X (rows, n_in); y is not used."""
        raise NotImplementedError

    def transform(self, X: ArrayLike) -> Matrix:
        """phi(X), of the shape (rows, n_out_)."""
        raise NotImplementedError

    def fit_transform(self, X: ArrayLike, y: ArrayLike | None = None) -> Matrix:
        """`fit`, then `transform`."""
        return self.fit(X, y).transform(X)


class PolynomialBasis(Basis):
    """All monomials of x_1 .. x_d of a total degree from 1 (0 with `bias`) to `degree`.

    In the order of the degree, and within one as in x1^2, x1 x2, x2^2. There are C(d + degree, d)
    of them, the constant 1 included. Learned: `n_in_` = d, `n_out_`, and `powers_` (n_out_, d), the
    exponent of each input in each column.
    """

    def __init__(self, degree: int = 2, *, bias: bool = False) -> None:
        self.degree, self.bias = degree, bias

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Learn the width of X (rows, n_in).

        Raises ValueError for a degree below 1, NaN, infinity, or more than ten million columns.
        """
        degree = check_count(self.degree, "degree")
        n_in = inputs(X).shape[1]
        n_out = comb(n_in + degree, degree) - (not self.bias)
        if n_out > _MOST_COLUMNS:
            raise ValueError(
                f"degree={degree} of {n_in} inputs makes {n_out:,} columns; lower the degree"
            )
        self.n_in_, self.n_out_ = n_in, n_out
        self._factors = [
            factors
            for d in range(0 if self.bias else 1, degree + 1)
            for factors in combinations_with_replacement(range(n_in), d)
        ]
        self.powers_ = np.zeros((n_out, n_in), dtype=np.int64)
        for powers, factors in zip(self.powers_, self._factors, strict=True):
            np.add.at(powers, list(factors), 1)
        self._learn_names(X)
        return self

    def transform(self, X: ArrayLike) -> Matrix:
        """The monomials (rows, n_out_) of X (rows, n_in).

        Raises ValueError where a power is too large for float64.
        """
        matrix = self._new_inputs(X)
        phi = np.empty((len(matrix), self.n_out_), order="F")
        places: dict[tuple[int, ...], int] = {}
        with np.errstate(over="ignore"):
            for place, factors in enumerate(self._factors):
                places[factors] = place
                if len(factors) < 2:
                    phi[:, place] = matrix[:, factors[0]] if factors else 1
                else:  # the monomial without its last factor stands further left
                    phi[:, place] = phi[:, places[factors[:-1]]] * matrix[:, factors[-1]]
        if not np.isfinite(phi).all():
            raise ValueError(
                f"a power of X up to degree {self.degree} overflows float64; scale X down"
            )
        return np.ascontiguousarray(phi)

    def names(self, inputs: Sequence[str] | None = None) -> list[str]:
        """The name of each column, "x1^2 x2" for instance. `inputs` names x1 .. xd otherwise; left
        out, so do the columns of the frame that `fit` has seen.
        """
        self._check_fitted()
        if inputs is None:
            inputs = self._column_names().known
        given = [f"x{j + 1}" for j in range(self.n_in_)] if inputs is None else list(inputs)
        if len(given) != self.n_in_:
            raise ValueError(f"{len(given)} names were given for {self.n_in_} inputs")
        return [
            " ".join(
                name if power == 1 else f"{name}^{power}"
                for name, power in zip(given, powers, strict=True)
                if power
            )
            or "1"
            for powers in self.powers_
        ]


class RBFBasis(Basis):
    """Radial basis functions exp(-|x - mu|^2 / lam), one for each centre mu; lam is the lecture's
    lambda, in the squared unit of x (for a normal density of deviation s it is 2 s^2).

    centres: (n_centres, n_in); left out, the rows that `fit` sees (the lecture's "SVM-like" case,
    one on each training point). Learned: `n_in_`, `centres_` and `n_out_`.
    """

    def __init__(
        self, centres: ArrayLike | None = None, *, lam: float = 1.0, bias: bool = False
    ) -> None:
        self.centres, self.lam, self.bias = centres, lam, bias

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Learn the centres, from X (rows, n_in) where none were given.

        Raises ValueError for lam <= 0, centres of another width than X, NaN and infinity.
        """
        check_number(self.lam, "lam", positive=True)
        matrix = inputs(X)
        centres = matrix.copy() if self.centres is None else inputs(self.centres, "centres")
        ColumnNames(column_names(X)).check(self.centres, "centres")
        if centres.shape[1] != matrix.shape[1]:
            raise ValueError(
                f"centres have {centres.shape[1]} columns, but X has {matrix.shape[1]}"
            )
        self.n_in_, self.centres_ = matrix.shape[1], centres
        self.n_out_ = len(centres) + bool(self.bias)
        self._learn_names(X)
        return self

    def transform(self, X: ArrayLike) -> Matrix:
        """The functions (rows, n_out_) at X (rows, n_in), after the column of ones with `bias`."""
        matrix = self._new_inputs(X)
        first = int(bool(self.bias))
        phi = np.ones((len(matrix), self.n_out_))
        # Differences, not |x|^2 - 2 x mu + |mu|^2, which cancels where x is close to mu.
        squares = np.zeros((len(matrix), len(self.centres_)))
        for x, mu in zip(matrix.T, self.centres_.T, strict=True):
            squares += np.subtract.outer(x, mu) ** 2
        phi[:, first:] = np.exp(-squares / self.lam)
        return phi

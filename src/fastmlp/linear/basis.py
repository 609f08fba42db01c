"""Basis functions: a linear model of phi(x) is not linear in x (the lecture, "Non-linear (basis,
kernel)").

    basis = PolynomialBasis(degree=3)
    model = LinearRegression().fit(basis.fit_transform(X), y)
    model.predict(basis.transform(X_new))

The model fits an intercept, so a basis has no column of ones; `bias=True` adds one.
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

_MOST_COLUMNS = 10_000_000  # columns of phi; a larger degree is a mistake: one row has 80 MB


class Basis(Estimator):
    """Base of the bases: `fit` determines the functions, `transform` evaluates them."""

    _estimator_type = "transformer"
    n_out_: int

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Learn the functions from X (rows, n_in); y is not used."""
        raise NotImplementedError

    def transform(self, X: ArrayLike) -> Matrix:
        """Return phi(X), (rows, n_out_), for X (rows, n_in)."""
        raise NotImplementedError

    def fit_transform(self, X: ArrayLike, y: ArrayLike | None = None) -> Matrix:
        """Call `fit`, then `transform`, with the same X (rows, n_in)."""
        return self.fit(X, y).transform(X)


class PolynomialBasis(Basis):
    """All monomials of x_1 .. x_d up to a total degree.

    There are C(d + degree, d) of them with `bias`, and one less without. They are sorted by their
    degree; those of degree 2 are in the order x1^2, x1 x2, x2^2.

    degree: the highest total degree, at least 1.
    bias: whether the constant 1 is the first column.

    Learned by `fit`:

    n_in_: the number d of inputs.
    n_out_: the number of columns of phi.
    powers_: (n_out_, d), the exponent of each input in each column.
    """

    def __init__(self, degree: int = 2, *, bias: bool = False) -> None:
        self.degree, self.bias = degree, bias

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Learn the number of inputs from X (rows, n_in); y is not used.

        Raises ValueError for a degree below 1, for NaN and infinity, and for more than ten million
        columns of phi.
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
        """Return the monomials, (rows, n_out_), of X (rows, n_in).

        Raises ValueError for another number of columns than in `fit`, for NaN and infinity, and if
        a power is too large for float64.
        """
        matrix = self._new_inputs(X)
        phi = np.empty((len(matrix), self.n_out_), order="F")
        places: dict[tuple[int, ...], int] = {}
        with np.errstate(over="ignore"):
            for place, factors in enumerate(self._factors):
                places[factors] = place
                if len(factors) < 2:
                    phi[:, place] = matrix[:, factors[0]] if factors else 1
                else:  # the monomial without its last factor is already in a column to the left
                    phi[:, place] = phi[:, places[factors[:-1]]] * matrix[:, factors[-1]]
        if not np.isfinite(phi).all():
            raise ValueError(
                f"a power of X up to degree {self.degree} overflows float64; scale X down"
            )
        return np.ascontiguousarray(phi)

    def names(self, inputs: Sequence[str] | None = None) -> list[str]:
        """Return the name of each column of phi, for instance "x1^2 x2".

        inputs: the names of the d inputs. Default: the column names of the frame passed to `fit`,
            or x1 .. xd if it was an array.

        Raises ValueError before `fit`, and if the number of names is not d.
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
    """Radial basis functions exp(-|x - mu|^2 / lam), one for each center mu.

    centers: the centers mu, (n_centers, n_in). Default: one center on each row passed to `fit`
        (the lecture's "SVM-like" case).
    lam: the lecture's lambda, above 0, in the squared unit of x. The shape of a normal density
        with standard deviation s has lam = 2 s^2.
    bias: whether a column of ones comes first.
    centres: another name of `centers`.

    Learned by `fit`:

    n_in_: the number of inputs.
    centers_: (n_centers, n_in), the centers.
    n_out_: the number of columns of phi.
    """

    def __init__(
        self,
        centers: ArrayLike | None = None,
        *,
        lam: float = 1.0,
        bias: bool = False,
        centres: ArrayLike | None = None,
    ) -> None:
        self.centers, self.lam, self.bias, self.centres = centers, lam, bias, centres

    @property
    def centres_(self) -> Matrix:
        """Another name of `centers_`."""
        return self.centers_

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Check the centers, or take the rows of X (rows, n_in) if none were given; y is not used.

        Raises ValueError for lam <= 0, for centers with another number of columns than X, and for
        NaN and infinity.
        """
        check_number(self.lam, "lam", positive=True)
        if self.centers is not None and self.centres is not None:
            raise ValueError("centers and centres are two names of one setting; give one")
        given = self.centers if self.centres is None else self.centres
        matrix = inputs(X)
        centers = matrix.copy() if given is None else inputs(given, "centers")
        ColumnNames(column_names(X)).check(given, "centers")
        if centers.shape[1] != matrix.shape[1]:
            raise ValueError(
                f"centers have {centers.shape[1]} columns, but X has {matrix.shape[1]}"
            )
        self.n_in_, self.centers_ = matrix.shape[1], centers
        self.n_out_ = len(centers) + bool(self.bias)
        self._learn_names(X)
        return self

    def transform(self, X: ArrayLike) -> Matrix:
        """Return the functions at X (rows, n_in): (rows, n_out_), with `bias` the ones first.

        Raises ValueError for another number of columns than in `fit`, and for NaN and infinity.
        """
        matrix = self._new_inputs(X)
        first = int(bool(self.bias))
        phi = np.ones((len(matrix), self.n_out_))
        # Sum squared differences: |x|^2 - 2 x mu + |mu|^2 cancels if x is close to mu.
        squares = np.zeros((len(matrix), len(self.centers_)))
        for x, mu in zip(matrix.T, self.centers_.T, strict=True):
            squares += np.subtract.outer(x, mu) ** 2
        phi[:, first:] = np.exp(-squares / self.lam)
        return phi

"""Frames and Series of polars: names, labels and missing values as with those of pandas."""

from typing import Any

import numpy as np
import pytest

from fastmlp import (
    Linear,
    LinearRegression,
    LogisticRegression,
    ReLU,
    Sequential,
    SoftmaxRegression,
)

pl = pytest.importorskip("polars")

ROWS = 30
RNG = np.random.default_rng(0)
X = pl.DataFrame({"a": RNG.standard_normal(ROWS), "b": RNG.integers(0, 9, ROWS)})
TEXTS = ["u", "v", "w"] * (ROWS // 3)


def trained() -> Sequential:
    net = Sequential([Linear(2, 4), ReLU(), Linear(4, 1)], seed=1)
    net.fit(X, X["a"], loss="squared_error", epochs=1)
    return net


def test_a_frame_and_a_series_train_as_their_numbers_do() -> None:
    net, other = trained(), Sequential([Linear(2, 4), ReLU(), Linear(4, 1)], seed=1)
    other.fit(X.to_numpy(), X["a"].to_numpy(), loss="squared_error", epochs=1)
    assert np.array_equal(net.params, other.params)
    assert list(net.feature_names_in_) == ["a", "b"]
    assert np.array_equal(net.predict(X), other.predict(X.to_numpy()))


@pytest.mark.parametrize("make", [trained, lambda: LinearRegression().fit(X, X["a"])])
def test_other_names_and_another_order_are_refused(make: Any) -> None:
    model = make()
    with pytest.raises(ValueError, match=r"another order.*'b' and was 'a'"):
        model.predict(X.select("b", "a"))
    with pytest.raises(ValueError, match="unexpected 'c', missing 'b'"):
        model.predict(X.rename({"b": "c"}))


@pytest.mark.parametrize(("name", "first"), [("a", 1.5), ("b", 1)])
def test_missing_numbers_are_one_error_with_their_place(name: str, first: float) -> None:
    values = pl.Series([None] + [first] * (ROWS - 1))
    with pytest.raises(ValueError, match=f"X holds NaN at row 0, column {'ab'.index(name)}"):
        trained().predict(X.with_columns(values.alias(name)))
    with pytest.raises(ValueError, match="y holds NaN at row 0"):
        trained().fit(X, values, loss="squared_error")


def test_text_in_a_column_is_named() -> None:
    for dtype in (pl.String, pl.Categorical):
        with pytest.raises(TypeError, match="column 'b' of X"):
            trained().predict(X.with_columns(pl.Series("b", TEXTS, dtype=dtype)))


@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical, pl.Enum(["w", "v", "u"])])
def test_labels(dtype: Any) -> None:
    labels = pl.Series(TEXTS, dtype=dtype)
    model = SoftmaxRegression(l2=1.0).fit(X, labels)
    assert list(model.classes_) == ["u", "v", "w"]
    assert np.array_equal(model.coef_, SoftmaxRegression(l2=1.0).fit(X, TEXTS).coef_)


def test_truth_values_as_labels() -> None:
    model = LogisticRegression(l2=1.0).fit(X, pl.Series([True, False, True] * (ROWS // 3)))
    assert list(model.classes_) == [False, True]


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        (["u", None, "w"], pl.String),
        (["u", None, "w"], pl.Categorical),
        ([0, None, 2], pl.Int64),
        ([True, None, False], pl.Boolean),
    ],
)
def test_missing_labels_are_one_error(labels: list[Any], dtype: Any) -> None:
    with pytest.raises(ValueError, match="y has missing labels, row 1"):
        SoftmaxRegression(l2=1.0).fit(X, pl.Series(labels * (ROWS // 3), dtype=dtype))

"""One line where a fit can hardly learn as it was called, and none where it can."""

import warnings

import numpy as np
import pytest

from fastmlp import (
    LBFGS,
    SGD,
    Adam,
    BatchNorm,
    LearningHint,
    LevenbergMarquardt,
    Linear,
    Sequential,
    Standardize,
    Tanh,
)

RNG = np.random.default_rng(0)
X = RNG.standard_normal((300, 4))
Y = X @ [1.0, -2.0, 0.5, 0.0] + 0.1 * RNG.standard_normal(300)
XOR = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0.0, 1, 1, 0])


def net(n_in=4, *first, hidden=16):
    return Sequential([*first, Linear(n_in, hidden), Tanh(), Linear(hidden, 1)], seed=1)


HARDLY = {
    "four rows": (lambda: net(2), XOR, {}, "only gone from .* in 20 steps.*epochs=1000"),
    "noise": (net, (X[:100], RNG.standard_normal(100) + 9), {}, "20 steps"),
    "ten thousand": (net, (X * 1e4, Y), {}, "column . of X.*Standardize"),
    "a million": (net, (1e6 + X, Y), {"epochs": 3}, "1e.06.*Standardize"),
    "one column": (net, (X * [1, 1, 5e4, 1], Y), {"optimizer": SGD(1e-3)}, "column 2 of X"),
    "large targets": (net, (X, 1e4 * Y), {"optimizer": SGD(1e-9)}, r"y holds .*2.*e\+04.*y.std"),
    "years": (net, (X, 2000 + Y), {"optimizer": LBFGS(), "epochs": 3}, "y holds .* 2e.03.*y.mean"),
    "small targets": (net, (X, 1e-6 * Y), {"epochs": 50}, "y varies by 2.*e-06"),
    "small for Levenberg": (net, (X, 9 + 1e-5 * Y), {"optimizer": LevenbergMarquardt()}, "e-05"),
    "a loss that grows": (
        net,
        (X, Y),
        {"optimizer": SGD(5.0, clip_norm=1.0)},
        "has grown from .* lower lr",
    ),
}


@pytest.mark.parametrize("name", HARDLY)
def test_one_line_tells_why_nothing_is_learned(name):
    make, (x, y), how, text = HARDLY[name]
    with pytest.warns(LearningHint, match=text) as caught:
        make().fit(x, y, loss="squared_error", **how)
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    assert caught[0].filename == __file__


def test_a_network_that_can_learn_is_left_in_peace():
    with warnings.catch_warnings():
        warnings.simplefilter("error", LearningHint)
        one = net()
        one.fit(X, Y, epochs=100)
        one.fit(X, Y)  # the loss hardly changes any more
        net(4, Standardize()).fit(1e6 * X, Y, epochs=50)
        net(4, BatchNorm()).fit(1e6 * X, Y, epochs=50)
        net(2).fit(*XOR, epochs=1)
        net(2).fit(*XOR, optimizer=Adam(0.05), epochs=200)
        net(2).fit(*XOR, optimizer=LBFGS())
        net().fit(X, 1e6 + 1e4 * Y, optimizer=LevenbergMarquardt(), epochs=2)
        net().fit(X, np.full(300, 7.0), optimizer=LBFGS(), epochs=2)
        net().fit(X, 300 + 20 * Y, epochs=50)
        Sequential([Linear(4, 1)]).fit(X, 2000 + Y, optimizer=LBFGS())
        net().fit(X * 255, Y, epochs=2)
        net().train_step(X, Y)


def test_a_split_that_takes_a_whole_class_is_told():
    labels = np.zeros(60, int)
    labels[:3] = [1, 2, 3]
    with pytest.warns(UserWarning, match="all rows of class [123].*stratify=y"):
        Sequential([Linear(4, 4)]).fit(X[:60], labels, validation_split=0.9, epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Sequential([Linear(4, 4)]).fit(X, np.arange(300) % 4, validation_split=0.5, epochs=1)


def test_levenberg_marquardt_finds_small_targets_without_a_hint(recwarn):
    net().fit(X, 1e-4 * Y, optimizer=LevenbergMarquardt(), epochs=2)
    assert not [w for w in recwarn if w.category is LearningHint]


def test_the_remedy_for_targets_of_several_columns_is_by_column():
    columns = np.column_stack([1e4 * Y, Y])
    wide = Sequential([Linear(X.shape[1], 8), Tanh(), Linear(8, 2)], seed=1)
    with pytest.warns(LearningHint, match="axis=0"):
        wide.fit(X, columns, epochs=1)

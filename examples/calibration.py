"""Calibration: of the rows that get the probability 0.8, are eight tenths of class 1?

A network that fits 500 noisy examples perfectly predicts probabilities far too near 0 and 1. Early
stopping and L2 make them match the shares again. Label smoothing keeps them away from 0 and 1.
"""

import numpy as np
from picture import panels, save

from fastmlp import Adam, BinaryCrossEntropy, EarlyStopping, Linear, ReLU, Sequential
from fastmlp.plot import BLUE, calibration

BINS = 10


def examples(n, seed):
    """Draw x (n, 5), and y = 1 with the probability sigmoid(2 x_1 - 2 x_2 x_3)."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 5))
    p = 1 / (1 + np.exp(-2 * x[:, :1] + 2 * x[:, 1:2] * x[:, 2:3]))
    return x, (rng.random((n, 1)) < p).astype(float)


def miscalibration(y, p):
    """Average |share of y = 1 - mean p| over intervals of p by rows (Naeini et al. 2015)."""
    place = np.minimum((p * BINS).astype(int), BINS - 1)
    return sum(abs(np.sum((y - p)[place == k])) for k in range(BINS)) / len(y)


X, y = examples(500, seed=0)
held_out, (X_test, y_test) = examples(2000, seed=1), examples(4000, seed=2)
figure, axes = panels(4, width=2.7, height=3.1, sharey=True)
for ax, (name, l2, smoothing, stop) in zip(
    axes,
    (
        ("nothing", 0.0, 0.0, []),
        ("early stopping", 0.0, 0.0, [EarlyStopping(patience=20)]),
        ("L2 0.02", 0.02, 0.0, []),
        ("label smoothing 0.2", 0.0, 0.2, []),
    ),
    strict=True,
):
    net = Sequential([Linear(5, 64), ReLU(), Linear(64), ReLU(), Linear(1)], seed=0)
    net.fit(
        X, y, loss=BinaryCrossEntropy(label_smoothing=smoothing), optimizer=Adam(2e-3, l2=l2),
        batch_size=50, epochs=300, validation_data=held_out, callbacks=stop,
    )  # fmt: skip
    proba = net.predict_proba(X_test)[:, -1:]
    error = miscalibration(y_test, proba)
    calibration(y_test, proba, ax, bins=BINS, color=BLUE)
    ax.set_title(f"{name}: off by {error:.2f}", fontsize=10)
    ax.set(ylabel="", xticks=[0, 0.5, 1], xticklabels=["0", "0.5", "1"])
    ax.get_legend().remove()
    print(f"{name}, miscalibration: {error:.4f}")
    print(f"{name}, accuracy: {np.mean((proba > 0.5) == y_test):.4f}")
axes[0].set_ylabel("share of y = 1")
axes[0].legend(frameon=False, loc="upper left", fontsize=9)
save(figure, "calibration")

"""A network that is too large for its data overfits; dropout, L2 and early stopping hold it back.

There are 80 noisy examples of two interleaved half-moons, and 4,000 others for validation.
"""

import numpy as np
from picture import panels, save

from fastmlp import Adam, Dropout, EarlyStopping, Linear, ReLU, Sequential
from fastmlp.plot import learning_curves

EPOCHS = 300


def moons(n, seed):
    """Draw points (n, 2) of two half circles with noise, and their classes."""
    rng = np.random.default_rng(seed)
    y, t = rng.integers(0, 2, n), rng.uniform(0, np.pi, n)
    x = np.stack([np.cos(t) + y - 0.5, np.sin(t) * (1 - 2 * y) + 0.3 * y - 0.15], axis=1)
    return x + 0.35 * rng.standard_normal((n, 2)), y


def layers(p):
    """Return two wide hidden layers, each followed by dropout if p > 0."""
    drop = [[Dropout(p)] if p else [] for _ in range(2)]
    return [Linear(2, 128), ReLU(), *drop[0], Linear(128), ReLU(), *drop[1], Linear(2)]


X, y = moons(80, seed=0)
held_out = moons(4000, seed=1)
figure, axes = panels(4, width=2.7, height=2.9, sharey=True)
for ax, (name, p, l2, callbacks) in zip(
    axes,
    (
        ("nothing", 0.0, 0.0, []),
        ("dropout 0.5", 0.5, 0.0, []),
        ("L2 0.02", 0.0, 0.02, []),
        ("early stopping", 0.0, 0.0, [EarlyStopping(patience=20)]),
    ),
    strict=True,
):
    net = Sequential(layers(p), seed=0)
    history = net.fit(
        X, y, optimizer=Adam(2e-3, l2=l2), batch_size=20, epochs=EPOCHS,
        validation_data=held_out, callbacks=callbacks,
    )  # fmt: skip
    learning_curves(history, ax)
    final = net.evaluate(*held_out)
    ax.set_title(f"{name}: ends at {final['loss']:.2f}", fontsize=10)
    ax.set(xlim=(0, EPOCHS), ylim=(0, 1), ylabel="", xticks=(0, 100, 200))
    if ax in axes[2:]:
        ax.get_legend().remove()
    else:
        ax.legend(frameon=False, loc="upper left", fontsize=8)
    print(f"{name}, validation loss: {final['loss']:.4f}")
    print(f"{name}, training loss: {net.evaluate(X, y)['loss']:.4f}")
axes[0].set_ylabel("loss")
save(figure, "overfitting")

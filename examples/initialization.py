"""The size of the activations, layer after layer, for several initializations.

A random input goes through 20 layers of 256 units, one layer at a time. Var(w) = 1/n keeps
tanh in its linear range, where activations shrink slowly; larger weights saturate it. ReLU halves
the mean square and wants Var(w) = 2/n.
"""

import numpy as np
from picture import panels, save

from fastmlp import Linear, ReLU, Tanh
from fastmlp.plot import BLUE, GREEN, ORANGE, PURPLE

DEPTH, WIDTH = 20, 256
x = np.random.default_rng(0).standard_normal((500, WIDTH)).astype(np.float32)


def large(rng, n_in, n_out):
    """Draw weights with Var(w) = 9/n, which is too large: tanh saturates, ReLU explodes."""
    return 3 / np.sqrt(n_in) * rng.standard_normal((n_in, n_out))


figure, axes = panels(2)
for ax, activation in zip(axes, (Tanh(), ReLU()), strict=True):
    kind = type(activation).__name__
    for init, label, color, marker in (
        ("small_normal", "0.01 randn", BLUE, "o"),
        ("xavier_normal", "Xavier, Var 1/n", GREEN, "s"),
        ("he_normal", "He, Var 2/n", PURPLE, "^"),
        (large, "Var 9/n", ORANGE, "D"),
    ):
        a, sizes = x, []
        for layer in range(DEPTH):
            a = activation.forward(Linear(WIDTH, WIDTH, init=init, seed=layer).forward(a))
            sizes.append(float(np.sqrt(np.mean(np.square(a, dtype=np.float64)))))
        ax.plot(range(1, DEPTH + 1), sizes, color=color, marker=marker, ms=3.5, label=label)
        print(f"{kind}, {label}, root mean square in layer {DEPTH}: {sizes[-1]:.4g}")
    ax.set(xlabel="layer", ylabel=f"root mean square of a, {kind}")
    ax.set_xticks([1, 5, 10, 15, 20])
axes[0].set_ylim(0, 1)
axes[1].set(yscale="log", ylim=(1e-16, 1e14))
axes[1].legend(frameon=False, fontsize=9)
save(figure, "initialization")

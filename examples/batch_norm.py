"""Batch normalization on and off: ten hidden layers of tanh whose weights start far too large.

Without it the units are saturated, and little of the gradient passes. With it every pre-activation
has mean 0 and variance 1 over the mini-batch, whatever the weights. So the network learns.
"""

import numpy as np
from picture import panels, save

from fastmlp import Adam, BatchNorm, Linear, Sequential, Tanh
from fastmlp.plot import BLUE, ORANGE

DEPTH, WIDTH = 10, 32
rng = np.random.default_rng(0)
X = rng.standard_normal((512, 2))
y = (np.hypot(*X.T) > 1.18).astype(int)  # inside or outside a circle


def too_large(rng, n_in, n_out):
    """Draw weights with ten times the standard deviation that suits tanh."""
    return 10 * rng.standard_normal((n_in, n_out)) / np.sqrt(n_in)


figure, (left, right) = panels(2)
for name, norm, color in (("off", [], ORANGE), ("on", [BatchNorm], BLUE)):
    hidden = []
    for _ in range(DEPTH):
        hidden += [Linear(WIDTH, init=too_large), *(layer() for layer in norm), Tanh()]
    net = Sequential([*hidden, Linear(2)], n_in=2, seed=0)
    size, activations = X, []
    for layer in net.layers[:-1]:
        size = layer.forward(size, training=True)
        activations.append(size)
    last = activations[-1].ravel()
    left.hist(last, bins=41, range=(-1, 1), alpha=0.6, color=color, label=f"batch norm {name}")
    print(
        f"batch norm {name}, units beyond 0.99 in layer {DEPTH}: {np.mean(np.abs(last) > 0.99):.3f}"
    )
    history = net.fit(X, y, optimizer=Adam(3e-3), batch_size=64, epochs=60)
    right.plot(history["loss"], color=color, label=f"batch norm {name}")
    print(f"batch norm {name}, accuracy: {net.evaluate(X, y)['accuracy']:.3f}")
left.set(xlabel=f"activation in layer {DEPTH}, before training", ylabel="units x examples")
left.legend(frameon=False)
right.axhline(np.log(2), color="0.6", linestyle="--", linewidth=1, label="guessing, log 2")
right.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
right.legend(frameon=False)
save(figure, "batch_norm")

"""Weights that start at zero stay symmetric: all hidden units remain copies of one.

Each column of the picture is a hidden unit, each row has the weights of one input.
"""

import numpy as np
from picture import panels, save

from fastmlp import Adam, Linear, Sequential, Sigmoid
from fastmlp.plot import weights

rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, (400, 4))
y = (X[:, 0] * X[:, 1] > 0).astype(int)  # an exclusive or; the other two features are noise

figure, axes = panels(2)
for ax, init in zip(axes, ("zeros", "glorot_uniform"), strict=True):
    hidden = Linear(4, 8, init=init)
    net = Sequential([hidden, Sigmoid(), Linear(8, 2, init=init)], seed=0)
    net.fit(X, y, optimizer=Adam(0.03), epochs=200)
    apart = float(np.ptp(hidden.weight, axis=1).max())
    accuracy = net.evaluate(X, y, metrics=["accuracy"])["accuracy"]
    weights(hidden, ax)
    ax.set_title(f'init="{init}": accuracy {accuracy:.2f}', fontsize=10)
    ax.set(xlabel="hidden unit")
    print(f"{init}, largest difference between units: {apart:.6g}")
    print(f"{init}, largest weight: {np.abs(hidden.weight).max():.6g}")
    print(f"{init}, accuracy: {accuracy:.4f}")
save(figure, "zero_initialization")

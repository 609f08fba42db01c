"""Batch, mini-batch and stochastic gradient descent: 1,000, 32 or 1 examples per step, one rate.

A step with one example points downhill only on average, but it costs a thousandth of a step with
all. For the same number of examples read, the noisy paths are far ahead. They end in a cloud whose
size grows with the rate. The loop is the lecture's: loader, forward, backward, update.
"""

import numpy as np
from picture import panels, save

from fastmlp import SGD, DataLoader, Linear, LinearRegression, Sequential, squared_error
from fastmlp.plot import BLUE, GREEN, ORANGE

ROWS, EPOCHS, LR = 1000, 3, 0.02
rng = np.random.default_rng(0)
x = rng.uniform(0, 2, (ROWS, 1))
y = 1 + 2 * x + 0.5 * rng.standard_normal((ROWS, 1))
line = LinearRegression().fit(x, y)
best = np.array([line.intercept_[0], line.coef_[0, 0]])


def train(batch_size):
    """Return theta before and after every step, and the number of examples read until then."""
    layer = Linear(1, 1, init="zeros")
    net, read, path = Sequential([layer], dtype="float64"), [0], [np.zeros(2)]
    loader = DataLoader(x, y, batch_size=batch_size, shuffle=True, seed=0)
    for _ in range(EPOCHS):
        for xb, yb in loader:
            z = net.forward(xb, training=True)
            _, dz = squared_error(z, yb)
            net.backward(dz)
            net.update(SGD(lr=LR))
            read.append(read[-1] + len(xb))
            path.append(np.array([layer.bias[0], layer.weight[0, 0]]))
    return np.array(read), np.array(path)


figure, (left, right) = panels(2)
t0, t1 = np.meshgrid(np.linspace(-0.2, 2.2, 90), np.linspace(-0.2, 2.6, 90))
cost = np.mean((t0[..., None] + t1[..., None] * x[:, 0] - y[:, 0]) ** 2, axis=-1)
left.contour(t0, t1, cost, levels=np.geomspace(0.26, 12, 12), colors="0.8", linewidths=0.8)
for name, size, color in (
    ("stochastic", 1, ORANGE),
    ("mini-batch", 32, BLUE),
    ("batch", ROWS, GREEN),
):
    read, path = train(size)
    left.plot(*path.T, "-" if size == 1 else "o-", color=color, markersize=3, linewidth=0.8)
    costs = np.mean((path @ np.vstack([np.ones(ROWS), x[:, 0]]) - y[:, 0]) ** 2, axis=1)
    right.plot(read / ROWS, costs, color=color, linewidth=1.2, label=f"{name}: {size} a step")
    print(f"{name}, cost at the end: {costs[-1]:.4f}")
    print(f"{name}, distance from the best: {np.linalg.norm(path[-1] - best):.4f}")
left.plot(*best, "k*", markersize=11, zorder=5)
left.set(xlabel=r"$\theta_0$", ylabel=r"$\theta_1$")
right.set(xlabel="examples read / 1,000 (epochs)", ylabel="cost J on all examples", yscale="log")
right.legend(frameon=False)
print(f"smallest cost: {line.sigma_ml_[0] ** 2:.4f}")
save(figure, "batch_sizes")

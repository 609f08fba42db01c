"""A learning rate that is too small, one that fits, and one that is too large.

Batch gradient descent fits the line y = theta_0 + x theta_1. The cost is a paraboloid, so steps
shrink the error only for rates below 2 / (largest eigenvalue of its Hessian).
"""

import numpy as np
from picture import panels, save

from fastmlp import SGD, Linear, LinearRegression, Sequential
from fastmlp.plot import BLUE, GREEN, ORANGE

STEPS = 30
rng = np.random.default_rng(0)
x = rng.uniform(0, 2, (50, 1))
y = 1 + 2 * x + 0.3 * rng.standard_normal((50, 1))
A = np.hstack([np.ones_like(x), x])
largest = float(np.linalg.eigvalsh(2 / len(x) * A.T @ A).max())


def descend(lr):
    """Return costs and thetas before each step, from theta = 0 on."""
    layer = Linear(1, 1, init="zeros")
    net = Sequential([layer], dtype="float64")
    costs, path = [], []
    for _ in range(STEPS + 1):
        path.append((float(layer.bias[0]), float(layer.weight[0, 0])))
        costs.append(net.train_step(x, y, loss="squared_error", optimizer=SGD(lr)))
    return np.array(costs), np.array(path)


figure, (left, right) = panels(2)
line = LinearRegression().fit(x, y)
t0, t1 = np.meshgrid(np.linspace(-1.6, 4.0, 90), np.linspace(-1.6, 4.6, 90))
cost = np.mean((t0[..., None] + t1[..., None] * x[:, 0] - y[:, 0]) ** 2, axis=-1)
left.contour(t0, t1, cost, levels=np.geomspace(0.15, 40, 12), colors="0.75", linewidths=0.8)
left.plot(line.intercept_[0], line.coef_[0, 0], "k*", markersize=11, zorder=5)
rates = (("too small", 0.01, BLUE, "o"), ("fits", 0.3, GREEN, "s"))
rates += (("too large", 1.1 * 2 / largest, ORANGE, "^"),)
print(f"largest rate that converges: {2 / largest:.4f}")
print(f"smallest cost: {line.sigma_ml_[0] ** 2:.6f}")
for name, lr, color, marker in rates:
    costs, path = descend(lr)
    path = path[:8] if name == "too large" else path  # later steps leave the picture
    left.plot(*path.T, marker=marker, color=color, markersize=4, linewidth=0.9)
    right.plot(costs, color=color, label=f"{name}, lr = {lr:.3g}")
    print(f"{name} begins: {costs[0]:.6f}")
    print(f"{name} ends: {costs[-1]:.6f}")
left.set(xlabel=r"$\theta_0$", ylabel=r"$\theta_1$", xlim=(-1.6, 4), ylim=(-1.6, 4.6))
right.set(xlabel="step", ylabel="cost J", yscale="log", ylim=(0.05, 1e7))
right.legend(frameon=False, loc="upper left")
save(figure, "learning_rate")

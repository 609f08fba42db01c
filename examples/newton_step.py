"""One Newton step solves linear regression from any start.

The cost is quadratic, so theta - H^-1 gradient is its minimum: the closed form. Gradient descent
needs many steps, and the longer the valley is, the more.
"""

import numpy as np
from picture import panels, save

from fastmlp import SGD, Linear, LinearRegression, Sequential
from fastmlp.plot import BLUE, GREEN, ORANGE, PURPLE

STEPS = 60
rng = np.random.default_rng(0)
x = rng.uniform(0, 2, (50, 1))
y = 1 + 2 * x + 0.3 * rng.standard_normal((50, 1))
line = LinearRegression().fit(x, y)
best = np.array([line.coef_[0, 0], line.intercept_[0]])  # in the order of net.params


def distance(theta):
    """Return the distance from the closed form."""
    return float(np.linalg.norm(theta - best))


figure, (left, right) = panels(2)
t0, t1 = np.meshgrid(np.linspace(-2.2, 4.2, 90), np.linspace(-1.6, 4.6, 90))
cost = np.mean((t0[..., None] + t1[..., None] * x[:, 0] - y[:, 0]) ** 2, axis=-1)
left.contour(t0, t1, cost, levels=np.geomspace(0.15, 60, 12), colors="0.75", linewidths=0.8)
starts = ((0.0, 0.0, BLUE), (4.0, -1.2, ORANGE), (-0.5, 3.5, GREEN), (3.6, 3.6, PURPLE))
for theta_1, theta_0, color in starts:
    net = Sequential([Linear(1, 1)], dtype="float64")
    net.load_params([theta_1, theta_0])
    _, gradient = net.gradient(x, y, loss="squared_error")
    hessian = net.hessian(x, y, loss="squared_error")
    newton = net.params - np.linalg.solve(hessian, gradient)
    path = [net.params.copy()]
    for _ in range(STEPS):
        net.train_step(x, y, loss="squared_error", optimizer=SGD(0.3))
        path.append(net.params.copy())
    along_1, along_0 = np.transpose(path)
    left.plot(along_0, along_1, "o-", color=color, markersize=3, linewidth=0.8, alpha=0.6)
    arrow = {"arrowstyle": "->", "color": color, "linewidth": 1.8, "shrinkA": 0, "shrinkB": 4}
    left.annotate("", newton[::-1], (theta_0, theta_1), arrowprops=arrow)
    right.semilogy([distance(theta) for theta in path], color=color)
    right.semilogy([0, 1], [distance(path[0]), distance(newton)], "s--", color=color, ms=5)
    name = f"from ({theta_0}, {theta_1})"
    print(f"{name}, distance after one Newton step: {distance(newton):.2e}")
    print(f"{name}, distance after {STEPS} steps of gradient descent: {distance(path[-1]):.2e}")
left.plot(*best[::-1], "k*", markersize=11, zorder=5)
left.set(xlabel=r"$\theta_0$", ylabel=r"$\theta_1$", xlim=(-2.2, 4.2), ylim=(-1.6, 4.6))
right.plot([], [], "0.3", label="gradient descent, lr = 0.3")
right.plot([], [], "s--", color="0.3", label="one Newton step")
right.set(xlabel="step", ylabel="distance from the closed form")
right.legend(frameon=False)
save(figure, "newton_step")

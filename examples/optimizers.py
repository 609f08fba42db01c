"""SGD, momentum, AdaGrad and Adam on one surface: a narrow valley, 30 times steeper across.

The model y = x_1 theta_1 + x_2 theta_2 has two parameters and no bias. Its inputs differ much in
their spread, because they are not normalized. All optimizers start from the same point.
"""

import numpy as np
from picture import panels, save

from fastmlp import SGD, AdaGrad, Adam, Linear, Sequential
from fastmlp.plot import BLUE, GREEN, ORANGE, PURPLE

STEPS, START = 60, (-2.5, 1.6)
curvature = np.diag([1.0, 30.0])
turn = np.array([[np.cos(0.25), -np.sin(0.25)], [np.sin(0.25), np.cos(0.25)]])
X = np.sqrt(curvature) @ turn.T  # two rows: the cost is |X theta|^2 / 2, its minimum the origin
y = np.zeros((2, 1))


def descend(optimizer):
    """Return costs and thetas before each step."""
    net = Sequential([Linear(2, 1, bias=False)], dtype="float64")
    net.load_params(START)
    costs, path = [], []
    for _ in range(STEPS + 1):
        path.append(net.params.copy())
        costs.append(net.train_step(X, y, loss="squared_error", optimizer=optimizer))
    return np.array(costs), np.array(path)


figure, (left, right) = panels(2)
grid = np.stack(np.meshgrid(np.linspace(-3, 1.2, 90), np.linspace(-3.2, 2, 90)), axis=-1)
cost = np.mean((grid @ X.T) ** 2, axis=-1)
left.contour(
    *np.moveaxis(grid, -1, 0), cost, np.geomspace(0.02, 90, 12), colors="0.8", linewidths=0.8
)
for name, optimizer, color, marker in (
    ("SGD", SGD(0.06), BLUE, "o"),
    ("momentum", SGD(0.03, momentum=0.6), ORANGE, "s"),
    ("AdaGrad", AdaGrad(1.0), GREEN, "^"),
    ("Adam", Adam(0.4), PURPLE, "D"),
):
    costs, path = descend(optimizer)
    left.plot(*path.T, color=color, marker=marker, markersize=3, linewidth=1)
    right.plot(costs, color=color, label=name)
    print(f"{name} begins: {costs[0]:.6g}")
    print(f"{name} ends: {costs[-1]:.6g}")
left.plot(0, 0, "k*", markersize=11, zorder=5)
left.set(xlabel=r"$\theta_1$", ylabel=r"$\theta_2$", xlim=(-3, 1.2), ylim=(-3.2, 2))
right.set(xlabel="step", ylabel="cost J", yscale="log")
right.legend(frameon=False)
save(figure, "optimizers")

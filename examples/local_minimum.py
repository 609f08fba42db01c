"""A surface with two minima: descent ends in the nearer one, momentum may roll on into the other.

The surface is (theta_1^2 - 1)^2 + 0.3 theta_1 + theta_2^2, written as a custom loss: a function of
outputs and targets that returns the value of each row and its gradient. Momentum can roll out of a
poor minimum, but out of a good one too. It is no search for the best minimum.
"""

import numpy as np
from picture import panels, save

from fastmlp import SGD, Adam, Linear, Sequential
from fastmlp.plot import BLUE, ORANGE, PURPLE

STEPS, START = 120, (1.9, 1.2)


def surface(theta_1, theta_2):
    """Return the height of the surface."""
    return (theta_1**2 - 1) ** 2 + 0.3 * theta_1 + theta_2**2


def height(pred, target):
    """Return the surface as a loss: pred (rows, 2) are the two thetas; target is not used."""
    a, b = pred.T
    return surface(a, b), np.column_stack([4 * a * (a**2 - 1) + 0.3, 2 * b])


def descend(optimizer):
    """Return the thetas before every step and after the last one."""
    net = Sequential([Linear(1, 2, bias=False)], dtype="float64")
    net.load_params(START)
    path = [net.params.copy()]
    for _ in range(STEPS):  # with the input 1 the outputs are the weights
        net.train_step([[1.0]], [[0.0]], loss=height, optimizer=optimizer)
        path.append(net.params.copy())
    return np.array(path)


figure, (left, right) = panels(2)
grid = np.meshgrid(np.linspace(-2, 2.2, 120), np.linspace(-1.6, 1.6, 120))
left.contour(*grid, surface(*grid), np.linspace(-0.25, 8, 18), colors="0.8", linewidths=0.8)
for name, optimizer, color, marker in (
    ("SGD", SGD(0.02), BLUE, "o"),
    ("momentum 0.9", SGD(0.02, momentum=0.9), ORANGE, "s"),
    ("Adam", Adam(0.1), PURPLE, "D"),
):
    path = descend(optimizer)
    left.plot(*path.T, color=color, marker=marker, markersize=3, linewidth=0.9)
    right.plot(surface(*path.T), color=color, label=name)
    print(f"{name}, theta_1 at the end: {path[-1, 0]:.4f}")
    print(f"{name}, height at the end: {surface(*path[-1]):.4f}")
left.set(xlabel=r"$\theta_1$", ylabel=r"$\theta_2$")
right.set(xlabel="step", ylabel="cost J", ylim=(-0.6, 4))
right.legend(frameon=False)
save(figure, "local_minimum")

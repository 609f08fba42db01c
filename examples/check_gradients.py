"""Gradient check: back-propagation against differences of the loss; the Jacobian and the Hessian.

With a large step a difference is wrong because of the curvature, with a small step because of
rounding. With a step between them ten digits agree, but only if back-propagation is right.
"""

import numpy as np
from picture import panels, save

from fastmlp import Linear, Sequential, Tanh, check_gradients
from fastmlp.plot import BLUE, ORANGE

rng = np.random.default_rng(0)
X, y = rng.standard_normal((40, 3)), rng.integers(0, 3, 40)
net = Sequential([Linear(3, 4), Tanh(), Linear(3)], dtype="float64", seed=0)
for line in check_gradients(net, X, y):  # prints a table
    print(f"{line.name}, relative difference: {line.relative:.2e}")

_, gradient = net.gradient(X, y)
start, direction = net.params.copy(), rng.standard_normal(net.n_params)


def loss_at(h):
    """Return the loss after a step h along the direction."""
    net.load_params(start + h * direction)
    loss, _ = net.gradient(X, y)
    net.load_params(start)
    return loss


steps = np.geomspace(1e-13, 1, 53)
slope = gradient @ direction
forward = [abs((loss_at(h) - loss_at(0)) / h - slope) for h in steps]
central = [abs((loss_at(h) - loss_at(-h)) / (2 * h) - slope) for h in steps]
jacobian, hessian = net.jacobian(X), net.hessian(X, y)
print(f"best forward difference, error: {min(forward):.2e}")
print(f"best central difference, error: {min(central):.2e}")
change, h = [], 1e-5  # changes of outputs and gradient along the direction
for side in (h, -h):
    net.load_params(start + side * direction)
    change.append((net.predict(X), net.gradient(X, y)[1]))
outputs, slopes = ((plus - minus) / (2 * h) for plus, minus in zip(*change, strict=True))
print(f"Jacobian, largest difference: {np.abs(jacobian @ direction - outputs).max():.2e}")
print(f"Hessian, largest difference: {np.abs(hessian @ direction - slopes).max():.2e}")

figure, (left, right) = panels(2)
left.loglog(steps, forward, color=ORANGE, label="(J(h) - J(0)) / h")
left.loglog(steps, central, color=BLUE, label="(J(h) - J(-h)) / 2h")
left.set(xlabel="step h", ylabel="distance from the back-propagated slope")
left.legend(frameon=False)
limit = np.abs(hessian).max()
image = right.imshow(hessian, cmap="RdBu_r", vmin=-limit, vmax=limit)
figure.colorbar(image, ax=right, label="second derivative of J")
right.set(xlabel="parameter", ylabel="parameter", title="Hessian")
save(figure, "check_gradients")

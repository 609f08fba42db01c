"""Logistic regression by gradient descent and by Newton's method.

Both minimize the same convex cost from theta = 0. Newton's method divides the gradient by the
Hessian and doubles the correct digits with each step. Gradient descent needs a learning rate.
"""

import warnings

import numpy as np
from picture import panels, save

from fastmlp import ConvergenceWarning, LogisticRegression, binary_cross_entropy
from fastmlp.plot import BLUE, ORANGE, decision_boundary

rng = np.random.default_rng(3)
y = np.repeat([0, 1], 100)
X = rng.standard_normal((200, 2)) * [1.5, 1] + np.where(y[:, None], [1.2, 0.8], [-1.2, -0.8])


def cost(model):
    """Return the mean negative log-likelihood."""
    return binary_cross_entropy(model.decision_function(X)[:, None], y[:, None])[0]


best = LogisticRegression().fit(X, y)
plain = {"solver": "sgd", "batch_size": len(X), "momentum": 0.0, "lr": 1.0}
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)  # stopped on purpose after k steps
    newton = [cost(LogisticRegression(max_steps=k).fit(X, y)) for k in range(1, best.n_steps_ + 1)]
    descent = [cost(LogisticRegression(epochs=k, **plain).fit(X, y)) for k in range(1, 61)]

figure, (left, right) = panels(2)
for costs, name, color, marker in (
    (descent, "gradient descent, lr = 1", BLUE, None),
    (newton, "Newton", ORANGE, "o"),
):
    gap = np.maximum(np.array([np.log(2), *costs]) - cost(best), 1e-16)
    left.plot(gap, label=name, color=color, marker=marker)
    print(f"{name.split(',')[0]}, steps: {len(costs)}")
    print(f"{name.split(',')[0]}, cost above the minimum: {gap[-1]:.3g}")
left.set(xlabel="step", ylabel="cost above its minimum", yscale="log")
left.legend(frameon=False)
decision_boundary(best, X, y, right).legend(framealpha=0.9)
save(figure, "logistic_newton")

"""Softmax regression with two classes is logistic regression.

The softmax of two logits depends on their difference alone: theta = theta_1 - theta_0. The
penalties match if the l2 of softmax is twice as large, because it is spread over two vectors.
"""

import numpy as np
from picture import panels, save

from fastmlp import LogisticRegression, SoftmaxRegression
from fastmlp.plot import BLUE, ORANGE

rng = np.random.default_rng(0)
x = rng.normal(size=(80, 1))
y = (rng.uniform(size=80) < 1 / (1 + np.exp(-(0.5 + 3 * x[:, 0])))).astype(int)

logistic = LogisticRegression(l2=0.5).fit(x, y)
softmax = SoftmaxRegression(l2=1.0).fit(x, y)
grid = np.linspace(-3, 3, 200)[:, None]
curves = [model.predict_proba(grid)[:, 1] for model in (logistic, softmax)]
theta = softmax.coef_[0, 1] - softmax.coef_[0, 0]

figure, (left, right) = panels(2)
for label, color, marker in ((0, BLUE, "o"), (1, ORANGE, "s")):
    at = x[y == label, 0]
    left.plot(at, np.full(len(at), label), marker, color=color, alpha=0.5, markersize=5)
left.plot(grid, curves[0], color="0.7", linewidth=6, label="logistic")
left.plot(grid, curves[1], "k--", linewidth=1.5, label="softmax, 2 classes")
left.set(xlabel="x", ylabel="p(y = 1 | x)")
left.legend(frameon=False)
for c, color, marker in ((0, BLUE, "o"), (1, ORANGE, "s")):
    logits = softmax.decision_function(grid)[:, c]
    right.plot(grid, logits, color=color, marker=marker, markevery=40, label=f"logit {c}, softmax")
right.plot(grid, logistic.decision_function(grid), color="0.7", linewidth=6, label="logistic")
right.plot(grid, np.diff(softmax.decision_function(grid)), "k--", label="logit 1 - logit 0")
right.set(xlabel="x", ylabel="logit", ylim=(-15, 9))
right.legend(frameon=False, loc="lower right", fontsize=9)
print(f"logistic theta: {logistic.coef_[0]:.9f}")
print(f"softmax theta_1 - theta_0: {theta:.9f}")
print(f"largest difference of probabilities: {np.abs(curves[0] - curves[1]).max():.3g}")
save(figure, "softmax_logistic")

"""The four tasks of the lecture with the same hidden layers: only outputs and loss differ."""

import numpy as np
from picture import panels, save

from fastmlp import Adam, Linear, Sequential, Tanh
from fastmlp.plot import BLUE, GREEN, ORANGE, decision_boundary

rng = np.random.default_rng(0)
figure, (regression, binary, classes, labels) = panels(4, width=2.9, height=3.1)


def trained(name, ax, X, y, n_out, loss, metric="accuracy"):
    """Train a network with two hidden layers and write its score on the examples as the title."""
    net = Sequential([Linear(32), Tanh(), Linear(32), Tanh(), Linear(n_out)], seed=0)
    net.fit(X, y, loss=loss, optimizer=Adam(3e-3), batch_size=32, epochs=300)
    score = net.evaluate(X, y, metrics=[metric])[metric]
    ax.set_title(f"{name}: {metric} {score:.2f}", fontsize=10)
    print(f"{name}, {metric}: {score:.4f}")
    return net


# regression: here two values per row
x, grid = rng.uniform(-1, 1, (200, 1)), np.linspace(-1, 1, 200)[:, np.newaxis]
y = np.column_stack([np.sin(4 * x), np.cos(3 * x) * x]) + 0.1 * rng.standard_normal((200, 2))
net = trained("regression", regression, x, y, 2, "squared_error", "r2")
for k, color in enumerate((BLUE, ORANGE)):
    regression.plot(x, y[:, k], ".", color=color, markersize=4, alpha=0.5)
    regression.plot(grid, net.predict(grid)[:, k], color=color, label=f"output {k + 1}")
regression.set(xlabel="x", ylabel="y")
regression.legend(frameon=False, fontsize=9)

# binary: one logit
X = rng.uniform(-1, 1, (300, 2))
y = (np.hypot(*X.T) < 0.7).astype(int)
decision_boundary(trained("binary", binary, X, y, 1, "binary_cross_entropy"), X, y, binary)

# multi-class: one logit per class; exactly one class is right
y, t = rng.integers(0, 3, 300), rng.uniform(0.1, 1, 300)
turn = 2 * np.pi * (y / 3 + 0.6 * t)
X = np.column_stack([t * np.cos(turn), t * np.sin(turn)]) + 0.03 * rng.standard_normal((300, 2))
decision_boundary(trained("multi-class", classes, X, y, 3, "cross_entropy"), X, y, classes)

# multi-label: one logit per label; any number of labels can be right
X, line = rng.uniform(-1, 1, (300, 2)), np.linspace(-1.1, 1.1, 150)
Y = np.column_stack([np.hypot(X[:, 0] - side, X[:, 1]) < 0.6 for side in (-0.3, 0.3)])
net = trained("multi-label", labels, X, Y.astype(float), 2, "binary_cross_entropy")
proba = net.predict_proba(np.stack(np.meshgrid(line, line), -1).reshape(-1, 2))
for k, color in enumerate((BLUE, ORANGE)):
    shape = proba[:, k].reshape(150, 150)
    labels.contourf(line, line, shape, [0.5, 1], colors=color, alpha=0.3)
for k, (color, name) in enumerate((("0.6", "none"), (BLUE, "A"), (ORANGE, "B"), (GREEN, "both"))):
    own = X[k == Y @ [1, 2]]
    labels.scatter(*own.T, s=14, color=color, edgecolors="white", linewidths=0.4, label=name)
labels.set(xlabel="$x_1$", ylabel="$x_2$", ylim=(-1.1, 1.45))
labels.legend(frameon=False, fontsize=8, ncols=4, loc="upper center", handletextpad=0)
save(figure, "tasks")

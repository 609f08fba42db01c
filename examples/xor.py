"""XOR: no line separates the classes, one hidden layer does.

There are four clouds of points; the class is the exclusive or of the signs of the two features. The
line is the most likely one (logistic regression by Newton), so training is not the reason that it
fails. No other line gets more than three of the four corners.
"""

import numpy as np
from picture import panels, save

from fastmlp import Adam, Linear, LogisticRegression, Sequential, Tanh
from fastmlp.plot import decision_boundary

rng = np.random.default_rng(0)
corners = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])
X = np.repeat(corners, 40, axis=0) + 0.23 * rng.standard_normal((160, 2))
y = np.repeat([0, 1, 1, 0], 40)

line = LogisticRegression().fit(X, y)
net = Sequential([Linear(2, 4), Tanh(), Linear(4, 1)], seed=1)
net.fit(X, y, loss="binary_cross_entropy", optimizer=Adam(0.02), batch_size=32, epochs=150)

figure, axes = panels(2, sharey=True)
for ax, model, name in ((axes[0], line, "line"), (axes[1], net, "one hidden layer")):
    proba = model.predict_proba(X)[:, -1]
    accuracy = np.mean((proba > 0.5) == y)
    decision_boundary(model, X, y, ax)
    ax.set_title(f"{name}: accuracy {accuracy:.2f}", fontsize=10)
    print(f"accuracy, {name}: {accuracy:.4f}")
figure.legend(
    *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False
)
save(figure, "xor")

"""The path of the lasso: the features come in one after another as the penalty falls.

There are 200 examples with 30 features, of which five count. Ridge shrinks all coefficients and
drops none.
"""

import numpy as np
from picture import panels, save

from fastmlp import LinearRegression, Ridge, lasso_path
from fastmlp.plot import COLOURS

TRUE = np.zeros(30)
TRUE[:5] = 3.0, -2.0, 1.5, -1.0, 0.6


def examples(n, seed):
    """Draw correlated X (n, 30), and y with noise."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 30)) + 0.5 * rng.standard_normal((n, 1))
    return X, X @ TRUE + 2.0 * rng.standard_normal(n)


(X, y), (held_out, y_held_out) = examples(200, seed=0), examples(2000, seed=1)
l1s, coefs, intercepts = lasso_path(X, y)
ridge = np.column_stack([Ridge(l2).fit(X, y).coef_ for l2 in 10 * l1s])
rmse = np.sqrt(np.mean((held_out @ coefs + intercepts - y_held_out[:, np.newaxis]) ** 2, axis=0))
best = int(rmse.argmin())
free = LinearRegression().fit(X, y)

figure, axes = panels(3, width=3.6, height=3.3)
for ax, path, name in ((axes[0], coefs, "lasso"), (axes[1], ridge, "ridge")):
    for j, line in enumerate(path):
        counts = TRUE[j] != 0
        color, label = (COLOURS[j], f"$w_{j + 1}$") if counts else ("0.7", None)
        ax.plot(l1s, line, color=color, label=label, linewidth=1.8 if counts else 0.8)
    ax.set(xscale="log", title=name, ylabel="coefficient", ylim=(-2.6, 3.4))
    ax.invert_xaxis()
axes[0].axvline(l1s[best], color="0.4", linestyle="--", linewidth=1)
axes[0].set_xlabel("l1")
axes[1].set(xlabel="l2 / 10")
axes[1].legend(frameon=False, fontsize=9, ncols=2, loc="upper left")
axes[2].semilogx(l1s, rmse, color=COLOURS[0])
axes[2].axvline(l1s[best], color="0.4", linestyle="--", linewidth=1, label="best l1")
axes[2].set(xlabel="l1", ylabel="RMSE on 2,000 other examples", title="lasso")
axes[2].invert_xaxis()
axes[2].legend(frameon=False, fontsize=9)
early = np.argsort(np.sum(coefs != 0, axis=1))[::-1][:5]  # in use for most l1: came in first
print(f"features that count among the first five: {np.sum(early < 5):d}")
print(f"features in use at the best l1: {np.count_nonzero(coefs[:, best]):d}")
print(f"zeros of ridge: {np.count_nonzero(ridge == 0):d}")
print(f"RMSE of the best lasso: {rmse[best]:.4f}")
print(f"RMSE of least squares: {np.sqrt(np.mean((free.predict(held_out) - y_held_out) ** 2)):.4f}")
save(figure, "lasso_path")

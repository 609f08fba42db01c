"""Ridge keeps the parameters in a circle, lasso in a diamond, which touches at its corners.

The ellipses are lines of equal cost |y - X theta|^2 about the least-squares solution (star). The
penalized solution is the point where the smallest of them touches the circle or the diamond.
"""

import numpy as np
from picture import panels, save

from fastmlp import Lasso, LinearRegression, Ridge
from fastmlp.plot import BLUE, ORANGE

rng = np.random.default_rng(1)
X = rng.standard_normal((60, 2)) @ [[1, 0.3], [0.3, 0.8]]
y = X @ [2.0, 0.6] + 0.5 * rng.standard_normal(60)

free = LinearRegression(fit_intercept=False).fit(X, y)
grid = np.stack(np.meshgrid(np.linspace(-1.6, 3.2, 120), np.linspace(-1.6, 2.2, 120)), axis=-1)
cost = np.sum((y - grid @ X.T) ** 2, axis=-1)
angle = np.linspace(0, 2 * np.pi, 200)
diamond = np.array([[1, 0], [0, 1], [-1, 0], [0, -1], [1, 0]])

figure, axes = panels(2, height=4, sharey=True)
for ax, name, model, color in (
    (axes[0], "ridge", Ridge(l2=50, fit_intercept=False), BLUE),
    (axes[1], "lasso", Lasso(l1=55, fit_intercept=False), ORANGE),
):
    theta = model.fit(X, y).coef_
    touching = float(np.sum((y - X @ theta) ** 2))
    lowest = float(np.sum((y - X @ free.coef_) ** 2))
    levels = lowest + (touching - lowest) * np.array([0.1, 0.35, 0.7, 1, 1.6, 2.4])
    ax.contour(
        *np.moveaxis(grid, -1, 0),
        cost,
        levels,
        colors=["0.65"] * 3 + ["black"] + ["0.65"] * 2,
        linewidths=0.9,
    )
    if name == "ridge":
        edge = np.linalg.norm(theta) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    else:
        edge = np.abs(theta).sum() * diamond
    ax.fill(*edge.T, color=color, alpha=0.3)
    ax.plot(*edge.T, color=color)
    ax.plot(*free.coef_, "k*", markersize=11)
    ax.plot(*theta, "o", color=color, markeredgecolor="black", markersize=8)
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.set(xlabel=r"$\theta_1$", aspect="equal")
    ax.set_title(rf"{name}: $\theta$ = ({theta[0]:.2f}, {theta[1]:.2f})", fontsize=10)
    print(f"{name} theta_1: {theta[0]:.9g}")
    print(f"{name} theta_2: {theta[1]:.9g}")
axes[0].set_ylabel(r"$\theta_2$")
save(figure, "ridge_lasso")

"""Regression with radial basis functions exp(-|x - mu|^2 / lambda), one on each training point.

lambda sets the reach of a point: if it is too small, the curve is a row of bumps; if it is too
large, the curve is too stiff. The weights are those of ridge regression.
"""

import numpy as np
from picture import panels, save

from fastmlp import RBFBasis, Ridge
from fastmlp.plot import BLUE

rng = np.random.default_rng(0)
x = rng.uniform(0, 10, (40, 1))
grid = np.linspace(0, 10, 400)[:, None]


def curve(x):
    """Return the curve from which the examples are drawn."""
    return np.sin(x[:, 0]) + 0.1 * x[:, 0]


y = curve(x) + 0.2 * rng.standard_normal(len(x))
figure, axes = panels(3, height=3, sharey=True)
for ax, lam in zip(axes, (0.02, 2.0, 200.0), strict=True):
    basis = RBFBasis(lam=lam)
    model = Ridge(l2=0.05).fit(basis.fit_transform(x), y)
    predicted = model.predict(basis.transform(grid))
    rmse = float(np.sqrt(np.mean((predicted - curve(grid)) ** 2)))
    ax.plot(grid, curve(grid), color="0.75", linewidth=4, label="truth")
    ax.plot(grid, predicted, color=BLUE, label="RBF regression")
    ax.plot(x, y, "k.", markersize=4, label="examples")
    ax.set_title(rf"$\lambda$ = {lam:g}: RMSE {rmse:.2f}", fontsize=10)
    ax.set(xlabel="x")
    print(f"RMSE with lambda {lam:g}: {rmse:.4f}")
axes[0].set(ylabel="y")
axes[2].legend(frameon=False, fontsize=9)
save(figure, "rbf_regression")

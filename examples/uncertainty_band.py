"""Maximum likelihood gives the spread of y too, and with it a confidence in the prediction.

sigma_ML = sqrt(|y - X theta|^2 / rows). The band is two predictive standard deviations. They
combine the spread about the curve and the uncertainty of the curve, so the band widens where the
data end.
"""

import numpy as np
from picture import panels, save

from fastmlp import LinearRegression, PolynomialBasis
from fastmlp.plot import BLUE, residuals

SIGMA = 0.4
rng = np.random.default_rng(0)


def draw(n):
    """Draw inputs in [-1, 1] and a cubic of them with noise."""
    x = rng.uniform(-1, 1, (n, 1))
    return x, 3 * x[:, 0] ** 3 - x[:, 0] + SIGMA * rng.standard_normal(n)


basis = PolynomialBasis(degree=3)
x, y = draw(60)
model = LinearRegression().fit(basis.fit_transform(x), y)
x_new, y_new = draw(20_000)
mean, std = model.predict(basis.transform(x_new), return_std=True)
print(f"sigma of the noise: {SIGMA}")
print(f"sigma_ML: {model.sigma_ml_:.4f}")
print(f"new observations inside the band: {np.mean(np.abs(y_new - mean) < 2 * std):.4f}")

figure, (left, middle, right) = panels(3, width=3.7, height=3.2)
grid = np.linspace(-1.4, 1.4, 200)[:, None]
mean, std = model.predict(basis.transform(grid), return_std=True)
band = mean - 2 * std, mean + 2 * std
left.fill_between(grid[:, 0], *band, color=BLUE, alpha=0.2, lw=0, label="2 std. deviations")
left.plot(grid, mean, color=BLUE, label="cubic fitted")
left.plot(x, y, "k.", label="examples")
left.set(xlabel="x", ylabel="y", ylim=(-5, 5))
left.legend(frameon=False, fontsize=9)
middle.plot(grid, std, color=BLUE, label="predictive std. deviation")
middle.plot(x, np.zeros(len(x)), "k|", markersize=9)
middle.set(xlabel="x", ylabel="standard deviation of y", ylim=(0, None))
residuals(y, model.predict(basis.transform(x)), right)
middle.axhline(model.sigma_ml_, color="0.4", linestyle="--", linewidth=1, label=r"$\sigma_{ML}$")
middle.legend(frameon=False, fontsize=9, loc=(0.1, 0.2))
save(figure, "uncertainty_band")

"""Two confidence bands for noise that depends on x, from two networks.

One also predicts the variance (Gaussian negative log-likelihood), the other predicts quantiles
(pinball loss). sigma_ML is one number for all x; these networks learn how the noise varies with x.
"""

import numpy as np
from picture import panels, save

from fastmlp import Adam, CosineDecay, GaussianNLL, Linear, Pinball, Sequential, Tanh
from fastmlp.plot import BLUE, ORANGE

rng = np.random.default_rng(0)


def draw(n):
    """Draw a sine whose noise grows from left to right."""
    x = rng.uniform(0, 1, (n, 1))
    return x, np.sin(6 * x) + (0.05 + 0.45 * x) * rng.standard_normal((n, 1))


def fitted(loss, n_out):
    """Train a network with two hidden layers of 32 units on this loss."""
    net = Sequential([Linear(1, 32), Tanh(), Linear(32, 32), Tanh(), Linear(32, n_out)], seed=0)
    optimizer = Adam(CosineDecay(5e-3, steps=4000))
    net.fit(x, y, loss=loss, optimizer=optimizer, batch_size=100, epochs=400)
    return net


x, y = draw(1000)
x_new, y_new = draw(20_000)
grid = np.linspace(0, 1, 200)[:, None]


def gaussian_band(net, x):
    """Return the mean and the central 90 % of the predicted Gaussian: (low, mean, high)."""
    mean, std = net.predict_response(x).T
    return mean - 1.645 * std, mean, mean + 1.645 * std


gaussian = fitted(GaussianNLL(), 2)
quantiles = fitted(Pinball((0.05, 0.5, 0.95)), 3)
figure, axes = panels(2, sharey=True)
for name, color, ax, band in (
    ("Gaussian", BLUE, axes[0], lambda x: gaussian_band(gaussian, x)),
    ("quantiles", ORANGE, axes[1], lambda x: quantiles.predict_response(x).T),
):
    low, _, high = band(x_new)
    inside = np.mean((y_new[:, 0] > low) & (y_new[:, 0] < high))
    print(f"{name}, share inside the band: {inside:.3f}")
    low, middle, high = band(grid)
    print(f"{name}, width of the band right over left: {(high - low)[-1] / (high - low)[0]:.2f}")
    ax.plot(x[:300], y[:300], "k.", markersize=3, alpha=0.5)
    ax.fill_between(grid[:, 0], low, high, color=color, alpha=0.3, lw=0, label="90 %")
    ax.plot(grid, middle, color=color, label=f"{name}: {'mean' if ax is axes[0] else 'median'}")
    ax.set(xlabel="x", ylabel="y" if ax is axes[0] else "")
    ax.legend(frameon=False)
save(figure, "intervals")

"""Inputs of very different size: without normalization the cost is a gorge, and training crawls.

In the lecture's case x_1 is in 1 .. 1000 and x_2 in 0 .. 1. The largest rate that converges depends
on x_1; at that rate the weight of x_2 hardly moves. The layer Standardize stores mean and standard
deviation of the inputs inside the network, which then takes raw inputs.
"""

import numpy as np
from picture import panels, save

from fastmlp import SGD, Linear, LinearRegression, Sequential, Standardize
from fastmlp.plot import BLUE, ORANGE

STEPS = 40
rng = np.random.default_rng(0)
X = np.column_stack([rng.uniform(1, 1000, 200), rng.uniform(0, 1, 200)])
y = X @ [[0.004], [4.0]] + 0.1 * rng.standard_normal((200, 1))
noise = LinearRegression().fit(X, y).sigma_ml_[0] ** 2
print(f"smallest cost: {noise:.5f}")

figure, axes = panels(3, width=3.6, height=3.3)
for ax, name, first, color in (
    (axes[0], "raw inputs", [], ORANGE),
    (axes[1], "Standardize()", [Standardize()], BLUE),
):
    layer = Linear(1, init="zeros")
    net = Sequential([*first, layer], n_in=2, dtype="float64")
    for standardize in first:
        standardize.adapt(X)
    hessian = net.hessian(X, y, loss="squared_error")
    values = np.linalg.eigvalsh(hessian)
    lr = 1.9 / values[-1]  # 2 / the largest eigenvalue is the limit
    costs, path = [], []
    for _ in range(STEPS + 1):
        path.append(net.params.copy())
        costs.append(net.train_step(X, y, loss="squared_error", optimizer=SGD(lr)))
    center = net.params - np.linalg.solve(hessian, net.gradient(X, y, loss="squared_error")[1])
    path = np.array(path) - center
    reach = 1.25 * np.abs(path[:, :2]).max(axis=0)
    w1, w2 = np.meshgrid(*(np.linspace(-r, r, 120) for r in reach))
    w = np.stack([w1, w2, np.zeros_like(w1)], axis=-1)  # a grid of weights, with the best bias
    cost = np.einsum("...i,ij,...j->...", w, hessian, w) / 2 + noise
    ax.contour(w1, w2, cost, np.geomspace(0.03, cost.max(), 12), colors="0.8", linewidths=0.8)
    ax.plot(path[:, 0], path[:, 1], "o-", color=color, markersize=3, linewidth=0.9)
    ax.plot(0, 0, "k*", markersize=11, zorder=5)
    ax.set(xlabel=r"$w_1$ less its best", ylabel=r"$w_2$ less its best", title=name)
    axes[2].semilogy(costs, color=color, label=f"{name}, lr = {lr:.2g}")
    print(f"{name}, condition of the Hessian: {values[-1] / values[0]:.3g}")
    print(f"{name}, cost after {STEPS} steps: {costs[-1]:.5f}")
axes[2].axhline(noise, color="0.6", linestyle="--", linewidth=1, label="smallest cost")
axes[2].set(xlabel="step", ylabel="cost J")
axes[2].legend(frameon=False, fontsize=9)
save(figure, "standardize")

"""BFGS, L-BFGS and Levenberg-Marquardt on a small network, next to gradient descent and Adam.

All take the same number of steps over all rows. Second-order methods estimate the curvature from
gradients (BFGS), from the last few of them (L-BFGS), or from the Jacobian (Levenberg-Marquardt).
They need far fewer steps. Each step costs more, and the cost grows with the number of parameters.
"""

import numpy as np
from picture import panels, save

from fastmlp import BFGS, LBFGS, SGD, Adam, LevenbergMarquardt, Linear, Sequential, Tanh
from fastmlp.plot import BLUE, GREEN, ORANGE, PURPLE

STEPS = 300
x = np.linspace(-3, 3, 100)[:, None]
y = np.sin(2 * x) + 0.5 * np.cos(3 * x)

figure, (left, right) = panels(2)
right.plot(x, y, color="0.7", linewidth=5, label="target")
for name, optimizer, color in (
    ("gradient descent", SGD(0.05), "0.4"),
    ("Adam", Adam(0.02), PURPLE),
    ("L-BFGS", LBFGS(), BLUE),
    ("BFGS", BFGS(), GREEN),
    ("Levenberg-Marquardt", LevenbergMarquardt(), ORANGE),
):
    net = Sequential([Linear(1, 10), Tanh(), Linear(10, 1)], dtype="float64", seed=2)
    history = net.fit(
        x, y, loss="squared_error", optimizer=optimizer, batch_size=len(x), epochs=STEPS
    )
    loss = net.evaluate(x, y)["loss"]
    left.semilogy(np.arange(1, len(history["loss"]) + 1), history["loss"], color=color, label=name)
    if name in ("gradient descent", "Levenberg-Marquardt"):
        right.plot(x, net.predict(x), color=color, label=name)
    print(f"{name}, loss: {loss:.3e}")
left.set(xlabel="step", ylabel="loss")
left.legend(frameon=False, fontsize=9)
right.set(xlabel="x", ylabel="y", ylim=(-1.6, 2.6))
right.legend(frameon=False, fontsize=9, loc="upper left")
save(figure, "quasi_newton")

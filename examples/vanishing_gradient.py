"""The vanishing gradient: ten hidden layers of sigmoids against ten of ReLUs.

The slope of the sigmoid is at most 1/4, so the gradient shrinks with every layer on its way back.
The slope of ReLU is 1 if the unit is on. Each network has the initialization that suits it.
"""

import numpy as np
from picture import panels, save

from fastmlp import Adam, GradientNorms, Linear, ReLU, Sequential, Sigmoid
from fastmlp.plot import BLUE, ORANGE, gradient_norms

DEPTH, WIDTH = 10, 32
rng = np.random.default_rng(0)
X = rng.standard_normal((512, 2))
y = (np.hypot(*X.T) > 1.18).astype(int)  # inside or outside a circle

figure, (left, right) = panels(2)
for name, activation, color, marker in (
    ("sigmoid", Sigmoid, BLUE, "o"),
    ("ReLU", ReLU, ORANGE, "s"),
):
    hidden = [layer for _ in range(DEPTH) for layer in (Linear(WIDTH), activation())]
    net = Sequential([*hidden, Linear(2)], n_in=2, seed=0)
    watch = GradientNorms()
    history = net.fit(X, y, optimizer=Adam(1e-3), batch_size=len(X), epochs=100, callbacks=[watch])
    gradient_norms(watch.norms[0], left, label=name, color=color, marker=marker)
    right.plot(history["loss"], label=name, color=color)
    print(
        f"{name}, gradient of layer 1 over layer {DEPTH}: "
        f"{watch.norms[0, 0] / watch.norms[0, DEPTH - 1]:.3g}"
    )
    print(f"{name}, loss after training: {history['loss'][-1]:.4f}")
left.set_ylabel("norm of dJ/dW in step 1")
left.legend(frameon=False)
right.axhline(np.log(2), color="0.6", linestyle="--", linewidth=1, label="guessing, log 2")
right.set(xlabel="step", ylabel="loss", ylim=(0, None))
right.legend(frameon=False)
save(figure, "vanishing_gradient")

"""One hidden layer approximates a curve, the better the wider it is.

The same target and the same training for 2, 8 and 64 tanh units.
"""

import numpy as np
from picture import panels, save

from fastmlp import Adam, CosineDecay, Linear, Sequential, Tanh
from fastmlp.plot import BLUE

EPOCHS = 4000
x = np.linspace(-3, 3, 200)[:, None]
y = np.sin(2 * x) + 0.5 * np.cos(5 * x)

figure, axes = panels(3, height=3, sharey=True)
for ax, width in zip(axes, (2, 8, 64), strict=True):
    net = Sequential([Linear(1, width, init="xavier_normal"), Tanh(), Linear(width, 1)], seed=1)
    rate = CosineDecay(0.02, steps=EPOCHS)
    net.fit(x, y, optimizer=Adam(rate), batch_size=len(x), epochs=EPOCHS)
    rmse = net.evaluate(x, y, metrics=["rmse"])["rmse"]
    ax.plot(x, y, color="0.7", linewidth=5, label="target")
    ax.plot(x, net.predict(x), color=BLUE, label="network")
    ax.set_title(f"{width} hidden units: RMSE {rmse:.3f}", fontsize=10)
    ax.set(xlabel="x")
    print(f"RMSE with {width} units: {rmse:.5f}")
axes[0].set(ylabel="y")
axes[0].legend(frameon=False, loc="lower left", fontsize=9)
save(figure, "universal_approximation")

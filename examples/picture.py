"""Shared by the examples: panels to draw on, and the place of the picture."""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

plt.switch_backend("Agg")
GALLERY = Path(__file__).parent.parent / "docs" / "gallery"
plt.rcParams |= {"axes.spines.top": False, "axes.spines.right": False, "font.size": 10}


def panels(columns, width=4.2, height=3.6, **settings):
    """Return a figure and its axes, side by side."""
    size = (width * columns, height)
    return plt.subplots(1, columns, figsize=size, dpi=90, layout="constrained", **settings)


def save(figure, name):
    """Write docs/gallery/<name>.png, or the path given on the command line, in 256 colors."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else GALLERY / f"{name}.png"
    figure.canvas.draw()
    image = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)

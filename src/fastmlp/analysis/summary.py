"""The layers of a network as a table."""

from collections.abc import Sequence

import numpy as np

from ..layers import Dropout, Layer
from ..layers.residual import Residual
from ..network.network import Network


def table(rows: Sequence[Sequence[str]], header: Sequence[str] = (), indent: str = "  ") -> str:
    """Return a text table whose first column is aligned left and the others right."""
    lines = [list(header), *map(list, rows)] if header else [list(row) for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]

    def cell(i: int, text: str) -> str:
        return text.rjust(widths[i]) if i else text.ljust(widths[i])

    return "\n".join(
        (indent + "  ".join(cell(i, text) for i, text in enumerate(line))).rstrip()
        for line in lines
    )


def summary_of(net: Network) -> str:
    """See Sequential.summary."""
    rows = _lines(net, net.layers, net.n_in)
    rows.append(["total", "", "", f"{net.n_params:,}"])
    return table(rows, ["layer", "in", "out", "parameters"])


def _lines(net: Network, layers: Sequence[Layer], width: int, indent: str = "") -> list[list[str]]:
    """Return one row per layer; the layers inside a block follow it, indented."""
    rows = []
    for layer in layers:
        n_out = layer.width_out(width) or width
        arrays = [a for _, leaf in layer.named_leaves("") for a in leaf.arrays().values()]
        size = sum(a.size for a in arrays if np.may_share_memory(a, net.params))  # no statistics
        name = type(layer).__name__ + (f"({layer.p:g})" if isinstance(layer, Dropout) else "")
        rows.append([indent + name, f"{width:,}", f"{n_out:,}", f"{size:,}" if size else "-"])
        if isinstance(layer, Residual):
            rows += _lines(net, layer.layers, width, indent + "  ")
        width = n_out
    return rows

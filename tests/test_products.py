"""Matrix products of every size have the bits of their parts: of a row alone, of a column alone.

Shapes are those where another way begins: packed, transposed, classic blocking, whole tiles and
what is left of them.
"""

import numpy as np
import pytest
from helpers import native_only

from fastmlp import Linear, Sequential

SHAPES = [  # rows, n_in, n_out
    (256, 1030, 40),  # the left operand fills L2, one column block, two chains
    (131, 2100, 1100),  # several column blocks, three chains; input gradients over two
    (64, 784, 252),  # rows of W cross cache lines
    (32, 33, 1300),
    (200, 3000, 130),
    (8, 300, 48),  # 4 + 4 rows
    (14, 20, 17),
    (300, 256, 512),  # left operands of weight gradients in parts
    (1500, 257, 300),  # sums over rows begin anew
]


def made(rows: int, n_in: int, n_out: int, dtype: str) -> tuple[Sequential, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rows + n_in)
    net = Sequential([Linear(n_in, n_out)], dtype=dtype)
    net.params[:] = rng.standard_normal(net.n_params)
    return net, rng.standard_normal((rows, n_in)), rng.standard_normal((rows, n_out))


@native_only
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_have_the_bits_of_their_parts(shape: tuple[int, int, int], dtype: str) -> None:
    rows, _, n_out = shape
    net, x, dz = made(*shape, dtype)
    z, dx = net.forward(x), net.backward(dz)
    dw, db = net.layers[0].weight_grad.copy(), net.layers[0].bias_grad.copy()
    eps = np.finfo(dtype).eps
    weight = net.layers[0].weight.astype(np.float64)
    for found, parts in ((z, (x, weight)), (dx, (dz, weight.T)), (dw, (x.T, dz))):
        bound = 4 * eps * np.sqrt(parts[0].shape[1]) * (np.abs(parts[0]) @ np.abs(parts[1]))
        offset = net.layers[0].bias if found is z else 0
        assert (np.abs(found - offset - parts[0] @ parts[1]) <= bound + 4 * eps).all()
    for r in {0, 5, rows // 2, rows - 1}:
        assert np.array_equal(net.forward(x[r : r + 1])[0], z[r])
        assert np.array_equal(net.backward(dz[r : r + 1])[0], dx[r])
    for j in {0, n_out // 2, n_out - 1}:
        column = Sequential([Linear(x.shape[1], 1)], dtype=dtype)
        column.forward(x)
        column.backward(dz[:, j : j + 1])
        assert np.array_equal(column.layers[0].weight_grad[:, 0], dw[:, j])
        assert np.array_equal(column.layers[0].bias_grad, db[j : j + 1])

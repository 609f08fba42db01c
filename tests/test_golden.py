"""Ten losses of four small problems, as literals: a change of any formula, or of this oracle,
shows.

Weights and data are whole numbers over powers of two, so that no random generator and no libm is
part of the promise. The literals came from reference.py in float64: run this file to print them
anew."""

import numpy as np
import pytest
import reference
from helpers import DTYPES, linears, rounding, settings, twin

import fastmlp
from fastmlp import SGD, Adam, AdamW, Linear, Sequential

ROWS, N_IN, N_OUT, STEPS = 12, 4, 3, 10


def lattice(rows, n, a, b):
    """Whole numbers from -16 to 16 over 16, that look irregular."""
    i, j = np.arange(rows)[:, None], np.arange(n)
    return ((a * i + b * j + i * j * j) % 33 - 16) / 16


PROBLEMS = {
    "softmax": ("Tanh", "cross_entropy", Adam(lr=0.05)),
    "multi-label": ("ReLU", "binary_cross_entropy", AdamW(lr=0.05, weight_decay=0.1)),
    "regression": ("GELU", "squared_error", SGD(lr=0.1, momentum=0.9, nesterov=True)),
    "lecture": ("Sigmoid", "cross_entropy", SGD(lr=0.5, momentum=0.8, averaged=True)),
}

GOLDEN = {
    "softmax": [
        1.3559103732045146,
        1.3116536444618978,
        1.4360439367488438,
        0.6381889319385649,
        0.9094741872705872,
        1.2057026324690905,
        0.44297225003702545,
        0.7392561589270022,
        1.103030286676057,
        0.3888009818996462,
    ],
    "multi-label": [
        0.7574653725467392,
        0.932167685907169,
        0.6655822933982748,
        0.6465404297870223,
        0.7863047851248816,
        0.6632563807529145,
        0.649417961403482,
        0.7413656081540907,
        0.6540774296055499,
        0.651447832631762,
    ],
    "regression": [
        1.0222389779092516,
        1.585990402933609,
        0.25574356127812087,
        0.37918795671352273,
        0.3654479107146505,
        0.29448212491164866,
        0.34669740546230443,
        0.31090391219167174,
        0.32415224789001723,
        0.3032387941322272,
    ],
    "lecture": [
        1.2315454691355816,
        1.05742207659863,
        1.315228578650006,
        1.1232900100004533,
        1.050619372179587,
        1.1908149603725215,
        1.0436949402075713,
        1.0888276025386854,
        1.1202662558187293,
        1.031536556150643,
    ],
}


def build(name, dtype):
    activation = getattr(fastmlp, PROBLEMS[name][0])
    layers = [Linear(N_IN, 6), activation(), Linear(6, 5), activation(), Linear(5, N_OUT)]
    net = Sequential(layers, dtype=dtype)
    for k, layer in enumerate(linears(net)):
        layer.weight[...] = lattice(*layer.weight.shape, 7 + k, 5)
        layer.bias[...] = lattice(1, len(layer.bias), 0, 11 + k)[0] / 4
    return net


def batches(name):
    """Three batches of four rows, again and again."""
    x = lattice(ROWS, N_IN, 3, 10) * 2
    y = lattice(ROWS, N_OUT, 13, 4)
    if PROBLEMS[name][1] == "cross_entropy":
        y = (np.arange(ROWS) * 7 // 3) % N_OUT
    if PROBLEMS[name][1] == "binary_cross_entropy":
        y = (y + 1) / 2
    for t in range(STEPS):
        part = slice(t % 3 * 4, t % 3 * 4 + 4)
        yield x[part], y[part]


def reference_losses(name):
    _, loss, optimizer = PROBLEMS[name]
    rule, hyper = settings(optimizer)
    return reference.train(twin(build(name, "float64")), batches(name), loss, rule, **hyper)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_oracle_gives_the_golden_losses(name):
    np.testing.assert_allclose(
        reference_losses(name), GOLDEN[name], rtol=rounding("float64", STEPS, c=64)
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_first_ten_losses(name, dtype):
    """Rounding grows a little with every step of training, whence c."""
    _, loss, optimizer = PROBLEMS[name]
    net = build(name, dtype)
    losses = [
        net.train_step(
            x.astype(dtype),
            y if loss == "cross_entropy" else y.astype(dtype),
            loss=loss,
            optimizer=optimizer,
        )
        for x, y in batches(name)
    ]
    np.testing.assert_allclose(losses, GOLDEN[name], rtol=rounding(dtype, STEPS, c=64))
    assert losses[-1] < losses[0]


if __name__ == "__main__":
    for problem in PROBLEMS:
        print(f'    "{problem}": [')
        for value in reference_losses(problem):
            print(f"        {value!r},")
        print("    ],")

"""predict_row: one row at a time, with the bits of predict."""

import threading

import numpy as np
import pytest

import fastmlp
from fastmlp import Callback, Linear, ReLU, Sequential, layers

ROW = np.linspace(-1, 1, 5)
OTHER_LAYERS = sorted(set(layers.LAYERS) - {"Linear", *layers.ACTIVATION_CLASSES})


def small_net(dtype: str = "float32") -> Sequential:
    return Sequential([Linear(5, 7, seed=1), ReLU(), Linear(7, 3, seed=2)], dtype=dtype)


native_only = pytest.mark.skipif(
    fastmlp.get_config()["gemm"] != "native", reason="a BLAS gives other bits for other shapes"
)


@native_only
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(layers.ACTIVATION_CLASSES))
def test_rows_alone_equal_rows_in_a_batch(name: str, dtype: str) -> None:
    activation = layers.ACTIVATION_CLASSES[name]
    net = Sequential(
        [Linear(9, 70), activation(), layers.Dropout(0.5), Linear(70, 3)], seed=3, dtype=dtype
    )
    x = np.random.default_rng(0).standard_normal((37, 9)).astype(dtype)
    alone = np.array([net.predict_row(row) for row in x])
    assert alone.tobytes() == net.predict(x).tobytes()


@native_only
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OTHER_LAYERS)
def test_rows_alone_equal_rows_in_a_batch_for_every_other_layer(name: str, dtype: str) -> None:
    kind = layers.LAYERS[name]
    made = kind([Linear(70)]) if name == "Residual" else kind()
    stack = [Linear(70), made, ReLU(), Linear(3)]
    if name == "Standardize":
        stack = [made, Linear(70), ReLU(), Linear(3)]
    net = Sequential(stack, n_in=9, seed=3, dtype=dtype)
    x = np.random.default_rng(0).standard_normal((37, 9)).astype(dtype)
    net.fit(x, x[:, :3], loss="squared_error", epochs=2)
    alone = np.array([net.predict_row(row) for row in x])
    assert alone.tobytes() == net.predict(x).tobytes()


@native_only
def test_a_row_too_wide_for_the_stack() -> None:
    net = Sequential([Linear(3, 20_000, seed=0), ReLU(), Linear(20_000, 2, seed=1)])
    x = np.float32([[0.5, -1, 2]])
    assert net.predict_row(x[0]).tobytes() == net.predict(x).tobytes()


def test_out_is_written_and_returned() -> None:
    net, out = small_net(), np.zeros(3, np.float32)
    assert net.predict_row(ROW.astype(np.float32), out) is out
    np.testing.assert_array_equal(out, net.predict(ROW[np.newaxis])[0])


@pytest.mark.parametrize("x", [ROW, ROW.tolist(), ROW.astype(np.float16), np.repeat(ROW, 2)[::2]])
def test_other_rows_are_converted(x: object) -> None:
    net = small_net()
    np.testing.assert_array_equal(
        net.predict_row(x), net.predict(np.asarray(x, np.float32)[np.newaxis])[0]
    )


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (ROW[:4], ValueError, "expected one row of 5 numbers"),
        (ROW[np.newaxis], ValueError, "expected one row of 5 numbers"),
        (np.array([1, 2, np.nan, 4, 5]), ValueError, "x holds NaN at column 2"),
        (np.array([1, 2, np.inf, 4, 5], np.float32), ValueError, "infinity"),
        (["a"] * 5, TypeError, "numbers are needed"),
    ],
)
def test_bad_rows(x: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        small_net().predict_row(x)


@pytest.mark.parametrize(
    "out", [np.zeros(3), np.zeros(4, np.float32), [0, 0, 0], np.zeros(6, np.float32)[::2]]
)
def test_bad_outputs(out: object) -> None:
    with pytest.raises((ValueError, TypeError), match="out"):
        small_net().predict_row(ROW, out)


def test_a_read_only_output_is_refused() -> None:
    out = np.zeros(3, np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        small_net().predict_row(ROW, out)
    assert not out.any()


def test_refused_while_another_thread_trains() -> None:
    refusals = []

    class Ask(Callback):
        def on_epoch_end(self, run: object) -> None:
            def ask() -> None:
                try:
                    net.predict_row(ROW)
                except RuntimeError as error:
                    refusals.append(str(error))

            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()

    net = small_net()
    net.fit(np.ones((8, 5)), np.zeros(8, int), epochs=1, callbacks=[Ask()])
    assert "already running in another thread" in refusals[0]

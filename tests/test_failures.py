"""What a refused or failed call leaves behind: nothing lost, nothing half done."""

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import (
    SGD,
    Adam,
    BatchNorm,
    Callback,
    DivergenceError,
    Dropout,
    EarlyStopping,
    Linear,
    ReLU,
    RMSprop,
    Sequential,
    Standardize,
)
from fastmlp.metrics import r2

RNG = np.random.default_rng(0)
X = RNG.standard_normal((96, 4)).astype(np.float32)
Y = RNG.integers(0, 3, 96)


def make_net(**settings: Any) -> Sequential:
    return Sequential([Linear(4, 8), ReLU(), Linear(8, 3)], seed=1, **settings)


def trained() -> Sequential:
    net = make_net()
    net.fit(X, Y, epochs=2, batch_size=32, optimizer=Adam())
    return net


def state_of(net: Sequential) -> tuple[Any, ...]:
    assert net._state is not None
    context = net._engine.context
    arrays = [net.params.tobytes(), *(part.tobytes() for part in net._state)]
    return *arrays, net.optimizer, net.loss, id(net.history), context.t, context.position


@pytest.mark.parametrize(
    "bad",
    [
        {"metrics": ["nope"]},
        {"verbose": 7},
        {"epochs": -1},
        {"batch_size": 0},
        {"threads": 0},
        {"callbacks": ["stop"]},
        {"callbacks": [EarlyStopping()]},
        {"validation_split": 2.0},
    ],
    ids=lambda bad: next(iter(bad)),
)
def test_a_refused_fit_changes_nothing(bad: dict[str, Any]) -> None:
    net = trained()
    before = state_of(net)
    with pytest.raises((ValueError, TypeError)):
        net.fit(X, np.zeros((96, 3)), loss="squared_error", optimizer=SGD(), **bad)
    assert state_of(net) == before


def test_a_batch_that_is_too_small_for_batch_norm_changes_nothing() -> None:
    net = Sequential([Standardize(), Linear(4, 8), BatchNorm(), Linear(8, 3)], seed=1)
    net.fit(X, Y, epochs=1, batch_size=32, optimizer=Adam())
    before = state_of(net)
    with pytest.raises(ValueError, match="BatchNorm needs at least 2 rows"):
        net.fit(X, Y, batch_size=19, optimizer=SGD())
    assert state_of(net) == before
    fresh = Sequential([Standardize(), Linear(4, 8), BatchNorm(), Linear(8, 3)], seed=1)
    with pytest.raises(ValueError, match="BatchNorm needs at least 2 rows"):
        fresh.fit(X, Y, batch_size=19)
    assert fresh._standardize is not None
    assert not fresh._standardize.is_adapted


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"sample_weight": np.ones(95)}, "sample_weight"),
        ({"sample_weight": -np.ones(96)}, "sample_weight"),
        ({"class_weight": "balanced"}, "class_weight needs one class a row"),
    ],
)
def test_weights_for_levenberg_marquardt_are_refused_before_any_work(
    weights: dict[str, object], message: str
) -> None:
    net = trained()
    before = state_of(net)
    with pytest.raises(ValueError, match=message):
        net.fit(
            X,
            np.zeros((96, 3)),
            loss="squared_error",
            optimizer="levenberg_marquardt",
            **weights,
        )
    assert state_of(net) == before


def test_an_update_from_another_thread_does_not_touch_the_state_of_a_fit() -> None:
    refused: list[RuntimeError] = []

    class Update(Callback):
        def on_epoch_end(self, run: Any) -> None:
            def update() -> None:
                try:
                    run.net.update(RMSprop())
                except RuntimeError as error:
                    refused.append(error)

            thread = threading.Thread(target=update)
            thread.start()
            thread.join()

    net, alone = make_net(), make_net()
    net.fit(X, Y, epochs=3, optimizer=Adam(), callbacks=[Update()])
    alone.fit(X, Y, epochs=3, optimizer=Adam())
    assert len(refused) == 3
    assert state_of(net)[:4] == state_of(alone)[:4]


def test_fit_goes_on_with_its_optimizer_after_a_callback_used_another() -> None:
    class Step(Callback):
        def on_epoch_end(self, run: Any) -> None:
            run.net.train_step(X, Y, optimizer=SGD(lr=0.0))

    net = make_net()
    history = net.fit(X, Y, epochs=4, optimizer=Adam(), callbacks=[Step()])
    assert history["loss"][-1] < history["loss"][0]
    assert np.isfinite(net.params).all()


def test_a_divergence_survives_pickling() -> None:
    error = DivergenceError("too far", 3, 7, {"loss": [1.0]})
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.epoch, copy.step, copy.history) == ("too far", 3, 7, {"loss": [1.0]})


@pytest.mark.parametrize("by_update", [False, True])
def test_a_failed_step_does_not_count(by_update: bool) -> None:
    net = Sequential([Linear(4, 8, seed=0), ReLU(), Linear(8, 1, seed=1)])
    net.train_step(X, Y[:, np.newaxis], loss="squared_error", optimizer=SGD(lr=1e-3))
    rate = 1e38 if by_update else 1e-3
    inputs = X if by_update else X * np.float32(1e30)
    with pytest.raises(DivergenceError) as caught:
        net.train_step(inputs, 1e3 * Y[:, np.newaxis], optimizer=SGD(lr=rate))
    assert (net.step, caught.value.step) == (1, 2)
    assert np.isfinite(net.params).all()


def test_a_divergence_ends_the_pass() -> None:
    net = make_net()
    bad = X.copy()
    bad[64:] = 3e38
    with pytest.raises(DivergenceError):
        net.fit(bad, Y, batch_size=32, shuffle=False, loss="cross_entropy")
    net.params[:] = make_net().params
    seen: list[int] = []
    net.fit(X, Y, batch_size=32, epochs=1, metrics=[lambda y, out: seen.append(len(y)) or 0.0])
    assert seen == [96]


def test_early_stopping_brings_the_best_weights_back_from_a_divergence() -> None:
    class Explode(Callback):
        before: Any = None

        def on_epoch_end(self, run: Any) -> None:
            if run.epoch == 2:
                self.before = run.net.params.copy()
                run.net.params[:] = np.float32(1e30)

    stopper, explode = EarlyStopping("loss"), Explode()
    net = make_net()
    with pytest.raises(DivergenceError):
        net.fit(X, Y, epochs=9, callbacks=[stopper, explode], loss="cross_entropy")
    assert stopper.best_epoch == 2
    assert net.params.tobytes() == explode.before.tobytes()


def test_a_refused_network_leaves_its_layers_free() -> None:
    free, taken = Linear(4, 8), Linear(8, 3)
    Sequential([taken])
    with pytest.raises(ValueError, match="already belongs to a network"):
        Sequential([free, taken])
    Sequential([free])


def test_no_layers_and_any_iterable_of_them() -> None:
    with pytest.raises(ValueError, match="layers is empty"):
        Sequential([])
    assert Sequential(layer for layer in [Linear(4, 3)]).n_out == 3  # type: ignore[arg-type]


def test_the_width_comes_from_the_first_linear() -> None:
    assert Sequential([Dropout(0.1), Linear(4, 3)]).n_in == 4


@pytest.mark.parametrize("value", [1, "false", None])
def test_flags_are_true_or_false(value: Any) -> None:
    with pytest.raises(TypeError, match="True or False"):
        SGD(momentum=0.9, nesterov=value)


def test_r2_keeps_its_digits_in_float32() -> None:
    y = (2000 + 10 * RNG.standard_normal((400_000, 2))).astype(np.float32)
    out = (y + 5 * RNG.standard_normal(y.shape)).astype(np.float32)
    exact = r2(y.astype(np.float64), out.astype(np.float64))
    assert abs(r2(y, out) - exact) < 1e-12
    assert np.isnan(r2(np.full((1000, 1), 0.1, np.float32), np.full((1000, 1), 0.2, np.float32)))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_stays_a_pipe(tmp_path: Path) -> None:
    path, received = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: received.append(path.read_bytes()))
    reader.start()
    net = trained()
    net.save(path)
    reader.join()
    assert path.is_fifo()
    file = tmp_path / "net.safetensors"
    file.write_bytes(received[0])
    assert Sequential.load(file).params.tobytes() == net.params.tobytes()


def test_train_into_a_closed_pipe_still_saves_the_model(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    table = tmp_path / "data.csv"
    rows = "\n".join(f"{a},{b},{a - b}" for a, b in RNG.standard_normal((60, 2)))
    table.write_text("a,b,y\n" + rows)
    model = tmp_path / "m.safetensors"
    command = [sys.executable, "-m", "fastmlp", "train", "--data", str(table), "--target", "y"]
    child = subprocess.Popen(
        [*command, "--epochs", "2", "-o", str(model)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    child.stdout.close()
    assert child.wait() == 0
    assert model.exists()

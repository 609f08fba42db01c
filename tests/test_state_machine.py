"""Any calls of a network in any order, beside a copy that does the same: equal bits, counters that
the rules alone give, and refused calls that change nothing. `python tests/fuzz_api.py` runs it for
longer.
"""

import copy
import pickle
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from expected_counters import ExpectedCounters
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fastmlp import (
    EMA,
    LBFGS,
    SGD,
    Adam,
    AdamW,
    BatchNorm,
    Callback,
    DivergenceError,
    Dropout,
    LayerNorm,
    Linear,
    ReLU,
    RMSprop,
    Sequential,
    Tanh,
)

ROWS, N_IN, N_OUT = 40, 4, 3
RNG = np.random.default_rng(0)
X = RNG.standard_normal((ROWS, N_IN))
LABELS = RNG.integers(0, N_OUT, ROWS)
VALUES = RNG.standard_normal((ROWS, N_OUT))
LAYERS = {
    "plain": lambda: [Linear(N_IN, 6), ReLU(), Linear(6, N_OUT)],
    "dropout": lambda: [Linear(N_IN, 6), Dropout(0.3), Tanh(), Linear(6, N_OUT)],
    "batch norm": lambda: [Linear(N_IN, 6), BatchNorm(), ReLU(), Linear(6, N_OUT)],
    "layer norm": lambda: [Linear(N_IN, 6), LayerNorm(), ReLU(), Linear(6, N_OUT)],
    "bare norm": lambda: [Linear(N_IN, 6), LayerNorm(scale=False, shift=False), Linear(6, N_OUT)],
}
OPTIMIZERS = [
    Adam(0.01),
    AdamW(0.02, weight_decay=0.1),
    SGD(0.05, momentum=0.9),
    SGD(0.02),
    RMSprop(0.01),
    RMSprop(0.01, centered=True),
    Adam(0.01, clip_norm=0.5),
    SGD(0.05, weight_average=EMA(0.9)),
]
optimizers = st.sampled_from(OPTIMIZERS)
forms = st.sampled_from(["float32", "float64", ">f4", "int32", "list", "fortran"])
some_rows = st.integers(2, ROWS)


class BrokenOffError(BaseException):
    """What a callback raises in the place of a Ctrl-C."""


class Interrupt(Callback):
    """Raises after an epoch."""

    def on_epoch_end(self, run: Any) -> None:
        raise BrokenOffError


def given(form: str, rows: int) -> Any:
    """Rows in one of the forms in which users pass them."""
    x = X[:rows]
    if form == "list":
        return x.tolist()
    if form == "fortran":
        return np.asfortranarray(x)
    return (x * 3).astype(form) if form == "int32" else x.astype(form)


def target(loss: str, rows: int) -> Any:
    return (LABELS if loss == "cross_entropy" else VALUES)[:rows]


def snapshot(net: Sequential) -> tuple[Any, ...]:
    """All that a further training depends on."""
    context = net._engine.context
    arrays = [net.params, net.stats, *(net._state or ())]
    arrays += [] if net._average is None else [net._average]
    names = ("t", "updates", "epoch", "position", "passes", "schedule_start", "n_averaged")
    counters = [getattr(context, name) for name in names]
    return [a.tobytes() for a in arrays], counters, context.running, net.optimizer, net.loss


REFUSED = {
    "columns": lambda n: n.fit(X[:, :2], LABELS, loss="cross_entropy"),
    "NaN": lambda n: n.fit(np.where(X > 1, np.nan, X), LABELS, loss="cross_entropy"),
    "label": lambda n: n.fit(X, LABELS + 1, loss="cross_entropy"),
    "lengths": lambda n: n.train_step(X, VALUES[:3], loss="squared_error"),
    "epochs": lambda n: n.fit(X, VALUES, loss="squared_error", epochs=-1),
    "batch_size": lambda n: n.fit(X, VALUES, loss="squared_error", batch_size=0),
    "threads": lambda n: n.predict(X, threads=0),
    "optimizer": lambda n: n.fit(X, VALUES, loss="squared_error", optimizer="best"),
    "use_optimizer": lambda n: n.use_optimizer(3),
    "params": lambda n: setattr(n, "params", np.zeros(3)),
    "infinite params": lambda n: setattr(n, "params", np.full(n.n_params, np.inf)),
    "callbacks": lambda n: n.fit(X, VALUES, loss="squared_error", callbacks=[3]),
    "metrics": lambda n: n.fit(X, VALUES, loss="squared_error", metrics=["no such"]),
    "row": lambda n: n.predict_row(X[0, :2]),
    "split": lambda n: n.fit(X, VALUES, loss="squared_error", validation_split=2.0),
    "weights": lambda n: n.fit(X, VALUES, loss="squared_error", sample_weight=-np.ones(ROWS)),
    "method": lambda n: n.train_step(X, VALUES, loss="squared_error", optimizer=LBFGS()),
    "dz": lambda n: n.backward(np.zeros((ROWS + 1, N_OUT))),
}


class NetworkMachine(RuleBasedStateMachine):
    """`net` does everything, `twin` too, but on another number of threads and through its own
    copies and files.
    """

    @initialize(kind=st.sampled_from(sorted(LAYERS)), dtype=st.sampled_from(["float32", "float64"]))
    def make(self, kind: str, dtype: str) -> None:
        self.net, self.twin = (Sequential(LAYERS[kind](), seed=3, dtype=dtype) for _ in range(2))
        self.expected, self.kind = ExpectedCounters(), kind
        self.is_forward = 0

    def both(self, call: Any) -> list[Any]:
        """What a call gives on both; an error must be the same one."""
        results: list[Any] = []
        for net, threads in ((self.net, 1), (self.twin, 3)):
            try:
                results.append(call(net, threads))
            except (DivergenceError, BrokenOffError) as error:
                results.append(type(error))
        assert repr(results[0]) == repr(results[1])
        return results

    def trained(self, result: Any, steps: int, epochs: int = 0) -> None:
        """Count them; before a divergence there were no more."""
        if result is DivergenceError:
            steps = min(steps, self.net.step - self.expected.step)
            epochs = min(epochs, self.net.epoch - self.expected.epoch)
        self.expected.train(steps, epochs)

    # ---- training --------------------------------------------------------------------------------

    @rule(
        optimizer=st.none() | optimizers,
        loss=st.sampled_from(["cross_entropy", "squared_error"]),
        form=forms,
        rows=some_rows,
        batch_size=st.sampled_from([2, 7, 16, 100]),
        epochs=st.integers(0, 3),
        shuffle=st.booleans(),
        interrupted=st.booleans(),
    )
    def fit(
        self,
        optimizer: Any,
        loss: str,
        form: str,
        rows: int,
        batch_size: int,
        epochs: int,
        shuffle: bool,
        interrupted: bool,
    ) -> None:
        if self.kind == "batch norm" and rows % min(batch_size, rows) == 1:
            rows -= 1
            if rows % min(batch_size, rows) == 1:
                return
        x, y = given(form, rows), target(loss, rows)
        callbacks = [Interrupt()] if interrupted else None

        def call(net: Sequential, threads: int) -> dict[str, list[float]]:
            return dict(
                net.fit(
                    *(x, y),
                    loss=loss,
                    optimizer=optimizer,
                    batch_size=batch_size,
                    epochs=epochs,
                    shuffle=shuffle,
                    callbacks=callbacks,
                    threads=threads,
                )
            )

        result = self.both(call)[0]
        done = min(epochs, 1) if interrupted else epochs
        self.expected.use(optimizer)
        self.trained(result, done * -(-rows // batch_size), done)
        self.expected.position = self.is_forward = 0

    @rule(optimizer=optimizers, batch=st.integers(1, 4), goes_on=st.booleans())
    def break_off_a_pass(self, optimizer: Any, batch: int, goes_on: bool) -> None:
        """A custom loss raises in one of five mini-batches; a further fit finishes the pass."""

        def call(net: Sequential, raises_at: int) -> None:
            seen = 0

            def loss(z: Any, y: Any) -> tuple[Any, Any]:
                nonlocal seen
                seen += 1
                if seen == raises_at:
                    raise BrokenOffError
                return ((z - y) ** 2).sum(1), 2 * (z - y)

            net.fit(X, VALUES, loss=loss, optimizer=optimizer, batch_size=8, epochs=1)

        self.is_forward = 0
        self.expected.use(optimizer)
        done = self.expected.position // 8  # of a pass before: these are its batches
        if done == 0:
            result = self.both(lambda net, threads: call(net, batch + 1))[0]
            self.trained(result, batch)
            done = 0 if result is DivergenceError else batch
            self.expected.position = 8 * done
            if not (goes_on and done):
                return
        result = self.both(lambda net, threads: call(net, 0))[0]
        self.trained(result, 5 - done, 1)
        self.expected.position = 0

    @rule(optimizer=optimizers, rows=some_rows, form=forms)
    def train_step(self, optimizer: Any, rows: int, form: str) -> None:
        x, y = given(form, rows), target("squared_error", rows)

        def call(net: Sequential, threads: int) -> float:
            return net.train_step(x, y, loss="squared_error", optimizer=optimizer, threads=threads)

        self.expected.use(optimizer)
        self.trained(self.both(call)[0], 1)
        self.is_forward = 0

    @rule(rows=some_rows, training=st.booleans(), form=forms)
    def forward(self, rows: int, training: bool, form: str) -> None:
        x = given(form, rows)
        out = self.both(lambda net, threads: net.forward(x, training, threads=threads).tobytes())[0]
        if not training:
            assert self.net.predict(x).tobytes() == out
        self.is_forward = rows

    @precondition(lambda self: self.is_forward)
    @rule(seed=st.integers(0, 9))
    def backward(self, seed: int) -> None:
        dz = np.random.default_rng(seed).standard_normal((self.is_forward, N_OUT))
        self.both(lambda net, threads: net.backward(dz, threads=threads).tobytes())
        assert self.net.grads.tobytes() == self.twin.grads.tobytes()

    @rule(optimizer=optimizers)
    def update(self, optimizer: Any) -> None:
        for net in (self.net, self.twin):
            net.grads = np.clip(self.net.grads, -10, 10)
        self.expected.use(optimizer)
        self.trained(self.both(lambda net, threads: net.update(optimizer, threads=threads))[0], 1)

    @rule(optimizer=st.none() | optimizers)
    def use_optimizer(self, optimizer: Any) -> None:
        params = self.net.params.tobytes()
        self.both(lambda net, threads: setattr(net, "optimizer", optimizer))
        assert self.net.params.tobytes() == params
        self.expected.drop() if optimizer is None else self.expected.use(optimizer)

    @precondition(lambda self: self.kind in ("plain", "layer norm"))
    @rule(rows=some_rows)
    def full_batch(self, rows: int) -> None:
        x, y = given("float64", rows), target("squared_error", rows)
        before = self.net.evaluate(x, y, loss="squared_error")["loss"]

        def call(net: Sequential, threads: int) -> tuple[int, bool]:
            method = LBFGS()
            log = net.fit(x, y, loss="squared_error", optimizer=method, epochs=2, threads=threads)
            return len(log["loss"]), log.stop_reason is not None

        result = self.both(call)[0]
        self.expected.drop()
        if result is not DivergenceError:  # at the start: nothing was done
            epochs, is_stopped = result
            self.expected.step += epochs - is_stopped
            self.expected.epoch += epochs
        assert self.net.evaluate(x, y, loss="squared_error")["loss"] <= before
        self.is_forward = 0

    # ---- assignment ------------------------------------------------------------------------------

    @rule(factor=st.sampled_from([0.5, -1.0, 0.0]))
    def assign_params(self, factor: float) -> None:
        for net in (self.net, self.twin):
            net.params = net.params * factor
        self.net.params += 0.01
        self.twin.params[...] += self.twin.dtype.type(0.01)

    @rule()
    def assign_a_layer(self) -> None:
        for net in (self.net, self.twin):
            net.layers[0].weight -= 0.125
            net.layers[-1].bias = np.arange(N_OUT)

    # ---- use: changes nothing --------------------------------------------------------------------

    @rule(form=forms, rows=some_rows)
    def look(self, form: str, rows: int) -> None:
        before, x = snapshot(self.net), given(form, rows)
        self.both(lambda net, threads: net.predict(x, threads=threads).tobytes())
        row = np.asarray(x, self.net.dtype)[0]
        assert np.array_equal(self.net.predict_row(row), self.net.predict(row[None])[0])
        self.both(
            lambda net, threads: net.evaluate(
                x, target("squared_error", rows), loss="squared_error", threads=threads
            )
        )
        assert snapshot(self.net) == before

    @rule(interrupted=st.booleans())
    def averaged(self, interrupted: bool) -> None:
        if not self.net.keeps_average:
            return
        before = snapshot(self.net)
        inside = None
        try:
            with self.net.averaged(X):
                inside = self.net.params.copy()
                with pytest.raises(RuntimeError):
                    self.net.train_step(X, LABELS, loss="cross_entropy")
                with pytest.raises(RuntimeError):
                    self.net.fit(X, VALUES, loss="squared_error", batch_size=ROWS)
                if interrupted:
                    raise BrokenOffError
        except BrokenOffError:
            pass
        assert np.array_equal(inside, self.net.averaged_params)
        assert snapshot(self.net) == before

    @rule(name=st.sampled_from(sorted(REFUSED)))
    def refused(self, name: str) -> None:
        before = snapshot(self.net)
        with pytest.raises((ValueError, TypeError, RuntimeError)):
            REFUSED[name](self.net)
        assert snapshot(self.net) == before, name

    # ---- copies ----------------------------------------------------------------------------------

    @rule(way=st.sampled_from(["save", "pickle", "copy"]))
    def replace_the_twin(self, way: str) -> None:
        if way == "save":
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "net"
                self.net.save(path)
                self.twin = Sequential.load(path)
        elif way == "pickle":
            self.twin = pickle.loads(pickle.dumps(self.net))
        else:
            self.twin = copy.deepcopy(self.net)
        self.twin.grads[...] = self.net.grads
        self.is_forward = 0  # a copy has none to go back through

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "net"):
            return
        mine, other = snapshot(self.net), snapshot(self.twin)
        assert mine[:-1] == other[:-1]
        self.expected.check(self.net)
        assert np.isfinite(self.net.params).all()
        assert np.isfinite(self.net.stats).all()


NetworkMachine.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.filterwarnings("ignore")
class TestNetwork(NetworkMachine.TestCase):
    """A small, fixed budget; tests/fuzz_api.py has a larger one."""


def setup_module() -> None:
    warnings.simplefilter("ignore")

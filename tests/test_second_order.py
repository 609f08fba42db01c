"""Full-batch methods: line search, quasi-Newton, Levenberg-Marquardt, and `fit` with them."""

import numpy as np
import pytest
from helpers import digest, inputs, randomize, rounding, targets

from fastmlp import (
    BFGS,
    EMA,
    LBFGS,
    Adam,
    Callback,
    DivergenceError,
    Dropout,
    EarlyStopping,
    LevenbergMarquardt,
    Linear,
    ReduceOnPlateau,
    ReLU,
    Sequential,
    Tanh,
    _core,
)
from fastmlp.losses import get_loss
from fastmlp.second_order.line_search import CURVATURE, SUFFICIENT, strong_wolfe
from fastmlp.second_order.methods import METHODS, InverseHessian, Memory, QuasiNewton
from fastmlp.second_order.objective import BLOCK_ROWS, Objective, Point, dot

EACH_METHOD = pytest.mark.parametrize("method", [m() for m in METHODS.values()], ids=METHODS)


def network(dtype="float64", seed=0):
    return Sequential([Linear(3, 8), Tanh(), Linear(8, 2)], dtype=dtype, seed=seed)


def curve(rows=60, dtype="float64"):
    x = inputs(rows, 3, dtype)
    return x, np.stack([np.sin(x[:, 0]), x[:, 1] * x[:, 2]], axis=1).astype(dtype)


# ---- line search and quasi-Newton steps on functions with known minima ---------------------------


def function(value, gradient):
    class At:
        calls = 0

        @staticmethod
        def at(p):
            At.calls += 1
            with np.errstate(all="ignore"):
                v = float(value(p))
            return Point(p, v, v, np.asarray(gradient(p), float))

    return At


def rosenbrock():
    return function(
        lambda p: 100 * (p[1] - p[0] ** 2) ** 2 + (1 - p[0]) ** 2,
        lambda p: [
            -400 * p[0] * (p[1] - p[0] ** 2) - 2 * (1 - p[0]),
            200 * (p[1] - p[0] ** 2),
        ],
    )


@pytest.mark.parametrize("curvature", [Memory(5), InverseHessian(2)], ids=["lbfgs", "bfgs"])
def test_rosenbrock(curvature):
    f = rosenbrock()
    stepper, point = QuasiNewton(f, curvature), f.at(np.array([-1.2, 1.0]))
    values = [point.value]
    while np.abs(point.grad).max() > 1e-10:
        point = stepper.step(point)
        values.append(point.value)
        assert len(values) < 60  # textbook runs take 30 to 40 (Nocedal, Wright 2006, table 6.1)
    assert np.all(np.diff(values) < 0)
    np.testing.assert_allclose(point.params, 1, atol=1e-10)
    assert f.calls < 3 * len(values)


@pytest.mark.parametrize("first", [1e-6, 1e-2, 1.0, 30.0, 1e5])
@pytest.mark.parametrize("case", range(4))
def test_strong_wolfe_conditions_hold(case, first):
    """The functions of Moré and Thuente 1994, table 1 and the ones nearby, in one dimension."""
    f = [
        function(lambda p: -p[0] / (p[0] ** 2 + 2), lambda p: (p**2 - 2) / (p**2 + 2) ** 2),
        function(lambda p: (p[0] - 3) ** 4, lambda p: 4 * (p - 3) ** 3),
        function(lambda p: np.cosh(p[0] - 2), lambda p: np.sinh(np.minimum(p, 700) - 2)),
        function(lambda p: p[0] ** 2 - 8 * np.sin(p[0]), lambda p: 2 * p - 8 * np.cos(p)),
    ][case]
    start, direction = f.at(np.zeros(1)), np.ones(1)
    slope0 = dot(start.grad, direction)
    found = strong_wolfe(f.at, start, direction, first)
    assert found.value <= start.value + SUFFICIENT * found.params[0] * slope0
    assert abs(dot(found.grad, direction)) <= -CURVATURE * slope0


def test_line_search_stays_where_the_function_is_finite():
    f = function(lambda p: -p[0] - np.log(1 - p[0]), lambda p: -1 + 1 / (1 - p))
    start = f.at(np.array([-2.0]))
    found = strong_wolfe(f.at, start, np.ones(1), 100.0)
    assert found.params[0] < 1
    assert found.value < start.value


def test_line_search_gives_up_on_a_wrong_slope():
    f = function(lambda p: p[0], lambda p: -np.ones(1))  # says that it falls, and rises
    assert strong_wolfe(f.at, f.at(np.zeros(1)), np.ones(1), 1.0) is None


@pytest.mark.parametrize("n", [1, 63, 64, 65, 129])
def test_blocks_of_the_matrix_are_the_matrix(n, rng, monkeypatch):
    """To the bit: whatever is handled together."""
    s, y, v = rng.standard_normal((3, n))
    y *= np.sign(s @ y)

    def times():
        estimate = InverseHessian(n)
        estimate.learn(s, y)
        estimate.learn(y, s)
        return estimate.times(v)

    found = times()
    monkeypatch.setattr("fastmlp.second_order.objective._MATRIX_ROWS", 1000)
    assert np.array_equal(found, times())


def test_two_loops_equal_the_matrix(rng):
    """With all steps kept and the same beginning, L-BFGS is BFGS."""
    memory, matrix = Memory(10), InverseHessian(6)
    a = rng.standard_normal((6, 6))
    hessian, steps = a @ a.T + np.eye(6), rng.standard_normal((5, 6))
    first = dot(steps[-1], hessian @ steps[-1]) / np.sum((hessian @ steps[-1]) ** 2)
    matrix._matrix = first * np.eye(6)
    for s in steps:
        memory.learn(s, hessian @ s)
        matrix.learn(s, hessian @ s)
    g = rng.standard_normal(6)
    np.testing.assert_allclose(memory.times(g), matrix.times(g), rtol=1e-9)
    np.testing.assert_allclose(matrix.times(hessian @ steps[-1]), steps[-1], rtol=1e-9)


# ---- normal equations ----------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 7, 33, 65, 200])
def test_cholesky_solve(n, rng):
    a = rng.standard_normal((n, n + 3))
    a = a @ a.T + np.eye(n)
    b = rng.standard_normal(n)
    x = b.copy()
    assert _core.cholesky_solve(np.where(np.tri(n, k=-1) > 0, np.nan, -a), x)  # upper triangle only
    size = np.linalg.norm(a) * np.linalg.norm(x)
    assert np.linalg.norm(a @ x - b) <= rounding("float64", n * n) * size
    x[:] = b
    a[n // 2, n // 2] = -1
    assert not _core.cholesky_solve(-a, x)
    np.testing.assert_array_equal(x, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [8, 170, 1100])
def test_normal_equations(width, dtype, monkeypatch):
    """Over several blocks of rows; 1100 and 170 columns take the packed ways of the product."""
    net = Sequential([Linear(3, width // 5 + 1), Tanh(), Linear(width // 5 + 1, 2)], dtype=dtype)
    randomize(net)
    x, y = curve(40, dtype)
    monkeypatch.setattr("fastmlp.second_order.objective.BLOCK_NUMBERS", 7 * 2 * (net.n_params + 1))
    objective = Objective(net._engine, x, y, get_loss("squared_error"), 1)
    gram, gradient = objective.normal_equations()
    jacobian = net.jacobian(x).reshape(-1, net.n_params).astype(np.float64)
    residual = (net.predict(x).astype(np.float64) - y).reshape(-1)
    upper = np.triu(np.ones_like(gram)) > 0
    want, norms = jacobian.T @ jacobian, np.linalg.norm(jacobian, axis=0)
    allowed = rounding(dtype, len(residual)) * np.outer(norms, norms)
    assert np.all(np.abs(gram - want)[upper] <= allowed[upper])
    size = norms * np.linalg.norm(residual) + norms * np.sqrt(len(residual))  # and that of z itself
    assert np.all(np.abs(gradient - jacobian.T @ residual) <= rounding(dtype, 80) * size)


def test_one_step_solves_linear_least_squares():
    net = Sequential([Linear(3, 2)], dtype="float64")
    x, y = curve()
    net.fit(x, y, optimizer=LevenbergMarquardt(damping=1e-13), epochs=1)
    want = np.linalg.lstsq(np.c_[x, np.ones(len(x))], y, rcond=None)[0]
    np.testing.assert_allclose(net.params, want.ravel(), rtol=1e-9, atol=1e-9)


def test_penalty_is_ridge():
    x, y = curve()
    for method in (LevenbergMarquardt(l2=0.3), LBFGS(l2=0.3), BFGS(l2=0.3)):
        net = Sequential([Linear(3, 2)], dtype="float64")
        history = net.fit(x, y, optimizer=method, epochs=100)
        a, n = np.c_[x, np.ones(len(x))], y.size
        penalty = np.diag([0.3, 0.3, 0.3, 0])
        want = np.linalg.solve(2 / n * a.T @ a + penalty, 2 / n * a.T @ y)
        np.testing.assert_allclose(net.params, want.ravel(), atol=1e-6)
        assert history["loss"][-1] == pytest.approx(net.evaluate(x, y)["loss"], rel=1e-14)
        assert "converged" in history.stop_reason


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
@pytest.mark.parametrize("method", [BFGS(l2=0.01), LBFGS(l2=0.01)], ids=["bfgs", "lbfgs"])
def test_convex_problems_reach_the_minimum_that_scipy_finds(method, loss):
    optimize = pytest.importorskip("scipy.optimize")
    x, y = inputs(200, 5), targets(loss, 200, 3)
    net = Sequential([Linear(5, 3)], dtype="float64")
    history = net.fit(x, y, loss=loss, optimizer=method, epochs=200)
    other = Sequential([Linear(5, 3)], dtype="float64")
    objective = Objective(other._engine, x, y, get_loss(loss), 1, l2=0.01)

    def value(p):
        point = objective.at(p)
        return point.value, point.grad

    options = {"gtol": 1e-9, "ftol": 0, "maxiter": 1000}
    found = optimize.minimize(
        value, other.params.copy(), jac=True, method="L-BFGS-B", options=options
    )
    mine = objective.at(net.params.copy()).value
    assert mine <= found.fun + 1e-13
    np.testing.assert_allclose(net.params, found.x, atol=1e-6)
    assert np.all(np.diff([*history["loss"]]) < 0.01)
    assert history.stop_reason.startswith("converged")


@EACH_METHOD
def test_small_regression_is_learned(method):
    net, (x, y) = network(), curve()
    history = net.fit(x, y, optimizer=method, epochs=60)
    assert history["loss"][-1] < 0.02 * net.evaluate(x, y * 0)["loss"] < 1
    assert np.all(np.diff(history["loss"]) <= 0)
    assert history["loss"][-1] == pytest.approx(net.evaluate(x, y)["loss"], rel=1e-12)


# ---- fit -----------------------------------------------------------------------------------------


@EACH_METHOD
def test_history_metrics_validation_and_lines(method, capsys):
    net, (x, y) = network(), curve()
    name = method.name
    history = net.fit(
        x, y, optimizer=name, epochs=4, validation_split=0.25, metrics=["mae"], verbose=2
    )
    assert set(history) == {"loss", "mae", "val_loss", "val_mae"}
    assert all(len(values) == 4 for values in history.values())
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert (net.epoch, net.step) == (4, 4)
    assert net.optimizer is None
    rows = np.arange(60)
    _core.shuffle(rows, 0, 2**64 - 1)
    held, kept = np.sort(rows[:15]), np.sort(rows[15:])
    scores = net.evaluate(x[held], y[held], metrics=["mae"])
    assert history["val_mae"][-1] == scores["mae"]
    assert history["mae"][-1] == net.evaluate(x[kept], y[kept], metrics=["mae"])["mae"]


@EACH_METHOD
def test_early_stopping_brings_the_best_weights_back(method):
    x, y = curve(16)
    rng = np.random.default_rng(0)
    y = y + rng.standard_normal(y.shape)  # there is nothing to do but overfit
    validation = curve(200)
    stopping = EarlyStopping(patience=5)
    net = network()
    history = net.fit(
        x, y, optimizer=method, epochs=200, validation_data=validation, callbacks=[stopping]
    )
    assert stopping.stopped_epoch == len(history["loss"]) < 200
    assert net.evaluate(*validation)["loss"] == stopping.best == min(history["val_loss"])


@EACH_METHOD
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_do_not_depend_on_threads(method, dtype, monkeypatch):
    monkeypatch.setattr("fastmlp.second_order.objective.BLOCK_ROWS", 256)
    x, y = curve(700, dtype)
    results = []
    for threads in (1, 2, 3):
        net = network(dtype)
        history = net.fit(x, y, optimizer=method, epochs=4, threads=threads)
        results.append((digest(net.params), history["loss"]))
    assert results[0] == results[1] == results[2]


def test_blocks_of_rows_change_rounding_only(monkeypatch):
    net, (x, y) = network(), curve(700)
    objective = Objective(net._engine, x, y, get_loss("squared_error"), 1)
    assert len(x) < BLOCK_ROWS
    whole = objective.at(objective.params())
    monkeypatch.setattr("fastmlp.second_order.objective.BLOCK_ROWS", 128)
    parts = objective.at(objective.params())
    assert parts.loss == pytest.approx(whole.loss, rel=rounding("float64", 700))
    np.testing.assert_allclose(parts.grad, whole.grad, atol=rounding("float64", 700), rtol=0)


@EACH_METHOD
def test_interrupted_evaluation_leaves_accepted_weights(method, monkeypatch):
    net, (x, y) = network(), curve()
    accepted = [net.params.copy()]

    class Keep(Callback):
        def on_epoch_end(self, run):
            accepted.append(run.net.params.copy())

    at, calls = Objective.at, []

    def interrupted(self, params):
        calls.append(None)
        point = at(self, params)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return point

    monkeypatch.setattr(Objective, "at", interrupted)
    with pytest.raises(KeyboardInterrupt):
        net.fit(x, y, optimizer=method, epochs=50, callbacks=[Keep()])
    np.testing.assert_array_equal(net.params, accepted[-1])
    assert net.step == len(accepted) - 1 > 0
    monkeypatch.undo()
    net.fit(x, y, optimizer=method, epochs=1)  # and it can go on


@EACH_METHOD
def test_no_loss_that_is_not_finite_is_accepted(method):
    """Outputs near the end of float32's range: half a step too far, and the loss is infinite."""
    net = Sequential([Linear(2, 4), ReLU(), Linear(4, 1)], dtype="float32")
    x = inputs(30, 2, "float32")
    y = (1e15 * x[:, :1]).astype("float32")
    history = net.fit(x, y, optimizer=method, epochs=30)
    assert np.all(np.isfinite(history["loss"]))
    assert np.isfinite(net.params).all()
    assert np.all(np.diff(history["loss"]) <= 0)
    net.params[:] = 1e30
    before = net.params.copy()
    with pytest.raises(DivergenceError, match="not finite where training begins"):
        net.fit(x, y, optimizer=method, epochs=1)
    np.testing.assert_array_equal(net.params, before)


@EACH_METHOD
def test_weights_that_a_callback_moves_are_seen(method):
    class Move(Callback):
        def on_epoch_end(self, run):
            if run.epoch == 2:
                run.net.set_params(run.net.params * 3)

    net, (x, y) = network(), curve()
    history = net.fit(x, y, optimizer=method, epochs=40, callbacks=[Move()])
    assert history["loss"][2] != history["loss"][1]
    assert history["loss"][-1] == pytest.approx(net.evaluate(x, y)["loss"], rel=1e-12)


@EACH_METHOD
def test_moments_and_averages_of_the_optimizer_before_are_given_up(method, tmp_path):
    net, (x, y) = network(), curve()
    net.fit(x, y, optimizer=Adam(weight_average=EMA(0.9)), epochs=2)
    net.fit(x, y, optimizer=method, epochs=2)
    assert net.optimizer is None
    assert not net.keeps_average
    net.save(tmp_path / "m.safetensors")
    other = Sequential.load(tmp_path / "m.safetensors")
    assert (other.epoch, other.step) == (net.epoch, net.step)
    for n in (net, other):
        n.fit(x, y, epochs=2)
    assert digest(net.params) == digest(other.params)


def test_a_converged_fit_stops_and_takes_no_step():
    net, (x, y) = Sequential([Linear(3, 2)], dtype="float64"), curve()
    net.fit(x, y, optimizer=LBFGS(), epochs=100)
    before = net.params.copy(), net.step
    history = net.fit(x, y, optimizer=LBFGS(tolerance=1e-7), epochs=100)
    assert len(history["loss"]) == 1
    assert (
        history.stop_reason == "converged: a step would lower the loss by no more than 1e-14 of it"
    )
    np.testing.assert_array_equal(net.params, before[0])
    assert net.step == before[1]


def test_bad_input_is_refused_before_any_work():
    net, (x, y) = network(), curve()
    before = net.params.copy()
    with pytest.raises(ValueError, match="LevenbergMarquardt is for the mean squared error"):
        net.fit(x, np.zeros(60, int), optimizer="levenberg_marquardt")
    with pytest.raises(ValueError, match="leave Dropout out"):
        Sequential([Linear(3, 4), Dropout(0.5), Linear(4, 2)]).fit(x, y, optimizer=LBFGS())
    with pytest.raises(ValueError, match=r"use LBFGS\(\) above 10,000"):
        Sequential([Linear(3, 4000), ReLU(), Linear(4000, 2)]).fit(x, y, optimizer=BFGS())
    with pytest.raises(ValueError, match="leave one of the two out"):
        net.fit(x, y, optimizer=BFGS(), callbacks=[ReduceOnPlateau("loss")])
    with pytest.raises(ValueError, match="epochs must be"):
        net.fit(x, y, optimizer=BFGS(), epochs=-1)
    with pytest.raises(ValueError, match="pass it to fit"):
        net.train_step(x, y, optimizer=BFGS())
    np.testing.assert_array_equal(net.params, before)
    net.fit(x, y, optimizer=Adam(weight_average=EMA(0.9)), epochs=1)
    with net.averaged(), pytest.raises(RuntimeError, match="would be lost"):
        net.fit(x, y, optimizer=BFGS())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LBFGS(memory=0), "memory must be an integer >= 1"),
        (lambda: LBFGS(memory=2.5), "memory must be an integer >= 1"),
        (lambda: BFGS(l2=-1), "l2 must be a finite number >= 0"),
        (lambda: BFGS(tolerance=np.inf), "tolerance must be a finite number >= 0"),
        (lambda: BFGS(l2="1"), "l2 must be a finite number >= 0"),
        (lambda: LevenbergMarquardt(damping=0), "damping must be a finite number above 0"),
    ],
)
def test_settings_outside_their_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("size", [1.0, 1e9, 1e15])
@pytest.mark.parametrize("method", [BFGS, LBFGS])
def test_rounding_does_not_hide_that_the_minimum_lies_far_away(method, size):
    """A first step of length 1 changes no output of float32 where targets are 1e9."""
    x = inputs(200, 5, "float32")
    y = (size * (x @ np.arange(1.0, 6.0) + 3)).astype(np.float32)
    net = Sequential([Linear(5, 1)])
    history = net.fit(x, y, optimizer=method(), epochs=60)
    assert history["loss"][-1] < 1e-12 * size**2
    assert "converged" in history.stop_reason

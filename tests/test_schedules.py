"""Schedules: their formulas, against PyTorch, and that training follows them step by step."""

import dataclasses
import functools
import math
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
from helpers import assert_within, digest, everything, inputs, targets

from fastmlp import (
    SGD,
    AdaGrad,
    Adam,
    Callback,
    Chained,
    CosineDecay,
    CosineRestarts,
    ExponentialDecay,
    Linear,
    LinearWarmup,
    Lion,
    NAdam,
    OneCycle,
    PiecewiseDecay,
    PolynomialDecay,
    ReduceOnPlateau,
    ReLU,
    RMSprop,
    Schedule,
    ScheduleFreeAdamW,
    Sequential,
    StepDecay,
    cross_entropy,
)
from fastmlp.schedules import SCHEDULES

X = inputs(100, 6, "float32")
Y = targets("cross_entropy", 100, 3)
EACH = {
    "warmup": LinearWarmup(0.1, warmup=7),
    "step": StepDecay(0.1, every=10, factor=0.5),
    "step-warmup": StepDecay(0.1, every=10, warmup=5),
    "exponential": ExponentialDecay(0.1, 0.97),
    "exponential-every": ExponentialDecay(0.1, 0.5, every=20, warmup=3),
    "cosine": CosineDecay(0.1, steps=60, final=0.001),
    "cosine-warmup": CosineDecay(0.1, steps=60, warmup=10),
    "one-cycle": OneCycle(0.1, steps=60),
    "piecewise": PiecewiseDecay(0.1, milestones=(3, 20, 45), factor=0.3),
    "piecewise-factors": PiecewiseDecay(0.1, milestones=[10, 30], factor=[0.5, 0.1], warmup=4),
    "polynomial": PolynomialDecay(0.1, steps=60, power=0.9),
    "polynomial-warmup": PolynomialDecay(0.1, steps=50, power=2, warmup=10),
    "restarts": CosineRestarts(0.1, first=9, final=0.001),
    "restarts-growing": CosineRestarts(0.1, first=4, growth=2, warmup=3),
    "chained": Chained(
        (LinearWarmup(0.1, warmup=7), CosineDecay(0.1, steps=30), StepDecay(0.1, every=5)),
        milestones=(8, 35),
    ),
}
CYCLE = OneCycle(0.1, steps=60, cycle_momentum=True)
STEPS = 70  # beyond the end of those that have one


def build(seed=0):
    return Sequential([Linear(6, 9), ReLU(), Linear(9, 3)], seed=seed)


def test_every_schedule_has_a_case():
    assert {type(schedule).__name__ for schedule in EACH.values()} == set(SCHEDULES)


# ---- formulas ------------------------------------------------------------------------------------


def test_the_points_that_one_knows():
    assert [LinearWarmup(1.0, warmup=4)(k) for k in range(6)] == [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]
    assert [StepDecay(1.0, every=2, factor=0.5)(k) for k in range(5)] == [1, 1, 0.5, 0.5, 0.25]
    assert ExponentialDecay(1.0, 0.25, every=2)(3) == pytest.approx(0.125, rel=1e-15)
    cosine = CosineDecay(1.0, steps=12, final=0.2, warmup=2)
    assert [cosine(k) for k in (2, 12, 500)] == [1.0, 0.2, 0.2]
    assert cosine(7) == pytest.approx(0.6, rel=1e-15)
    cycle = OneCycle(1.0, steps=11, pct_start=4 / 11, div_factor=10, final_div_factor=100)
    assert cycle(0) == pytest.approx(0.1, rel=1e-15)
    assert cycle(3) == 1.0
    assert [cycle(k) for k in (10, 11, 500)] == pytest.approx([0.001] * 3, rel=1e-12)
    steps = PiecewiseDecay(1.0, milestones=(2, 3), factor=(0.5, 0.5))
    assert [steps(k) for k in (0, 1, 2, 3, 99)] == [1, 1, 0.5, 0.25, 0.25]
    line = PolynomialDecay(1.0, steps=10, final=0.2)
    assert [line(k) for k in (0, 5, 10, 500)] == pytest.approx([1.0, 0.6, 0.2, 0.2], rel=1e-15)
    waves = CosineRestarts(1.0, first=4, growth=3, final=0.5)
    assert [waves(k) for k in (0, 2, 4, 10, 16, 34)] == pytest.approx(
        [1.0, 0.75, 1.0, 0.75, 1.0, 0.75], rel=1e-15
    )
    both = Chained((LinearWarmup(2.0, warmup=1), CosineDecay(1.0, steps=2)), milestones=(5,))
    assert [both(k) for k in (0, 1, 4, 5, 6, 7)] == pytest.approx([1, 2, 2, 1, 0.5, 0], rel=1e-15)
    assert (both.lr, both.steps) == (2.0, 7)


def torch_schedulers(torch):
    from torch.optim import lr_scheduler as lrs

    def after_warmup(n, make):
        def both(o):
            rise = lrs.LinearLR(o, start_factor=1 / (n + 1), total_iters=n)
            return lrs.SequentialLR(o, [rise, make(o)], milestones=[n])

        return both

    return {
        "warmup": lambda o: lrs.LinearLR(o, start_factor=1 / 8, total_iters=7),
        "step": lambda o: lrs.StepLR(o, 10, gamma=0.5),
        "step-warmup": after_warmup(5, lambda o: lrs.StepLR(o, 10)),
        "exponential": lambda o: lrs.ExponentialLR(o, 0.97),
        "exponential-every": after_warmup(3, lambda o: lrs.ExponentialLR(o, 0.5 ** (1 / 20))),
        "cosine": lambda o: lrs.CosineAnnealingLR(o, 60, eta_min=0.001),
        "cosine-warmup": after_warmup(10, lambda o: lrs.CosineAnnealingLR(o, 50)),
        "one-cycle": lambda o: lrs.OneCycleLR(o, 0.1, total_steps=60),
        "piecewise": lambda o: lrs.MultiStepLR(o, [3, 20, 45], gamma=0.3),
        "piecewise-factors": after_warmup(
            4, lambda o: lrs.LambdaLR(o, lambda k: 1.0 if k < 10 else 0.5 if k < 30 else 0.05)
        ),
        "polynomial": lambda o: lrs.PolynomialLR(o, 60, power=0.9),
        "polynomial-warmup": after_warmup(10, lambda o: lrs.PolynomialLR(o, 40, power=2)),
        "restarts": lambda o: lrs.CosineAnnealingWarmRestarts(o, 9, eta_min=0.001),
        "restarts-growing": after_warmup(
            3, lambda o: lrs.CosineAnnealingWarmRestarts(o, 4, T_mult=2)
        ),
        "chained": lambda o: lrs.SequentialLR(
            o,
            [
                lrs.LinearLR(o, start_factor=1 / 8, total_iters=7),
                lrs.CosineAnnealingLR(o, 30),
                lrs.StepLR(o, 5),
            ],
            milestones=[8, 35],
        ),
    }


@pytest.mark.parametrize("name", EACH)
@pytest.mark.filterwarnings("ignore")  # of the order of calls, and of SequentialLR's own making
def test_rates_are_those_of_torch(name):
    """Theirs multiply from step to step: 60 roundings. The cosines end at 60; theirs comes back."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, dtype=torch.float64)], lr=0.1)
    scheduler = torch_schedulers(torch)[name](optimizer)
    for step in range(60):
        want = optimizer.param_groups[0]["lr"]
        assert EACH[name](step) == pytest.approx(want, rel=1e-13, abs=1e-17), step
        optimizer.step()
        if step < 59:
            scheduler.step()


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_the_cycle_of_the_momentum_is_torch_s(kind):
    torch = pytest.importorskip("torch")
    optimizer = getattr(torch.optim, kind)([torch.zeros(1, dtype=torch.float64)], lr=0.1)
    how = {"base_momentum": 0.7, "max_momentum": 0.9}
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=60, **how)
    cycle = OneCycle(0.1, steps=60, cycle_momentum=True, **how)
    for step in range(60):
        group = optimizer.param_groups[0]
        want = group["momentum"] if kind == "SGD" else group["betas"][0]
        assert cycle.momentum(step) == pytest.approx(want, rel=1e-13), step
        assert cycle(step) == pytest.approx(group["lr"], rel=1e-13), step
        optimizer.step()
        if step < 59:
            scheduler.step()
    assert cycle.momentum(500) == 0.9
    assert math.isnan(OneCycle(0.1, steps=60).momentum(3))


# ---- training follows ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("kind", [SGD, Adam, ScheduleFreeAdamW])
def test_fit_takes_the_rate_of_every_step(kind, name):
    """The same as a loop that gives each step its number: fit, by train_step and by update."""
    fitted, stepped, by_hand = build(), build(), build()
    how = {"batch_size": 16, "shuffle": False, "loss": "cross_entropy"}  # 7 steps, the last short
    fitted.fit(X, Y, optimizer=kind(lr=EACH[name]), epochs=10, **how)
    step = 0
    for _ in range(10):
        for i in range(0, 100, 16):
            xb, yb = X[i : i + 16], Y[i : i + 16]
            stepped.train_step(xb, yb, loss="cross_entropy", optimizer=kind(lr=EACH[name]))
            by_hand.train_step(xb, yb, loss="cross_entropy", optimizer=kind(lr=EACH[name](step)))
            step += 1
    assert step == STEPS
    assert digest(*everything(fitted)) == digest(*everything(stepped))
    assert digest(*everything(fitted)) == digest(*everything(by_hand))


@pytest.mark.parametrize("clip_norm", [None, 0.1])
@pytest.mark.parametrize(
    "kind",
    [
        functools.partial(SGD, nesterov=True, momentum=0.5),
        functools.partial(SGD, averaged=True),
        Adam,
        NAdam,
        Lion,
        RMSprop,
    ],
)
def test_fit_takes_the_momentum_of_every_step(kind, clip_norm):
    """In fit, in train_step, in update and with a loss in Python: as if each step were set so."""
    cycle = OneCycle(0.02, steps=20, cycle_momentum=True)
    cycling = kind(lr=cycle, clip_norm=clip_norm)
    field = "momentum" if hasattr(cycling, "momentum") else "beta1"
    how = {"batch_size": 25, "shuffle": False, "loss": "cross_entropy"}
    fitted, stepped, updated, by_hand = build(), build(), build(), build()
    fitted.fit(X, Y, optimizer=cycling, epochs=6, **how)
    for step in range(24):
        i = 25 * (step % 4)
        xb, yb = X[i : i + 25], Y[i : i + 25]
        stepped.train_step(xb, yb, loss="cross_entropy", optimizer=cycling)
        own = kind(lr=cycle(step), clip_norm=clip_norm)
        own = dataclasses.replace(own, **{field: cycle.momentum(step)})
        by_hand.train_step(xb, yb, loss="cross_entropy", optimizer=own)
        z = updated.forward(xb, training=True)
        updated.backward(cross_entropy(z, yb)[1])
        updated.update(cycling)
    for net in (fitted, stepped, updated):
        assert digest(*everything(net)) == digest(*everything(by_hand))


def test_a_cycle_of_the_momentum_goes_on_after_loading(tmp_path):
    how = {"batch_size": 25, "loss": "cross_entropy"}
    adam = Adam(lr=OneCycle(0.02, steps=20, cycle_momentum=True, base_momentum=0.5))
    whole, half = build(), build()
    whole.fit(X, Y, optimizer=adam, epochs=4, **how)
    half.fit(X, Y, optimizer=adam, epochs=2, **how)
    half.save(tmp_path / "m")
    half = Sequential.load(tmp_path / "m")
    assert half.optimizer == adam
    half.fit(X, Y, epochs=2, **how)
    assert digest(*everything(whole)) == digest(*everything(half))


def test_update_follows_the_schedule():
    net = build()
    schedule = StepDecay(0.5, every=2)
    for k in range(6):
        before = net.params.copy()
        net.grads[...] = 1.0
        net.update(SGD(lr=schedule))
        assert_within(before - net.params, np.full(before.shape, schedule(k)), np.abs(before) + 1)


def test_a_pass_cut_into_slices_keeps_its_place(monkeypatch):
    """C comes back after every mini-batch; the rates go on where it stopped."""
    whole, cut = build(), build()
    for net, seconds in ((whole, 10.0), (cut, 0.0)):
        monkeypatch.setattr("fastmlp.training.epochs.SLICE_SECONDS", seconds)
        net.fit(X, Y, optimizer=Adam(lr=EACH["cosine-warmup"]), epochs=3, batch_size=16)
    assert digest(*everything(whole)) == digest(*everything(cut))


def test_an_interrupted_pass_goes_on_with_its_schedule(monkeypatch):
    from fastmlp.training.progress import Progress

    class Interrupt(Progress):
        def advance(self, rows, loss):
            raise KeyboardInterrupt

    how = {"optimizer": Adam(lr=EACH["cosine"]), "batch_size": 16, "loss": "cross_entropy"}
    whole, stopped = build(), build()
    whole.fit(X, Y, epochs=3, **how)
    with monkeypatch.context() as patch:
        patch.setattr("fastmlp.training.epochs.SLICE_SECONDS", 0.0)
        patch.setattr("fastmlp.training.fit.make_progress", lambda *_: Interrupt())
        with pytest.raises(KeyboardInterrupt):
            stopped.fit(X, Y, epochs=3, **how)
    assert stopped.step == 1
    stopped.fit(X, Y, epochs=3, **how)
    assert digest(*everything(whole)) == digest(*everything(stopped))


def test_the_schedule_goes_on_and_another_one_begins_at_its_first_step():
    net = build()
    start = net._engine.context
    net.fit(X, Y, optimizer=SGD(lr=StepDecay(0.1, every=5)), epochs=1, batch_size=25)
    net.fit(X, Y, optimizer=SGD(lr=StepDecay(0.1, every=5)), epochs=1, batch_size=25)
    assert (start.t, start.schedule_start) == (8, 0)
    net.fit(X, Y, optimizer=SGD(lr=StepDecay(0.1, every=6)), epochs=1, batch_size=25)
    assert (start.t, start.schedule_start) == (12, 8)
    other = build()
    other.set_params(net.params)
    for one in (net, other):
        one.train_step(X, Y, loss="cross_entropy", optimizer=SGD(lr=LinearWarmup(0.1, warmup=9)))
    np.testing.assert_array_equal(net.params, other.params)


@pytest.mark.parametrize("name", EACH)
def test_every_schedule_is_saved_and_goes_on(name, tmp_path):
    """Pickles too; an equal one does not begin anew."""
    how = {"batch_size": 25, "loss": "cross_entropy"}
    whole, half = build(), build()
    whole.fit(X, Y, optimizer=SGD(lr=EACH[name]), epochs=4, **how)
    half.fit(X, Y, optimizer=SGD(lr=EACH[name]), epochs=2, **how)
    half.save(tmp_path / "m")
    half = Sequential.load(tmp_path / "m")
    assert half.optimizer.lr == EACH[name] == pickle.loads(pickle.dumps(EACH[name]))
    half.fit(X, Y, epochs=2, **how)
    assert digest(*everything(whole)) == digest(*everything(half))


@dataclass(frozen=True)
class Own(Schedule):
    """Fields that schedules of ours have as well, with other meanings."""

    power: float = -0.5
    milestones: str = "none"
    growth: float = 1.5

    def rate(self, step):
        return self.lr * (step + 1) ** self.power


def test_fields_of_an_own_schedule_are_its_own():
    assert Own(0.1)(3) == 0.05
    with pytest.raises(ValueError, match="lr must be a finite number"):
        Own(-0.1)


def test_a_chain_moves_the_momentum_in_its_turn():
    chain = Chained((LinearWarmup(0.1, warmup=5), CYCLE), milestones=(6,))
    assert math.isnan(chain.momentum(5))
    assert chain.momentum(6) == CYCLE.momentum(0)
    assert chain.momentum(36) == CYCLE.momentum(30)
    with pytest.raises(ValueError, match="AdaGrad has no momentum"):
        AdaGrad(lr=chain)


def test_a_chain_of_an_own_schedule_is_not_saved(tmp_path):
    net = build()
    chain = Chained((LinearWarmup(0.1, warmup=1), Inverse(0.1, (90,))), milestones=(2,))
    net.fit(X, Y, optimizer=SGD(lr=chain), epochs=1, batch_size=50)
    with pytest.raises(TypeError, match="Inverse cannot be saved"):
        net.save(tmp_path / "m")


# ---- own schedules, and bad ones -----------------------------------------------------------------


@dataclass(frozen=True)
class Inverse(Schedule):
    turn: tuple[int, ...] = (3,)

    def rate(self, step):
        return self.lr / (1 + step) if step < self.turn[0] else math.nan


def test_an_own_schedule_trains_but_is_not_saved(tmp_path):
    net = build()
    net.fit(X, Y, optimizer=SGD(lr=Inverse(0.1)), epochs=1, batch_size=50)
    with pytest.raises(TypeError, match="Inverse cannot be saved"):
        net.save(tmp_path / "m")
    before = net.params.copy()
    with pytest.raises(ValueError, match=r"learning rate nan in step 3"):
        net.fit(X, Y, epochs=1, batch_size=50)
    np.testing.assert_array_equal(net.params, before)
    net.use_optimizer(SGD(lr=0.1))
    net.save(tmp_path / "m")


@dataclass(frozen=True)
class Falling(Schedule):
    """A momentum of its own, lower by 0.1 in every step."""

    first: float = 0.5

    def rate(self, step):
        return self.lr

    def momentum(self, step):
        return self.first - 0.1 * step


def test_an_own_schedule_may_set_the_momentum():
    how = {"loss": "cross_entropy", "batch_size": 50, "epochs": 2}
    net, other = build(), build()
    net.fit(X, Y, optimizer=SGD(lr=Falling(0.1)), shuffle=False, **how)
    for step in range(4):
        rows = slice(50 * (step % 2), 50 * (step % 2) + 50)
        sgd = SGD(lr=0.1, momentum=0.5 - 0.1 * step)
        other.train_step(X[rows], Y[rows], loss="cross_entropy", optimizer=sgd)
    assert digest(*everything(net)) == digest(*everything(other))
    for bad, match in [
        (SGD(lr=Falling(0.1, first=1.05)), "gives a momentum outside 0 .. 1"),
        (AdaGrad(lr=Falling(0.1)), "AdaGrad has no momentum that a schedule"),
        (ScheduleFreeAdamW(lr=Falling(0.1)), "ScheduleFreeAdamW has no momentum"),
    ]:
        fresh = build()
        with pytest.raises(ValueError, match=match):
            fresh.fit(X, Y, optimizer=bad, **how)
        assert fresh.step == 0


def test_the_ways_out_of_an_own_schedule_work(tmp_path):
    net = build()
    net.fit(X, Y, optimizer=SGD(lr=Inverse(0.1, (30,)), momentum=0.9), epochs=2, batch_size=50)
    with pytest.raises(TypeError) as refused:
        net.save(tmp_path / "m")
    assert not list(tmp_path.iterdir())
    twin = pickle.loads(pickle.dumps(net))
    advice = "net.use_optimizer(dataclasses.replace(net.optimizer, lr=0.001))"
    assert advice in str(refused.value)
    assert "pickle" in str(refused.value)
    moments = net._state[0].copy()
    exec(advice, {"net": net, "dataclasses": dataclasses})
    net.save(tmp_path / "m")
    loaded = Sequential.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded._state[0], moments)
    assert moments.any()
    assert loaded.optimizer == SGD(lr=0.001, momentum=0.9)
    assert twin.optimizer.lr == Inverse(0.1, (30,))
    other = build()
    other.fit(X, Y, optimizer=twin.optimizer, epochs=2, batch_size=50)
    for each in (twin, other):  # the pickled one goes on where it stood
        each.fit(X, Y, epochs=1, batch_size=50)
    np.testing.assert_array_equal(twin.params, other.params)


# ---- a schedule that is over ---------------------------------------------------------------------


@dataclass(frozen=True)
class Switch(Schedule):
    def rate(self, step):
        return self.lr * (step < 4)


ENDED = r"has ended.*net.optimizer = None"


@pytest.mark.parametrize("schedule", [CosineDecay(0.1, steps=4), OneCycle(0.1, steps=4), Switch(1)])
def test_going_on_with_a_schedule_that_is_over_is_told(schedule, recwarn):
    net = build()
    how = {"optimizer": SGD(lr=schedule), "epochs": 2, "batch_size": 50}
    net.fit(X, Y, **how)
    net.fit(X, Y, **how | {"epochs": 0})  # which trains nothing
    assert not recwarn.list
    with pytest.warns(UserWarning, match=ENDED) as shown:
        net.fit(X, Y, **how)
    assert len(shown) == 1
    assert shown[0].filename == __file__
    before = net.params.copy()
    net.optimizer = None  # as the warning says
    net.fit(X, Y, **how)
    assert not np.array_equal(net.params, before)
    with pytest.warns(UserWarning, match=ENDED):
        net.fit(X, Y, epochs=1)


@pytest.mark.parametrize(
    "schedule",
    [
        CosineDecay(0.1, steps=4, final=0.01),
        CosineDecay(0.1, steps=7),
        ExponentialDecay(0.1, 0.01),
        LinearWarmup(0.1, warmup=2),
    ],
)
def test_other_schedules_go_on_without_a_word(schedule, recwarn):
    net = build()
    for _ in range(2):
        net.fit(X, Y, optimizer=SGD(lr=schedule), epochs=2, batch_size=50)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: StepDecay(-0.1, every=3), "lr must be a finite number >= 0"),
        (lambda: StepDecay(0.1, every=0), "every must be an integer >= 1"),
        (lambda: StepDecay(0.1, every=2.5), "every must be an integer >= 1"),
        (lambda: StepDecay(0.1, every=2, factor=1.5), "with 0 < factor <= 1"),
        (lambda: ExponentialDecay(0.1, 0.0), "with 0 < factor <= 1"),
        (lambda: CosineDecay(0.1, steps=10, warmup=10), "make it shorter"),
        (lambda: CosineDecay(0.1, steps=10, final=math.nan), "final must be a finite number"),
        (lambda: LinearWarmup(0.1, warmup=-1), "warmup must be an integer >= 0"),
        (lambda: OneCycle(0.1, steps=3), "0.3 of 10 steps"),
        (
            lambda: OneCycle(0.1, steps=30, div_factor=0.5),
            "div_factor must be a finite number >= 1",
        ),
        (lambda: OneCycle(0.1, steps=30, max_momentum=1.0), "with 0 <= max_momentum < 1"),
        (lambda: OneCycle(0.1, steps=30, base_momentum=0.99), "is above max_momentum=0.95"),
        (lambda: AdaGrad(lr=CYCLE), "AdaGrad has no momentum that a schedule"),
        (lambda: ScheduleFreeAdamW(lr=CYCLE), "ScheduleFreeAdamW has no momentum that"),
        (lambda: Adam(lr="cosine"), "lr must be a finite number"),
        (lambda: PiecewiseDecay(0.1, milestones=(5, 3)), "milestones must be a list of ascending"),
        (lambda: PiecewiseDecay(0.1, milestones=(0, 3)), "milestones must be a list of ascending"),
        (lambda: PiecewiseDecay(0.1, milestones=7), "milestones must be a list of ascending"),
        (lambda: PiecewiseDecay(0.1, (5, 9), factor=(0.1,)), "factor holds 1 numbers for 2"),
        (lambda: PiecewiseDecay(0.1, (5,), factor=(2.0,)), "with 0 < factor <= 1"),
        (lambda: PolynomialDecay(0.1, steps=10, power=0), "power must be a finite number above 0"),
        (lambda: PolynomialDecay(0.1, steps=10, warmup=10), "make it shorter"),
        (lambda: CosineRestarts(0.1, first=0), "first must be an integer >= 1"),
        (lambda: CosineRestarts(0.1, first=5, growth=1.5), "growth must be an integer >= 1"),
        (lambda: Chained((LinearWarmup(0.1, 3),), ()), "two or more"),
        (lambda: Chained((LinearWarmup(0.1, 3), CYCLE), ()), "2 schedules need 1 milestones"),
        (lambda: Chained((LinearWarmup(0.1, 3), CYCLE), (0,)), "milestones must be a list"),
    ],
)
def test_bad_settings_name_what_is_wrong(make, error):
    with pytest.raises(ValueError, match=error):
        make()


# ---- reduce on plateau ---------------------------------------------------------------------------


class Scripted(Callback):
    def __init__(self, curve):
        self.curve = curve

    def on_epoch_end(self, run):
        run.logs["score"] = self.curve[run.epoch - 1]


CURVES = {
    "falls and rests": [5, 4, 3, 3, 3, 3, 3, 3, 3, 2, 2, 2, 2, 2, 2],
    "rises": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
    "small gains": [1 - 0.00001 * k for k in range(20)],
    "small gains of large values": [1e4 - 0.5 * k for k in range(20)],
    "gains of small values": [1e-6 * 0.9**k for k in range(20)],
    "nan": [3, math.nan, math.nan, math.nan, 2, math.nan, math.nan, math.nan],
}


@pytest.mark.parametrize("threshold", ["rel", "abs"])
@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("cooldown", [0, 2])
def test_reduce_on_plateau_is_torch_s(name, cooldown, threshold):
    """Theirs lowers the rate in the epoch after `patience`: one more."""
    torch = pytest.importorskip("torch")
    curve = CURVES[name]
    other = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        other,
        factor=0.5,
        patience=2,
        threshold=1e-3,
        threshold_mode=threshold,
        cooldown=cooldown,
        min_lr=0.01,
    )
    want = []
    for value in curve:
        want.append(other.param_groups[0]["lr"])
        scheduler.step(value)
    gain = {"rtol": 1e-3} if threshold == "rel" else {"rtol": 0.0, "min_delta": 1e-3}
    plateau = ReduceOnPlateau(
        "score", mode="min", factor=0.5, patience=3, cooldown=cooldown, min_lr=0.01, **gain
    )
    net = build()
    history = net.fit(
        X, Y, optimizer=SGD(lr=0.1), epochs=len(curve), callbacks=[Scripted(curve), plateau]
    )
    np.testing.assert_allclose(history["lr"], want, rtol=1e-15)
    assert net.optimizer.lr == pytest.approx(other.param_groups[0]["lr"], rel=1e-15)


def test_patience_0_lowers_the_rate_after_every_epoch_without_a_gain():
    """PyTorch's 0, and our 1."""
    torch = pytest.importorskip("torch")
    curve = [5, 4, 4, 4, 3, 4, 4]
    other = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(other, patience=0)
    want = []
    for value in curve:
        want.append(other.param_groups[0]["lr"])
        scheduler.step(value)
    for patience in (0, 1):
        plateau = ReduceOnPlateau("score", patience=patience, mode="min")
        callbacks = [Scripted(curve), plateau]
        found = build().fit(X, Y, optimizer=SGD(0.1), epochs=len(curve), callbacks=callbacks)["lr"]
        np.testing.assert_allclose(found, want, rtol=1e-12)


def test_the_lowered_rate_is_trained_with_and_saved(tmp_path):
    plateau = ReduceOnPlateau("score", mode="min", factor=0.5, patience=1)
    a, b = build(), build()
    a.fit(X, Y, optimizer=Adam(0.1), epochs=4, callbacks=[Scripted([1, 1, 1, 1]), plateau])
    for lr in (0.1, 0.1, 0.05, 0.025):
        b.fit(X, Y, optimizer=Adam(lr), epochs=1)
    assert digest(*everything(a)) == digest(*everything(b))
    a.save(tmp_path / "m")
    assert Sequential.load(tmp_path / "m").optimizer == Adam(0.0125)


def test_reduce_on_plateau_says_what_it_needs():
    def fit(plateau, lr=0.1):
        build().fit(X, Y, optimizer=Adam(lr=lr), callbacks=[plateau], epochs=1)

    with pytest.raises(ValueError, match="needs a number for lr"):
        fit(ReduceOnPlateau("loss"), EACH["step"])
    with pytest.raises(ValueError, match="ReduceOnPlateau monitors 'val_loss', but fit has no"):
        fit(ReduceOnPlateau())
    with pytest.raises(ValueError, match="logged are loss"):
        fit(ReduceOnPlateau("f1", mode="max"))
    for bad in ({"factor": 1.0}, {"cooldown": -1}, {"min_lr": -1.0}, {"patience": -1}, {"rtol": 1}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            ReduceOnPlateau(**bad)

"""The same numbers as PyTorch, in float64: 1e-12 after one step, 1e-10 after a hundred.

torch keeps weights as (n_out, n_in), ours transposed, and decays biases unless told not to."""

import functools

import numpy as np
import pytest
from helpers import (
    ACTIVATIONS,
    LOSSES,
    activation,
    copies,
    gradients,
    inputs,
    linears,
    loss_function,
    loss_settings,
    parameters,
    randomize,
    relative_error,
    targets,
)

import fastmlp
from fastmlp import (
    EMA,
    SGD,
    SWA,
    Adadelta,
    AdaGrad,
    Adam,
    Adamax,
    AdamW,
    AMSGrad,
    CosineDecay,
    Dropout,
    ExponentialDecay,
    Linear,
    LinearWarmup,
    NAdam,
    OneCycle,
    RAdam,
    RMSprop,
    Rprop,
    Sequential,
    StepDecay,
    _core,
)

torch = pytest.importorskip("torch")
lrs = torch.optim.lr_scheduler
torch.set_num_threads(1)  # tiny products: more threads only wait for each other

ONE_STEP, HUNDRED_STEPS = 1e-12, 1e-10
ROWS, N_IN, N_OUT = 23, 9, 6

TORCH_ACTIVATIONS = {
    "identity": torch.nn.Identity,
    "relu": torch.nn.ReLU,
    "leaky_relu": torch.nn.LeakyReLU,
    "elu": torch.nn.ELU,
    "celu": torch.nn.CELU,
    "selu": torch.nn.SELU,
    "gelu": torch.nn.GELU,
    "gelu_tanh": functools.partial(torch.nn.GELU, approximate="tanh"),
    "silu": torch.nn.SiLU,
    "hardswish": torch.nn.Hardswish,
    "mish": torch.nn.Mish,
    "softplus": torch.nn.Softplus,
    "sigmoid": torch.nn.Sigmoid,
    "tanh": torch.nn.Tanh,
}
F = torch.nn.functional


def softplus(z):
    return F.softplus(z, threshold=500)  # theirs is the identity from 20 on


def torch_bce(z, y, label_smoothing, reduction, pos_weight=None, output_weight=None):
    t = (1 - label_smoothing) * y + label_smoothing / 2
    p, w = (None if a is None else torch.tensor(a) for a in (pos_weight, output_weight))
    return F.binary_cross_entropy_with_logits(z, t, w, pos_weight=p, reduction=reduction)


def torch_pinball(z, y, quantiles, reduction):
    """They have none; their gradients of the formula."""
    steps = z.reshape(len(z), -1, len(quantiles))
    q = torch.cat([steps[:, :, :1], softplus(steps[:, :, 1:])], dim=2).cumsum(dim=2)
    e, tau = y[:, :, None] - q, torch.tensor(quantiles, dtype=z.dtype)
    return getattr(torch.maximum(tau * e, (tau - 1) * e), reduction)()


def torch_gaussian_nll(z, y, min_variance, reduction):
    mean, spread = z.chunk(2, dim=1)
    variance = softplus(spread) + min_variance
    return F.gaussian_nll_loss(mean, y, variance, full=True, eps=1e-300, reduction=reduction)


def torch_tweedie(z, y, power, reduction):
    """They have it for no power but 1, without the terms of y alone."""
    m, a, b = torch.exp(z), 1 - power, 2 - power
    if power == 1:
        loss = F.poisson_nll_loss(z, y, reduction="none") + torch.xlogy(y, y) - y
    elif power == 2:
        loss = y / m - torch.log(y / m) - 1
    else:
        loss = y**b / (a * b) - y * m**a / a + m**b / b
    return getattr(loss, reduction)()


def torch_cross_entropy(z, y, ignore_index, **settings):
    """Its default names a label that we have none of."""
    return F.cross_entropy(
        z, y, ignore_index=-100 if ignore_index is None else ignore_index, **settings
    )


def torch_focal(z, y, gamma, ignore_index, reduction):
    if ignore_index is not None:
        z, y = z[y != ignore_index], y[y != ignore_index]
    loss = F.cross_entropy(z, y, reduction="none")
    return getattr((-torch.expm1(-loss)) ** gamma * loss, reduction)()


def torch_binary_focal(z, y, gamma, alpha, reduction):
    """torchvision.ops.sigmoid_focal_loss for either answer, weighed by the target."""
    on, off = (1, 1) if alpha is None else (alpha, 1 - alpha)
    loss = on * y * torch.sigmoid(-z) ** gamma * softplus(-z)
    loss = loss + off * (1 - y) * torch.sigmoid(z) ** gamma * softplus(z)
    return getattr(loss, reduction)()


TORCH_LOSSES = {
    "cross_entropy": torch_cross_entropy,
    "binary_cross_entropy": torch_bce,
    "squared_error": F.mse_loss,
    "absolute_error": F.l1_loss,
    "huber": F.huber_loss,
    "poisson": F.poisson_nll_loss,
    "tweedie": torch_tweedie,
    "pinball": torch_pinball,
    "gaussian_nll": torch_gaussian_nll,
    "focal": torch_focal,
    "binary_focal": torch_binary_focal,
    "soft_cross_entropy": F.cross_entropy,
}


def torch_loss(case):
    """(z, y) -> loss with the settings of one of LOSSES."""
    return functools.partial(TORCH_LOSSES[LOSSES[case].name], **loss_settings(case))


# ours, torch's class, its keywords: weight_decay goes to weights alone
OPTIMIZERS = {
    "sgd": (SGD(lr=0.05), torch.optim.SGD, {"lr": 0.05}),
    "sgd-momentum": (
        SGD(lr=0.02, momentum=0.9),
        torch.optim.SGD,
        {"lr": 0.02, "momentum": 0.9},
    ),
    "sgd-nesterov": (
        SGD(lr=0.02, momentum=0.9, nesterov=True),
        torch.optim.SGD,
        {"lr": 0.02, "momentum": 0.9, "nesterov": True},
    ),
    "adam": (Adam(lr=0.01), torch.optim.Adam, {"lr": 0.01}),
    "adam-betas": (
        Adam(lr=0.01, beta1=0.8, beta2=0.95, eps=1e-4),
        torch.optim.Adam,
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4},
    ),
    "adamw": (
        AdamW(lr=0.01, weight_decay=0.1),
        torch.optim.AdamW,
        {"lr": 0.01, "weight_decay": 0.1},
    ),
    # in torch's other optimizers weight_decay is our l2, unless they call it decoupled
    "sgd-l2": (SGD(lr=0.05, l2=0.1), torch.optim.SGD, {"lr": 0.05, "weight_decay": 0.1}),
    "adam-l2": (Adam(lr=0.01, l2=0.1), torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.1}),
    "amsgrad": (
        AMSGrad(lr=0.01, beta2=0.9),
        torch.optim.Adam,
        {"lr": 0.01, "betas": (0.9, 0.9), "amsgrad": True},
    ),
    "amsgrad-decay": (
        AMSGrad(lr=0.01, weight_decay=0.1),
        torch.optim.AdamW,
        {"lr": 0.01, "weight_decay": 0.1, "amsgrad": True},
    ),
    "nadam": (
        NAdam(lr=0.01, momentum_decay=0.1),
        torch.optim.NAdam,
        {"lr": 0.01, "momentum_decay": 0.1},
    ),
    "nadam-decay": (
        NAdam(lr=0.01, weight_decay=0.1),
        torch.optim.NAdam,
        {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True},
    ),
    "radam": (RAdam(lr=0.01), torch.optim.RAdam, {"lr": 0.01}),
    "radam-decay": (
        RAdam(lr=0.01, beta1=0.8, beta2=0.95, eps=1e-4, weight_decay=0.1),
        torch.optim.RAdam,
        {
            "lr": 0.01,
            "betas": (0.8, 0.95),
            "eps": 1e-4,
            "weight_decay": 0.1,
            "decoupled_weight_decay": True,
        },
    ),
    "adagrad": (AdaGrad(lr=0.05), torch.optim.Adagrad, {"lr": 0.05}),
    "adagrad-l2": (
        AdaGrad(lr=0.05, l2=0.1),
        torch.optim.Adagrad,
        {"lr": 0.05, "weight_decay": 0.1},
    ),
    "rmsprop": (
        RMSprop(lr=0.01, beta2=0.9),
        torch.optim.RMSprop,
        {"lr": 0.01, "alpha": 0.9},
    ),
    "rmsprop-momentum": (
        RMSprop(lr=0.005, momentum=0.8, l2=0.1),
        torch.optim.RMSprop,
        {"lr": 0.005, "momentum": 0.8, "weight_decay": 0.1},
    ),
    "rmsprop-centered": (
        RMSprop(lr=0.01, beta2=0.9, centered=True),
        torch.optim.RMSprop,
        {"lr": 0.01, "alpha": 0.9, "centered": True},
    ),
    "rmsprop-centered-momentum": (
        RMSprop(lr=0.002, momentum=0.8, l2=0.1, centered=True),
        torch.optim.RMSprop,
        {"lr": 0.002, "momentum": 0.8, "weight_decay": 0.1, "centered": True},
    ),
    "adadelta": (Adadelta(), torch.optim.Adadelta, {}),
    "adadelta-l2": (
        Adadelta(lr=0.3, beta2=0.7, eps=1e-4, l2=0.1),
        torch.optim.Adadelta,
        {"lr": 0.3, "rho": 0.7, "eps": 1e-4, "weight_decay": 0.1},
    ),
    "adamax": (Adamax(), torch.optim.Adamax, {}),
    "adamax-l2": (
        Adamax(lr=0.01, beta1=0.8, beta2=0.95, eps=1e-4, l2=0.1),
        torch.optim.Adamax,
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.1},
    ),
    # with larger steps the loss is soon rounding alone
    "rprop": (
        Rprop(max_step=0.02),
        torch.optim.Rprop,
        {"step_sizes": (1e-6, 0.02)},
    ),
    "rprop-settings": (
        Rprop(lr=0.002, shrink=0.3, grow=1.1, min_step=1e-4, max_step=0.01),
        torch.optim.Rprop,
        {"lr": 0.002, "etas": (0.3, 1.1), "step_sizes": (1e-4, 0.01)},
    ),
}
NOT_THEIRS = {"lion", "schedule_free_adamw"}  # test_optax_parity.py has these


@pytest.fixture(autouse=True)
def _float64():
    """torch keeps NAdam's product of momenta in its default type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def test_everything_registered_is_compared():
    assert set(_core.ACTIVATIONS) <= set(TORCH_ACTIVATIONS)
    assert set(TORCH_LOSSES) == set(_core.LOSSES)
    names = {ours.kernel for ours, _, _ in OPTIMIZERS.values()}
    assert names == set(_core.OPTIMIZERS) - NOT_THEIRS


def ours(name):
    layers = [Linear(N_IN, 13), activation(name), Linear(13, 8), activation(name), Linear(8, N_OUT)]
    net = Sequential(layers, dtype="float64", seed=0)
    randomize(net)
    return net


def theirs(net, name):
    """A torch network with a copy of the weights."""
    first, second, last = linears(net)
    model = torch.nn.Sequential(
        torch.nn.Linear(*first.weight.shape),
        TORCH_ACTIVATIONS[name](),
        torch.nn.Linear(*second.weight.shape),
        TORCH_ACTIVATIONS[name](),
        torch.nn.Linear(*last.weight.shape),
    ).double()
    with torch.no_grad():
        for mine, other in zip(linears(net), model[::2], strict=True):
            other.weight.copy_(torch.from_numpy(mine.weight.T.copy()))
            other.bias.copy_(torch.from_numpy(mine.bias.copy()))
    return model


def in_our_layout(model, get=lambda p: p.detach()):
    """weight, bias, weight, bias, ... as our arrays stand."""
    return [get(p).numpy().T for layer in model[::2] for p in (layer.weight, layer.bias)]


def parameter_groups(model):
    linear = list(model[::2])
    return [
        {"params": [layer.weight for layer in linear]},
        {"params": [layer.bias for layer in linear], "weight_decay": 0.0},
    ]


def assert_all_close(got, want, tolerance):
    for a, b in zip(got, want, strict=True):
        assert relative_error(a, b) <= tolerance


def torch_targets(y):
    return torch.from_numpy(y.copy())


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name):
    z = np.linspace(-20, 20, 4001).reshape(1, -1)
    layer = activation(name)
    y, dx = layer.forward(z), layer.backward(np.ones_like(z))
    other = torch.from_numpy(z.copy()).requires_grad_()
    out = TORCH_ACTIVATIONS[name]()(other)
    out.sum().backward()
    # torch's softplus is the identity beyond its threshold of 20, where the difference is exp(-20)
    np.testing.assert_allclose(y, out.detach().numpy(), rtol=ONE_STEP, atol=ONE_STEP)
    np.testing.assert_allclose(dx, other.grad.numpy(), rtol=ONE_STEP, atol=ONE_STEP)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("size", [1.0, 100.0])
def test_loss(loss, size):
    z, y = size * inputs(ROWS, N_OUT), targets(loss, ROWS, N_OUT)
    value, dz = loss_function(loss)(z, y)
    other = torch.from_numpy(z).requires_grad_()
    want = torch_loss(loss)(other, torch_targets(y))
    want.backward()
    assert relative_error(value, want.item()) <= ONE_STEP
    assert relative_error(dz, other.grad.numpy()) <= ONE_STEP


@pytest.mark.parametrize("pos_weight", [None, 3.0, (0.5, 2.0, 0.0, 7.0, 1.0, 1.5)])
@pytest.mark.parametrize("output_weight", [None, (1.0, 0.0, 2.0, 0.3, 1.0, 5.0)])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_weights_of_ones_and_of_outputs(reduction, output_weight, pos_weight):
    z = 3 * inputs(ROWS, N_OUT)
    y = np.random.default_rng(0).integers(0, 2, (ROWS, N_OUT)).astype(float)
    how = {"pos_weight": pos_weight, "output_weight": output_weight, "reduction": reduction}
    value, dz = fastmlp.binary_cross_entropy(z, y, **how)
    other = torch.from_numpy(z).requires_grad_()
    want = torch_bce(other, torch_targets(y), 0.0, **how)
    want.backward()
    assert relative_error(value, want.item()) <= ONE_STEP
    assert relative_error(dz, other.grad.numpy()) <= ONE_STEP


def test_a_loss_for_each_row():
    z, y = 3 * inputs(ROWS, N_OUT), targets("cross_entropy", ROWS, N_OUT)
    soft = targets("soft_cross_entropy", ROWS, N_OUT)
    for target in (y, soft):
        values, dz = fastmlp.cross_entropy(z, target, 0.1, reduction="none")
        other = torch.from_numpy(z).requires_grad_()
        want = F.cross_entropy(other, torch_targets(target), label_smoothing=0.1, reduction="none")
        want.sum().backward()
        assert relative_error(values, want.detach().numpy()) <= ONE_STEP
        assert relative_error(dz, other.grad.numpy()) <= ONE_STEP


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gradients_of_a_network(name, loss):
    net = ours(name)
    model = theirs(net, name)
    x, y = inputs(ROWS, N_IN), targets(loss, ROWS, N_OUT)
    z = net.forward(x, training=True)
    value, dz = loss_function(loss)(z, y)
    dx = net.backward(dz)

    other = torch.from_numpy(x).requires_grad_()
    out = model(other)
    want = torch_loss(loss)(out, torch_targets(y))
    want.backward()
    assert relative_error(z, out.detach().numpy()) <= ONE_STEP
    assert relative_error(value, want.item()) <= ONE_STEP
    assert_all_close(gradients(net), in_our_layout(model, lambda p: p.grad), ONE_STEP)
    assert relative_error(dx, other.grad.numpy()) <= ONE_STEP


def check_training(name, loss, case):
    compare_training(name, loss, *OPTIMIZERS[case])


def compare_training(
    name, loss, optimizer, torch_optimizer, keywords, *, penalty=None, clip=None, schedule=None
):
    """Full batches, one by one: the losses agree all the way. penalty(weights) joins their loss,
    clip(parameters) stands before their step, schedule(optimizer) is one of their schedulers.
    Returns the network, and their weights after every step."""
    net = ours(name)
    model = theirs(net, name)
    other = torch_optimizer(parameter_groups(model), **keywords)
    scheduler = schedule and schedule(other)
    history = []
    x, y = inputs(ROWS, N_IN), targets(loss, ROWS, N_OUT)
    start = net.params.copy()
    for step in range(1, 101):
        value = net.train_step(x, y, loss=LOSSES[loss], optimizer=optimizer)
        other.zero_grad()
        want = torch_loss(loss)(model(torch.from_numpy(x)), torch_targets(y))
        whole = want + penalty([layer.weight for layer in model[::2]]) if penalty else want
        whole.backward()
        if clip:
            clip(list(model.parameters()))
        other.step()
        if scheduler:
            scheduler.step()
        history.append(copies(in_our_layout(model)))
        tolerance = ONE_STEP if step == 1 else HUNDRED_STEPS
        assert relative_error(value, want.item()) <= tolerance
        if step in (1, 100):
            assert_all_close(parameters(net), in_our_layout(model), tolerance)
    assert relative_error(net.params, start) > 0.01
    return net, history


@pytest.mark.parametrize("case", OPTIMIZERS)
def test_training_with_each_optimizer(case):
    check_training("tanh", "cross_entropy", case)


@pytest.mark.parametrize("loss", LOSSES)
def test_training_with_each_loss(loss):
    terms = ROWS * N_OUT if LOSSES[loss].reduction == "sum" else 1
    optimizer, keywords = SGD(lr=0.02 / terms, momentum=0.9), {"lr": 0.02 / terms, "momentum": 0.9}
    compare_training("gelu", loss, optimizer, torch.optim.SGD, keywords)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_training_with_each_activation(name):
    check_training(name, "squared_error", "adam")


def test_defaults_are_theirs():
    parameters = [torch.zeros(1)]
    theirs = torch.optim.Adadelta(parameters).defaults
    mine = Adadelta()
    assert (mine.lr, mine.beta2, mine.eps) == (theirs["lr"], theirs["rho"], theirs["eps"])
    theirs, mine = torch.optim.Adamax(parameters).defaults, Adamax()
    assert (mine.lr, mine.beta1, mine.beta2) == (theirs["lr"], *theirs["betas"])
    assert mine.eps == theirs["eps"]
    theirs, mine = torch.optim.Rprop(parameters).defaults, Rprop()
    assert (mine.lr, mine.shrink, mine.grow) == (theirs["lr"], *theirs["etas"])
    assert (mine.min_step, mine.max_step) == theirs["step_sizes"]


def test_elastic_net():
    def penalty(weights):
        return sum(0.01 * w.abs().sum() + 0.05 * (w * w).sum() for w in weights)

    optimizer = SGD(lr=0.05, l1=0.01, l2=0.1)
    compare_training(
        "tanh", "cross_entropy", optimizer, torch.optim.SGD, {"lr": 0.05}, penalty=penalty
    )


def clip_by_norm(parameters):
    """clip_grad_norm_ divides by norm + 1e-6; this does not."""
    norm = torch.sqrt(sum((p.grad**2).sum() for p in parameters))
    for p in parameters:
        p.grad *= min(1.0, 0.1 / float(norm))


def test_clipping():
    adam = torch.optim.Adam, {"lr": 0.01}
    compare_training(
        "tanh", "cross_entropy", Adam(lr=0.01, clip_norm=0.1), *adam, clip=clip_by_norm
    )
    compare_training(
        "tanh",
        "cross_entropy",
        Adam(lr=0.01, clip_value=0.005),
        *adam,
        clip=lambda p: torch.nn.utils.clip_grad_value_(p, 0.005),
    )


SCHEDULES = {
    "step": (StepDecay(0.01, every=20, factor=0.5), lambda o: lrs.StepLR(o, 20, 0.5)),
    "exponential": (ExponentialDecay(0.01, 0.97), lambda o: lrs.ExponentialLR(o, 0.97)),
    "cosine": (CosineDecay(0.01, steps=100), lambda o: lrs.CosineAnnealingLR(o, 100)),
    "warmup": (LinearWarmup(0.01, warmup=19), lambda o: lrs.LinearLR(o, 0.05, total_iters=19)),
    "one-cycle": (
        OneCycle(0.01, steps=101),
        lambda o: lrs.OneCycleLR(o, 0.01, total_steps=101, cycle_momentum=False),
    ),
    "one-cycle-momentum": (
        OneCycle(0.01, steps=101, cycle_momentum=True),
        lambda o: lrs.OneCycleLR(o, 0.01, total_steps=101),
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_training_with_each_schedule(name):
    schedule, theirs = SCHEDULES[name]
    for ours, other in (
        (NAdam, torch.optim.NAdam),
        (Adam, torch.optim.Adam),
        (SGD, torch.optim.SGD),
    ):
        compare_training(
            "tanh", "cross_entropy", ours(lr=schedule), other, {"lr": 0.01}, schedule=theirs
        )


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_averaged_weights(kind):
    from torch.optim import swa_utils

    average = EMA(0.9) if kind == "ema" else SWA(start=40, every=3)
    multi_avg = swa_utils.get_ema_multi_avg_fn(0.9) if kind == "ema" else None
    optimizer = AdamW(lr=0.01, weight_decay=0.1, weight_average=average)
    net, history = compare_training(
        "tanh", "cross_entropy", optimizer, torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}
    )
    model = theirs(net, "tanh")
    averaged = swa_utils.AveragedModel(model, multi_avg_fn=multi_avg)
    for t, weights in enumerate(history, start=1):
        if kind == "swa" and (t < 40 or (t - 40) % 3):
            continue
        with torch.no_grad():
            for place, value in zip(model.parameters(), weights, strict=True):
                place.copy_(torch.from_numpy(value.T.copy()))
        averaged.update_parameters(model)
    with net.averaged():
        assert_all_close(parameters(net), in_our_layout(averaged.module), HUNDRED_STEPS)


def test_dropout_scales_as_theirs_and_rests_at_test_time():
    """The masks differ; what is kept is scaled alike."""
    x = inputs(ROWS, N_IN)
    for p in (0.1, 0.25, 0.5):
        mine = Dropout(p).forward(x, training=True)
        other = torch.nn.functional.dropout(torch.from_numpy(x), p).numpy()
        kept = (mine != 0) & (other != 0)
        assert kept.sum() > 20
        np.testing.assert_allclose(mine[kept], other[kept], rtol=ONE_STEP)


def test_attributes_mean_the_same():
    z = inputs(11, 7)
    pairs = [
        (fastmlp.LeakyReLU(0.3), torch.nn.LeakyReLU(0.3)),
        (fastmlp.ELU(0.7), torch.nn.ELU(0.7)),
        (fastmlp.CELU(0.25), torch.nn.CELU(0.25)),  # its gradient rounds 1 / alpha to float32
        (fastmlp.Softplus(0.3), torch.nn.Softplus(0.3)),
        (fastmlp.Softplus(beta=5.0), torch.nn.Softplus(5.0, threshold=500)),
    ]
    for mine, other in pairs:
        x = torch.from_numpy(z.copy()).requires_grad_()
        want = other(x)
        want.sum().backward()
        np.testing.assert_allclose(mine.forward(z), want.detach().numpy(), rtol=ONE_STEP)
        np.testing.assert_allclose(mine.backward(np.ones_like(z)), x.grad.numpy(), rtol=ONE_STEP)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("ignored", [-100, 1, 77])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_rows_that_cross_entropy_ignores(is_weighted, ignored, label_smoothing, reduction):
    """Class weights where both mean the same: without smoothing, and not the mean, which PyTorch
    divides by the weights of the rows that count."""
    if is_weighted and label_smoothing:
        pytest.skip("PyTorch weighs every class's term of the smoothed loss")
    z, y = 3 * inputs(ROWS, N_OUT), targets("cross_entropy", ROWS, N_OUT)
    y[::3] = ignored
    by_class = np.random.default_rng(2).uniform(0.5, 2, N_OUT) if is_weighted else np.ones(N_OUT)
    weights = by_class[np.where(y == ignored, 0, y)]
    value, dz = fastmlp.cross_entropy(
        z, y, label_smoothing, ignore_index=ignored, sample_weight=weights, reduction=reduction
    )
    if reduction == "mean":  # their divisor
        share = np.mean(weights[y != ignored])
        value, dz = value / share, dz / share
    other = torch.from_numpy(z).requires_grad_()
    want = F.cross_entropy(
        other,
        torch_targets(y),
        torch.from_numpy(by_class) if is_weighted else None,
        ignore_index=ignored,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )
    want.sum().backward()
    assert relative_error(value, want.detach().numpy()) <= ONE_STEP
    assert relative_error(dz, other.grad.numpy()) <= ONE_STEP

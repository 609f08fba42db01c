"""fastmlp.plot: what stands on the axes is what the functions say."""

import subprocess
import sys

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.collections import PathCollection  # noqa: E402

import fastmlp  # noqa: E402
from fastmlp import (  # noqa: E402
    SGD,
    Dropout,
    GradientNorms,
    Linear,
    ReLU,
    Residual,
    Sequential,
    Tanh,
    plot,
)

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 2))
Y = (X.sum(axis=1) > 0).astype(int)


@pytest.fixture(autouse=True)
def _closes_figures():
    yield
    plt.close("all")


def lines(ax):
    return {line.get_label(): line.get_xydata() for line in ax.lines}


def scattered(ax):
    return [c for c in ax.collections if isinstance(c, PathCollection)]


def test_learning_curves_draw_both_losses_and_the_lowest():
    ax = plot.learning_curves({"loss": [3.0, 2.0, 1.0], "val_loss": [3.0, 1.5, 2.0]})
    drawn = lines(ax)
    np.testing.assert_array_equal(drawn["training"], [[1, 3], [2, 2], [3, 1]])
    np.testing.assert_array_equal(drawn["validation"], [[1, 3], [2, 1.5], [3, 2]])
    lowest = scattered(ax)[0]
    assert lowest.get_label() == "lowest, epoch 2"
    np.testing.assert_array_equal(np.asarray(lowest.get_offsets()), [[2, 1.5]])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "loss")


def test_learning_curves_of_a_metric_and_on_given_axes():
    ax = plt.subplots()[1]
    assert plot.learning_curves({"accuracy": [0.5, 0.7]}, ax, "accuracy") is ax
    assert list(lines(ax)) == ["training"]
    assert ax.get_ylabel() == "accuracy"
    with pytest.raises(ValueError, match="holds no 'rmse'; it holds loss"):
        plot.learning_curves({"loss": [1.0]}, name="rmse")


def test_learning_curves_of_a_metric_mark_the_epoch_of_the_lowest_loss():
    history = {"rmse": [3.0, 2.0, 1.0], "val_rmse": [3.0, 2.5, 2.0], "val_loss": [3.0, 1.5, 2.0]}
    (lowest,) = scattered(plot.learning_curves(history, name="rmse"))
    assert lowest.get_label() == "lowest loss, epoch 2"
    np.testing.assert_array_equal(np.asarray(lowest.get_offsets()), [[2, 2.5]])


def test_the_history_plots_itself():
    net = Sequential([Linear(2, 2)])
    history = net.fit(X, Y, epochs=3, validation_split=0.2)
    np.testing.assert_array_equal(lines(history.plot())["training"][:, 1], history["loss"])


def test_decision_boundary_lies_where_the_probability_is_one_half():
    ax = plot.decision_boundary(lambda p: 1 / (1 + np.exp(-5 * (p[:, 0] - 0.25))), X, Y)
    boundary = [c for c in ax.collections if list(getattr(c, "levels", ())) == [0.5]]
    assert len(boundary) == 1
    at = np.concatenate([path.vertices for path in boundary[0].get_paths()])
    step = np.ptp(X[:, 0]) * 1.24 / 199  # within which the contour is drawn as a line
    assert np.abs(at[:, 0] - 0.25).max() < step
    assert np.ptp(at[:, 1]) >= np.ptp(X[:, 1])


def test_decision_boundary_shows_every_example_with_the_marker_of_its_class():
    y = np.digitize(X[:, 0], [-0.5, 0.5])
    net = Sequential([Linear(2, 8), ReLU(), Linear(8, 3)])
    net.fit(X, y, epochs=5)
    clouds = scattered(plot.decision_boundary(net, X, y, resolution=20))
    for label, cloud in enumerate(clouds):
        np.testing.assert_array_equal(np.asarray(cloud.get_offsets()), X[y == label])
    assert len({tuple(c.get_facecolor()[0]) for c in clouds}) == 3
    assert len({c.get_paths()[0].vertices.tobytes() for c in clouds}) == 3


def test_decision_boundary_takes_estimators_with_names_of_classes():
    model = fastmlp.LogisticRegression(l2=1.0).fit(X, np.where(Y, "yes", "no"))
    ax = plot.decision_boundary(model, X, np.where(Y, "yes", "no"))
    assert [c.get_label() for c in scattered(ax)] == ["class no", "class yes"]


def test_decision_boundary_where_y_lacks_a_class():
    """Its colors had moved up to those of the regions of other classes."""
    three = lambda p: np.tile([0.2, 0.3, 0.5], (len(p), 1))  # noqa: E731
    whole = scattered(plot.decision_boundary(three, X, np.arange(60) % 3, resolution=5))
    part = scattered(plot.decision_boundary(three, X, np.arange(60) % 2 * 2, resolution=5))
    assert [c.get_label() for c in part] == ["class 0", "class 2"]
    for cloud, same in ((part[0], whole[0]), (part[1], whole[2])):
        np.testing.assert_array_equal(cloud.get_facecolor()[0], same.get_facecolor()[0])


@pytest.mark.parametrize(
    ("model", "x", "y", "error", "message"),
    [
        (lambda p: p[:, 0], X[:, :1], Y, ValueError, "X has 1 features; a boundary is drawn for"),
        (lambda p: p[:, 0], X, Y[:5], ValueError, r"y has the shape \(5,\), expected \(60,\)"),
        (lambda p: p[:, 0], X, np.arange(60) % 3, ValueError, "but the model tells 2 classes"),
        (
            fastmlp.LogisticRegression(l2=1.0).fit(X, Y),
            X,
            np.where(Y > 0, 2, 0),
            ValueError,
            r"y holds \[2\], but the model tells 2 classes: \[0, 1\]",
        ),
        (lambda p: p[:5, 0], X, Y, ValueError, "the model returns the shape"),
        (7, X, Y, TypeError, "model must have predict_proba or be a function"),
        (lambda p: p[:, 0], X * np.nan, Y, ValueError, "X holds NaN at row 0, column 0"),
    ],
)
def test_decision_boundary_refuses(model, x, y, error, message):
    with pytest.raises(error, match=message):
        plot.decision_boundary(model, x, y)


def test_residuals_stand_over_the_predictions():
    y, pred = np.array([[1.0, 5.0], [2.0, 7.0]]), np.array([[0.5, 5.5], [2.5, 6.0]])
    clouds = scattered(plot.residuals(y, pred))
    np.testing.assert_array_equal(np.asarray(clouds[0].get_offsets()), [[0.5, 0.5], [2.5, -0.5]])
    np.testing.assert_array_equal(np.asarray(clouds[1].get_offsets()), [[5.5, -0.5], [6.0, 1.0]])
    with pytest.raises(ValueError, match=r"y has the shape \(2, 1\), pred \(3, 1\)"):
        plot.residuals([1, 2], [1, 2, 3])


def test_calibration_counts_per_interval():
    proba, y = [0.05, 0.15, 0.65, 0.75, 1.0], [0, 1, 1, 0, 1]
    cloud = scattered(plot.calibration(y, proba, bins=5))[0]
    expected = [[0.1, 0.5], [0.7, 0.5], [1.0, 1.0]]
    np.testing.assert_allclose(np.asarray(cloud.get_offsets()), expected, rtol=1e-15)


@pytest.mark.parametrize(
    ("y", "proba", "bins", "message"),
    [
        ([0, 1], [0.5], 10, "both must be"),
        ([0, 2], [0.5, 0.5], 10, "0 and 1 only"),
        ([0, 1], [0.5, 3.0], 10, "probabilities, not logits"),
        ([0, 1], [0.5, 0.5], 0, "bins must be an integer >= 1"),
    ],
)
def test_calibration_refuses(y, proba, bins, message):
    with pytest.raises(ValueError, match=message):
        plot.calibration(y, proba, bins=bins)


def test_gradient_norms_by_layer_and_by_epoch():
    ax = plot.gradient_norms([1e-3, 1e-2], label="sigmoid")
    np.testing.assert_array_equal(lines(ax)["sigmoid"], [[1, 1e-3], [2, 1e-2]])
    assert ax.get_yscale() == "log"
    ax = plot.gradient_norms([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    np.testing.assert_array_equal(lines(ax)["layer 2"], [[1, 2], [2, 4], [3, 6]])
    with pytest.raises(ValueError, match="negative"):
        plot.gradient_norms([-1.0])
    with pytest.raises(ValueError, match="expected"):
        plot.gradient_norms(GradientNorms())
    with pytest.raises(TypeError, match="ax must be matplotlib axes"):
        plot.gradient_norms([1.0], ax=np.array([ax]))


def test_weights_are_an_image_with_white_at_zero():
    layer = Linear(3, 5, seed=0)
    ax = plot.weights(layer)
    image = ax.images[0]
    np.testing.assert_array_equal(np.asarray(image.get_array()), layer.weight)
    assert image.get_clim() == (-np.abs(layer.weight).max(), np.abs(layer.weight).max())
    with pytest.raises(TypeError, match="has no weights"):
        plot.weights(ReLU())
    with pytest.raises(ValueError, match="expected 2 dimensions"):
        plot.weights([1.0, 2.0])
    with pytest.raises(TypeError, match="weights must be an array of numbers, not Sequential"):
        plot.weights(Sequential([layer]))


def test_the_callback_has_the_norms_of_the_gradient_of_each_step():
    net, by_hand = (
        Sequential([Linear(2, 5), Tanh(), Linear(5, 2)], seed=3, dtype="float64") for _ in range(2)
    )
    watch = GradientNorms()
    assert watch.norms.shape == (0, 0)
    optimizer = SGD(0.5)
    net.fit(X, Y, optimizer=optimizer, batch_size=len(X), epochs=3, callbacks=[watch])
    expected = []
    for _ in range(3):
        by_hand.backward(fastmlp.cross_entropy(by_hand.forward(X), Y)[1])
        expected.append([np.linalg.norm(by_hand.layers[i].weight_grad) for i in (0, 2)])
        by_hand.update(optimizer)
    # sums over 60 rows, which `fit` takes in another order
    np.testing.assert_allclose(watch.norms, expected, rtol=60 * np.finfo(np.float64).eps * 3)
    net.fit(X, Y, epochs=1, callbacks=[watch])
    assert watch.norms.shape == (1, 2)


def test_small_float32_gradients_do_not_underflow_in_the_norm():
    net = Sequential([Linear(1, 1, init="zeros")])
    watch = GradientNorms()
    x = np.ones((4, 1))
    net.fit(x, 1e-25 * x, optimizer=SGD(0.1), epochs=1, callbacks=[watch])
    assert watch.norms[0, 0] == pytest.approx(2e-25, rel=1e-6, abs=0)


def test_matplotlib_is_imported_with_the_first_picture_only():
    code = "import sys, fastmlp.plot; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r'pip install "fastmlp\[train\]"'):
        plot.weights(np.eye(2))


def test_one_epoch_is_seen_too():
    assert all(line.get_marker() == "o" for line in plot.gradient_norms(np.ones((1, 3))).lines)


def test_a_validation_quantity_has_its_own_name():
    assert list(lines(plot.learning_curves({"val_loss": [2.0, 1.0]}, name="val_loss"))) == [
        "val_loss"
    ]


def test_sixty_classes_have_sixty_looks():
    looks = {(k % len(plot.COLOURS), k % len(plot._MARKERS)) for k in range(60)}
    assert len(looks) == 60


def test_the_resolution_is_a_count():
    with pytest.raises(ValueError, match="resolution must be"):
        plot.decision_boundary(lambda x: np.full((len(x), 2), 0.5), X, Y, resolution=1)


# ---- two models on the same axes -----------------------------------------------------------------


def colors(ax):
    return [line.get_color() for line in ax.lines]


@pytest.mark.parametrize("given", [True, False], ids=["given axes", "new axes"])
def test_a_second_model_has_another_color(given):
    first = plt.subplots()[1] if given else None
    ax = plot.gradient_norms([1.0, 0.1], first, label="a")
    plot.gradient_norms([2.0, 0.2], ax, label="b")
    plot.gradient_norms([2.0, 0.2], ax, color="red")
    assert len(set(colors(ax))) == 3
    hexes = matplotlib.colors.to_hex
    cycle = plt.rcParams["axes.prop_cycle"].by_key()["color"] if given else plot.COLOURS
    cycle = [hexes(color) for color in cycle]
    assert [hexes(c) for c in colors(ax)] == [*cycle[:2], hexes("red")]
    ax = plot.calibration(Y, np.full(60, 0.3), plt.subplots()[1] if given else None, label="a")
    plot.calibration(Y, np.full(60, 0.6), ax, label="b")
    assert [hexes(c) for c in colors(ax)] == [hexes("0.4"), *cycle[:2]]  # one diagonal
    faces = [hexes(cloud.get_facecolor()[0]) for cloud in scattered(ax)]
    assert faces == cycle[:2]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["calibrated", "a", "b"]
    ax = plot.residuals([1, 2], [1, 3], plt.subplots()[1] if given else None)
    plot.residuals([1, 2], [1, 4], ax)
    faces = {tuple(cloud.get_facecolor()[0]) for cloud in scattered(ax)}
    assert len(faces) == 2


def test_learning_curves_of_two_models():
    history = {"loss": [3.0, 2.0], "val_loss": [3.0, 2.5]}
    ax = plot.learning_curves(history, label="a")
    plot.learning_curves(history, ax, label="b")
    assert colors(ax) == list(plot.COLOURS[:4])
    assert list(lines(ax)) == ["a, training", "a, validation", "b, training", "b, validation"]
    assert [c.get_label() for c in scattered(ax)] == ["a, lowest, epoch 2", "b, lowest, epoch 2"]


def test_the_legend_says_that_training_includes_dropout():
    for p, label in ((0.5, "training, dropout included"), (0.0, "training")):
        net = Sequential([Linear(2, 4), Dropout(p), Residual([Dropout(p)]), Linear(4, 2)])
        history = net.fit(X, Y, epochs=2, validation_split=0.2)
        assert list(lines(history.plot())) == [label, "validation"]


def test_pictures_refuse_what_is_missing():
    with pytest.raises(ValueError, match="y has missing labels, row 1"):
        plot.decision_boundary(lambda p: p[:, 0], X[:2], ["a", None])
    with pytest.raises(ValueError, match="pred has masked values, at row 0"):
        plot.residuals([1.0, 2.0], np.ma.masked_equal([1.0, 2.0], 1.0))

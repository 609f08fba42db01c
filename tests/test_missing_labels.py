"""Missing labels are one error, whatever they come in; advice never makes ranks of numbers."""

from decimal import Decimal

import numpy as np
import pytest

import fastmlp
from fastmlp import (
    Linear,
    LinearRegression,
    LogisticRegression,
    Ridge,
    Sequential,
    SoftmaxRegression,
    cross_entropy,
)
from fastmlp.losses.targets import check_missing

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 2))
NAMES, NUMBERS = ["a", "b"] * 30, [0, 1] * 30

VALUES = {
    "None": None,
    "NaN": np.nan,
    "NaN of float32": np.float32("nan"),
    "NaT": pd.NaT,
    "NumPy's NaT": np.datetime64("NaT"),
    "NA": pd.NA,
    "decimal": Decimal("NaN"),
    "masked": np.ma.masked,
}


def objects(values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


HOLDERS = {
    "list": list,
    "tuple": tuple,
    "column": lambda y: [[value] for value in y],
    "objects": objects,
    "Series": lambda y: pd.Series(objects(y)),
    "categorical": lambda y: pd.Series(objects(y)).astype("category"),
    "frame": lambda y: pd.DataFrame({"y": objects(y)}),
}
DOORS = {
    "softmax": lambda y: SoftmaxRegression(l2=1.0).fit(X, y),
    "logistic": lambda y: LogisticRegression(l2=1.0).fit(X, y),
    "net": lambda y: Sequential([Linear(2, 2)]).fit(X, y, loss="cross_entropy"),
    "focal": lambda y: Sequential([Linear(2, 2)]).train_step(X, y, loss="focal"),
    "binary": lambda y: Sequential([Linear(2, 1)]).fit(X, y, loss="binary_cross_entropy"),
    "evaluate": lambda y: Sequential([Linear(2, 2)]).evaluate(X, y, loss="cross_entropy"),
    "function": lambda y: cross_entropy(X, y),
}
MESSAGE = "^y has missing labels, row 3; drop such rows$"


def with_hole(labels, value):
    labels = list(labels)
    labels[3] = value
    return labels


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("labels", [NAMES, NUMBERS], ids=["names", "numbers"])
def test_missing_labels_are_one_error(labels, value, holder):
    if (value, holder) == ("masked", "categorical"):
        pytest.skip("pandas does not take it")
    y = HOLDERS[holder](with_hole(labels, VALUES[value]))
    for door in DOORS.values():
        with pytest.raises(ValueError, match=MESSAGE):
            door(y)


TYPED = {
    "Int64": pd.Series(with_hole(NUMBERS, pd.NA), dtype="Int64"),
    "string": pd.Series(with_hole(NAMES, pd.NA), dtype="string"),
    "boolean": pd.Series([True, False, True, pd.NA] * 15, dtype="boolean"),
    "floats": np.array(with_hole(NUMBERS, np.nan), np.float32),
    "masked": np.ma.masked_array(NUMBERS, np.arange(60) == 3),
    "masked names": np.ma.masked_array(NAMES, np.arange(60) == 3),
    "dates": np.array(with_hole(["2020-01-01", "2021-01-01"] * 30, "NaT"), "M8[D]"),
    "times": np.array(with_hole(NUMBERS, "NaT"), "m8[s]"),
    "arrow": pa.chunked_array([with_hole(NUMBERS, None)]),
    "arrow names": pa.chunked_array([with_hole(NAMES, None)]),
    "index": pd.Index(with_hole(NAMES, None)),
    "new text": np.array(with_hole(NAMES, np.nan), np.dtypes.StringDType(na_object=np.nan)),
}


@pytest.mark.parametrize("kind", TYPED)
@pytest.mark.parametrize("door", ["softmax", "net", "function"])
def test_missing_labels_of_a_type_of_their_own(kind, door):
    with pytest.raises(ValueError, match=MESSAGE):
        DOORS[door](TYPED[kind])


def test_a_text_is_a_label_whatever_it_says():
    for words in (["nan", "b"], ["None", "NA"], ["NaT", ""]):
        for y in (words * 30, np.array(words * 30), objects(words * 30), pd.Series(words * 30)):
            assert list(SoftmaxRegression(l2=1.0).fit(X, y).classes_) == sorted(words)


def test_masked_arrays_without_a_mask_are_arrays():
    y = np.ma.masked_array(NUMBERS)
    assert list(SoftmaxRegression(l2=1.0).fit(X, y).classes_) == [0, 1]
    Sequential([Linear(2, 2)]).fit(np.ma.masked_array(X), y, epochs=1)


def test_the_network_tells_before_it_asks_for_codes():
    """Followed, the advice for text would have hidden what is missing in a class 'nan'."""
    with pytest.raises(ValueError, match=MESSAGE):
        Sequential([Linear(2, 2)]).fit(X, with_hole(NAMES, np.nan))
    with pytest.raises(ValueError, match=MESSAGE):
        Sequential([Linear(2, 2)]).fit(X, TYPED["Int64"])
    net = Sequential([Linear(2, 2)])
    with pytest.raises(ValueError, match=r"^validation y has missing labels, row 3;"):
        net.fit(X, NUMBERS, validation_data=(X, with_hole(NUMBERS, None)))


def test_of_several_labels_the_column_is_told_too():
    y = np.zeros((60, 2))
    y[4, 1] = np.nan
    with pytest.raises(ValueError, match=r"^y has missing labels, row 4, column 1; drop"):
        Sequential([Linear(2, 2)]).fit(X, y, loss="binary_cross_entropy")


def test_what_cannot_be_an_array_is_left_to_others():
    check_missing([[1], [1, 2]], "y")
    check_missing(objects([np.zeros(2), 1]), "y")


def test_values_are_refused_with_their_place():
    for y, message in (
        (with_hole(NUMBERS, np.nan), "y holds NaN at row 3; remove such rows"),
        (with_hole(NUMBERS, None), "y holds NaN at row 3; remove such rows"),
        (with_hole(NUMBERS, np.inf), "y holds infinity at row 3; remove such rows"),
        (np.array(with_hole(NUMBERS, np.nan))[:, None], "y holds NaN at row 3, column 0"),
        (objects(with_hole(NUMBERS, pd.NA)), r"y has missing values \(NA\), at row 3; remove"),
        (TYPED["masked"], "y has masked values, at row 3"),
    ):
        for act in (
            lambda y: Ridge().fit(X, y),
            lambda y: Sequential([Linear(2, 1)]).fit(X, y, loss="squared_error"),
        ):
            with pytest.raises(ValueError, match=message):
                act(y)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (with_hole(NUMBERS, np.nan), "sample_weight holds NaN at row 3; weights are"),
        (with_hole(NUMBERS, np.inf), "sample_weight holds infinity at row 3; weights are"),
        (TYPED["Int64"], "sample_weight holds NaN at row 3"),
        (with_hole(NUMBERS, -2.5), r"sample_weight holds a negative number, -2\.5, at row 3"),
    ],
)
def test_weights_are_refused_with_their_place(weights, message):
    for act in (
        lambda: Sequential([Linear(2, 2)]).fit(X, NUMBERS, sample_weight=weights),
        lambda: LogisticRegression(l2=1.0).fit(X, NUMBERS, weights),
        lambda: fastmlp.lasso_path(X, NUMBERS, sample_weight=weights),
    ):
        with pytest.raises(ValueError, match=message):
            act()


def test_weights_of_classes_are_numbers():
    net = Sequential([Linear(2, 2)])
    for weights, error, message in (
        ({0: "a"}, TypeError, "class_weight has the type"),
        ({0: np.nan}, ValueError, "class_weight holds NaN at class 0"),
        (["1", "2"], TypeError, r"class_weight\.astype\(float\)"),
    ):
        with pytest.raises(error, match=message):
            net.fit(X, NUMBERS, class_weight=weights)


def test_what_is_shown_is_short():
    assert len(told(REGRESSIONS["linear"], objects([{"a": list(range(1000))}] * 60))) < 200


def test_labels_that_are_no_whole_numbers_are_shown():
    for act in DOORS["softmax"], DOORS["net"]:
        with pytest.raises(ValueError, match=r"no whole numbers, 2\.5 in row 3; labels"):
            act(with_hole(NUMBERS, 2.5))
        with pytest.raises(ValueError, match="y holds infinity at row 3; labels are integers"):
            act(with_hole(NUMBERS, -np.inf))


# ---- advice --------------------------------------------------------------------------------------

CODES = "numpy.unique"
REGRESSIONS = {
    "linear": lambda y: LinearRegression().fit(X, y),
    "net": lambda y: Sequential([Linear(2, 1)]).fit(X, y, loss="squared_error"),
    "pinball": lambda y: Sequential([Linear(2, 1)]).fit(X, y, loss="pinball"),
    "custom": lambda y: Sequential([Linear(2, 1)]).fit(X, y, loss=lambda z, t: (z, z)),
    "weights": lambda w: Ridge().fit(X, NUMBERS, w),
}
UNKNOWN = lambda y: Sequential([Linear(2, 2)]).fit(X, y)  # noqa: E731


def told(act, y):
    with pytest.raises(TypeError) as refused:
        act(y)
    return str(refused.value)


@pytest.mark.parametrize("pair", [["1.5", "10"], ["-2", "1e3"], [b"1.5", b"3"]], ids=str)
def test_texts_that_are_numbers_are_to_be_read_as_such(pair):
    for y in (pair * 30, np.array(pair * 30), objects(pair * 30), pd.Series(pair * 30)):
        for act in (*REGRESSIONS.values(), UNKNOWN):
            message = told(act, y)
            assert message.endswith((".astype(float)", "y.astype(int)"))
            assert CODES not in message
    assert told(UNKNOWN, ["0", "1"] * 30).endswith(": y.astype(int)")
    assert told(DOORS["net"], ["0", "1"] * 30).endswith(": y.astype(int)")


@pytest.mark.parametrize("pair", [["1,5", "10,0"], ["12%", "$3"], ["1.5", "n/a"], ["1 000", "2"]])
def test_texts_that_look_like_numbers_never_become_ranks(pair):
    for act in (*REGRESSIONS.values(), UNKNOWN):
        message = told(act, pair * 30)
        assert CODES not in message
        assert "which is no number" in message


def test_codes_are_for_losses_on_classes():
    for y in (NAMES, objects(NAMES)):
        for act in (DOORS["net"], DOORS["binary"], UNKNOWN):
            assert "numpy.unique(y, return_inverse=True)[1]" in told(act, y)
        for act in REGRESSIONS.values():
            assert CODES not in told(act, y)
    assert "row 0 holds 'a', which is no number" in told(REGRESSIONS["weights"], NAMES)

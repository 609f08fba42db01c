"""Data frames: their names are remembered and compared, their numbers converted as one array."""

import copy
import pickle
from collections import deque

import numpy as np
import pytest

import fastmlp
from fastmlp import (
    DataLoader,
    ElasticNet,
    Lasso,
    Linear,
    LinearRegression,
    LogisticRegression,
    PolynomialBasis,
    RBFBasis,
    Ridge,
    Sequential,
    SoftmaxRegression,
    Standardize,
)
from fastmlp.ground.conversion import as_numbers
from fastmlp.ground.frames import column_names

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")

RNG = np.random.default_rng(0)
X = pd.DataFrame(RNG.standard_normal((60, 3)), columns=["age", "income", "height"])
Y = (X["age"] > 0).astype(int)
TURNED = X[["height", "income", "age"]]


class Polars:
    """What the library sees of a polars frame."""

    def __init__(self, frame):
        self._frame = frame

    @property
    def columns(self):
        return list(self._frame.columns)

    def get_columns(self):
        return [self._frame[name].to_numpy() for name in self._frame]

    def __array__(self, dtype=None, copy=None):
        return self._frame.to_numpy(dtype)


KINDS = {"pandas": lambda f: f, "arrow": pa.Table.from_pandas, "polars": Polars}
ORDER = "another order than at fit: column 0 is 'height' and was 'age'"


def network(*front):
    net = Sequential([*front, Linear(3, 2)], seed=0)
    net.fit(X, Y, epochs=1)
    return net


CALLS = {
    "fit": lambda net, x: net.fit(x, Y, epochs=1),
    "train_step": lambda net, x: net.train_step(x, Y),
    "validation": lambda net, x: net.fit(X, Y, epochs=1, validation_data=(x, Y)),
    "evaluate": lambda net, x: net.evaluate(x, Y),
    "predict": lambda net, x: net.predict(x),
    "predict_proba": lambda net, x: net.predict_proba(x),
    "predict_response": lambda net, x: net.predict_response(x),
    "forward": lambda net, x: net.forward(x),
    "gradient": lambda net, x: net.gradient(x, Y),
    "jacobian": lambda net, x: net.jacobian(x),
    "check_gradients": lambda net, x: fastmlp.check_gradients(net, x, Y, verbose=False),
    "update_statistics": lambda net, x: net.update_statistics(x),
}
MODELS = [LinearRegression(), Ridge(), Lasso(), ElasticNet()]
MODELS += [LogisticRegression(l2=1.0), SoftmaxRegression(l2=1.0)]


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CALLS)
def test_a_network_refuses_columns_in_another_order(name, kind):
    net, call, make = network(), CALLS[name], KINDS[kind]
    before = net.params.copy()
    with pytest.raises(ValueError, match=ORDER):
        call(net, make(TURNED))
    np.testing.assert_array_equal(net.params, before)
    call(net, make(X))
    call(net, TURNED.to_numpy())  # an array has no names
    assert list(net.feature_names_in_) == ["age", "income", "height"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_a_linear_model_refuses_columns_in_another_order(model, kind):
    make = KINDS[kind]
    model.fit(make(X), Y)
    assert list(model.feature_names_in_) == ["age", "income", "height"]
    with pytest.raises(ValueError, match=ORDER):
        model.predict(make(TURNED))
    np.testing.assert_array_equal(model.predict(make(X)), model.predict(X.to_numpy()))
    model.fit(make(TURNED), Y).predict(TURNED)  # another fit forgets
    model.fit(X.to_numpy(), Y).predict(TURNED)
    assert not hasattr(model, "feature_names_in_")


@pytest.mark.parametrize("basis", [PolynomialBasis(2), RBFBasis()], ids=repr)
def test_a_basis_refuses_columns_in_another_order(basis):
    phi = basis.fit_transform(X)
    with pytest.raises(ValueError, match=ORDER):
        basis.transform(TURNED)
    np.testing.assert_array_equal(basis.transform(X.to_numpy()), phi)
    with pytest.raises(ValueError, match="columns of centers are in another order"):
        RBFBasis(TURNED[:3]).fit(X)
    assert PolynomialBasis(2).fit(X).names()[:4] == ["age", "income", "height", "age^2"]
    assert PolynomialBasis(2).fit(X).names(["a", "b", "c"])[:2] == ["a", "b"]


def test_the_message_says_what_is_unexpected_and_what_is_missing():
    net, model = network(), Ridge().fit(X, Y)
    renamed = X.rename(columns={"age": "Age"})
    for predict in (net.predict, model.predict):
        with pytest.raises(ValueError, match=r"names of X .*: unexpected 'Age', missing 'age'"):
            predict(renamed)
        with pytest.raises(ValueError, match="missing 'income', 'height'"):
            predict(X[["age"]])
        with pytest.raises(ValueError, match="unexpected 'age'; give"):
            predict(X[["age", "income", "height", "age"]])
    wide = pd.DataFrame(np.zeros((60, 9)), columns=list("abcdefghi"))
    with pytest.raises(ValueError, match="'e' and 4 more, missing"):
        net.predict(wide)


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        lambda net: pickle.loads(pickle.dumps(net)),
        Sequential.fold,
    ],
)
@pytest.mark.parametrize("front", [(), (Standardize(),)], ids=["plain", "standardize"])
def test_copies_know_the_names(copied, front):
    twin = copied(network(*(copy.copy(layer) for layer in front)))
    with pytest.raises(ValueError, match=ORDER):
        twin.predict(TURNED)


def test_model_files_keep_the_names(tmp_path):
    net = network()
    net.save(tmp_path / "m")
    loaded = Sequential.load(tmp_path / "m")
    assert list(loaded.feature_names_in_) == list(X)
    with pytest.raises(ValueError, match=ORDER):
        loaded.predict(TURNED)
    plain = Sequential([Linear(3, 2)])
    plain.fit(X.to_numpy(), Y, epochs=1)
    plain.save(tmp_path / "m")
    assert not hasattr(Sequential.load(tmp_path / "m"), "feature_names_in_")
    net._known_names = ["age"]
    with pytest.raises(ValueError, match="names are not those"):
        net.save(tmp_path / "m")


def test_names_are_learned_by_what_succeeds():
    net = Sequential([Linear(3, 2)])
    for act in (
        lambda: net.fit(X, Y, epochs=1, validation_data=(TURNED, Y)),
        lambda: net.fit(X, Y, epochs=1, metrics=["unknown"]),
        lambda: net.fit(X, Y + 5, loss="cross_entropy"),
    ):
        with pytest.raises(ValueError, match=r"order|unknown|class"):
            act()
        assert not hasattr(net, "feature_names_in_")
    net.predict(TURNED)  # teaches nothing
    net.train_step(X, Y)
    assert list(net.feature_names_in_) == list(X)


def test_standardize_and_its_network_know_the_same_names():
    layer = Standardize().adapt(X)
    net = Sequential([layer, Linear(3, 2)])
    with pytest.raises(ValueError, match=ORDER):
        net.fit(TURNED, Y)
    net = network(Standardize())
    with pytest.raises(ValueError, match=ORDER):
        net.layers[0].adapt(TURNED)
    twin = copy.copy(layer)
    assert twin._column_names is not layer.column_names


def test_one_row_with_names():
    net = network()
    with pytest.raises(ValueError, match="columns of x are in another order"):
        net.predict_row(TURNED.iloc[0])
    want = net.predict(X[:1])[0]
    for row in (X.iloc[0], X.iloc[0].to_numpy(), list(X.iloc[0]), deque(X.iloc[0])):
        np.testing.assert_array_equal(net.predict_row(row), want)


def test_what_counts_as_names():
    assert column_names(X) == list(X)
    assert column_names(X.to_numpy()) is None
    assert column_names(pd.DataFrame(np.eye(2))) is None  # 0, 1: no names
    assert column_names(pd.DataFrame(np.eye(2), columns=["a", 0])) == ["a", "0"]
    pairs = pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")])
    assert column_names(pd.DataFrame(np.eye(2), columns=pairs)) == ["('a', 'x')", "('a', 'y')"]
    assert column_names([[1, 2]]) is None
    assert column_names(pd.Series([1.0], index=["a"])) is None
    record = pa.RecordBatch.from_pandas(X)
    assert column_names(record) == list(X)


# ---- numbers -------------------------------------------------------------------------------------

MIXED = {
    "bool and float": pd.DataFrame({"a": [True, False], "b": [0.5, 1.5]}),
    "dummies": pd.get_dummies(pd.DataFrame({"a": [0.5, 2.5], "k": ["x", "y"]})),
    "sparse": pd.get_dummies(pd.DataFrame({"a": [1, 2], "k": ["x", "y"]}), sparse=True),
    "nullable": pd.DataFrame({"a": pd.array([1, 2], "Int64"), "b": pd.array([True, False])}),
    "arrow types": pd.DataFrame({"a": pd.array([1, 2], "int64[pyarrow]"), "b": [True, False]}),
    "category of numbers": pd.DataFrame({"a": pd.Categorical([3, 4]), "b": [True, False]}),
    "objects": pd.DataFrame({"a": np.array([3, 4.5], object), "b": [True, False]}),
    "table": pa.table({"a": [True, False], "b": [0.5, 1.5]}),
    "polars": Polars(pd.DataFrame({"a": [True, False], "b": [0.5, 1.5]})),
}


@pytest.mark.parametrize("name", MIXED)
def test_mixed_columns_become_numbers(name):
    frame = MIXED[name]
    kind = frame.to_pandas() if name == "table" else getattr(frame, "_frame", frame)
    want = np.column_stack([np.asarray(kind[c], np.float64) for c in kind])
    got = as_numbers(frame, "X")
    assert got.dtype.kind in "iuf"
    np.testing.assert_array_equal(got, want)


def test_no_python_object_is_made_of_a_mixed_frame(monkeypatch):
    """They took a hundred times as long as the numbers."""
    monkeypatch.setattr("fastmlp.ground.conversion._of_objects", None)
    frame = pd.concat([X, pd.get_dummies(pd.Series(list("abc") * 20))], axis=1)
    assert as_numbers(frame, "X").dtype == np.float64
    assert as_numbers(frame.astype({"age": "float32"}), "X").dtype == np.float64
    single = X.astype(np.float32).assign(flag=True)
    assert as_numbers(single, "X").dtype == np.float32


HOLES = {
    "Int64": (pd.DataFrame({"a": pd.array([1, None], "Int64"), "b": [True, False]}), 0),
    "boolean": (pd.DataFrame({"b": [0.5, 1.5], "a": pd.array([True, None])}), 1),
    "float": (pd.DataFrame({"a": [1.0, np.nan], "b": [True, False]}), 0),
    "arrow": (pa.table({"a": [1, None], "b": [0.5, 1.5]}), 0),
    "infinite": (pd.DataFrame({"b": [True, False], "a": [1.0, -np.inf]}), 1),
}


@pytest.mark.parametrize("name", HOLES)
@pytest.mark.parametrize(
    "act",
    [
        lambda x: Sequential([Linear(2, 1)]).fit(x, [0.0, 1.0]),
        lambda x: Sequential([Linear(2, 1)]).predict(x),
        lambda x: Sequential([Linear(2, 1)]).forward(x),
        lambda x: Ridge().fit(x, [0.0, 1.0]),
        lambda x: LogisticRegression(l2=1.0).fit(x, [0, 1]),
        lambda x: PolynomialBasis().fit(x),
        lambda x: Standardize().adapt(x),
    ],
    ids=["fit", "predict", "forward", "ridge", "logistic", "basis", "adapt"],
)
def test_what_is_not_finite_is_refused_with_its_place(name, act):
    frame, column = HOLES[name]
    kind = "infinity" if name == "infinite" else "NaN"
    with pytest.raises(ValueError, match=f"[Xx] holds {kind} at row 1, column {column}; remove"):
        act(frame)


def test_a_column_that_is_none_of_numbers_is_named():
    frame = X.assign(city="Bonn")
    with pytest.raises(TypeError, match=r"column 'city' of X .*row 0 holds 'Bonn'"):
        Ridge().fit(frame, Y)
    holes = X.assign(age=np.where(X["age"] > 1, pd.NA, 1.0).astype(object))
    row = int(np.argmax(X["age"] > 1))
    with pytest.raises(ValueError, match=rf"column 'age' of X has missing .* at row {row}"):
        Ridge().fit(holes, Y)


def test_the_loader_takes_mixed_frames():
    (x, _), *_ = DataLoader(X.assign(flag=True), Y, batch_size=60)
    assert x.dtype == np.float64
    assert x.shape == (60, 4)
    with pytest.raises(ValueError, match="y has masked values, at row 3"):
        DataLoader(X, np.ma.masked_equal(np.arange(60), 3))

"""scikit-learn's tools take the linear models and the bases as they are."""

import inspect
import pickle
import subprocess
import sys

import numpy as np
import pytest

from fastmlp import (
    ElasticNet,
    Lasso,
    LinearRegression,
    LogisticRegression,
    PolynomialBasis,
    RBFBasis,
    Ridge,
    SoftmaxRegression,
)

sklearn = pytest.importorskip("sklearn")

from sklearn.base import clone, is_classifier, is_regressor  # noqa: E402
from sklearn.metrics import accuracy_score, r2_score  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import Pipeline, make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.validation import check_is_fitted  # noqa: E402

RNG = np.random.default_rng(5)
X = RNG.standard_normal((90, 3))
Y = X @ [1.0, -2.0, 0.5] + 0.3 * RNG.standard_normal(90)
TWO = np.where(Y > 0, "yes", "no")
THREE = np.digitize(Y, [-1, 1])
WEIGHTS = RNG.integers(0, 4, 90).astype(float)

REGRESSORS = [LinearRegression(), Ridge(0.5), Lasso(0.1), ElasticNet(0.1, 0.2)]
CLASSIFIERS = [(LogisticRegression(1.0), TWO), (SoftmaxRegression(1.0), THREE)]
BASES = [PolynomialBasis(3), RBFBasis(X[:4], lam=2.0)]
ALL = [*((model, Y) for model in REGRESSORS), *CLASSIFIERS, *((basis, None) for basis in BASES)]
named = pytest.mark.parametrize(("model", "y"), ALL, ids=[type(model).__name__ for model, _ in ALL])
scored = pytest.mark.parametrize(
    ("model", "y"), ALL[:6], ids=[type(model).__name__ for model, _ in ALL[:6]]
)


@named
def test_a_clone_has_the_settings_and_nothing_learned(model, y):
    fitted = pickle.loads(pickle.dumps(model)).fit(X, y)
    twin = clone(fitted)
    assert repr(twin) == repr(model)
    assert list(twin.get_params()) == list(inspect.signature(type(model)).parameters)
    assert not hasattr(twin, "n_features_in_")
    check_is_fitted(fitted)
    assert fitted.n_features_in_ == fitted.n_in_ == 3


@named
def test_settings_can_be_changed_by_name(model, y):
    model = clone(model)
    name = next(iter(model.get_params()))
    assert model.set_params(**{name: "other"}) is model
    assert getattr(model, name) == model.get_params()[name] == "other"
    with pytest.raises(ValueError, match=f"no setting 'alpha'; use one of {name}"):
        model.set_params(**{name: "a third", "alpha": 1})
    assert getattr(model, name) == "other"


@named
def test_scikit_learn_knows_the_kind(model, y):
    kind = "regressor" if y is Y else "transformer" if y is None else "classifier"
    assert is_regressor(model) == (kind == "regressor")
    assert is_classifier(model) == (kind == "classifier")
    tags = model.__sklearn_tags__()
    assert (tags.transformer_tags is not None) == (kind == "transformer")
    if kind == "classifier":
        assert tags.classifier_tags.multi_class == isinstance(model, SoftmaxRegression)


@scored
def test_score_is_that_of_scikit_learn(model, y):
    model = clone(model).fit(X, y)
    theirs = r2_score if y is Y else accuracy_score
    guess = model.predict(X)
    assert model.score(X, y) == pytest.approx(theirs(y, guess), rel=1e-12)
    weighted = theirs(y, guess, sample_weight=WEIGHTS)
    assert model.score(X, y, sample_weight=WEIGHTS) == pytest.approx(weighted, rel=1e-12)
    assert weighted != theirs(y, guess)


def test_score_of_several_outputs_and_of_constant_ones():
    several = np.column_stack([Y, np.abs(X[:, 0]), np.full(90, 3.0)])
    model = Ridge(2.0).fit(X, several)
    assert model.score(X, several) == pytest.approx(r2_score(several, model.predict(X)), rel=1e-12)
    constant = Ridge().fit(X, np.full(90, 3.0))
    same = np.full(90, 3.0)
    assert constant.score(X, same) == r2_score(same, constant.predict(X))
    assert constant.score(X, constant.predict(X)) == 1.0
    assert constant.score(X, np.full(90, 4.0)) == 0.0
    assert np.isnan(constant.score(X[:1], [3.0]))


def test_score_takes_labels_that_fit_has_not_seen():
    model = LogisticRegression(1.0).fit(X, TWO)
    assert model.score(X[:4], ["maybe"] * 4) == 0.0
    assert model.score(X[:4], model.predict(X[:4])[:, np.newaxis]) == 1.0


@scored
def test_score_refuses_what_does_not_match(model, y):
    model = clone(model)
    with pytest.raises(ValueError, match="call fit first"):
        model.score(X, y)
    model.fit(X, y)
    with pytest.raises(ValueError, match="y has"):
        model.score(X, y[:80])
    with pytest.raises(ValueError, match="y has"):
        model.score(X, np.column_stack([y, y]))
    with pytest.raises(ValueError, match="sample_weight"):
        model.score(X, y, sample_weight=np.zeros(90))


@scored
def test_cross_validation_and_pipelines(model, y):
    scores = cross_val_score(model, X, y, cv=3)
    assert scores.shape == (3,)
    assert scores.min() > 0.6
    line = make_pipeline(StandardScaler(), PolynomialBasis(2), clone(model))
    assert line.fit(X, y).score(X, y) > 0.8
    step = line.steps[-1][0]
    line.fit(X, y, **{f"{step}__sample_weight": WEIGHTS})
    assert line.predict(X).shape == (90,)


@pytest.mark.parametrize(
    ("model", "y"), [(Ridge(), Y), (SoftmaxRegression(1.0), THREE)], ids=["ridge", "softmax"]
)
def test_a_grid_is_searched_over_a_basis_and_a_model(model, y):
    line = Pipeline([("basis", PolynomialBasis()), ("model", model)])
    grid = {"basis__degree": [1, 2], "model__l2": [1e-3, 1.0, 1e6]}
    search = GridSearchCV(line, grid, cv=3, error_score="raise").fit(X, y)
    assert search.best_params_["model__l2"] < 1e6
    assert search.best_params_["basis__degree"] == 1
    assert search.score(X, y) > 0.8


def test_both_spellings_of_the_centers():
    same = [RBFBasis(X[:4]), RBFBasis(centers=X[:4]), RBFBasis(centres=X[:4])]
    first, *others = [clone(basis).fit(X).transform(X) for basis in same]
    for other in others:
        np.testing.assert_array_equal(first, other)
    assert same[2].fit(X).centres_ is same[2].centers_
    with pytest.raises(ValueError, match="two names of one setting"):
        RBFBasis(X[:4], centres=X[:4]).fit(X)


def test_the_models_do_not_import_scikit_learn():
    code = (
        "import sys, numpy as np, fastmlp\n"
        "model = fastmlp.Ridge().fit(np.eye(3), [1., 2, 3])\n"
        "model.score(np.eye(3), [1., 2, 3]), model.set_params(**model.get_params())\n"
        "assert 'sklearn' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""Tables and what prepares them: dialects, tasks, splits, and the way through JSON."""

import json

import numpy as np
import pytest

from fastmlp.preparations import Preparation, Target, infer_task, split_rows
from fastmlp.tables import Table, as_column, read_table


@pytest.mark.parametrize("seed", range(3))
def test_split_is_stratified_complete_and_gives_every_class_to_training(seed, rng):
    labels = np.concatenate([np.zeros(150, int), np.ones(45, int), [2, 2, 3]])
    rng.shuffle(labels)
    parts = split_rows(labels, len(labels), 0.1, 0.2, seed)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    assert abs(len(parts[2]) - 40) <= 2
    assert set(labels[parts[0]]) == {0, 1, 2, 3}
    for part, share in zip(parts, (0.7, 0.1, 0.2), strict=True):
        assert abs(np.sum(labels[part] == 0) - 150 * share) <= 2
        assert abs(np.sum(labels[part] == 1) - 45 * share) <= 2


def test_preparation_learns_from_training_rows_and_survives_json():
    table = Table("t", {"a": np.array([1.0, 3.0, np.nan, 3.0]), "y": np.arange(4.0)})
    target = Target.learn("y", "regression", table.columns["y"], np.arange(4))
    learnt = Preparation.learn(table, target, "impute")
    copy = Preparation.from_dict(json.loads(json.dumps(learnt.to_dict())))
    new = Table("n", {"a": np.array([np.inf, 2.5, 1e9])})
    matrix, counts = copy.encode(new)
    assert counts == {"missing": {"a": 1}, "unknown": {}}
    filled = np.array([1.0, 3.0, 3.0, 3.0])
    assert matrix[0, 0] == pytest.approx((3 - filled.mean()) / filled.std())
    assert matrix[1, 0] == pytest.approx(0)
    assert np.isfinite(matrix).all()


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["yes", "no", "no", "yes"], "binary"),
        ([True, False, True, True], "binary"),
        (list("abcabc"), "multiclass"),
        ([0, 1, 2] * 10, "multiclass"),
        (list(range(50)), "regression"),
        ([100, 200, 350, 120], "regression"),
        ([0.5, 1.5, 2.25], "regression"),
    ],
)
def test_task_is_inferred(values, task):
    assert infer_task("y", as_column(np.array(values)), None)[0] == task


def test_csv_dialects(tmp_path):
    pytest.importorskip("pandas")
    path = tmp_path / "semicolon.csv"
    path.write_bytes("\ufeffa;b\n1;x\n;\n".encode())
    columns = read_table(str(path)).columns
    assert np.array_equal(columns["a"], [1, np.nan], equal_nan=True)
    assert columns["b"].tolist() == ["x", None]

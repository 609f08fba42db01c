"""Every file of examples/ runs, draws its picture, and prints numbers that bear out its claim.

An example prints lines "name: number"; CLAIMS says what they must show. Where a claim is an
inequality, the factor in it is the one that docs/gallery.md states.
"""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
NAMES = sorted(p.stem for p in EXAMPLES.glob("*.py") if p.stem != "picture")
MOST_LINES, MOST_BYTES = 60, 60_000


def learning_rate(printed):
    smallest = printed["smallest cost"]
    assert printed["fits ends"] < 1.01 * smallest
    assert 2 * smallest < printed["too small ends"] < printed["too small begins"]
    assert printed["too large ends"] > 100 * printed["too large begins"]


def optimizers(printed):
    names = ("SGD", "momentum", "AdaGrad", "Adam")
    assert len({printed[f"{name} begins"] for name in names}) == 1
    assert all(printed[f"{name} ends"] < printed[f"{name} begins"] / 1000 for name in names)
    assert printed["momentum ends"] < printed["SGD ends"] / 10


def xor(printed):
    assert printed["accuracy, line"] <= 0.75  # three of four corners
    assert printed["accuracy, one hidden layer"] >= 0.99


def logistic_newton(printed):
    assert printed["Newton, steps"] <= 10 < printed["gradient descent, steps"]
    assert printed["Newton, cost above the minimum"] < 1e-12
    assert printed["gradient descent, cost above the minimum"] > 1e-8


def softmax_logistic(printed):
    assert printed["largest difference of probabilities"] < 1e-8  # the solvers' tol, on logits
    assert abs(printed["logistic theta"] - printed["softmax theta_1 - theta_0"]) < 1e-7


def universal_approximation(printed):
    rmse = [printed[f"RMSE with {width} units"] for width in (2, 8, 64)]
    assert rmse[1] < rmse[0] / 2
    assert rmse[2] < rmse[1] / 2


def vanishing_gradient(printed):
    assert printed["sigmoid, gradient of layer 1 over layer 10"] < 1e-6
    assert printed["ReLU, gradient of layer 1 over layer 10"] > 0.1
    assert printed["sigmoid, loss after training"] > 0.65  # guessing: log 2 = 0.69
    assert printed["ReLU, loss after training"] < 0.1


def zero_initialization(printed):
    assert printed["zeros, largest difference between units"] == 0
    assert printed["zeros, largest weight"] > 1  # they did learn
    assert printed["glorot_uniform, largest difference between units"] > 1
    assert printed["zeros, accuracy"] < 0.8 < 0.95 < printed["glorot_uniform, accuracy"]


def initialization(printed):
    size = {
        tuple(name.split(", ", 1)): value
        for name, value in ((k.rpartition(", ")[0], v) for k, v in printed.items())
    }
    for kind in ("Tanh", "ReLU"):
        assert size[kind, "0.01 randn"] < 1e-12
    assert size["ReLU", "Xavier, Var 1/n"] < 1e-2
    assert 1 / 3 < size["ReLU", "He, Var 2/n"] < 3
    assert size["ReLU", "Var 9/n"] > 1e5
    assert 0.1 < size["Tanh", "Xavier, Var 1/n"] < 0.5 < size["Tanh", "He, Var 2/n"]
    assert size["Tanh", "Var 9/n"] > 0.8


def ridge_lasso(printed):
    assert printed["lasso theta_2"] == 0
    assert printed["lasso theta_1"] > 0.5
    assert printed["ridge theta_2"] > 0.1


def overfitting(printed):
    free = printed["nothing, validation loss"]
    assert printed["nothing, training loss"] < free / 4
    for name in ("dropout 0.5", "L2 0.02", "early stopping"):
        assert printed[f"{name}, validation loss"] < 0.8 * free


def rbf_regression(printed):
    narrow, fitting, wide = (printed[f"RMSE with lambda {lam}"] for lam in ("0.02", "2", "200"))
    assert fitting < 0.2  # the deviation of the noise
    assert min(narrow, wide) > 2 * fitting


def uncertainty_band(printed):
    # 56 degrees of freedom leave sigma a relative deviation of about 1 / sqrt(2 * 56) = 9 %
    assert abs(printed["sigma_ML"] / printed["sigma of the noise"] - 1) < 0.2
    assert 0.92 < printed["new observations inside the band"] < 0.98


def batch_norm(printed):
    assert printed["batch norm off, units beyond 0.99 in layer 10"] > 0.7
    assert printed["batch norm on, units beyond 0.99 in layer 10"] < 0.2
    assert printed["batch norm off, accuracy"] + 0.1 < printed["batch norm on, accuracy"]
    assert printed["batch norm on, accuracy"] > 0.9


def intervals(printed):
    for name in ("Gaussian", "quantiles"):
        assert 0.85 < printed[f"{name}, share inside the band"] < 0.95
        assert printed[f"{name}, width of the band right over left"] > 3


def calibration(printed):
    off = printed["nothing, miscalibration"]
    for name in ("early stopping", "L2 0.02"):
        assert printed[f"{name}, miscalibration"] < off / 4
        assert printed[f"{name}, accuracy"] > printed["nothing, accuracy"]
    assert printed["label smoothing 0.2, miscalibration"] < 0.7 * off


def check_gradients(printed):
    differences = {k: v for k, v in printed.items() if k.endswith("relative difference")}
    assert len(differences) == 4
    assert max(differences.values()) < 1e-8
    assert printed["best central difference, error"] < 1e-10  # ten digits
    assert printed["best central difference, error"] < printed["best forward difference, error"]
    assert printed["Jacobian, largest difference"] < 1e-8
    assert printed["Hessian, largest difference"] < 1e-8


def newton_step(printed):
    for name, distance in printed.items():
        if "Newton" in name:
            assert distance < 1e-6
        else:
            assert 1e-4 < distance < 0.1


def standardize(printed):
    smallest = printed["smallest cost"]
    assert printed["raw inputs, condition of the Hessian"] > 1e6
    assert printed["Standardize(), condition of the Hessian"] < 1.3
    assert printed["raw inputs, cost after 40 steps"] > 100 * smallest
    assert printed["Standardize(), cost after 40 steps"] < 1.01 * smallest


def batch_sizes(printed):
    smallest = printed["smallest cost"]
    assert printed["batch, cost at the end"] > 10 * smallest
    for name in ("mini-batch", "stochastic"):
        assert printed[f"{name}, cost at the end"] < 1.5 * smallest


def local_minimum(printed):
    for name in ("SGD", "Adam"):
        assert printed[f"{name}, theta_1 at the end"] > 0.9
    assert printed["momentum 0.9, theta_1 at the end"] < -0.9
    assert printed["momentum 0.9, height at the end"] < printed["SGD, height at the end"]


def tasks(printed):
    assert printed["regression, r2"] > 0.9
    for name in ("binary", "multi-class", "multi-label"):
        assert printed[f"{name}, accuracy"] > 0.95


def quasi_newton(printed):
    for name in ("L-BFGS", "BFGS"):
        assert printed[f"{name}, loss"] < printed["Adam, loss"] / 5
    assert printed["Adam, loss"] < printed["gradient descent, loss"] / 3
    assert printed["Levenberg-Marquardt, loss"] < printed["BFGS, loss"] / 100


def lasso_path(printed):
    assert printed["features that count among the first five"] == 5
    assert 5 <= printed["features in use at the best l1"] < 30
    assert printed["zeros of ridge"] == 0
    # the noise has the deviation 2
    assert 2 < printed["RMSE of the best lasso"] + 0.1 < printed["RMSE of least squares"]


CLAIMS = {
    f.__name__: f
    for f in (
        learning_rate, optimizers, xor, logistic_newton, softmax_logistic,
        universal_approximation, vanishing_gradient, zero_initialization, initialization,
        ridge_lasso, overfitting, rbf_regression, uncertainty_band,
        batch_norm, intervals, calibration, check_gradients, newton_step, standardize,
        batch_sizes, local_minimum, tasks, quasi_newton, lasso_path,
    )
}  # fmt: skip


def test_every_example_has_a_claim_and_is_in_the_gallery():
    assert sorted(CLAIMS) == NAMES
    gallery = (ROOT / "docs" / "gallery.md").read_text()
    for name in NAMES:
        assert f"](gallery/{name}.png)" in gallery
        assert f"](../examples/{name}.py)" in gallery
        assert (ROOT / "docs" / "gallery" / f"{name}.png").stat().st_size < MOST_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_example_draws_its_picture_and_its_claim_holds(name, tmp_path):
    script, picture = EXAMPLES / f"{name}.py", tmp_path / "picture.png"
    assert len(script.read_text().splitlines()) < MOST_LINES
    run = subprocess.run(
        [sys.executable, script, picture],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=tmp_path,
        env=os.environ | {"MPLCONFIGDIR": str(tmp_path)},
    )
    assert run.returncode == 0, run.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")
    lines = (line.rpartition(": ") for line in run.stdout.splitlines() if ": " in line)
    CLAIMS[name]({key: float(value) for key, _, value in lines})


@pytest.mark.parametrize("page", ["gallery.md", "lecture.md"])
def test_links_lead_to_files_that_hold_the_name(page):
    links = re.findall(r"\[([^\]]+)\]\(([^)]+)\)", (ROOT / "docs" / page).read_text())
    assert len(links) > len(NAMES)
    for name, link in links:
        target = ROOT / "docs" / link
        assert target.is_file(), f"{page}: {link}"
        if target.suffix == ".py" and name != target.name:
            for word in name.split(", "):
                assert re.search(rf"\b{word}\b", target.read_text()), f"{link} has no {word}"


# ---- the README ----------------------------------------------------------------------------------


def test_the_readme_s_python_runs(tmp_path, monkeypatch, capsys):
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) >= 4
    monkeypatch.chdir(tmp_path)
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for block in blocks:
            exec(block.replace("verbose=1", "verbose=0"), names)
    assert "Dropout(0.2)" in capsys.readouterr().out
    # its own loss, for errors beyond those whose cosh float32 can hold
    error = np.array([[1e-3], [-3.0], [88.0], [-1e4]], np.float32)
    values, gradient = names["log_cosh"](error, np.zeros_like(error))
    want = np.abs(error[:, 0]) + np.log1p(np.exp(-2.0 * np.abs(error[:, 0]))) - np.log(2)
    np.testing.assert_allclose(values, want, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(gradient, np.tanh(error), rtol=1e-6)

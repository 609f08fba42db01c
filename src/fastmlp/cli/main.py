"""The command line: `fastmlp train | predict | info | config`, also as `python -m fastmlp`."""

import argparse
import csv
import sys
from collections.abc import Sequence

from .. import layers
from ..ground import runtime as config
from ..tables.targets import TASKS
from .console import Voice, flush, silence

_TRAIN_EXAMPLES = """examples:
  fastmlp train                                        scikit-learn's handwritten digits
  fastmlp train --data houses.csv --target price       a table of one's own
  fastmlp train --data points.npz --hidden 64,64 --activation tanh --epochs 500
  fastmlp train --data big.parquet --target label --dropout 0.3 --threads 2 -o big.safetensors

CSV and Parquet: any column may be the --target. NPZ: arrays X and y (or the --target).
NPY: a matrix, whose last column (or column --target) is the target.
"""
_PREDICT_EXAMPLES = """examples:
  fastmlp predict fastmlp-model.safetensors new.csv -o predictions.csv
  fastmlp predict fastmlp-model.safetensors digits | head

A class table has the predicted class and a probability for each; a regression table the value.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0, 2 for a user's error, 130 after Ctrl-C."""
    options = make_parser().parse_args(argv)
    try:
        code = run(options)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:
        if getattr(options, "output", None):
            return _fail("nobody reads the output any more; it was not written", 2)
        silence(sys.stdout)  # `fastmlp predict ... | head`
        return 0
    except ImportError as error:
        missing = (error.name or str(error)).split(".")[0]
        return _fail(f'this needs {missing}; pip install "fastmlp[train]"', 2)
    except MemoryError as error:
        return _fail(str(error) or "not enough memory; use a smaller --batch-size or --hidden", 2)
    except (ValueError, TypeError, OSError, FloatingPointError) as error:
        return _fail(" ".join(str(error).split()), 2)
    finally:
        flush()


def run(options: argparse.Namespace) -> int:
    """Run the command of parsed options and return the exit code."""
    if options.command == "config":
        config.show_config()
        return 0
    if options.command == "train":
        from .train import train

        return train(options)
    from .predict import info, predict

    return {"predict": predict, "info": info}[options.command](options)


def _fail(message: str, code: int) -> int:
    text = f"fastmlp: error: {message}" if code == 2 else f"fastmlp: {message}"
    Voice(on_stderr=True).say(text)
    return code


# ---- options -------------------------------------------------------------------------------------


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands and their options."""
    parser = argparse.ArgumentParser(
        prog="fastmlp", description="Multi-layer perceptrons, trained on CPUs."
    )
    version = config.get_config()["version"]
    parser.add_argument("--version", action="version", version=f"fastmlp {version}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_train(commands)
    raw = argparse.RawDescriptionHelpFormatter
    predict = commands.add_parser(
        "predict",
        help="predict with a trained model",
        epilog=_PREDICT_EXAMPLES,
        formatter_class=raw,
    )
    predict.add_argument("model", help="a file that `fastmlp train` wrote")
    predict.add_argument("data", help="table with the columns of the training (csv, npz, npy, ...)")
    predict.add_argument(
        "-o", "--output", metavar="FILE", help="CSV to write (default, and -: print it)"
    )
    _add_reading(predict)
    predict.add_argument("--threads", type=_positive, metavar="N", help="threads to use")
    info = commands.add_parser("info", help="show what a model file holds")
    info.add_argument("model", help="a file that `fastmlp train` or Sequential.save wrote")
    commands.add_parser("config", help="show the build, instruction set, BLAS and threads in use")
    return parser


def _add_train(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    train = commands.add_parser(
        "train",
        help="train on a table, or on the embedded digits",
        description="Train a multi-layer perceptron on a table and report how good it is.",
        epilog=_TRAIN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_data(train.add_argument_group("data"))
    _add_network(train.add_argument_group("network"))
    _add_training(train.add_argument_group("training"))
    output = train.add_argument_group("output")
    output.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        default="fastmlp-model.safetensors",
        help="model to write, and the picture of its learning curve beside it (%(default)s)",
    )
    output.add_argument("--quiet", action="store_true", help="print errors only")


def _add_data(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--data",
        metavar="FILE",
        default="digits",
        help=".csv, .npz, .npy or .parquet (%(default)s)",
    )
    group.add_argument("--target", metavar="COLUMN", help="the column to predict")
    group.add_argument(
        "--task",
        choices=TASKS,
        help="default: as the target column looks",
    )
    group.add_argument(
        "--missing",
        choices=("impute", "drop", "refuse"),
        default="impute",
        help="rows with missing values: fill in, leave out, or stop (%(default)s)",
    )
    group.add_argument(
        "--test-size",
        type=_share,
        metavar="SHARE",
        default=0.2,
        help="rows to test on (%(default)s)",
    )
    group.add_argument(
        "--validation-size",
        type=_share,
        metavar="SHARE",
        default=0.1,
        help="rows that decide when to stop (%(default)s)",
    )
    _add_columns(group)
    _add_reading(group)


def _add_columns(group: "argparse._ArgumentGroup") -> None:
    for name, text in (
        ("drop", "columns to leave out"),
        ("categorical", "columns that are text, whatever they look like"),
        ("numeric", "columns that are numbers; a cell that is none is an error"),
    ):
        help_text = f"{text}; names with a comma in quotes, or repeat the option"
        group.add_argument(
            f"--{name}", action="extend", type=_names, metavar="COLUMN,...", help=help_text
        )


def _add_reading(group: "argparse._ActionsContainer") -> None:
    """Add the options for the reading of text cells; unset ones are found out from the data."""
    group.add_argument(
        "--na", action="extend", type=_names, metavar="WORD,...", help="words for missing values"
    )
    group.add_argument("--decimal", choices=(".", ","), help="mark of decimals")
    group.add_argument("--thousands", choices=(".", ",", " ", "'"), help="mark between thousands")
    group.add_argument(
        "--dates",
        choices=("dmy", "mdy", "none"),
        help="02/10/2020 has the day or the month first; none: dates are text",
    )


def _add_network(group: "argparse._ArgumentGroup") -> None:
    names = [kind.name for kind in layers.ACTIVATION_CLASSES.values()]
    group.add_argument(
        "--hidden",
        type=_widths,
        metavar="N,N,...",
        default=[512, 256],
        help="widths of the hidden layers; 0 for none (512,256)",
    )
    group.add_argument(
        "--activation", choices=names, metavar="NAME", default="relu", help=", ".join(names)
    )
    group.add_argument(
        "--dropout",
        type=_share,
        metavar="P",
        help="probability (0.4 for classes, 0 for regression)",
    )
    group.add_argument(
        "--dtype", choices=("float32", "float64"), default="float32", help="(%(default)s)"
    )


def _add_training(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--optimizer", choices=("adam", "adamw", "sgd"), default="adam")
    group.add_argument("--lr", type=_rate, metavar="RATE", help="learning rate (0.001; sgd 0.05)")
    group.add_argument(
        "--weight-decay", type=_rate, metavar="RATE", help="of adamw (0.01) and sgd (0)"
    )
    group.add_argument("--epochs", type=_positive, metavar="N", default=200, help="at most (200)")
    group.add_argument("--batch-size", type=_positive, metavar="N", default=64, help="rows (64)")
    group.add_argument(
        "--patience",
        type=_count,
        metavar="N",
        default=20,
        help="stop after so many epochs without a better validation loss; 0: never (20)",
    )
    group.add_argument(
        "--class-weight",
        type=_class_weight,
        metavar="CLASS=W,...",
        help='weights of classes in training, or "balanced"',
    )
    group.add_argument("--seed", type=_count, metavar="N", default=0, help="(0)")
    group.add_argument(
        "--threads", type=_positive, metavar="N", help="default: as many as there are"
    )


def _positive(text: str) -> int:
    value = _count(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"{text} is not in 0 .. 2**63 - 1")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _share(text: str) -> float:
    value = _number(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not in 0 .. 1 (1 excluded)")
    return value


def _rate(text: str) -> float:
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _names(text: str) -> list[str]:
    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]


def _class_weight(text: str) -> str | dict[str, float]:
    if text == "balanced":
        return text
    weights = {}
    for part in _names(text):
        name, sign, weight = part.rpartition("=")
        if not sign:
            raise argparse.ArgumentTypeError(f'{part!r} is neither CLASS=WEIGHT nor "balanced"')
        value = _number(weight)
        if not 0 <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"the weight of {name!r} is not 0 or more")
        weights[name.strip()] = value
    return weights


def _widths(text: str) -> list[int]:
    if text.strip() == "0":
        return []
    return [_positive(part.strip()) for part in text.split(",")]

"""Tests with teeth, for the Python that moves weights and state: bugs of one line each.

    python tests/mutants_python.py              all of them, one at a time
    python tests/mutants_python.py averag       those whose names contain one of these words

The installed package is copied to a temporary folder and each bug is planted there: no build.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from mutants import Mutant, run_tests

import fastmlp

INSTALLED = Path(fastmlp.__file__).parent
TESTS = [
    *("averaged_statistics", "regularization", "refusals", "failures", "state_machine", "quick"),
    *("quick_refusals", "training", "checkpoint", "custom_loss", "equivalences", "schedules"),
    *("second_order", "full_batch_ends", "weights", "norms", "core", "resume"),
]

STATE, FILE, EPOCHS = "network/state.py", "files/model_file.py", "training/epochs.py"
MUTANTS = [
    Mutant(
        "averaged: the weights of training do not come back",
        STATE,
        "                            place[:] = values\n                        self._shows",
        "                            pass\n                        self._shows",
    ),
    Mutant(
        "averaged: the average that goes on is that of the end",
        STATE,
        "places = self.averaged_params, [*self._weights(), self.stats]",
        "places = self.averaged_params, [self.params, self.stats]",
    ),
    Mutant(
        "averaged: training inside is taken",
        STATE,
        "    def _check_trainable(self) -> None:\n        if self._shows_average:",
        "    def _check_trainable(self) -> None:\n        if False:",
    ),
    Mutant(
        "averaged statistics are of any step",
        STATE,
        "self._average_stats is None or self._average_stats[0] != self.step",
        "self._average_stats is None",
    ),
    Mutant(
        "set_params: the average stays behind",
        STATE,
        "        return [self.params, *average, *own]",
        "        return [self.params, *own]",
    ),
    Mutant(
        "set_params: statistics of the average outlive it",
        STATE,
        "                place[:] = values\n            self._average_stats = None",
        "                place[:] = values",
    ),
    Mutant(
        "use_optimizer: moments outlive their kind",
        STATE,
        "if self._state is None or before is None or not same_kind:",
        "if self._state is None or before is None:",
    ),
    Mutant(
        "use_optimizer: the count of steps outlives the moments",
        STATE,
        "            context.t, context.running = 0, (0.0, 0.0)\n        if average",
        "            context.running = (0.0, 0.0)\n        if average",
    ),
    Mutant(
        "use_optimizer: running numbers outlive the moments",
        STATE,
        "            context.t, context.running = 0, (0.0, 0.0)\n        if average",
        "            context.t = 0\n        if average",
    ),
    Mutant(
        "use_optimizer: another average goes on with the old one",
        STATE,
        "if before.weight_average != optimizer.weight_average:",
        "if False:",
    ),
    Mutant(
        "use_optimizer: the number of averaged steps outlives the average",
        STATE,
        "        if average is not self._average:\n            context.n_averaged = 0",
        "        if False:\n            context.n_averaged = 0",
    ),
    Mutant(
        "use_optimizer: another schedule begins in the middle",
        STATE,
        "not same_kind or before.lr != optimizer.lr:",
        "not same_kind:",
    ),
    Mutant(
        "drop_optimizer: the pass that was interrupted goes on",
        STATE,
        "context.t = context.position = context.n_averaged = 0",
        "context.t = context.n_averaged = 0",
    ),
    Mutant(
        "a new average begins at zero",
        STATE,
        "        average[:] = self.params\n",
        "",
    ),
    Mutant(
        "a refused fit leaves its loss behind",
        STATE,
        '("_loss", "metrics", "history",',
        '("metrics", "history",',
    ),
    Mutant(
        "a refused fit leaves its statistics behind",
        STATE,
        "                self.stats[:] = stats\n            raise",
        "            raise",
    ),
    Mutant(
        "a refused fit leaves its counters behind",
        STATE,
        '"t", "updates", "epoch", "position", "passes", "schedule_start"',
        '"t", "updates", "epoch", "passes", "schedule_start"',
    ),
    Mutant(
        "a file forgets which batches a pass has",
        FILE,
        "    net._unfinished_batches = what.batches\n",
        "",
    ),
    Mutant(
        "a file forgets running products",
        FILE,
        "    net._engine.context.running = what.running\n",
        "",
    ),
    Mutant(
        "a file holds statistics of an average that is over",
        FILE,
        "net._average_stats is not None and net._average_stats[0] == net.step:",
        "net._average_stats is not None:",
    ),
    Mutant(
        "a pass over other batches goes on in the middle",
        EPOCHS,
        "if net._engine.context.position and net._unfinished_batches != self.batches():",
        "if False:",
    ),
    Mutant(
        "a diverged pass goes on in the middle",
        EPOCHS,
        "        if isinstance(error, DivergenceError):\n            context.position = 0",
        "        if False:\n            context.position = 0",
    ),
    Mutant(
        "every pass has the order of the first",
        EPOCHS,
        "_core.shuffle(self.order, self.net.seed, context.epoch)",
        "_core.shuffle(self.order, self.net.seed, 0)",
    ),
    Mutant(
        "rates of a pass that goes on begin anew",
        EPOCHS,
        "rest = None if rates is None else rates[context.t - before :]",
        "rest = rates",
    ),
]


def check_list(mutants: list[Mutant]) -> None:
    """Before any work: does each still find its place?"""
    for mutant in mutants:
        found = (INSTALLED / mutant.file).read_text().count(mutant.old)
        if found != 1:
            raise SystemExit(f"{mutant.name}: {mutant.old!r} stands {found} times, not once")


def main(words: list[str]) -> int:
    chosen = [m for m in MUTANTS if not words or any(word in m.name for word in words)]
    check_list(chosen)
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="fastmlp-mutants-") as folder:
        tree = Path(folder)
        shutil.copytree(INSTALLED, tree / "installed" / "fastmlp")
        shutil.copytree(Path(__file__).parent, tree / "tests")
        shutil.copy(Path(__file__).parents[1] / "pyproject.toml", tree)
        if failed := run_tests(tree, TESTS):
            raise SystemExit(f"without any bug planted, {failed} fails: mend that first")
        print("control    everything passes without a bug", flush=True)
        for mutant in chosen:
            path = tree / "installed" / "fastmlp" / mutant.file
            text = path.read_text()
            path.write_text(text.replace(mutant.old, mutant.new))
            failed = run_tests(tree, TESTS)
            path.write_text(text)
            survivors += not failed
            print(f"{'caught' if failed else 'SURVIVED':10} {mutant.name}  {failed}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""Random calls of the public API for a while: `python tests/fuzz_api.py --seconds 120`.

Runs the machine of test_state_machine.py with new seeds until the time is over. An error ends it
with the shortest program that Hypothesis finds for it.
"""

import argparse
import time
import warnings

from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from test_state_machine import NetworkMachine

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--seconds", type=float, default=120)
parser.add_argument("--seed", type=int, default=None, help="left out: from the clock")
options = parser.parse_args()
warnings.simplefilter("ignore")
first = int(time.time()) if options.seed is None else options.seed
end, rounds = time.monotonic() + options.seconds, 0
while time.monotonic() < end:
    seed(first + rounds)(NetworkMachine)
    budget = settings(
        max_examples=20,
        stateful_step_count=40,
        deadline=None,
        database=None,
        verbosity=Verbosity.normal,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    print(f"seed {first + rounds}", flush=True)
    run_state_machine_as_test(NetworkMachine, settings=budget)
    rounds += 1
print(f"{rounds} rounds of 20 programs, none with an error")

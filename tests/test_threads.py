"""Where no more threads can be created, work goes on with those that can."""

import os
import subprocess
import sys

import pytest

import fastmlp

pytestmark = [
    pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs /proc"),
    pytest.mark.skipif(
        fastmlp.get_config()["gemm"] == "blas", reason="a BLAS is given 64 rows at a time"
    ),
]

# In children, since a limit cannot be taken back. Threads are counted per user, and root's are not
# limited, so root becomes a user who has no others. Prints how many threads could be added.
PROGRAM = """
import os, resource, sys, threading
import numpy as np
from fastmlp import Linear, ReLU, Sequential
net = Sequential([Linear(64, 256), ReLU(), Linear(256, 10)])
X = np.random.default_rng(0).standard_normal((192, 64)).astype("f")
want, y = net.predict(X, threads=1).tobytes(), np.arange(192) % 10
kind, room = sys.argv[1], int(sys.argv[2])

def tasks():
    return len(os.listdir("/proc/self/task"))

def predict(*threads):
    for n in threads:
        assert net.predict(X, threads=n).tobytes() == want

# this thread has helpers of its own, for which nothing is left
go, done = threading.Event(), []
other = threading.Thread(target=lambda: go.wait() and done.append(predict(6, 6)), daemon=True)
other.start()
before = tasks()
if kind == "threads":
    try:
        os.setgid(64999)
        os.setuid(100_000 + os.getpid())  # of its own: tests run side by side
    except OSError:
        sys.exit("cannot be another user")
    resource.setrlimit(resource.RLIMIT_NPROC, (before + room,) * 2)
elif kind == "megabytes":
    used = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + room * 2**20,) * 2)
predict(6, 6, 6)
print(tasks() - before)
if len(sys.argv) > 3:  # libgomp ends threads where a team has fewer, and makes them again
    predict(*[2, 6] * int(sys.argv[3]))
go.set()
other.join()
assert done == [None]
if kind == "threads":
    net.fit(X, y, epochs=2, threads=6)
"""


def threads_added(kind, room, *rounds, **environment):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, kind, *map(str, (room, *rounds))],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | environment,
    )
    if "cannot be another user" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_six_threads_are_six_where_there_is_room():
    assert threads_added("anything", 0) == 5


@pytest.mark.parametrize("room", [0, 1, 3, 5, 8, 20])
def test_a_limit_on_threads_leaves_as_many_as_can_be_had(room):
    assert threads_added("threads", room) == min(room, 5)


@pytest.mark.parametrize("room", [2, 10, 20])
def test_no_memory_for_stacks_leaves_as_many_as_can_be_had(room):
    assert threads_added("megabytes", room, OMP_STACKSIZE="8M") < 5


def test_teams_may_shrink_and_grow_where_there_is_no_room_for_others():
    assert threads_added("threads", 3, 500) == 3


def test_stacks_are_as_large_as_openmp_is_told():
    assert threads_added("megabytes", 400, OMP_STACKSIZE="1G") == 0
    assert threads_added("megabytes", 400, OMP_STACKSIZE=" 900 k ") == 5

"""What the counters of a network must be, from the documented rules alone: nothing is read from the
network, so that a fault which two networks share is seen too.
"""

from typing import Any

from fastmlp import Adam

NEVER = -1


class ExpectedCounters:
    """Follows a network through its calls."""

    def __init__(self) -> None:
        self.optimizer: Any = None
        self.step = self.epoch = 0
        self.drop()
        self.schedule_start = NEVER

    def use(self, optimizer: Any) -> None:
        """Training goes on with this one, None being that of the last call, else Adam(). Moments
        and their steps begin anew after a change of kind, schedules with another lr, averages with
        another average.
        """
        before, after = self.optimizer, optimizer or self.optimizer or Adam()
        is_new = before is None or kind(before) != kind(after)
        if is_new:
            self.t = 0
        if is_new or before.lr != after.lr:
            self.schedule_start = self.t
        if is_new or before.weight_average != after.weight_average:
            self.n_averaged = 0
        self.optimizer = after

    def train(self, steps: int, epochs: int = 0) -> None:
        """So many updates and whole passes were made."""
        self.t += steps
        self.step += steps
        self.epoch += epochs
        self.n_averaged += steps * (self.optimizer.weight_average is not None)

    def drop(self) -> None:
        """The optimizer is given up with all that it keeps, and with the pass it was in."""
        self.optimizer = None
        self.t = self.position = self.n_averaged = 0

    def check(self, net: Any) -> None:
        """AssertionError where the network counts otherwise."""
        context = net._engine.context
        assert (net.step, net.epoch, context.position) == (self.step, self.epoch, self.position)
        assert net.optimizer == self.optimizer
        assert (context.t, context.n_averaged) == (self.t, self.n_averaged)
        if self.optimizer is not None:
            assert context.schedule_start == self.schedule_start


def kind(optimizer: Any) -> tuple[Any, ...]:
    """What moments belong to."""
    return type(optimizer), getattr(optimizer, "centered", False)

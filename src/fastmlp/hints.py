"""What `fit` warns of before it trains: what can be meant, but hardly ever is."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .errors import warn
from .layers import Activation, Dropout, Layer
from .layout import leaves_of
from .losses import Loss
from .optimizers import Optimizer
from .schedules import Schedule

if TYPE_CHECKING:
    from .network import Sequential

_SPENT = 1e-3  # of its highest rate: next to nothing


def warn_of_activation(layers: Sequence[Layer], loss: Loss) -> None:
    """Where the network ends with an activation in front of the one that is in the loss."""
    last = next((leaf for leaf in leaves_of(layers)[::-1] if not isinstance(leaf, Dropout)), None)
    if isinstance(last, Activation) and loss.is_narrowed_by(last.name):
        warn(f"{loss.name} {loss.link}: leave out the last {last!r}")


def warn_of_schedule(net: "Sequential", optimizer: Optimizer, steps: int) -> None:
    """Where a schedule that was used before has nothing left for the next `steps` steps."""
    context, schedule = net.executor.context, optimizer.lr
    done = context.t - context.schedule_start
    if not isinstance(schedule, Schedule) or done == 0:
        return
    is_over = done >= getattr(schedule, "steps", math.inf)
    most = _SPENT * schedule.lr if is_over else 0.0
    if all(schedule(step) <= most for step in range(done, done + steps)):
        warn(
            f"{schedule!r} has ended: this fit goes on with the learning rate "
            f"{schedule(done):.3g}; to begin schedule and moments anew set net.optimizer = None "
            "before it, or give another schedule or a number"
        )

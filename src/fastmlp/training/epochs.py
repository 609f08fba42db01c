"""Passes over mini-batches, in C or around a loss written in Python."""

from __future__ import annotations  # signatures that can be read

import zlib

from .. import _core
from ..engine.executor import SLICE_SECONDS
from ..ground.arrays import Array
from ..ground.errors import DivergenceError
from ..losses import Loss
from ..losses.custom import CustomLoss
from ..network.network import Network
from ..optimizers import Optimizer
from ..sample_weights import weights_at
from .data import TrainingData
from .hints import warn_of_schedule
from .progress import Progress
from .run import History, Run
from .step import take_step


class EpochLoop:
    """The passes over the training rows, each in an order given by its number."""

    def __init__(
        self,
        net: Network,
        data: TrainingData,
        loss: Loss,
        optimizer: Optimizer,
        batch_size: int,
        shuffle: bool,
        drop_last: bool,
        threads: int,
        epochs: int,
    ) -> None:
        self.net, self.data, self.shuffle = net, data, shuffle
        self.loss, self.threads = loss, threads
        self.batch_size = min(batch_size, len(data.rows))
        self.n = len(data.rows) - (len(data.rows) % self.batch_size if drop_last else 0)
        self.order = data.rows
        self.visited = 0  # rows of the present pass so far
        net._engine.context.check_rows(self.n, self.batch_size)
        net._engine.reserve_batches(self.batch_size, threads)
        net.use_optimizer(optimizer)
        if epochs > 0:
            warn_of_schedule(net._engine.context, optimizer, -(-self.n // self.batch_size))
        # An interrupted pass goes on from its last row if this fit has the same mini-batches.
        if net._engine.context.position and net._unfinished_batches != self.batches():
            net._engine.context.position = 0

    def leave(self, error: BaseException | None) -> None:
        """End the loop, normally or after an error.

        An interrupted pass can go on later, unless it diverged.
        """
        context = self.net._engine.context
        if isinstance(error, DivergenceError):
            context.position = 0
        self.net._unfinished_batches = self.batches() if context.position else None

    def batches(self) -> tuple[int, int, bool, int]:
        """Return what identifies the mini-batches of a pass.

        That is how they are cut, and a checksum of a thousand rows.
        """
        rows = self.data.rows[:: max(1, len(self.data.rows) // 1000)]
        checksum = zlib.crc32(self.data.y[rows].tobytes(), zlib.crc32(self.data.X[rows].tobytes()))
        return self.n, self.batch_size, bool(self.shuffle), checksum

    def run_epoch(self, run: Run, outputs: Array | None, progress: Progress) -> float:
        """Run all mini-batches of the next epoch; returns the loss of its rows."""
        context, optimizer = self.net._engine.context, run.optimizer
        assert isinstance(optimizer, Optimizer)
        self.net._pass_under_way = self  # a file saved from now on names this pass
        self.net.use_optimizer(optimizer)  # a callback may have taken steps with another
        self.order = self.data.rows
        if self.shuffle:
            self.order = self.data.rows.copy()
            _core.shuffle(self.order, self.net.seed, context.epoch)
        self.order = self.order[: self.n]
        first, loss_sum, counted = context.position, 0.0, 0
        self.visited = 0
        before = context.t
        rates = self.net._engine.rates(optimizer, -(-(self.n - first) // self.batch_size))
        train = self._train_in_python if isinstance(self.loss, CustomLoss) else self._train
        while first + self.visited < self.n:
            rest = None if rates is None else rates[context.t - before :]
            loss_sum, rows, finite = train(optimizer, rest, outputs, loss_sum)
            at = first + self.visited
            counted += self.loss.counted(self.data.y, self.order[at : at + rows])
            self.visited += rows
            if not finite:
                lr = optimizer.lr_at(context.t - context.schedule_start)
                raise divergence(run.epoch, context.updates + 1, lr, run.history)
            progress.advance(rows, self.loss.reduce(loss_sum, counted))
        self.order = self.order[first:]
        return self.loss.reduce(loss_sum, counted)

    def _train(
        self, optimizer: Optimizer, rates: Array | None, outputs: Array | None, loss_sum: float
    ) -> tuple[float, int, bool]:
        """Train on some mini-batches in C.

        Returns loss_sum plus their losses, the number of their rows, and whether all is finite.
        """
        return self.net._engine.context.train(
            self.data.X,
            self.data.y,
            self.order,
            self.batch_size,
            self.loss.index,
            _core.OPTIMIZERS[optimizer.kernel]["index"],
            optimizer.settings,
            outputs,
            self.threads,
            SLICE_SECONDS,
            rates=rates,
            loss_settings=self.loss.settings,
            weights=self.data.weights,
            loss_sum=loss_sum,
            again=self.visited > 0,
        )

    def _train_in_python(
        self, optimizer: Optimizer, rates: Array | None, outputs: Array | None, loss_sum: float
    ) -> tuple[float, int, bool]:
        """Train on one mini-batch with a loss written in Python; returns the same as `_train`."""
        assert isinstance(self.loss, CustomLoss)
        executor, data = self.net._engine, self.data
        first = executor.context.position
        rows = self.order[first : first + self.batch_size]
        total, out, finite = take_step(
            executor,
            self.loss,
            data.X[rows],
            data.y[rows],
            weights_at(data.weights, rows),
            optimizer,
            self.threads,
            None if rates is None else rates[:1],
            len(rows),
            self.n,
        )
        if outputs is not None:
            outputs[rows] = out
        return loss_sum + total, len(rows), finite


def divergence(epoch: int, step: int, lr: float, history: History | None = None) -> DivergenceError:
    """Return the error for a loss or an update that is not finite."""
    return DivergenceError(
        f"the loss or the update is no longer finite in epoch {epoch} (step {step}); lower the "
        f"learning rate (lr={lr:g} now) or scale the inputs; the network keeps finite weights",
        epoch,
        step,
        history,
    )


def check_weights(params: Array) -> None:
    """Raise ValueError if training would begin with weights that are not finite."""
    if _core.first_nonfinite(params) >= 0:
        raise ValueError("the weights of this network hold NaN or infinity; make a new network")

"""Callbacks of `fit`, early stopping among them."""

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .training import Run


class Callback:
    """Override what you need. `run` has net, epoch (from 1), logs, history, optimizer and
    stop(reason).
    """

    def on_fit_begin(self, run: "Run") -> None:
        """Before the first epoch."""

    def on_epoch_end(self, run: "Run") -> None:
        """After each epoch: run.logs holds its loss and metrics; what is added there enters the
        history.
        """

    def on_fit_end(self, run: "Run") -> None:
        """After the last epoch, also when training stopped early; not after an error or Ctrl-C."""


class EarlyStopping(Callback):
    """Stop when `monitor` has not improved by more than `min_delta` for `patience` epochs. The
    lecture's slide.

    `monitor` is any logged name ("val_loss", "val_accuracy", "loss", ...). mode "auto" maximises
    accuracy and r2 and minimises the rest. With `restore_best` the weights of the best epoch come
    back at the end of fit. After fit: `best`, `best_epoch` (from 1), `stopped_epoch` (None if it
    never stopped).
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best: bool = True,
    ) -> None:
        if mode not in ("auto", "min", "max"):
            raise ValueError(f'mode must be "auto", "min" or "max", not {mode!r}')
        if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
            raise ValueError(f"patience must be an integer >= 1, not {patience!r}")
        if not min_delta >= 0:
            raise ValueError(f"min_delta must be >= 0, not {min_delta!r}")
        if mode == "auto":
            mode = "max" if monitor.removeprefix("val_") in ("accuracy", "r2") else "min"
        self.monitor, self.patience, self.min_delta = monitor, patience, min_delta
        self.mode, self.restore_best = mode, restore_best
        self.best, self.best_epoch = math.nan, 0
        self.stopped_epoch: int | None = None
        self._best_params: Any = None

    def on_fit_begin(self, run: "Run") -> None:
        """Start afresh; ValueError if the monitored quantity will not be logged."""
        if self.monitor.startswith("val_") and not run.has_validation:
            raise ValueError(
                f"EarlyStopping monitors {self.monitor!r}, but fit has no validation data; "
                "pass validation_data=(Xv, yv) or validation_split=0.1"
            )
        self.best, self.best_epoch = math.nan, 0
        self.stopped_epoch, self._best_params = None, None

    def on_epoch_end(self, run: "Run") -> None:
        """Keep the best weights; stop when patience is used up."""
        if self.monitor not in run.logs:
            raise ValueError(
                f"EarlyStopping monitors {self.monitor!r}, which is not logged; logged are "
                f"{', '.join(run.logs)}"
            )
        value = run.logs[self.monitor]
        if self._improves(value):
            self.best, self.best_epoch = value, run.epoch
            if self.restore_best:
                self._best_params = run.net.params.copy()
        elif run.epoch - self.best_epoch >= self.patience:
            self.stopped_epoch = run.epoch
            run.stop(
                f"{self.monitor} has not improved for {self.patience} epochs; "
                f"best {self.best:.6g} in epoch {self.best_epoch}"
            )

    def on_fit_end(self, run: "Run") -> None:
        """Bring back the best weights."""
        if self._best_params is not None and self.best_epoch != run.epoch:
            run.net.params[:] = self._best_params
        self._best_params = None

    def _improves(self, value: float) -> bool:
        if math.isnan(self.best):
            return not math.isnan(value)
        gain = self.best - value if self.mode == "min" else value - self.best
        return gain > self.min_delta

"""Callbacks of skorch that estimators add: early stopping, and hooks of scikit-learn's own."""

from collections.abc import Callable
from typing import Any

import numpy as np
from skorch import NeuralNet
from skorch.callbacks import Callback

from sk_mtl._training.settings import Monitor
from sk_mtl._training.snapshot import Snapshot, bytes_of

COUNTED = ("best_", "reference_", "misses_", "epoch_")
"""What `RestoreBest` counts beside the best state."""

NOW = "now"
"""Stands for a snapshot of what the net is at the moment: no need to keep it twice."""


def _state_of(snapshot: Snapshot | None, *, is_now: bool) -> Any:
    return None if snapshot is None else NOW if is_now else snapshot.get_state()


def _restored(net: NeuralNet, state: Any) -> Snapshot | None:
    if state is None:
        return None
    return Snapshot(net) if state == NOW else Snapshot.from_state(state, net.device)


class RestoreBest(Callback):
    """Stop when what is watched no longer falls, and restore the best epoch's state.

    skorch's EarlyStopping takes an epoch for the best only if it improves by more than the
    threshold; here the threshold decides when to stop and the lowest value which state stays:
    weights, and with them the optimizer's and the balancer's state. It comes last among a net's
    callbacks, so that an epoch counts only if all others saw it to its end; its `restorer` comes
    first, so that at the end of training all others see the state restored.

    Parameters
    ----------
    patience : int
        Epochs without an improvement of at least `tol` before training stops.
    tol : float
        Smallest fall that counts.
    monitor : str or callable
        A column of the history, or a function of the net. Lower is better.
    goes_on : bool
        Whether the net was trained before: then its state at the begin is the first to beat.
    """

    def __init__(
        self, patience: int, tol: float, monitor: Monitor = "valid_loss", goes_on: bool = False
    ) -> None:
        self.patience, self.tol, self.monitor, self.goes_on = patience, tol, monitor, goes_on
        self.restorer = _Restorer(self)

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Begin with nothing, or with what the fits before have reached."""
        self.best_, self.reference_, self.misses_ = np.inf, np.inf, 0
        self.epoch_ = len(net.history)
        self.state_: Snapshot | None = None
        if self.goes_on:
            self.best_ = self.reference_ = self._value(net, net.validate())
            self.state_ = Snapshot(net)

    def _value(self, net: NeuralNet, row: dict[str, Any]) -> float:
        if isinstance(self.monitor, str):
            return row[self.monitor]
        return self.monitor(net)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Keep the state of the best epoch; stop when patience is at its end."""
        value = self._value(net, net.history[-1])
        if not isinstance(self.monitor, str):
            net.history.record("valid_score", -value)
        if value < self.best_:
            self.best_, self.epoch_ = value, len(net.history)
            if self.state_ is None:
                self.state_ = Snapshot(net)
            else:
                self.state_.take(net)
        if value < self.reference_ - self.tol:
            self.reference_, self.misses_ = value, 0
            return
        self.misses_ += 1
        if self.misses_ >= self.patience:
            net.stop = True

    def get_state(self, net: NeuralNet) -> dict[str, Any]:
        """Return where early stopping stands, for `set_state`."""
        numbers = {name: getattr(self, name) for name in COUNTED}
        return {**numbers, "state": _state_of(self.state_, is_now=self.epoch_ == len(net.history))}

    def set_state(self, net: NeuralNet, state: dict[str, Any]) -> None:
        """Undo `get_state`, of a net that stands where it stood then."""
        for name in COUNTED:
            setattr(self, name, state[name])
        self.state_ = _restored(net, state["state"])

    def restore(self, net: NeuralNet) -> None:
        """Restore the best state, whether patience or the number of epochs ended training."""
        if self.state_ is not None:
            self.state_.restore(net)
            if net.speaks:
                what = self.monitor if isinstance(self.monitor, str) else "valid_score"
                ended = self.misses_ >= self.patience
                why = f"{what} no longer improved" if ended else "all epochs were run"
                print(f"Early stopping: {why}; epoch {self.epoch_} is restored.")
        self.state_ = None


class _Restorer(Callback):
    """Restore what a `RestoreBest` found."""

    def __init__(self, best: RestoreBest) -> None:
        self.best = best

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        self.best.restore(net)


class EpochHook(Callback):
    """Call back at the begin and the end of every epoch; stop after one that says so.

    Parameters
    ----------
    begin : callable () -> None
        Called when an epoch begins.
    end : callable () -> bool
        Called when an epoch ends; true ends training.
    """

    def __init__(self, begin: Callable[[], None], end: Callable[[], bool]) -> None:
        self.begin, self.end = begin, end

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Call `begin`."""
        self.begin()

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Call `end`."""
        if self.end():
            net.stop = True


LINE = 100
"""Columns that a line of an epoch may fill."""


class EpochLine(Callback):
    """Print a line per epoch: losses, of up to four tasks those of the rows held out if any."""

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Print the epoch's line."""
        row = net.history[-1]
        line = f"epoch {len(net.history)}: train {row['train_loss']:.4g}"
        prefix = "valid" if "valid_loss" in row else "train"
        if prefix == "valid":
            line += f", valid {row['valid_loss']:.4g}{'*' if row['valid_loss_best'] else ''}"
        seconds, names = f", {row['dur']:.1f} s", net.criterion_.names[:4]
        losses = [f" {row[f'{prefix}_loss_{name}']:.4g}" for name in names]
        room = LINE - len(line) - len(seconds) - sum(len(loss) + 2 for loss in losses)
        room -= "*" not in line  # so that a name is not cut in some epochs only
        widths = range(room, 0, -1)
        most = next((w for w in widths if sum(min(len(n), w) for n in names) <= room), 1)
        for name, loss in zip(names, losses, strict=True):
            line += f", {name[:most]}{loss}"
        print(line[: LINE - len(seconds)] + seconds)


KEPT_BYTES = 2**28
"""Largest state of which a copy is kept while training, to go back to after a Ctrl-C."""


class KeepLast(Callback):
    """Keep the state of the last whole epoch, for the case that the next one is interrupted.

    A state of more than 256 MiB is not kept: twice the memory would be a high price.
    """

    def __init__(self, epochs: int) -> None:
        self.epochs, self.done = epochs, 0
        self.state: Snapshot | None = None

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Copy the state, unless no epoch is to follow."""
        self.done += 1
        if net.stop or self.done >= self.epochs:
            return
        if self.state is not None:
            self.state.take(net)
        elif bytes_of(net) <= KEPT_BYTES:
            self.state = Snapshot(net)

    def get_state(self, net: NeuralNet, *, is_now: bool) -> dict[str, Any]:
        """Return what is kept, for `set_state`; `is_now` tells that an epoch has just ended."""
        return {"done": self.done, "state": _state_of(self.state, is_now=is_now)}

    def set_state(self, net: NeuralNet, state: dict[str, Any]) -> None:
        """Undo `get_state`, of a net that stands where it stood then."""
        self.done, self.state = state["done"], _restored(net, state["state"])

    def go_back(self, net: NeuralNet) -> None:
        """Restore the last whole epoch."""
        if self.state is not None:
            self.state.restore(net)

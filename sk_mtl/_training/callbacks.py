"""Callbacks of skorch that estimators add: early stopping, and hooks of scikit-learn's own."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
from skorch import NeuralNet
from skorch.callbacks import Callback


class RestoreBest(Callback):
    """Stop when the validation loss no longer falls, and restore the best epoch's weights.

    skorch's EarlyStopping takes an epoch for the best only if it improves by more than the
    threshold; here the threshold decides when to stop and the lowest loss which weights stay.

    Parameters
    ----------
    patience : int
        Epochs without an improvement of at least `tol` before training stops.
    tol : float
        Smallest fall of the loss that counts.
    """

    def __init__(self, patience: int, tol: float) -> None:
        self.patience, self.tol = patience, tol

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Forget earlier runs."""
        self.best_, self.reference_, self.misses_, self.weights_ = np.inf, np.inf, 0, None

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Keep the weights of the best epoch; stop when patience is at its end."""
        loss = net.history[-1, "valid_loss"]
        if loss < self.best_:
            self.best_, self.weights_ = loss, deepcopy(net.module_.state_dict())
        if loss < self.reference_ - self.tol:
            self.reference_, self.misses_ = loss, 0
            return
        self.misses_ += 1
        if self.misses_ >= self.patience:
            raise KeyboardInterrupt  # skorch's way to end training from a callback

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Restore the best weights, whether patience or the number of epochs ended training."""
        if self.weights_ is not None:
            net.module_.load_state_dict(self.weights_)
        self.weights_ = None


class EpochHook(Callback):
    """Call back at the begin and the end of every epoch; stop after one that says so.

    Its `stopper` comes last among a net's callbacks, so that all others see the last epoch too.

    Parameters
    ----------
    begin : callable () -> None
        Called when an epoch begins.
    end : callable () -> bool
        Called when an epoch ends; true ends training.
    """

    def __init__(self, begin: Callable[[], None], end: Callable[[], bool]) -> None:
        self.begin, self.end = begin, end
        self.stopper = _Stopper()

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Call `begin`."""
        self.begin()

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Call `end`."""
        self.stopper.wanted = self.end()


class _Stopper(Callback):
    """End training when an `EpochHook` wants it."""

    wanted = False

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        if self.wanted:
            raise KeyboardInterrupt  # skorch's way to end training from a callback

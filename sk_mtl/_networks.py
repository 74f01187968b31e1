"""The network of a fit: how it is built, and how it goes on from the one before."""

from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from sk_mtl._bulk import BulkPredictionMixin
from sk_mtl._params import resolve_loss_weights, same
from sk_mtl._prediction import Fitted
from sk_mtl._training import (
    Criterion,
    MultiTaskNet,
    Objective,
    RestoreBest,
    Training,
    auto_batch_size,
    carry_optimizer_state,
    make_net,
)
from sk_mtl.balancing import BALANCERS
from sk_mtl.nn import MultiTaskModule
from sk_mtl.tasks import Task

Tasks = tuple[Task, ...]

TRAINING_PARAMETERS = {
    "balancer", "loss_weights", "optimizer", "lr", "lr_schedule", "clip_norm", "weight_decay",
    "sparse_embeddings", "batch_size", "max_epochs", "early_stopping", "monitor",
    "validation_fraction",
    "n_iter_no_change", "tol", "callbacks", "checkpoint", "resume", "warm_start", "device",
    "random_state", "verbose",
}  # fmt: skip
"""Parameters that may change between two fits of a warm start."""


class NetMakingMixin(BulkPredictionMixin):
    """How the network of a fit is made; the parameters and hooks are those of the base."""

    if TYPE_CHECKING:
        # What `sk_mtl.base.MultiTaskEstimator` declares.
        batch_norm: bool
        balancer: Any
        loss_weights: Any
        optimizer: Any
        lr: float
        lr_schedule: str
        clip_norm: float | None
        weight_decay: float
        sparse_embeddings: Any
        batch_size: Any
        tol: float
        callbacks: Any
        device: str
        dtype: str
        verbose: int

        def _build_module(
            self, tasks: Tasks, specs: Any, generator: Any, n_members: int, columns: Any
        ) -> MultiTaskModule: ...
        def _build_objective(self, tasks: Tasks) -> Objective: ...

    def _batch_size(self, n_rows: int, *, stream: bool) -> int | None:
        """Return the rows per step; of a stream, whose size is unknown, "auto" is 256."""
        if self.batch_norm and self.batch_size == 1:
            raise ValueError(
                "`batch_norm` is True and `batch_size` 1: there is no statistic of one row. Pass a "
                "batch_size of at least 2, or batch_norm=False."
            )
        if self.batch_size == "auto":
            return 256 if stream else auto_batch_size(n_rows)
        return self.batch_size

    def _training(self, device: torch.device, batch_size: int | None) -> Training:
        """Return the training parameters as one object, without early stopping."""
        return Training(
            optimizer=self.optimizer,
            lr=self.lr,
            weight_decay=self.weight_decay,
            lr_schedule=self.lr_schedule,
            clip_norm=self.clip_norm,
            batch_size=batch_size,
            sparse_embeddings=self.sparse_embeddings,
            callbacks=list(self.callbacks or ()),
            device=device,
            dtype=getattr(torch, self.dtype),
            verbose=self.verbose,
            tol=self.tol,
        )

    def _make_net(
        self,
        tasks: Tasks,
        fitted: Fitted,
        training: Training,
        generator: torch.Generator,
        goes_on: bool,
        *,
        stream: bool = False,
        trains: bool = True,
    ) -> MultiTaskNet:
        """Return a net ready to train: a new one, or one that goes on where the last one stands.

        A `fit` that goes on trains a copy, so that one that fails leaves the estimator as it was;
        `partial_fit` trains the network itself. A net that is not to train, of an estimator
        loaded from a file, has a balancer without state.
        """
        old = self.net_ if goes_on else None
        if old is None:
            encoder = fitted.encoder
            module = self._build_module(
                tasks, encoder.spec_, generator, fitted.n_members, encoder.columns()
            )
        elif stream and self._serves(old, training):
            return old
        else:
            module = self.module_ if stream else deepcopy(self.module_)
        if old is not None and not stream:
            generator = torch.Generator()
            generator.set_state(old.iterator_train__generator.get_state())
        objective = self._build_objective(tasks)
        names = list(objective.names)
        if old is not None and same(self.balancer, self._fitted_.params["balancer"]):
            balancer = deepcopy(old.criterion_.balancer)
        else:
            is_name = isinstance(self.balancer, str)
            balancer = BALANCERS[self.balancer]() if is_name else deepcopy(self.balancer)
        if trains and objective.may_be_negative and balancer.needs_positive:
            carry = [name for name, make in BALANCERS.items() if not make().needs_positive]
            raise ValueError(
                f"`balancer` is {self.balancer!r}, which needs losses of at least 0, and those of "
                f"{type(self).__name__} may be below; pass one of {carry}."
            )
        if trains and not hasattr(balancer, "names"):
            balancer.setup(names, list(objective.regression), generator)
        criterion = Criterion(objective, balancer, resolve_loss_weights(self.loss_weights, names))
        if training.patience is not None:
            best = RestoreBest(training.patience, training.tol, training.monitor, goes_on)
            callbacks = [("restorer", best.restorer), *training.callbacks, ("best", best)]
            training = replace(training, callbacks=callbacks)
        net = make_net(module, criterion, training, generator)
        if old is not None:
            carry_optimizer_state(old, net)
            criterion.total_weight, criterion.n_rows = (
                old.criterion_.total_weight,
                old.criterion_.n_rows,
            )
        return net

    def _serves(self, net: MultiTaskNet, training: Training) -> bool:
        """Whether the net of the fit before serves a stream: nothing has changed since."""
        before, settings = self._fitted_.params, net.settings
        if not hasattr(net.criterion_.balancer, "names"):
            return False  # loaded, and never trained since
        if settings.patience is not None or settings.batch_size != training.batch_size:
            return False
        return all(same(before[name], getattr(self, name)) for name in TRAINING_PARAMETERS)

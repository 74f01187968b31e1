"""`fit` in four steps: read, prepare, train, publish."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import check_random_state

from sk_mtl._monitoring import check_held_out, resolve_monitor
from sk_mtl._params import check_parameters, resolve_loss_weights, same
from sk_mtl._prediction import Fitted, PredictionMixin
from sk_mtl._reporting import FitReport
from sk_mtl._training import (
    Criterion,
    EpochHook,
    MultiTaskNet,
    Objective,
    RestoreBest,
    Training,
    carry_optimizer_state,
    fit_epochs,
    fit_further,
    make_net,
    place_of_rows,
    resolve_device,
)
from sk_mtl.balancing import BALANCERS
from sk_mtl.data import (
    ColumnEncoder,
    FeatureEncoder,
    HoldOut,
    Labels,
    Rows,
    Table,
    check_labels,
    check_rows,
    check_same_tasks,
    draw_rule,
    hold_out,
    resolve_classes,
)
from sk_mtl.nn import MultiTaskModule
from sk_mtl.tasks import Task, encode_targets, make_tasks, sample_labels, weigh_labels

Tasks = tuple[Task, ...]

TRAINING_PARAMETERS = {
    "balancer", "loss_weights", "optimizer", "lr", "weight_decay", "sparse_embeddings",
    "batch_size", "max_epochs", "early_stopping", "monitor", "validation_fraction",
    "n_iter_no_change", "tol", "callbacks", "warm_start", "device", "random_state", "verbose",
}  # fmt: skip
"""Parameters that may change between two fits of a warm start."""


class Given(NamedTuple):
    """What a user passed, read and checked: rows with labels, and rows to validate on or None."""

    table: Table
    labels: Labels
    validation: tuple[Table, Labels] | None


class Ready(NamedTuple):
    """All that training needs, and what is remembered of it afterwards.

    ``past`` is the number of epochs that the net has in its history already.
    """

    net: MultiTaskNet
    rows: Rows
    valid: Rows | None
    tasks: Tasks
    fitted: Fitted
    past: int


class FittingMixin(PredictionMixin):
    """How a multi-task estimator is fitted; its parameters and hooks are those of the base."""

    if TYPE_CHECKING:
        # What `sk_mtl.base.MultiTaskEstimator` declares.
        early_stopping: bool
        batch_norm: bool
        validation_fraction: float | None
        random_state: Any
        balancer: Any
        loss_weights: Any
        optimizer: Any
        lr: float
        weight_decay: float
        sparse_embeddings: Any
        batch_size: int | None
        n_iter_no_change: int
        tol: float
        monitor: Any
        callbacks: Any
        device: str
        dtype: str
        verbose: int

        def _build_module(self, tasks: Tasks, specs: Any, generator: Any) -> MultiTaskModule: ...
        def _build_objective(self, tasks: Tasks) -> Objective: ...
        def _column_encoders(self) -> Sequence[ColumnEncoder]: ...
        def _task_kinds(self, names: list[str]) -> list[Any]: ...
        def _check_architecture(self) -> None: ...
        def _check_tasks(self, tasks: Tasks) -> None: ...
        def _complete_targets(self, tasks: Tasks, targets: Any, usable: Any) -> NDArray: ...

    def _fit(
        self,
        data: tuple[Any, Any, Any, Any],
        *,
        goes_on: bool,
        epochs: int,
        stream: bool = False,
        classes: Any = None,
        report: FitReport | None = None,
    ) -> Self:
        """Read, prepare, train, publish."""
        if goes_on:
            self._check_unchanged()
        else:
            self._forget()
        check_parameters(self)
        self._check_architecture()
        generator = self.net_.iterator_train__generator if goes_on else None
        drawn = None if generator is None else generator.get_state()
        try:
            # What one step makes for the next dies with it.
            ready = self._prepare(
                self._read(*data, goes_on=goes_on), classes, goes_on=goes_on, stream=stream
            )
            if ready is None:
                return self
            interrupt = self._train(ready, epochs, report, goes_on=goes_on, stream=stream)
        except BaseException:
            if generator is None:
                self._forget()
            else:
                generator.set_state(drawn)
            raise
        self._publish(ready)
        if report is not None:
            report.end(partial(self._snapshot, ready))
        if interrupt is not None:
            raise interrupt
        return self

    # 1. Read

    def _validation(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any] | None:
        """Return rows to validate on as they were passed, or None."""
        if X is None and y is None and sample_weight is None:
            return None
        if X is None or y is None:
            raise ValueError(
                f"`X_val` is {'None' if X is None else 'given'} and `y_val` is "
                f"{'None' if y is None else 'given'}; pass both, or neither of the two and no "
                "`sample_weight_val`."
            )
        return X, y, sample_weight

    def _read(self, X: Any, y: Any, sample_weight: Any, validation: Any, *, goes_on: bool) -> Given:
        """Read rows and labels in any form, and check them against what is remembered."""
        table = check_rows(self, X, reset=not goes_on)
        given = Given(*check_labels(y, sample_weight, table, self), None)
        if validation is None:
            return given
        X_val, y_val, weight_val = validation
        held_out = check_labels(y_val, weight_val, check_rows(self, X_val, reset=False), self)
        names = [column.name for column in given.labels.columns]
        if [column.name for column in held_out[1].columns] != names:
            raise ValueError(
                f"`y_val` has the tasks {[c.name for c in held_out[1].columns]} and y has {names}; "
                "pass the same columns in the same order."
            )
        return given._replace(validation=held_out)

    # 2. Prepare

    def _prepare(self, given: Given, classes: Any, *, goes_on: bool, stream: bool) -> Ready | None:
        """Decide on tasks, rows and features, and set up the network.

        Return None where sampling has left no row: then there is nothing to do.
        """
        table, labels, device = given.table, given.labels, resolve_device(self.device)
        before = self._fitted_ if goes_on else None
        if before is not None:
            tasks, seed, generator = self.tasks_, before.seed, self.net_.iterator_train__generator
            check_same_tasks(tasks, labels)
        else:
            tasks = self._make_tasks(labels, classes)
            seed = int(check_random_state(self.random_state).randint(2**31 - 1))
            generator = torch.Generator().manual_seed(seed)
        targets, weight = self._encode_labels(tasks, labels)
        scale = 1.0 if weight is None else float(weight.max(initial=0.0)) or 1.0
        if stream and before is not None:
            scale = before.weight_scale
            if weight is None and scale != 1.0:
                weight = np.ones(targets.shape)
        # At a scale of their own: some of other scales would be lost in float32.
        weight = None if weight is None else weight / scale
        sample = sample_labels(tasks, targets, weight, generator, at_least_one=not goes_on)
        if sample is not None:
            positions, targets, weight = sample
            if len(positions) == 0:
                return None
            table = table.take(positions)
            rows = positions if labels.rows is None else labels.rows[positions]
            labels = labels._replace(rows=rows)
        rule, train, held = self._split(targets, labels.rows, seed, before, given.validation)
        encoder = self._fit_encoder(table, train, weight, before, stream=stream)
        parts = encoder.transform(table)

        def rows_of(parts: dict[str, Any], targets: NDArray, weight: Any, index: Any) -> Rows:
            if index is not None:
                parts = {name: part[index] for name, part in parts.items()}
                targets, weight = targets[index], None if weight is None else weight[index]
            n_bytes = sum(getattr(part, "nbytes", 0) for part in parts.values()) + targets.nbytes
            place = place_of_rows(n_bytes, device)
            dtype = getattr(torch, self.dtype)
            return Rows(parts, targets, weight, dtype=dtype, device=place)

        valid, scored = None, None
        if given.validation is not None:
            held_table, held_labels = given.validation
            held_targets, held_weight = self._encode_labels(tasks, held_labels)
            valid = rows_of(encoder.transform(held_table), held_targets, held_weight, None)
            scored = held_labels.scored(None)
        elif held is not None:
            valid = rows_of(parts, targets, weight, held)
            held_rows = held if sample is None else sample.rows[held]
            scored = given.labels.scored(held_rows)
        fitted = Fitted(
            encoder, self._copy_params(), seed, given.labels.single, scale, rule, stream
        )
        training = self._training(device, tasks, fitted, valid, scored)
        net = self._make_net(tasks, encoder, training, generator, goes_on, stream=stream)
        rows = rows_of(parts, targets, weight, train)
        return Ready(net, rows, valid, tasks, fitted, len(net.history))

    def _make_tasks(self, labels: Labels, classes: Any) -> Tasks:
        """Choose and fit the tasks."""
        names = [column.name for column in labels.columns]
        known = resolve_classes(classes, names, labels.single)
        tasks = make_tasks(labels.columns, self._task_kinds(names), labels.weight, known)
        self._check_tasks(tasks)
        return tasks

    def _encode_labels(self, tasks: Tasks, labels: Labels) -> tuple[NDArray, NDArray | None]:
        """Return the encoded labels with their weights."""
        targets = encode_targets(tasks, labels.columns)
        usable = np.ones(targets.shape, bool) if labels.weight is None else labels.weight > 0
        targets = self._complete_targets(tasks, targets, usable)
        return targets, weigh_labels(tasks, targets, labels.weight)

    def _split(
        self,
        targets: NDArray,
        rows: NDArray | None,
        seed: int,
        before: Fitted | None,
        validation: Any,
    ) -> tuple[HoldOut | None, NDArray | None, NDArray | None]:
        """Return the rule by which rows are held out, and the rows to train on and held out."""
        n, fraction = len(targets), self.validation_fraction
        if fraction is None and self.early_stopping:
            fraction = 0.1
        if fraction is None or validation is not None:
            rule, held = None, np.zeros(n, dtype=bool)
        else:
            observed = ~np.isnan(targets)
            rows = np.arange(n) if rows is None else rows
            rule = None if before is None else before.hold_out
            if rule is None or rule.fraction != fraction:
                rule = draw_rule(observed, rows, fraction, seed)
            held = hold_out(rule, observed, rows)
        n_held_out = int(held.sum())
        too_few = n - n_held_out < (2 if self.batch_norm else 1)
        if n > 0 and (too_few or (rule is not None and n_held_out == 0)):
            raise ValueError(
                f"{n} rows are too few: {n_held_out} would be held out (validation_fraction="
                f"{fraction}) and {n - n_held_out} left to train on."
            )
        if n_held_out == 0:
            return rule, None, None
        return rule, np.flatnonzero(~held), np.flatnonzero(held)

    def _fit_encoder(
        self,
        table: Table,
        train: NDArray | None,
        weight: NDArray | None,
        before: Fitted | None,
        *,
        stream: bool,
    ) -> FeatureEncoder:
        """Return an encoder that has learned from the rows to train on."""
        if before is not None and not stream:
            return before.encoder
        row_weight = None if weight is None else weight.mean(axis=1)
        if row_weight is not None and train is not None:
            row_weight = row_weight[train]
        if before is not None:
            return before.encoder.update(table, train, row_weight)
        return FeatureEncoder(self._column_encoders()).fit(table, train, row_weight)

    def _training(
        self,
        device: torch.device,
        tasks: Tasks,
        fitted: Fitted | None = None,
        valid: Rows | None = None,
        scored: Any = None,
    ) -> Training:
        """Return the training parameters as one object."""
        monitor: Any = "valid_loss"
        if self.early_stopping and valid is not None:
            check_held_out(tasks, valid)
            names = self._build_objective(tasks).names
            monitor = resolve_monitor(self.monitor, names, tasks, fitted, scored)
        return Training(
            optimizer=self.optimizer,
            lr=self.lr,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            sparse_embeddings=self.sparse_embeddings,
            callbacks=[clone(callback, safe=False) for callback in self.callbacks or ()],
            device=device,
            dtype=getattr(torch, self.dtype),
            verbose=self.verbose,
            patience=self.n_iter_no_change if self.early_stopping else None,
            tol=self.tol,
            monitor=monitor,
        )

    def _make_net(
        self,
        tasks: Tasks,
        encoder: FeatureEncoder,
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
            module = self._build_module(tasks, encoder.spec_, generator)
        elif stream and self._same_training():
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

    def _same_training(self) -> bool:
        """Whether the training parameters are those of the fit before."""
        before = self._fitted_.params
        return all(same(before[name], getattr(self, name)) for name in TRAINING_PARAMETERS)

    # 3. Train

    def _train(
        self, ready: Ready, epochs: int, report: FitReport | None, *, goes_on: bool, stream: bool
    ) -> KeyboardInterrupt | None:
        """Train; return the Ctrl-C that ended it after an epoch or more."""
        if stream and goes_on:
            fit_further(ready.net, ready.rows, ready.fitted.encoder.statistics())
            return None
        hook = None
        if report is not None:
            end = partial(report.end_epoch, partial(self._snapshot, ready))
            hook = EpochHook(report.begin_epoch, end)
        return fit_epochs(ready.net, ready.rows, ready.valid, epochs, hook)

    # 4. Publish

    def _publish(self, ready: Ready) -> None:
        """Set the fitted attributes."""
        self._fitted_ = ready.fitted
        before = getattr(self, "_epochs_", [])
        now = ready.net.epochs(since=ready.past)
        self._epochs_ = [
            *before,
            *({**row, "epoch": len(before) + k} for k, row in enumerate(now, 1)),
        ]
        self._describe_tasks(ready.tasks)
        self.net_, self.module_ = ready.net, ready.net.module_

    def _snapshot(self, ready: Ready) -> dict[str, Any]:
        """Return the fitted attributes that the estimator would have if it stopped now."""
        twin = clone(self)
        twin.n_features_in_ = self.n_features_in_
        if hasattr(self, "feature_names_in_"):
            twin.feature_names_in_ = self.feature_names_in_
        twin._publish(ready)
        return {name: value for name, value in vars(twin).items() if name.endswith("_")}

    def _copy_params(self) -> dict[str, Any]:
        """Return the parameters, copies of those whose own parameters may be set later."""
        copies = {name: deepcopy(getattr(self, name)) for name in ("task_types", "balancer")}
        return {**self.get_params(deep=False), **copies}

    def _check_unchanged(self) -> None:
        """Refuse to go on with another network than the one fitted."""
        before = self._fitted_.params
        for name, value in self.get_params(deep=False).items():
            if name not in TRAINING_PARAMETERS and not same(before[name], value):
                raise ValueError(
                    f"`{name}` was {before[name]!r} at the first fit and is {value!r} now; only "
                    "training parameters may change between fits with warm_start or partial_fit. "
                    "Pass warm_start=False to begin anew."
                )

    def _forget(self) -> None:
        """Drop all fitted attributes."""
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)

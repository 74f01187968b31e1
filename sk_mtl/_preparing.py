"""The second step of `fit`: from what was read to a network and its rows."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from sk_mtl._monitoring import check_held_out, resolve_monitor, stand_in
from sk_mtl._networks import NetMakingMixin, Tasks
from sk_mtl._prediction import Fitted
from sk_mtl._training import (
    STOPPING_ROWS,
    MultiTaskNet,
    auto_members,
    place_of_rows,
    resolve_device,
)
from sk_mtl.data import (
    ColumnEncoder,
    FeatureEncoder,
    HoldOut,
    Labels,
    Rows,
    StreamedRows,
    Table,
    draw_rule,
    hold_out,
    resolve_classes,
)
from sk_mtl.tasks import (
    drawing,
    encode_targets,
    make_tasks,
    sample_labels,
    weigh_labels,
)


class Given(NamedTuple):
    """What a user passed, read and checked: rows with labels, and rows to validate on or None."""

    table: Table
    labels: Labels
    validation: tuple[Table, Labels] | None


class Encoded(NamedTuple):
    """Rows with their labels encoded.

    ``labels`` are those of all rows as they were read; ``kept`` are the positions among them of
    these rows, where sampling has left some out. Weights are divided by ``scale``.
    """

    table: Table
    labels: Labels
    targets: NDArray
    weight: NDArray | None
    scale: float
    kept: NDArray | None

    def scored(self, index: NDArray | None) -> tuple[Any, NDArray | None]:
        """Return some rows' labels and weights as they were passed, for a scorer."""
        if self.kept is not None:
            index = self.kept if index is None else self.kept[index]
        return self.labels.scored(index)


class Ready(NamedTuple):
    """All that training needs, and what is remembered of it afterwards.

    ``past`` is the number of epochs that the net has in its history already.
    """

    net: MultiTaskNet
    rows: Rows | StreamedRows
    valid: Rows | StreamedRows | None
    tasks: Tasks
    fitted: Fitted
    past: int


class PreparingMixin(NetMakingMixin):
    """How a fit is prepared; the parameters and hooks are those of the base."""

    if TYPE_CHECKING:
        # What `sk_mtl.base.MultiTaskEstimator` declares.
        early_stopping: Any
        n_members: Any
        validation_fraction: float | None
        random_state: Any
        n_iter_no_change: int

        def _column_encoders(self) -> Sequence[ColumnEncoder]: ...
        def _task_kinds(self, names: list[str]) -> list[Any]: ...
        def _check_tasks(self, tasks: Tasks) -> None: ...
        def _complete_labels(self, tasks: Tasks, labels: Labels, told: Any = None) -> Labels: ...
        def _tell_contradictions(self, tasks: Tasks, n_rows: int) -> None: ...
        def _copy_params(self) -> dict[str, Any]: ...

    def _prepare(
        self, given: Given, classes: Any, *, goes_on: bool, stream: bool, seed: int | None = None
    ) -> Ready | None:
        """Decide on tasks, rows and features, and set up the network.

        `seed` is the fit's; None: one is drawn, or that of the fit before is used. Return None
        where sampling has left no row: then there is nothing to do.
        """
        device, before = resolve_device(self.device), self._fitted_ if goes_on else None
        tasks, labels, seed, generator = self._begin(
            given.labels, classes, before, seed, stream=stream
        )
        scale = before.weight_scale if before is not None and stream else None
        stops_early = self._stops_early(len(given.table), stream=stream)
        rule, held_out = self._hold_out(labels, seed, before, given.validation, stops_early)
        draw = drawing(generator)
        here = self._encode(tasks, given.table, labels, draw, scale, at_least_one=not goes_on)
        if len(here.targets) == 0:
            return None
        train, held = self._split(here, held_out)
        encoder = self._fit_encoder(here, train, before, stream=stream)
        valid, scored = None, None
        if given.validation is not None:
            valid, scored = self._given_validation(tasks, given.validation, encoder, seed, device)
        elif held is not None:
            parts = encoder.encode(here.table, held)
            valid, scored = self._rows(here, parts, held, device), here.scored(held)
        params, single = self._copy_params(), given.labels.single
        rule = rule if params["warm_start"] else None  # only then rows are held out again
        n_members = self._count_members(len(given.table), before, stream=stream)
        fitted = Fitted(encoder, params, seed, single, here.scale, rule, stream, n_members)
        parts = encoder.encode(here.table, train)
        rows = self._rows(here, parts, train, device)
        return self._make_ready(
            tasks, fitted, rows, valid, scored, generator, device,
            goes_on=goes_on, stops_early=stops_early,
        )  # fmt: skip

    def _given_validation(
        self,
        tasks: Tasks,
        given: tuple[Table, Labels],
        encoder: FeatureEncoder,
        seed: int,
        device: torch.device,
    ) -> tuple[Rows, Any]:
        """Return rows that were given to validate on, and their labels for a scorer."""
        table, labels = given
        labels = self._complete_labels(tasks, labels)
        always = drawing(torch.Generator().manual_seed(seed))
        there = self._encode(tasks, table, labels, always, None, at_least_one=False)
        parts = encoder.encode(there.table)
        return self._rows(there, parts, None, device), there.scored(None)

    def _make_ready(
        self,
        tasks: Tasks,
        fitted: Fitted,
        rows: Rows | StreamedRows,
        valid: Rows | StreamedRows | None,
        scored: Any,
        generator: torch.Generator,
        device: torch.device,
        *,
        goes_on: bool,
        stops_early: bool,
    ) -> Ready:
        """Set up the network for rows that are encoded."""
        stream = fitted.streamed
        batch_size = self._batch_size(len(rows), stream=stream)
        training = self._training(device, batch_size)
        if stream:  # its length is unknown, and with it where a schedule would end
            training = replace(training, lr_schedule="constant")
        if stops_early:
            check_held_out(tasks, valid)
            names = self._build_objective(tasks).names
            monitor = resolve_monitor(self.monitor, names, tasks, fitted, scored)
            training = replace(training, patience=self.n_iter_no_change, monitor=monitor)
        net = self._make_net(tasks, fitted, training, generator, goes_on, stream=stream)
        net.stand_in = None if scored is None else partial(stand_in, tasks, fitted, scored)
        return Ready(net, rows, valid, tasks, fitted, len(net.history))

    def _begin(
        self,
        labels: Labels,
        classes: Any,
        before: Fitted | None,
        seed: int | None,
        *,
        stream: bool,
    ) -> tuple[Tasks, Labels, int, torch.Generator]:
        """Return the tasks, their labels, the seed, and the source of random numbers."""
        if before is None:
            tasks = self._make_tasks(labels, classes)
            self._check_tasks(tasks)
            completed = self._complete_labels(tasks, labels)
            if completed is not labels:  # implied labels count in the weights of classes
                tasks, labels = self._make_tasks(completed, classes), completed
            if seed is None:
                seed = int(check_random_state(self.random_state).randint(2**31 - 1))
            return tasks, labels, seed, torch.Generator().manual_seed(seed)
        labels = self._complete_labels(self.tasks_, labels)
        tasks = self._update_tasks(self.tasks_, labels) if stream else self.tasks_
        return tasks, labels, before.seed, self.net_.iterator_train__generator

    def _make_tasks(self, labels: Labels, classes: Any) -> Tasks:
        """Choose and fit the tasks."""
        names = [column.name for column in labels.columns]
        known = resolve_classes(classes, names, labels.single)
        return make_tasks(labels.columns, self._task_kinds(names), labels.weight, known)

    def _update_tasks(self, tasks: Tasks, labels: Labels) -> Tasks:
        """Return the tasks after further labels of a stream."""
        weight = labels.weight
        return tuple(
            task.update(column.values, None if weight is None else weight[column.observed, k])
            for k, (task, column) in enumerate(zip(tasks, labels.columns, strict=True))
        )

    def _encode_labels(self, tasks: Tasks, labels: Labels) -> tuple[NDArray, NDArray | None]:
        """Return the encoded labels and their weights."""
        targets = encode_targets(tasks, labels.columns)
        return targets, weigh_labels(tasks, targets, labels.weight)

    def _encode(
        self,
        tasks: Tasks,
        table: Table,
        labels: Labels,
        draw: Callable[[int], NDArray],
        scale: float | None,
        *,
        at_least_one: bool,
    ) -> Encoded:
        """Return rows with their labels encoded, as far as sampling leaves them.

        `draw` gives a number from [0, 1) for each of n rows, asked for only if a task samples.
        """
        targets, weight = self._encode_labels(tasks, labels)
        if weight is None and scale not in (None, 1.0):
            weight = np.ones(targets.shape)
        if scale is None:
            scale = 1.0 if weight is None else float(weight.max(initial=0.0)) or 1.0
        # Divided by a scale of their own: some of other scales would be lost in float32.
        weight = None if weight is None else weight / scale
        sample = sample_labels(tasks, targets, weight, draw, at_least_one=at_least_one)
        if sample is None:
            return Encoded(table, labels, targets, weight, scale, None)
        kept, targets, weight = sample
        return Encoded(table.take(kept), labels, targets, weight, scale, kept)

    def _count_members(self, n_rows: int, before: Fitted | None, *, stream: bool) -> int:
        """Return the number of members: "auto" goes by the rows of the first fit."""
        if before is not None:
            return before.n_members
        if self.n_members == "auto":
            return 1 if stream else auto_members(n_rows)
        return self.n_members

    def _stops_early(self, n_rows: int, *, stream: bool) -> bool:
        """Whether training stops early: "auto" wants rows enough to hold some out."""
        if self.early_stopping == "auto":
            return not stream and n_rows > STOPPING_ROWS
        return self.early_stopping

    def _hold_out(
        self,
        labels: Labels,
        seed: int,
        before: Fitted | None,
        validation: Any,
        stops_early: bool,
    ) -> tuple[HoldOut | None, NDArray | None]:
        """Return the rule by which rows are held out, and a mask of them, or None and None."""
        fraction = self.validation_fraction
        if fraction is None and stops_early:
            fraction = 0.1
        if fraction is None or validation is not None:
            return None, None
        observed = np.column_stack([column.observed for column in labels.columns])
        rows = np.arange(len(observed)) if labels.rows is None else labels.rows
        rule = None if before is None else before.hold_out
        if rule is None or rule.fraction != fraction:
            rule = draw_rule(observed, rows, fraction, seed)
        return rule, hold_out(rule, observed, rows)

    def _split(
        self, here: Encoded, held_out: NDArray | None
    ) -> tuple[NDArray | None, NDArray | None]:
        """Return the rows to train on, all if None, and those held out."""
        n, n_held_out = len(here.targets), 0
        if held_out is not None:
            held_out = held_out if here.kept is None else held_out[here.kept]
            n_held_out = int(held_out.sum())
        fraction, holds_out = self.validation_fraction, held_out is not None
        self._check_enough(n - n_held_out, n_held_out, fraction, holds_out=holds_out)
        if held_out is None:
            return None, None
        return np.flatnonzero(~held_out), np.flatnonzero(held_out)

    def _check_enough(
        self, n: int, n_held_out: int, fraction: float | None, *, holds_out: bool
    ) -> None:
        """Refuse too few rows to train on, or none to hold out where some are wanted."""
        if n < (2 if self.batch_norm else 1) or (holds_out and n_held_out == 0):
            raise ValueError(
                f"{n + n_held_out} rows are too few: {n_held_out} would be held out "
                f"(validation_fraction={fraction}) and {n} left to train on."
            )

    def _fit_encoder(
        self, here: Encoded, train: NDArray | None, before: Fitted | None, *, stream: bool
    ) -> FeatureEncoder:
        """Return an encoder that has learned from the rows to train on."""
        if before is not None and not stream:
            return before.encoder
        weight = None if here.weight is None else here.weight.mean(axis=1)
        if weight is not None and train is not None:
            weight = weight[train]
        if before is not None:
            return before.encoder.update(here.table, train, weight)
        return FeatureEncoder(self._column_encoders()).fit(here.table, train, weight)

    def _rows(
        self, here: Encoded, parts: dict[str, Any], index: NDArray | None, device: torch.device
    ) -> Rows:
        """Return some of the rows, all if `index` is None, whose parts are given, as tensors."""
        targets, weight = here.targets, here.weight
        targets = targets.astype(self.dtype)  # before a copy of some rows is made
        if index is not None:
            targets, weight = targets[index], None if weight is None else weight[index]
        n_bytes = sum(getattr(part, "nbytes", 0) for part in parts.values()) + targets.nbytes
        place, dtype = place_of_rows(n_bytes, device), getattr(torch, self.dtype)
        return Rows(parts, targets, weight, dtype=dtype, device=place)

"""The second step of `fit` for rows that memory does not hold."""

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch
from sklearn.utils import check_random_state

from sk_mtl._networks import Tasks
from sk_mtl._prediction import Fitted
from sk_mtl._preparing import PreparingMixin, Ready
from sk_mtl._sources import SourceReader, refuse_beside
from sk_mtl._training import Ranks, resolve_device
from sk_mtl.data import (
    FeatureEncoder,
    HoldOut,
    Labels,
    ParquetSource,
    Rows,
    StreamedRows,
    Table,
    resolve_classes,
    stream_rule,
)
from sk_mtl.tasks import make_tasks_stream

HELD_OUT = 0.1
"""Share of the rows that are held out where nothing is asked for, but a window of them at most."""


class GivenSource(NamedTuple):
    """A source that was passed, and rows to validate on: in memory, a source, or None."""

    reader: SourceReader
    validation: tuple[Table, Labels] | SourceReader | None


class Learned(NamedTuple):
    """What a look at all rows of a source has taught."""

    tasks: Tasks
    seed: int
    rule: HoldOut | None
    scale: float
    sizes: dict[bool, Any]
    encoder: FeatureEncoder
    vectors: list[Any]


class StreamingMixin(PreparingMixin):
    """How a fit is prepared whose rows are read anew in every epoch."""

    if TYPE_CHECKING:

        def _fit(
            self, data: tuple[Any, Any, Any, Any], *, goes_on: bool, epochs: int, stream: bool = ...
        ) -> Self: ...

    def _prepare_source(
        self,
        given: GivenSource,
        classes: Any,
        *,
        goes_on: bool,
        stream: bool,
        seed: int | None = None,
        ranks: Ranks | None = None,
    ) -> Ready:
        """Decide on tasks, rows and features, and set up the network; see `_prepare`.

        Of several processes the first one learns, and the others hear what.
        """
        device, before = resolve_device(self.device), self._fitted_ if goes_on else None
        if self.batch_size is None:
            raise ValueError(
                "`batch_size` is None, all rows in one batch, and the rows of the source do not "
                "fit into memory; pass a number, or a greater `window_rows`."
            )
        reader = given.reader
        reader.view.sorted_columns()
        stops_early = self._stops_early(reader.view.n_rows, stream=stream)
        learned = None
        if ranks is None or ranks.rank == 0:
            with reader.placed():
                learned = self._learn_source(given, classes, before, seed, stops_early=stops_early)
        if ranks is not None:
            learned = ranks.broadcast_object(learned)
        assert learned is not None
        learned.encoder.give_vectors(learned.vectors)
        tasks, seed, rule = learned.tasks, learned.seed, learned.rule
        reader.tasks, reader.seed, reader.rule = tasks, seed, rule
        reader.scale, reader.sizes, reader.encoder = learned.scale, learned.sizes, learned.encoder
        generator = torch.Generator().manual_seed(seed)
        if goes_on:
            generator = self.net_.iterator_train__generator
        rows = reader.streamed(held=False)
        valid, scored = self._source_validation(given, learned, device)
        params = self._copy_params()
        n_members = self._count_members(reader.view.n_rows, before, stream=stream)
        fitted = Fitted(
            learned.encoder, params, seed, reader.single, learned.scale,
            rule if params["warm_start"] else None, stream, n_members,
        )  # fmt: skip
        return self._make_ready(
            tasks, fitted, rows, valid, scored, generator, device,
            goes_on=goes_on, stops_early=stops_early,
        )  # fmt: skip

    def _learn_source(
        self,
        given: GivenSource,
        classes: Any,
        before: Fitted | None,
        seed: int | None,
        *,
        stops_early: bool,
    ) -> Learned:
        """Read the labels of a source, then its rows, and learn from both."""
        reader = given.reader
        if before is None:
            tasks = self._learn_tasks(reader, classes)
            if seed is None:
                seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        else:
            tasks, seed = self.tasks_, before.seed
        fraction = self.validation_fraction
        if fraction is None and stops_early:
            fraction = min(HELD_OUT, reader.source.window_rows / reader.view.n_rows)
        rule = None
        if fraction is not None and given.validation is None:
            rule = None if before is None else before.hold_out
            if rule is None or rule.fraction != fraction:
                rule = stream_rule(len(tasks), fraction, seed)
        reader.tasks, reader.seed, reader.rule = tasks, seed, rule
        reader.survey()
        n, n_held = (int(reader.sizes[held].sum()) for held in (False, True))
        self._check_enough(n, n_held, fraction, holds_out=rule is not None)
        if before is None:
            encoder = FeatureEncoder(self._column_encoders()).fit_stream(reader.tables())
        else:
            encoder = before.encoder
        vectors = encoder.given_vectors()
        return Learned(tasks, seed, rule, reader.scale, reader.sizes, encoder, vectors)

    def _learn_tasks(self, reader: SourceReader, classes: Any) -> Tasks:
        """Choose the tasks, and fit them to all labels of a source."""
        names, single = reader.view.targets, reader.single
        kinds, known = self._task_kinds(names), resolve_classes(classes, names, single)
        pieces = ((own.labels.columns, own.labels.weight) for own in reader.labels())
        tasks = make_tasks_stream(pieces, kinds, known)
        self._check_tasks(tasks)
        told: list[int] = []
        complete = True
        for own in reader.labels():
            complete &= self._complete_labels(tasks, own.labels, told) is own.labels
            if not told:
                break  # no label implies another here
        if sum(told):
            self._tell_contradictions(tasks, sum(told))
        if not complete:  # implied labels count in the weights of classes
            completed = (self._complete_labels(tasks, own.labels, []) for own in reader.labels())
            pieces = ((labels.columns, labels.weight) for labels in completed)
            tasks = make_tasks_stream(pieces, kinds, known)
        return tasks

    def _source_validation(
        self, given: GivenSource, learned: Learned, device: torch.device
    ) -> tuple[Rows | StreamedRows | None, Any]:
        """Return the rows to validate on, and their labels for a scorer, None of streamed ones."""
        validation, held = given.validation, True
        if validation is None and learned.rule is None:
            return None, None
        if isinstance(validation, tuple):
            return self._given_validation(
                learned.tasks, validation, learned.encoder, learned.seed, device
            )
        if validation is None:
            validation = given.reader
        else:
            held = False
            validation.tasks, validation.encoder = learned.tasks, learned.encoder
            validation.seed, validation.scale = learned.seed, learned.scale
            with validation.placed():
                validation.survey()
        rows = validation.streamed(held=held)
        if len(rows) > validation.source.window_rows:
            if not isinstance(self.monitor, str):
                raise ValueError(
                    f"`monitor` is {self.monitor!r}, which needs the rows held out in memory, and "
                    f"they are {len(rows)}, more than the {validation.source.window_rows} of a "
                    "window; pass 'valid_loss', fewer rows, or a greater `window_rows`."
                )
            return rows, None
        return rows.join(0, len(rows)), validation.scored(held=held)

    def _partial_fit_source(self, source: ParquetSource, y: Any, sample_weight: Any) -> Self:
        """Go on with the rows of a source, a window at a time."""
        refuse_beside("X", y=y, sample_weight=sample_weight)
        reader = SourceReader(self, source, self._fitted_.encoder.names_, self.task_names_)
        order = np.arange(len(reader.firsts))
        state = self.net_.iterator_train__generator
        np.random.default_rng(int(torch.randint(2**62, (), generator=state))).shuffle(order)
        for table in reader.view.windows(order):
            X, labels, weight = reader.labelled(*reader.view.rows(table))
            if len(X) and (weight is None or weight.any()):
                self._fit((X, labels, weight, None), goes_on=True, epochs=1, stream=True)
        return self

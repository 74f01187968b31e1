"""Rows of a source, some at a time, as an estimator takes them: checked, labelled, encoded."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from torch import Tensor

from sk_mtl.data import (
    FeatureEncoder,
    HoldOut,
    Labels,
    Rows,
    StreamedRows,
    Table,
    check_labels,
    check_rows,
    hold_out,
    row_draws,
)
from sk_mtl.data.frames import FrameTable
from sk_mtl.data.windows import give_back_memory
from sk_mtl.tasks import Task

PIECE_ROWS = 65_536
"""Rows that are encoded at once."""


class Piece(NamedTuple):
    """Some rows that count: their positions in the whole source, columns, and labels."""

    positions: NDArray
    table: Table
    labels: Labels


class Part(NamedTuple):
    """Some rows with their labels encoded: their positions, and which of them are held out."""

    positions: NDArray
    here: Any
    held: NDArray


@dataclass
class _Pass:
    """A pass over the rows of groups in an order: where it stands, and what is left of a part."""

    order: list[int]
    at: int
    held: bool
    pieces: Generator[Piece, None, None]
    parts: Iterator[Part]
    left: tuple[Part, NDArray] | None = None

    def next_part(self) -> tuple[Part, NDArray]:
        """Return the next rows, and which of them count."""
        part = next(self.parts)
        return part, np.flatnonzero(part.held == self.held)


class SourceReader:
    """Read a source as an estimator reads X and y.

    Parameters
    ----------
    owner : MultiTaskEstimator
        The estimator, whose steps of `fit` do the reading.
    source : ParquetSource
        The source.
    names : sequence, optional
        Names of the columns that `fit` saw; None: the estimator is to remember those of the source.
    tasks : sequence of str, optional
        Names of the tasks that the targets are to match.

    Attributes
    ----------
    tasks : tuple of Task
    rule : HoldOut or None
    scale : float
    seed : int
    encoder : FeatureEncoder
        What `fit` learns on its way; each is set before what needs it is called.
    """

    tasks: tuple[Task, ...]
    encoder: FeatureEncoder
    rule: HoldOut | None = None
    scale: float = 1.0
    seed: int = 0

    def __init__(
        self,
        owner: Any,
        source: Any,
        names: Sequence[Any] | None = None,
        task_names: Sequence[str] | None = None,
    ) -> None:
        self.owner, self.source, self.view = owner, source, source.open()
        self.names, self.task_names = names, task_names
        self.firsts = np.array([group.first for group in self.view.groups], dtype=np.int64)
        self.single = self.view.single
        self._pass: _Pass | None = None
        # Number of the first row of the piece that is looked at, and of the one behind its last.
        self._place: tuple[int, int] | None = None
        if not self.view.targets:
            raise ValueError(
                "The ParquetSource has no `targets`, and there is nothing to learn from or to "
                "score; pass the names of the columns of the labels."
            )
        self.sizes = {held: np.zeros(len(self.firsts), dtype=np.int64) for held in (False, True)}

    # What stands in the source --------------------------------------------------------------------

    @property
    def fits(self) -> bool:
        """Whether one window holds all rows."""
        return self.view.n_rows <= self.source.window_rows

    def whole(self) -> tuple[pd.DataFrame, Any, Any]:
        """Return all rows: X, y and weights, as a user would pass them."""
        return self.labelled(*self.view.rows(self.view.read()))

    def labelled(
        self, X: pd.DataFrame, y: Any, weight: NDArray | None
    ) -> tuple[pd.DataFrame, Any, NDArray | None]:
        """Leave out the rows that lack the label of a single target, where y has no gaps."""
        kept = self._labelled(y)
        if kept is None:
            return X, y, weight
        X, y = X.iloc[kept].reset_index(drop=True), y.iloc[kept].reset_index(drop=True)
        return X, y, None if weight is None else weight[kept]

    def _labelled(self, y: Any) -> NDArray | None:
        """Return which rows `labelled` leaves, None for all."""
        if not self.single or not y.hasnans:
            return None
        return np.flatnonzero(y.notna().to_numpy())

    def placed(self) -> AbstractContextManager[None]:
        """Say of an error about values in which rows of which file they stand."""
        self._place = None
        return telling_place(self.view, lambda: self._place)

    def pieces(
        self, order: Sequence[int] | None = None, skip: int = 0
    ) -> Generator[Piece, None, None]:
        """Yield what counts of the rows of some groups, all by default, checked."""
        yield from self._cut(self.view.stream(order, skip=skip), features=True)

    def labels(self) -> Iterator[Piece]:
        """Yield the same of all rows with their labels alone: no column of X is read."""
        columns = list(dict.fromkeys([*self.view.targets, *self.view.weights]))
        none = True
        for piece in self._cut(self.view.stream(columns=columns), features=False):
            none = False
            yield piece
        if none:
            raise ValueError(
                f"No row of the ParquetSource has a label in {self.view.targets}"
                + (f" and a weight above zero in {self.view.weights}" if self.view.weights else "")
                + "; check `targets` and `sample_weight`, or pass other files."
            )

    def _cut(self, stream: Any, *, features: bool) -> Iterator[Piece]:
        for first, table in stream:
            for start in range(0, len(table), PIECE_ROWS):
                own = table.slice(start, PIECE_ROWS)
                self._place = first + start, first + start + len(own)
                piece = self._piece(first + start, *self.view.rows(own), features=features)
                if piece is not None:
                    yield piece
        self._place = None

    def _piece(
        self, first: int, X: pd.DataFrame, y: Any, weight: Any, *, features: bool
    ) -> Piece | None:
        kept = self._labelled(y)
        X, y, weight = self.labelled(X, y, weight)
        if not len(y) or (weight is not None and not weight.any()):
            return None  # no row of these has a label or any weight, others have
        table: Table = FrameTable(X)
        if features:
            table = check_rows(self.owner, X, self.names)
            self.names = table.names if self.names is None else self.names
        n = len(table)
        table, labels = check_labels(y, weight, table, self.owner, self.task_names)
        if not any(column.observed.any() for column in labels.columns):
            return None
        rows = np.arange(n) if labels.rows is None else labels.rows
        return Piece(first + (rows if kept is None else kept[rows]), table, labels)

    # What training makes of it --------------------------------------------------------------------

    def _encode(self, piece: Piece, scale: float | None = None) -> Part:
        """Encode the labels of a piece."""
        owner, tasks = self.owner, self.tasks
        labels = owner._complete_labels(tasks, piece.labels, [])
        scale = self.scale if scale is None else scale

        def draw(n: int) -> NDArray:
            # By a row's position: a row that is sampled is so in every epoch. Of another seed than
            # the rule that holds rows out, or these would be sampled otherwise than the rest.
            return row_draws(piece.positions, self.seed + 1)

        here = owner._encode(tasks, piece.table, labels, draw, scale, at_least_one=False)
        positions = piece.positions if here.kept is None else piece.positions[here.kept]
        held = np.zeros(len(positions), dtype=bool)
        if self.rule is not None:
            observed = np.column_stack([column.observed for column in labels.columns])
            held = hold_out(self.rule, observed, piece.positions)
            held = held if here.kept is None else held[here.kept]
        return Part(positions, here, held)

    def survey(self) -> None:
        """Count the rows of each group to train on, and those held out, and find the scale."""
        largest = 0.0
        for piece in self.labels():
            part = self._encode(piece, 1.0)
            weight = part.here.weight
            largest = max(largest, 1.0 if weight is None else weight.max(initial=0.0))
            groups = np.searchsorted(self.firsts, part.positions, side="right") - 1
            for held, sizes in self.sizes.items():
                sizes += np.bincount(groups[part.held == held], minlength=len(sizes))
        self.scale = largest or 1.0

    def tables(self) -> Iterator[tuple[Table, NDArray | None]]:
        """Yield the rows to train on, and their weights."""
        for piece in self.pieces():
            _, here, held = self._encode(piece)
            train = np.flatnonzero(~held)
            if len(train):
                weight = None if here.weight is None else here.weight.mean(axis=1)[train]
                yield here.table.take(train) if held.any() else here.table, weight
            give_back_memory()

    def check_columns(self) -> Sequence[Any] | None:
        """Let the estimator remember the columns, by the first rows; return their names."""
        if self.names is None:
            with self.placed(), closing(self.pieces()) as pieces:
                next(pieces, None)
        return self.names

    def rows(self, order: Sequence[int], skip: int, n: int, *, held: bool) -> Iterator[Rows]:
        """Yield encoded rows: of some groups one after another, n of those from `skip` on.

        What begins where the call before ended goes on there: nothing is decoded twice.
        """
        here, self._pass = self._pass, None
        if here is None or (here.order, here.at, here.held) != (list(order), skip, held):
            here = self._begin_pass(order, skip, held=held)
        while n > 0:
            part, index = here.left or here.next_part()
            here.left = None if len(index) <= n else (part, index[n:])
            index = index[:n]
            here.at, n = here.at + len(index), n - len(index)
            if len(index):
                yield self._rows(part, index)
        if here.at < int(self.sizes[held].sum()):
            self._pass = here
        else:
            here.pieces.close()

    def _begin_pass(self, order: Sequence[int], skip: int, *, held: bool) -> "_Pass":
        """Open what yields the rows of some groups from one on."""
        at, sizes, wanted = skip, self.sizes[held], list(order)
        while wanted and skip >= sizes[wanted[0]]:
            skip -= int(sizes[wanted.pop(0)])
        wanted = [group for group in wanted if sizes[group]]
        skipped = 0
        if wanted and sizes[wanted[0]] == self.view.groups[wanted[0]].n_rows:  # all of it count
            skip, skipped = 0, skip
        pieces = self.pieces(wanted, skipped)
        here = _Pass(list(order), at, held, pieces, map(self._encode, pieces))
        while skip:
            part, index = here.next_part()
            here.left = (part, index[skip:]) if skip < len(index) else None
            skip -= min(skip, len(index))
        return here

    def _rows(self, part: Part, index: NDArray) -> Rows:
        here = part.here
        table = here.table if len(index) == len(here.table) else here.table.take(index)
        parts = self.encoder.transform(table)
        return self.owner._rows(here, parts, index, torch.device("cpu"))

    def row_labels(self, *, held: bool) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield the targets and weights of the rows to train on, or of those held out."""
        for part in map(self._encode, self.labels()):
            index = np.flatnonzero(part.held == held)
            if len(index):
                rows = self.owner._rows(part.here, {}, index, torch.device("cpu"))
                yield rows.target, rows.weight

    def scored(self, *, held: bool) -> tuple[Any, NDArray | None]:
        """Return the labels and weights of rows as they were passed, for a scorer."""
        found = [
            part.here.scored(np.flatnonzero(part.held == held))
            for part in map(self._encode, self.labels())
        ]
        labels = pd.concat([labels for labels, _ in found], ignore_index=True)
        if not self.view.weights:
            return labels, None
        return labels, np.concatenate([weight for _, weight in found])

    def streamed(self, *, held: bool) -> StreamedRows:
        """Return the rows to train on, or those held out."""
        seed = self.source.random_state
        if seed is not None:
            seed = int(check_random_state(seed).randint(2**31 - 1))
        return StreamedRows(
            self.sizes[held].tolist(),
            partial(self.rows, held=held),
            partial(self.row_labels, held=held),
            self.source.window_rows,
            seed,
            (self.view.files, self.view.schema.names, held),
        )


@contextmanager
def telling_place(view: Any, where: Callable[[], tuple[int, int] | None]) -> Iterator[None]:
    """Say of an error about values in which rows of a source they stand, as far as is known.

    Parameters
    ----------
    view : ParquetView
        The source's view.
    where : callable
        Returns the numbers of the first row looked at and of the one behind the last, or None.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        place = where()
        if place is None or type(error) not in (TypeError, ValueError):
            raise
        raise type(error)(f"{error} {place_of(view, *place)}") from error


def place_of(view: Any, first: int, end: int) -> str:
    """Say where some rows of a source stand, which lie in one file."""
    firsts = [group.first for group in view.groups]
    file = view.groups[np.searchsorted(firsts, first, side="right") - 1].file
    own = min(group.first for group in view.groups if group.file == file)
    path = view.files[file].path
    return f"(Rows {first - own} to {end - own - 1} of {path!r}, counted from 0.)"


def refuse_beside(name: str, **others: Any) -> None:
    """Refuse labels or weights beside a source, which names its own."""
    for other, value in others.items():
        if value is not None:
            raise ValueError(
                f"`{name}` is a ParquetSource, which names its targets and weights itself, and "
                f"`{other}` is given too; leave it out."
            )

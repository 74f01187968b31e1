"""From the columns of a table to the parts of a row, one part for each block of the network."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sk_mtl.data.frames import Table
from sk_mtl.data.lookup import CELLS
from sk_mtl.data.survey import SAMPLE_ROWS, Kinds, SampleSurvey, Survey

USABLE = (
    "pass numbers or categories (of dates: their parts, or the time since some date as a number)"
)
"""What to do about a dtype that is neither."""

CHUNK_BYTES, CHUNK_ROWS = 2**22, 4096
"""Bytes, as float64, that are encoded at once, and rows that always are."""

MANY = 20
"""Rows from which on it is strange that a column holds nothing known in any."""


class BlockSpec(NamedTuple):
    """How to build a block: its kind, its constructor's arguments, and the part that it reads."""

    kind: str
    options: dict[str, Any]
    part: str


class ColumnEncoder(ABC):
    """Encode the columns of one kind of feature.

    A new kind of feature is one subclass and one `sk_mtl.nn.Block`. Attributes that end in an
    underscore are what `fit` learned: numbers, strings, lists, dicts, arrays or pandas indices,
    so that `save` can write them.

    Attributes
    ----------
    part : str
        Name of the part of a row that it makes, a class attribute.
    columns_ : list of int
        Positions of its columns.
    given : object
        What only the first network needs, such as initial vectors; a pickle does not hold it.
    """

    part: ClassVar[str]
    columns_: list[int]
    given: Any = None

    @abstractmethod
    def choose(self, table: Table) -> list[int]:
        """Return the positions of the columns that are of this kind, sorted."""

    @abstractmethod
    def fit(self, table: Table, rows: NDArray | None, weight: NDArray | None) -> None:
        """Learn from a table; ``columns_`` are known.

        Parameters
        ----------
        table : Table
            All rows.
        rows : ndarray of int or None
            Positions of the rows to learn from, those that will be trained on; all if None.
        weight : ndarray of float or None
            Weight of each of these rows.

        Raises
        ------
        ValueError
            If a column holds something that cannot be used, named with the remedy.
        """

    def survey(self, table: Table, sample_rows: int) -> Survey:
        """Return what learns from a stream of tables; by default `fit` of a sample of their rows.

        Parameters
        ----------
        table : Table
            The first table; ``columns_`` are known.
        sample_rows : int
            Most rows of the sample.
        """
        return SampleSurvey(self, sample_rows)

    @abstractmethod
    def transform(self, table: Table) -> Any:
        """Encode rows: an array or a CSR matrix of n rows, or anything that indices cut."""

    def store(self, table: Table, n: int) -> Any | None:
        """Return what takes the part of n rows piece by piece, in the least memory.

        Parameters
        ----------
        table : Table
            The rows.
        n : int
            How many of them are to be encoded.

        Returns
        -------
        ndarray or object with a length, ``__setitem__`` of slices and ``__getitem__``, or None
            None: `transform` is to encode all rows at once.
        """
        return None

    def seen(self, part: Any) -> NDArray:
        """Return what is to be told of a part, for `tell`: the same shape for every part, bool."""
        return np.zeros(0, dtype=bool)

    def tell(self, table: Table, seen: NDArray) -> None:  # noqa: B027, by default nothing is told
        """Warn of what was seen in some part of the rows."""

    def transform_few(self, table: Table, cells: list[list[Any]]) -> Any | None:
        """Encode a few rows from their cells, or return None where the columns must be seen."""
        return None

    def update(self, table: Table, rows: NDArray | None, weight: NDArray | None) -> Any:
        """Return a copy that has learned from further rows too; by default itself.

        What a network is built by must stay: the number of columns, of categories.
        """
        return self

    def statistics(self) -> dict[str, dict[str, Any]]:
        """Return what blocks are to take over after `update`, by their names."""
        return {}

    @abstractmethod
    def specs(self) -> dict[str, BlockSpec]:
        """Return how to build the blocks that read the part, by their names."""


class FeatureEncoder:
    """Share the columns among the kinds of feature, and encode them.

    Parameters
    ----------
    encoders : sequence of ColumnEncoder
        One for each part, in the order of their blocks. A column goes to the last one that
        chooses it; the first one gets the columns that no other chooses.

    Attributes
    ----------
    names_ : list
        The columns' names, positions if X had none.
    """

    def __init__(self, encoders: Sequence[ColumnEncoder]) -> None:
        self.encoders = list(encoders)

    def fit(
        self, table: Table, rows: NDArray | None = None, weight: NDArray | None = None
    ) -> "FeatureEncoder":
        """Learn from the rows that will be trained on; see `ColumnEncoder.fit`."""
        self._share(table)
        for encoder in self.encoders:
            encoder.fit(table, rows, weight)
        return self

    def fit_stream(
        self,
        tables: Iterable[tuple[Table, NDArray | None]],
        sample_rows: int = SAMPLE_ROWS,
    ) -> "FeatureEncoder":
        """Learn from rows that come table by table, in memory that does not grow with the rows.

        What is learned is what `fit` learns of all tables as one: exactly which columns there are
        and their categories, means and variances up to rounding. What an encoding of numbers, or
        ``numeric_features="auto"``, sees in single values it sees in a sample of the rows, drawn
        uniformly with a fixed seed; in all rows where they are no more than that. Categories with
        `max_categories` or `min_frequency` are counted within limits, see
        `sk_mtl.data.survey_categories`.

        Parameters
        ----------
        tables : iterable of (Table, ndarray of shape (n,) or None)
            Rows to train on and their weights; each table is read once and not kept. Tables
            without a row are passed over. The first one with rows decides which columns are of
            which kind.
        sample_rows : int, default=262_144
            Most rows of the sample.

        Raises
        ------
        ValueError
            If there is no row, a later table has other columns or a column of another kind, or a
            column holds something that cannot be used, named with the remedy.
        """
        surveys: list[Survey] = []
        any_weight = False
        for table, weight in tables:
            if not len(table):
                continue
            any_weight |= weight is None or bool(weight.any())
            if not surveys:
                kinds = Kinds(table)
                self._share(table)
                surveys = [encoder.survey(table, sample_rows) for encoder in self.encoders]
            kinds.check(table)
            for survey in surveys:
                survey.add(table, weight)
        if not surveys:
            raise ValueError("There is no row to learn from: no table of the stream has one.")
        if not any_weight:
            raise ValueError("There is no row to learn from: all weights of the stream are zero.")
        for survey in surveys:
            survey.finish()
        return self

    def _share(self, table: Table) -> None:
        """Share the columns among the encoders."""
        self.names_ = table.names
        rest, *others = self.encoders
        taken: set[int] = set()
        for encoder in reversed(others):
            encoder.columns_ = [j for j in encoder.choose(table) if j not in taken]
            taken.update(encoder.columns_)
        rest.columns_ = [j for j in range(table.shape[1]) if j not in taken]

    def update(
        self, table: Table, rows: NDArray | None = None, weight: NDArray | None = None
    ) -> "FeatureEncoder":
        """Return an encoder that has learned from further rows too."""
        twin = FeatureEncoder([encoder.update(table, rows, weight) for encoder in self.encoders])
        twin.names_ = self.names_
        return twin

    def transform(self, table: Table) -> dict[str, Any]:
        """Encode rows with the columns, in the order, that `fit` saw: the parts by name."""
        # Reading a column of a frame costs as much as coding many cells.
        n_coded = sum(len(encoder.columns_) for encoder in self.encoders[1:])
        if table.shape[0] * table.shape[1] <= CELLS * n_coded:
            cells = table.cells()
            parts = {e.part: e.transform_few(table, cells) for e in self.encoders}
            if all(part is not None for part in parts.values()):
                return parts
        return {encoder.part: encoder.transform(table) for encoder in self.encoders}

    def pieces(
        self, table: Table, rows: NDArray | None = None
    ) -> Iterator[tuple[slice, dict[str, Any]]]:
        """Encode rows some at a time: where they stand, and their parts by name.

        Parameters
        ----------
        table : Table
            The rows.
        rows : ndarray of int, optional
            Positions of those to encode; all if None, and then strange values are told of, if
            there are 20 rows or more.
        """
        n = len(table) if rows is None else len(rows)
        tells = rows is None and n >= MANY
        size = max(CHUNK_ROWS, CHUNK_BYTES // (8 * max(table.shape[1], 1)))
        seen: list[Any] = [False for _ in self.encoders]
        for start in range(0, n, size):
            at = slice(start, min(start + size, n))
            if rows is not None:
                here = table.take(rows[at])
            else:
                here = table if n <= size else table.cut(at)
            parts = self.transform(here)
            if tells:
                seen = [
                    before | encoder.seen(parts[encoder.part])
                    for before, encoder in zip(seen, self.encoders, strict=True)
                ]
            yield at, parts
        if tells:
            for encoder, found in zip(self.encoders, seen, strict=True):
                encoder.tell(table, found)

    def encode(self, table: Table, rows: NDArray | None = None) -> dict[str, Any]:
        """Encode rows that are to be kept: as `transform`, but in the least memory.

        Parameters
        ----------
        table : Table
            The rows.
        rows : ndarray of int, optional
            Positions of those to encode; all if None.
        """
        n = len(table) if rows is None else len(rows)
        stores: dict[str, Any] = {e.part: e.store(table, n) for e in self.encoders}
        if any(store is None for store in stores.values()):
            return self.transform(table if rows is None else table.take(rows))
        for at, parts in self.pieces(table, rows):
            for name, part in parts.items():
                stores[name][at] = part
        return {
            name: store.smallest() if hasattr(store, "smallest") else store
            for name, store in stores.items()
        }

    def given_vectors(self) -> list[Any]:
        """Return what encoders hold for the first network alone, and pickles do not have."""
        return [encoder.given for encoder in self.encoders]

    def give_vectors(self, vectors: Sequence[Any]) -> None:
        """Take over what `given_vectors` of an equal encoder returned."""
        for encoder, given in zip(self.encoders, vectors, strict=True):
            encoder.given = given

    def columns(self) -> dict[tuple[str, int], Any]:
        """Return the columns' names by part and position in it, in X's order."""
        where = {
            (encoder.part, place): j
            for encoder in self.encoders
            for place, j in enumerate(encoder.columns_)
        }
        return {key: self.names_[where[key]] for key in sorted(where, key=where.__getitem__)}

    @property
    def spec_(self) -> dict[str, BlockSpec]:
        """How to build the blocks, by their names."""
        return {name: spec for encoder in self.encoders for name, spec in encoder.specs().items()}

    def statistics(self) -> dict[str, dict[str, Any]]:
        """Return what the blocks are to take over after `update`, by their names."""
        return {k: v for encoder in self.encoders for k, v in encoder.statistics().items()}

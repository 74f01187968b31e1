"""What encoders learn of a stream of tables, one table after another and each seen once."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from sk_mtl.data.frames import ArrayTable, FrameTable, Table, is_categorical, is_number
from sk_mtl.numeric.learned import MOST_ROWS
from sk_mtl.tasks.reservoir import Reservoir

if TYPE_CHECKING:
    from sk_mtl.data.encoder import ColumnEncoder

SAMPLE_ROWS = min(MOST_ROWS, 262_144)
"""Rows of a stream that are kept for what single values must be looked at for."""


class Survey(ABC):
    """How one encoder learns of a stream: `add` for every table, then `finish`."""

    @abstractmethod
    def add(self, table: Table, weight: NDArray | None) -> None:
        """Look at a table of rows to train on, one or more, and their weights."""

    @abstractmethod
    def finish(self) -> None:
        """Let the encoder have learned."""


class SampleSurvey(Survey):
    """Fit an encoder on a uniform sample of a stream's rows, all of them if they are few.

    Parameters
    ----------
    encoder : ColumnEncoder
        The encoder; its ``columns_`` are known.
    sample_rows : int
        Most rows of the sample.
    """

    def __init__(self, encoder: "ColumnEncoder", sample_rows: int) -> None:
        self.encoder = encoder
        self.rows = Reservoir(sample_rows, lambda table, rows: table.take(rows), join_tables)

    def add(self, table: Table, weight: NDArray | None) -> None:
        """Draw from a table."""
        rows = self.rows.pick(len(table))
        self.rows.put(_without_spare(table.take(rows)), None if weight is None else weight[rows])

    def finish(self) -> None:
        """Fit on the sample."""
        table, weight = self.rows.result()
        self.encoder.fit(table, None, weight)


def _without_spare(table: Table) -> Table:
    """Return a few rows without the categories of Categoricals that do not stand in them."""
    if not isinstance(table, FrameTable):
        return table
    frame = table.frame.copy(deep=False)
    for j, dtype in enumerate(frame.dtypes):
        # A dictionary of Arrow is one of a whole table: it may be larger than the rows kept.
        if isinstance(dtype, pd.CategoricalDtype) and len(dtype.categories) > len(frame):
            frame.isetitem(j, frame.iloc[:, j].cat.remove_unused_categories())
    return FrameTable(frame)


def join_tables(tables: Sequence[Table]) -> Table:
    """Return tables of the same columns as one."""
    frames = [table.frame for table in tables if isinstance(table, FrameTable)]
    if frames:
        return FrameTable(pd.concat(frames, ignore_index=True))
    values = [table.values for table in tables if isinstance(table, ArrayTable)]
    if tables[0].sparse:
        return ArrayTable(sparse.vstack(values, format="csr"))
    return ArrayTable(np.concatenate(values))


class Kinds:
    """The columns' names and kinds of dtype in a stream's first table, which the others must have.

    Parameters
    ----------
    table : Table
        The first table.
    """

    def __init__(self, table: Table) -> None:
        self.names, self.dtypes, self.sparse = table.names, table.dtypes, table.sparse

    def check(self, table: Table) -> None:
        """Refuse a table with other columns, or a column of another kind.

        Whole numbers and floats are one kind, and so are strings, Categoricals, objects and
        booleans. A column without a value in the table is of any kind.

        Raises
        ------
        ValueError
            Naming the column.
        """
        if table.names != self.names:
            raise ValueError(
                f"A table of the stream has the columns {table.names}, and the first one has "
                f"{self.names}; give all tables the same columns in the same order."
            )
        if table.sparse != self.sparse:
            raise ValueError(
                "Some tables of the stream are sparse and others dense; give all in one form."
            )
        for j, (first, dtype) in enumerate(zip(self.dtypes, table.dtypes, strict=True)):
            if first is dtype or _kind(first) == _kind(dtype) or table.column(j).isna().all():
                continue
            raise ValueError(
                f"Column {self.names[j]!r} has dtype {first} in the first table of the stream and "
                f"{dtype} in a later one; give it one dtype in all of them."
            )


def _kind(dtype: Any) -> str:
    """Return what dtypes that may stand for one another share."""
    if is_categorical(dtype):
        return "categories"
    return "numbers" if is_number(dtype) else str(dtype)

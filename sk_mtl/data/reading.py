"""Rows of Parquet files, row group by row group, in bounded memory."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

from sk_mtl.data.storage import (
    DataFileError,
    Found,
    arrow_error,
    cannot_read,
    is_damage,
    open_parquet,
    reading,
)

MOST_OPEN = 8
"""Files that are kept open at once."""

BATCH_ROWS = 2**16
"""Most rows that are decoded at a time: larger batches are no faster, and hold more memory."""


class Group(NamedTuple):
    """A row group: its file's and its own position, its rows, and the number of the first."""

    file: int
    position: int
    n_rows: int
    first: int


class Run(NamedTuple):
    """Row groups of a file that follow one another, and which of their rows to read."""

    groups: list[Group]
    start: int
    stop: int


class Paused(NamedTuple):
    """Where a run ended within a group: what is decoded of the rest, and what decodes more."""

    file: int
    position: int
    at: int
    decoded: list[Any]
    batches: Iterator[Any]


class Reader:
    """Reads rows of files, and keeps the last few files open until it is closed.

    A stream that begins where the one before it ended goes on there. Otherwise it decodes a group
    from its first row, also to get at the last one.

    Parameters
    ----------
    filesystem : pyarrow.fs.FileSystem
        Where the files lie.
    files : sequence of Found
        The files.
    groups : sequence of Group
        Their row groups.
    schema : pyarrow.Schema
        Columns to read, with the types that they shall have.
    coded : sequence of str
        Those that files are to be asked for as dictionaries.
    window_rows : int
        Most rows of a table.
    """

    def __init__(
        self,
        filesystem: Any,
        files: Sequence[Found],
        groups: Sequence[Group],
        schema: Any,
        coded: Sequence[str],
        window_rows: int,
    ) -> None:
        self.filesystem, self.files, self.groups = filesystem, files, groups
        self.schema, self.coded, self.window_rows = schema, coded, window_rows
        self._open: dict[int, Any] = {}
        self._paused: Paused | None = None

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; the next stream opens them again."""
        self._paused = None
        while self._open:
            self._open.popitem()[1].close(force=True)

    def stream(
        self, order: Iterable[int], skip: int = 0, rows: int | None = None
    ) -> Iterator[tuple[int, Any]]:
        """Yield rows, see `sk_mtl.data.ParquetView.stream`; one stream at a time."""
        for run in join_runs(self.groups, order, skip, rows):
            head = run.groups[0]
            if len(run.groups) > 1 and self._has_paused(run):
                yield from self._tables(Run([head], run.start, head.n_rows))
                run = Run(run.groups[1:], 0, run.stop - head.n_rows)
            yield from self._tables(run)

    def _has_paused(self, run: Run) -> bool:
        """Whether the last run ended where this one starts."""
        here = run.groups[0].file, run.groups[0].position, run.start
        return self._paused is not None and self._paused[:3] == here

    def _tables(self, run: Run) -> Iterator[tuple[int, Any]]:
        """Yield the rows of a run as tables."""
        import pyarrow

        path = self.files[run.groups[0].file].path
        first, held = run.groups[0].first + run.start, 0
        pieces: list[Any] = []
        for piece in self._batches(run):
            if held + len(piece) > self.window_rows:
                yield first, self._finish(path, pyarrow.Table.from_batches(pieces))
                first, held, pieces = first + held, 0, []
            held += len(piece)
            pieces.append(piece)
        if pieces:
            yield first, self._finish(path, pyarrow.Table.from_batches(pieces))

    def _finish(self, path: str, table: Any) -> Any:
        """Return a table's columns in the order and with the types of the stream."""
        table = table.select(self.schema.names)
        if table.schema.equals(self.schema):
            return table.replace_schema_metadata(None)  # pandas' index stays a column
        columns = []
        for field, column in zip(self.schema, table.columns, strict=True):
            with reading(path, field.name):
                columns.append(column.cast(field.type))
        return type(table).from_arrays(columns, schema=self.schema)

    def _batches(self, run: Run) -> Iterator[Any]:
        """Yield what is decoded of a run, cut to its rows."""
        at = 0
        decoded: list[Any] = []
        source: Iterator[Any] | None = None
        if self._paused is not None and self._has_paused(run):
            at, decoded, source = self._paused[2:]
        self._paused = None
        source = self._decode(run) if source is None else source
        for batch in chain(decoded, source):
            end = at + len(batch)
            start, stop = max(run.start, at), min(run.stop, end)
            if start < stop:
                yield batch.slice(start - at, stop - start)
            if end >= run.stop:
                self._pause(run, batch.slice(stop - at), source)
                return
            at = end
        raise self._changed(run)

    def _pause(self, run: Run, decoded: Any, source: Iterator[Any]) -> None:
        """Remember where a run ends, if it is within a group."""
        last = run.groups[-1]
        at = run.stop - sum(group.n_rows for group in run.groups[:-1])
        if at < last.n_rows:
            left = [decoded] if len(decoded) else []
            self._paused = Paused(last.file, last.position, at, left, source)

    def _decode(self, run: Run) -> Iterator[Any]:
        """Yield the row groups of a run, decoded batch by batch."""
        file = self._file(run.groups[0].file)
        positions = [group.position for group in run.groups]
        n_groups = file.metadata.num_row_groups
        for group in run.groups:
            if group.position >= n_groups or group.n_rows != _size(file, group.position):
                raise self._changed(run)
        batches = self._iterate(file, positions, self.schema.names)
        try:
            yield from batches
        except (OSError, arrow_error()) as error:
            if not is_damage(error):
                raise
            path = self.files[run.groups[0].file].path
            raise cannot_read(path, error, self._damaged(run)) from error

    def _iterate(self, file: Any, positions: list[int], names: list[str]) -> Iterator[Any]:
        # On this thread alone: the cores are needed to train.
        return file.iter_batches(
            batch_size=min(self.window_rows, BATCH_ROWS),
            row_groups=positions,
            columns=names,
            use_threads=False,
        )

    def _damaged(self, run: Run) -> str | None:
        """Return the first column of a run that cannot be read."""
        where = self.files[run.groups[0].file].path
        for name in self.schema.names:
            with open_parquet(self.filesystem, where) as file:
                try:
                    for _ in self._iterate(file, [g.position for g in run.groups], [name]):
                        pass
                except (OSError, arrow_error()):
                    return name
        return None

    def _changed(self, run: Run) -> DataFileError:
        path = self.files[run.groups[0].file].path
        return DataFileError(
            f"{path!r} has other rows than its footer said at first; files must not change while "
            "they are read."
        )

    def _file(self, position: int) -> Any:
        """Return an open file."""
        if position not in self._open:
            while len(self._open) >= MOST_OPEN:
                self._open.pop(next(iter(self._open))).close(force=True)
            path = self.files[position].path
            self._open[position] = open_parquet(self.filesystem, path, self.coded)
        return self._open[position]


def _size(file: Any, position: int) -> int:
    return file.metadata.row_group(position).num_rows


def join_runs(
    groups: Sequence[Group], order: Iterable[int], skip: int, rows: int | None
) -> Iterator[Run]:
    """Yield what to read, groups that follow one another in a file together.

    Parameters
    ----------
    groups : sequence of Group
        All row groups.
    order : iterable of int
        Positions of groups among them.
    skip : int
        Rows to leave out at the beginning.
    rows : int or None
        Rows to read; None for all that are left.
    """
    run: Run | None = None
    for place in order:
        group = groups[place]
        if skip >= group.n_rows:
            skip -= group.n_rows
            continue
        if rows is not None and rows <= 0:
            break
        stop = group.n_rows if rows is None else min(group.n_rows, skip + rows)
        last = None if run is None else run.groups[-1]
        if run is not None and last is not None and last[:2] == (group.file, group.position - 1):
            run.groups.append(group)
            run = run._replace(stop=run.stop + stop)
        else:
            if run is not None:
                yield run
            run = Run([group], skip, stop)
        rows = None if rows is None else rows - (stop - skip)
        skip = 0
    if run is not None:
        yield run

"""Rows in Parquet files that need not fit into memory."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from sk_mtl._checks import Options, ParameterError, check_count
from sk_mtl.data.footers import read_footers
from sk_mtl.data.frames import _from_arrow
from sk_mtl.data.reading import Group, Reader
from sk_mtl.data.storage import Found, find_files


class ParquetSource(Options):
    """Rows, labels and weights in Parquet files that need not fit into memory.

    Pass it to `fit` in place of X, with ``y=None``. The constructor only stores; the files are
    looked at when training begins, and `open` does the same by hand.

    Parameters
    ----------
    path : str, path-like or sequence of them
        Files, folders (all files ``*.parquet`` below them, sorted by path), and globs with ``*``,
        ``?``, ``[ab]`` and ``**``; local, or URLs that fsspec knows ("s3://bucket/folder"). In
        folders and globs names that begin with "_" or "." do not count.
    targets : str, sequence of str or None
        The columns of the labels. One name is a single task, as y of shape (n,); several names are
        y of shape (n, K). A null is a label that was not observed. None: there are no labels, the
        rows are to be predicted.
    sample_weight : str or sequence of str, default=None
        A column of weights of rows, or one column for each target.
    features : sequence of str, default=None
        The columns of X, in this order. By default all other columns of the first file but the
        index that pandas wrote.
    filesystem : pyarrow.fs.FileSystem or fsspec.AbstractFileSystem, default=None
        Where the paths lie; by default the path says it.
    window_rows : int, default=262_144
        Rows that are decoded at once, and shuffled among each other. Memory grows with it, and
        not with the data.
    random_state : int, RandomState instance or None, default=None
        Seed of the order in which row groups are read.

    Notes
    -----
    Columns may have other types in other files as long as no value changes its meaning: integers,
    floats and decimals are widened, integers beside floats become float64 as pandas does it, and
    strings may be plain or dictionaries. Everything else is refused before training.

    Values of partitioned folders (``day=3/part.parquet``) are not read; name `features` without
    the key, or write the column into the files.

    Examples
    --------
    >>> from sk_mtl.data import ParquetSource
    >>> ParquetSource("clicks/2026-*/*.parquet", targets=["click", "buy"])
    ParquetSource(path='clicks/2026-*/*.parquet', targets=['click', 'buy'])
    """

    def __init__(
        self,
        path: Any,
        targets: Any,
        *,
        sample_weight: Any = None,
        features: Any = None,
        filesystem: Any = None,
        window_rows: int = 262_144,
        random_state: Any = None,
    ) -> None:
        self.path = path
        self.targets = targets
        self.sample_weight = sample_weight
        self.features = features
        self.filesystem = filesystem
        self.window_rows = window_rows
        self.random_state = random_state

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        """Refuse to be an array, which transformers and searches of scikit-learn ask for."""
        raise TypeError(
            "A ParquetSource is no array: `fit`, `partial_fit`, `score` and `predict_source` of "
            "sk_mtl's estimators read it, and no transformer, search or cross-validation does. "
            "Pass those some rows in memory: `view = source.open(); X, y, weight = "
            "view.rows(view.read())`."
        )

    def open(self) -> "ParquetView":
        """Check the parameters and read the files' footers, no row yet.

        Returns
        -------
        ParquetView
            What there is to read.

        Raises
        ------
        ParameterError
            If a parameter has a wrong type, or a column is named twice.
        FileNotFoundError
            If a path matches no file.
        DataFileError
            If a file is not intact or has no column of a name, types of a column do not go
            together or are none for its role, or there are no rows.
        """
        check_count("window_rows", self.window_rows)
        check_random_state(self.random_state)
        single = isinstance(self.targets, str)
        targets = [self.targets] if single else []
        if not (single or self.targets is None):
            targets = _names("targets", self.targets)
        weights = self.sample_weight
        if weights is not None:
            weights = [weights] if isinstance(weights, str) else _names("sample_weight", weights)
            if not isinstance(self.sample_weight, str) and len(weights) != len(targets):
                raise ParameterError(
                    f"`sample_weight` names {len(weights)} columns and `targets` {len(targets)}; "
                    "pass one name per target, or a single name as a string."
                )
        features = None if self.features is None else _names("features", self.features)
        distinct = list(dict.fromkeys(weights or []))  # tasks may share a column of weights
        _refuse_twice(targets, distinct, features or [])
        filesystem, files = find_files(self.path, self.filesystem)
        footers = read_footers(filesystem, files, features, targets, distinct)
        groups, first = [], 0
        for file, sizes in enumerate(footers.sizes):
            for position, n_rows in enumerate(sizes):
                groups.append(Group(file, position, n_rows, first))
                first += n_rows
        return ParquetView(
            filesystem=filesystem,
            files=files,
            groups=groups,
            n_rows=first,
            names=footers.names,
            targets=targets,
            weights=weights or [],
            single=len(targets) == 1,
            weight_per_target=weights is not None and not isinstance(self.sample_weight, str),
            schema=footers.schema,
            coded=footers.coded,
            trends=footers.trends,
            window_rows=int(self.window_rows),
        )


def _names(parameter: str, names: Any) -> list[str]:
    """Return names of columns as a list, or raise."""
    if isinstance(names, str) or not isinstance(names, Sequence | np.ndarray | pd.Index):
        raise ParameterError(f"`{parameter}` must be a list of names of columns, got {names!r}.")
    if not len(names):
        raise ParameterError(f"`{parameter}` names no column; pass at least one.")
    for name in names:
        if not isinstance(name, str):
            raise ParameterError(f"`{parameter}` must hold names of columns, got {name!r}.")
    return [str(name) for name in names]


def _refuse_twice(targets: list[str], weights: list[str], features: list[str]) -> None:
    """Raise if a column is named twice, or in two roles."""
    roles: dict[str, str] = {}
    for role, names in (("targets", targets), ("sample_weight", weights), ("features", features)):
        for name in names:
            if roles.get(name) == role:
                raise ParameterError(f"`{role}` names the column {name!r} twice.")
            if name in roles:
                raise ParameterError(
                    f"The column {name!r} is in `{roles[name]}` and in `{role}`; leave it out of "
                    "one of them."
                )
            roles[name] = role


@dataclass(frozen=True)
class ParquetView:
    """What a source's files hold, as their footers say; no file is open.

    Attributes
    ----------
    filesystem : pyarrow.fs.FileSystem
        Where the files lie.
    files : list of Found
        Their paths and sizes in bytes.
    groups : list of Group
        Their row groups, in order. Rows are numbered through, from 0 to ``n_rows - 1``.
    n_rows : int
        Rows of all files.
    names, targets, weights : list of str
        Columns of X, of y and of the weights.
    single : bool
        Whether y has one dimension.
    weight_per_target : bool
        Whether the weights have two dimensions.
    schema : pyarrow.Schema
        The types of all of these columns that hold for all files.
    coded : frozenset of str
        Strings that are read faster as dictionaries.
    trends : dict of str to str
        Columns that are sorted over the row groups: "ascending" or "descending".
    window_rows : int
        Most rows of a table.
    """

    filesystem: Any
    files: list[Found]
    groups: list[Group] = field(repr=False)
    n_rows: int
    names: list[str] = field(repr=False)
    targets: list[str]
    weights: list[str]
    single: bool
    weight_per_target: bool
    schema: Any = field(repr=False)
    coded: frozenset[str] = field(repr=False)
    trends: dict[str, str] = field(repr=False)
    window_rows: int

    def read(self, columns: Sequence[str] | None = None) -> Any:
        """Return all rows in order, as one table of Arrow, strings as such.

        Parameters
        ----------
        columns : sequence of str, default=None
            Names of columns, in this order; all of `schema` by default.
        """
        import pyarrow

        tables = [table for _, table in self.stream(columns=columns, dictionaries=False)]
        return pyarrow.concat_tables(tables)

    def stream(
        self,
        order: Sequence[int] | NDArray | None = None,
        skip: int = 0,
        rows: int | None = None,
        columns: Sequence[str] | None = None,
        *,
        dictionaries: bool = True,
    ) -> Iterator[tuple[int, Any]]:
        """Yield the rows of some row groups, in bounded memory.

        Parameters
        ----------
        order : sequence of int, default=None
            Positions in `groups`; all, in order, by default.
        skip : int, default=0
            Rows of the concatenation of the groups to leave out at the beginning.
        rows : int, default=None
            Rows to read then; by default all that are left.
        columns : sequence of str, default=None
            Names of columns, in this order; all of `schema` by default.
        dictionaries : bool, default=True
            Whether the features in `coded` come as dictionaries, whose values may differ from
            table to table. They are ten times faster to code where strings repeat.

        Yields
        ------
        first : int
            Number of the table's first row; the others follow it.
        table : pyarrow.Table
            At most `window_rows` rows. Groups that follow one another in a file are read as one.

        Raises
        ------
        DataFileError
            If a file is damaged, or has changed since `open`.
        """
        chosen = range(len(self.groups)) if order is None else order
        with self.reader(columns, dictionaries=dictionaries) as reader:
            yield from reader.stream(chosen, skip, rows)

    def windows(self, order: Sequence[int] | NDArray) -> Iterator[Any]:
        """Yield the rows of some row groups as tables of Arrow, `window_rows` in each but the last.

        Parameters
        ----------
        order : sequence of int
            Positions in `groups`.
        """
        import pyarrow

        found: list[Any] = []
        for _, table in self.stream(order, dictionaries=False):
            found.append(table)
            while sum(map(len, found)) >= self.window_rows:
                whole = pyarrow.concat_tables(found)
                yield whole.slice(0, self.window_rows)
                found = [whole.slice(self.window_rows)]
        if sum(map(len, found)):
            yield pyarrow.concat_tables(found)

    def reader(self, columns: Sequence[str] | None = None, *, dictionaries: bool = True) -> Reader:
        """Return what keeps files open for several streams: windows of one pass, one by one.

        Its method `stream` takes order, skip and rows as the one here does. A stream that begins
        where the last one ended costs nothing more, while this class's own `stream` decodes a
        group from its first row.

        Parameters
        ----------
        columns, dictionaries
            As for `stream`.
        """
        schema = self._schema(columns, dictionaries=dictionaries)
        coded = sorted(self.coded & set(schema.names)) if dictionaries else []
        return Reader(self.filesystem, self.files, self.groups, schema, coded, self.window_rows)

    def _schema(self, columns: Sequence[str] | None, *, dictionaries: bool) -> Any:
        """Return the schema of the tables of a stream."""
        import pyarrow

        names = self.schema.names if columns is None else list(columns)
        coded = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
        return pyarrow.schema(
            [
                (
                    name,
                    coded if dictionaries and name in self.coded else self.schema.field(name).type,
                )
                for name in names
            ]
        )

    def sorted_columns(self) -> dict[str, str]:
        """Return `trends`, and warn if there are any and a window does not hold all rows.

        Row groups are read in random order, and rows are shuffled within a window of them. Where
        rows are sorted, those of a window are alike.

        Warns
        -----
        UserWarning
            If a column of X or y is sorted over at least 8 row groups: the range of its values in
            each does not overlap with the next one's but in its end, and the last one's not at all
            with the first one's. Only statistics in the footers are looked at.
        """
        if self.trends and self.n_rows > self.window_rows:
            told = ", ".join(f"{name!r} ({trend})" for name, trend in self.trends.items())
            n_groups = len(self.groups)
            held = min(n_groups, max(1, round(self.window_rows * n_groups / self.n_rows)))
            warnings.warn(
                f"The rows of {self.files[0].path!r} are sorted over {n_groups} row groups by: "
                f"{told}. A window of {self.window_rows} rows holds about {held} of them, drawn "
                "at random, so that its rows are more alike than those of all the data, and "
                "training is noisier. Shuffle the rows once and write them again, or pass more "
                "`window_rows` as far as memory allows.",
                UserWarning,
                stacklevel=2,
            )
        return dict(self.trends)

    def rows(self, table: Any) -> tuple[pd.DataFrame, Any, NDArray | None]:
        """Return a table of all columns as X, y and weights, as `fit` takes them.

        Parameters
        ----------
        table : pyarrow.Table
            What `read` and `stream` return, with all columns of labels and weights.

        Returns
        -------
        X : DataFrame of shape (n, D)
            The features that the table has.
        y : Series of shape (n,) or DataFrame of shape (n, K)
        sample_weight : ndarray of shape (n,) or (n, K), float64, or None
            NaN where a weight is null.
        """
        held = [name for name in self.names if name in table.column_names]
        X, y = _from_arrow(table.select(held)), _from_arrow(table.select(self.targets))
        weight = None
        if self.weights:
            frame = table.select(self.weights).to_pandas()
            weight = frame.to_numpy(dtype=np.float64, na_value=np.nan)
            weight = weight if self.weight_per_target else weight[:, 0]
        return X, (y[self.targets[0]] if self.single else y), weight

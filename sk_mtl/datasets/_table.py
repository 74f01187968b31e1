"""From a raw file with several label columns to inputs and targets."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pandas.api.types import union_categoricals
from sklearn.utils import Bunch

from ._files import locate
from ._sources import SOURCES

SUBSETS = ("train", "test", "all")


@dataclass(frozen=True)
class BinaryTask:
    """A 0/1 target read off one column.

    Parameters
    ----------
    column : str
        Source column.
    positive : tuple of str
        Values of the column that count as 1; all others count as 0.
    """

    column: str
    positive: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """How a comma-separated public table is read and which tasks it offers.

    Parameters
    ----------
    name : str
        Name of the table in messages and in `SOURCES`: ``<name>-train`` and ``<name>-test``.
    columns : tuple of str
        Column names in file order.
    numeric : mapping of str to str
        dtype of each numeric column; all other columns are categorical.
    label : str
        Column whose values end in a full stop in some files, which is removed.
    tasks : mapping of str to mapping of str to BinaryTask
        Named task groups.
    description : str
        Text of the ``DESCR`` field.
    """

    name: str
    columns: tuple[str, ...]
    numeric: Mapping[str, str]
    label: str
    tasks: Mapping[str, Mapping[str, BinaryTask]]
    description: str


def fetch(
    table: Table,
    *,
    subset: str,
    tasks: str | Sequence[str],
    data_home: str | os.PathLike[str] | None,
    download_if_missing: bool,
    return_X_y: bool,
) -> Bunch | tuple[pd.DataFrame, pd.DataFrame]:
    """Load a table; the parameters are those of the public loaders.

    Parameters
    ----------
    table : Table
        Table to load.
    subset : {"train", "test", "all"}
        File to read.
    tasks : str or sequence of str
        Name of a task group, or columns to use as targets.
    data_home : path-like or None
        Cache folder.
    download_if_missing : bool
        Whether a missing file may be downloaded.
    return_X_y : bool
        Return two frames instead of a Bunch.

    Returns
    -------
    sklearn.utils.Bunch or (DataFrame, DataFrame)
        The data.

    Raises
    ------
    ValueError
        If `subset`, the task group or a column is unknown.
    OSError
        If a file is missing or not the published one.
    """
    if subset not in SUBSETS:
        raise ValueError(f"subset must be one of {', '.join(SUBSETS)}; got {subset!r}.")
    _check_tasks(table, tasks)
    parts = ("train", "test") if subset == "all" else (subset,)
    paths = [
        locate(
            SOURCES[f"{table.name}-{part}"],
            data_home=data_home,
            download_if_missing=download_if_missing,
        )
        for part in parts
    ]
    raw = _join([_read(path, table) for path in paths])
    X, Y = _split(raw, table, tasks)
    if return_X_y:
        return X, Y
    return Bunch(
        data=X,
        target=Y,
        frame=pd.concat([X, Y], axis=1),
        feature_names=list(X.columns),
        target_names=list(Y.columns),
        categorical_features=[name for name in X.columns if name not in table.numeric],
        filenames=[str(path) for path in paths],
        DESCR=table.description,
    )


def _check_tasks(table: Table, tasks: str | Sequence[str]) -> None:
    groups = ", ".join(map(repr, table.tasks))
    if isinstance(tasks, str):
        if tasks not in table.tasks:
            hint = f" For one column, pass [{tasks!r}]." if tasks in table.columns else ""
            raise ValueError(
                f"Unknown task group {tasks!r}; it must be one of {groups}, or a list of "
                f"column names.{hint}"
            )
        return
    names = list(tasks)
    unknown = [name for name in names if name not in table.columns]
    if unknown:
        raise ValueError(
            f"Unknown target columns {unknown}; the columns are {', '.join(table.columns)}."
        )
    if not names or len(set(names)) < len(names) or len(names) == len(table.columns):
        raise ValueError(
            "tasks must name at least one column, each once, and leave at least one for the "
            f"inputs; got {names}."
        )


def _read(path: Path, table: Table) -> pd.DataFrame:
    frame = pd.read_csv(
        path,
        header=None,
        names=list(table.columns),
        dtype={name: table.numeric.get(name, "category") for name in table.columns},
        comment="|",
        skipinitialspace=True,
        # The census file has "NA" as a proper answer; only "?" stands for a missing value.
        keep_default_na=False,
        na_values=["?"],
    )
    for name in frame.columns.difference(list(table.numeric)):
        # str(), because the reader takes codes written in digits for numbers.
        clean = {value: str(value).strip() for value in frame[name].cat.categories}
        if name == table.label:
            clean = {value: text.removesuffix(".") for value, text in clean.items()}
        frame[name] = frame[name].cat.rename_categories(clean)
    return frame


def _join(frames: list[pd.DataFrame]) -> pd.DataFrame:
    columns = {}
    for name in frames[0].columns:
        parts = [frame[name] for frame in frames]
        if isinstance(parts[0].dtype, pd.CategoricalDtype):
            # concat gives up the category dtype when the files' values differ.
            columns[name] = pd.Series(union_categoricals(parts, sort_categories=True))
        else:
            columns[name] = pd.concat(parts, ignore_index=True)
    return pd.DataFrame(columns)


def _split(
    raw: pd.DataFrame, table: Table, tasks: str | Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    if not isinstance(tasks, str):
        return raw.drop(columns=list(tasks)), raw[list(tasks)].copy()
    group = table.tasks[tasks]
    targets = {
        name: raw[task.column].isin(task.positive).astype("int64") for name, task in group.items()
    }
    return raw.drop(columns=[task.column for task in group.values()]), pd.DataFrame(targets)

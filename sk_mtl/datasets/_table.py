"""From a raw file to inputs and targets."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pandas.api.types import union_categoricals
from sklearn.utils import Bunch

from sk_mtl._checks import check_choice
from sk_mtl.datasets._files import locate
from sk_mtl.datasets._sources import SOURCES

SUBSETS = ("train", "test", "all")
"""What a loader can read of a table: one of its two files, or both."""


@dataclass(frozen=True)
class BinaryTarget:
    """A 0/1 target: whether a column holds one of some values.

    Parameters
    ----------
    column : str
        Source column.
    positive : tuple of str
        Values of the column that give 1; all others give 0.
    """

    column: str
    positive: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A public table of comma-separated values: how to read it, and which tasks it offers.

    Parameters
    ----------
    name : str
        Name of the table in `SOURCES`, which has ``<name>-train`` and ``<name>-test``.
    columns : tuple of str
        Column names in file order.
    numeric : mapping of str to str
        Dtype of each numeric column; all other columns are categorical.
    label : str
        Column whose values end in a full stop in some files; the full stop is removed.
    tasks : mapping of str to mapping of str to BinaryTarget
        Named task groups.
    description : str
        Text of the ``DESCR`` field.
    """

    name: str
    columns: tuple[str, ...]
    numeric: Mapping[str, str]
    label: str
    tasks: Mapping[str, Mapping[str, BinaryTarget]]
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
    """Load a table. The public loaders call this, and document its parameters."""
    check_choice("subset", subset, SUBSETS)
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
    """Raise unless `tasks` is a task group, or a list of columns that leaves some inputs."""
    if isinstance(tasks, str):
        if tasks not in table.tasks:
            hint = f"; for that column pass [{tasks!r}]" if tasks in table.columns else ""
            raise ValueError(
                f"`tasks` must be one of {list(table.tasks)} or a list of columns, got "
                f"{tasks!r}{hint}."
            )
        return
    names = list(tasks)
    unknown = [name for name in names if name not in table.columns]
    if unknown:
        raise ValueError(
            f"`tasks` names the columns {unknown}, which the table does not have; its columns are "
            f"{list(table.columns)}."
        )
    if not names or len(set(names)) < len(names) or len(names) == len(table.columns):
        raise ValueError(
            "`tasks` must name at least one column, each once, and leave at least one for the "
            f"inputs, got {names}."
        )


def _read(path: Path, table: Table) -> pd.DataFrame:
    """Read one file, numbers and categories."""
    frame = pd.read_csv(
        path,
        header=None,
        names=list(table.columns),
        dtype={name: table.numeric.get(name, "category") for name in table.columns},
        comment="|",
        skipinitialspace=True,
        # Only "?" is a missing value; "NA" is an answer in the census file.
        keep_default_na=False,
        na_values=["?"],
    )
    for name in frame.columns.difference(list(table.numeric)):
        # The reader makes numbers of codes that are written in digits; str() undoes it.
        clean = {value: str(value).strip() for value in frame[name].cat.categories}
        if name == table.label:
            clean = {value: text.removesuffix(".") for value, text in clean.items()}
        frame[name] = frame[name].cat.rename_categories(clean)
    return frame


def _join(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of all files, with one set of categories for each column."""
    columns = {}
    for name in frames[0].columns:
        parts = [frame[name] for frame in frames]
        if isinstance(parts[0].dtype, pd.CategoricalDtype):
            # concat drops the category dtype if the files' values differ.
            columns[name] = pd.Series(union_categoricals(parts, sort_categories=True))
        else:
            columns[name] = pd.concat(parts, ignore_index=True)
    return pd.DataFrame(columns)


def _split(
    raw: pd.DataFrame, table: Table, tasks: str | Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return inputs and targets."""
    if not isinstance(tasks, str):
        return raw.drop(columns=list(tasks)), raw[list(tasks)].copy()
    group = table.tasks[tasks]
    targets = {
        name: raw[target.column].isin(target.positive).astype("int64")
        for name, target in group.items()
    }
    return raw.drop(columns=[target.column for target in group.values()]), pd.DataFrame(targets)

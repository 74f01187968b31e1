"""Which encodings a column gets: what users pass, and the rule of "auto"."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sk_mtl._checks import subclasses
from sk_mtl.numeric.affine import Passthrough, Standardize
from sk_mtl.numeric.base import Encoding
from sk_mtl.numeric.learned import observed
from sk_mtl.numeric.periodic import Periodic
from sk_mtl.numeric.piecewise import PiecewiseLinear
from sk_mtl.numeric.quantile import QuantileNormal
from sk_mtl.numeric.robust import RobustClip
from sk_mtl.numeric.values import ExactValues

ENCODINGS: dict[str, type[Encoding]] = {
    cls.name: cls
    for cls in (
        Standardize, Passthrough, QuantileNormal, RobustClip, PiecewiseLinear, Periodic,
        ExactValues,
    )
}  # fmt: skip
"""The encodings by name."""

DEFAULT = "standardize"
"""The encoding of columns that a dict does not name."""

SAMPLE = 100_000
"""Rows that `choose_encodings` looks at, drawn with a fixed seed."""


class Group(NamedTuple):
    """An encoding and the numeric columns that it holds, by their places among these."""

    encoding: Encoding
    places: list[int]


def choose_encodings(
    values: NDArray, weight: NDArray | None = None, n_rows: int | None = None
) -> list[Group]:
    """Choose encodings by a look at the columns: the rule of ``numeric_features="auto"``.

    - `Standardize`: all columns.
    - `QuantileNormal` beside it: columns of more than 10 distinct values, from 500 rows on.
    - `ExactValues` of 8 numbers beside both, from n = 2000 rows on: columns of whole numbers that
      have from 3 to min(2000, n / 20) distinct values, if the rows that do not hold the commonest
      value are at least 10 times as many as the distinct values. (A column that is nearly always
      0 has too few rows of each other value to learn from.)

    Rows beyond 100,000 are not looked at: those that are, are drawn with a fixed seed.

    Parameters
    ----------
    values : ndarray of shape (n, F), float64
        The columns, NaN where missing, of the rows that will be trained on.
    weight : ndarray of shape (n,), optional
        Weights of the rows; those without weight do not count.
    n_rows : int, optional
        How many rows there are, if `values` are those drawn of them already.

    Returns
    -------
    list of (Encoding, list of int)
        Each encoding with the columns that it holds, by position.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mtl.numeric import choose_encodings
    >>> values = np.column_stack([np.linspace(0.0, 1.0, 3000), np.arange(3000) % 7])
    >>> for encoding, columns in choose_encodings(values):
    ...     print(encoding, columns)
    Standardize() [0, 1]
    QuantileNormal() [0]
    ExactValues(embedding_dim=8) [1]
    """
    groups = [Group(Standardize(), list(range(values.shape[1])))]
    rows, _ = observed(values, weight)
    n = len(rows) if n_rows is None else n_rows
    if n < 500:
        return groups
    rows = rows[sampled(len(rows))]
    many, few = [], []
    for j, column in enumerate(rows.T):
        found, counts = np.unique(column[~np.isnan(column)], return_counts=True)
        if len(found) > 10:
            many.append(j)
        if n >= 2000 and 3 <= len(found) <= min(2000, n / 20) and _learnable(found, counts):
            few.append(j)
    chosen = [Group(QuantileNormal(), many), Group(ExactValues(embedding_dim=8), few)]
    return groups + [group for group in chosen if group.places]


def sampled(n: int) -> NDArray | slice:
    """Return the positions, of n rows, of those that `choose_encodings` looks at."""
    if n <= SAMPLE:
        return slice(None)
    return np.sort(np.random.default_rng(0).choice(n, SAMPLE, replace=False))


def _learnable(found: NDArray, counts: NDArray) -> bool:
    """Say whether distinct values are whole numbers with enough rows each to learn from."""
    rest = counts.sum() - counts.max()
    return bool((found == np.floor(found)).all() and rest >= 10 * len(found))


def resolve_encodings(
    asked: Any, names: Sequence[Any], columns: Sequence[int], sample: Any
) -> list[Group]:
    """Return the encodings that `numeric_features` asks for, copied and checked.

    Parameters
    ----------
    asked : str, Encoding, sequence or mapping
        One for all columns, several side by side, or by column (name or position).
    names : sequence
        Names of all columns of X.
    columns : sequence of int
        Positions of the numeric ones.
    sample : callable or None
        Returns, if "auto" is to look at them, numeric columns, (n, F) float64, of the rows to
        learn from or a sample of them, and the number of the rows. None if they are sparse:
        "auto" then standardizes.

    Returns
    -------
    list of Group
        Equal encodings once, in the order in which they were asked for.

    Raises
    ------
    ValueError
        If an encoding, an option or a column is not known.
    """
    everything = list(range(len(columns)))
    if not isinstance(asked, Mapping):
        pairs = [(entry, everything) for entry in _entries(asked, "")]
    else:
        by_place: dict[int, Any] = {}
        for key, value in asked.items():
            place = _place(key, names, columns)
            if place in by_place:
                raise ValueError(
                    f"`numeric_features` names column {names[columns[place]]!r} twice, by name "
                    "and by position; name it once."
                )
            by_place[place] = value
        pairs = [
            (entry, [place])
            for place, value in by_place.items()
            for entry in _entries(value, f" of column {names[columns[place]]!r}")
        ]
        rest = [place for place in everything if place not in by_place]
        pairs = [(entry, rest) for entry in _entries(DEFAULT, "") if rest] + pairs
    by_rule = [place for entry, places in pairs if entry is None for place in places]
    groups = [Group(entry, places) for entry, places in pairs if entry is not None]
    if by_rule and sample is None:
        groups.append(Group(ENCODINGS[DEFAULT](), by_rule))
    elif by_rule:
        values, n_rows = sample()
        chosen = choose_encodings(values[:, by_rule], n_rows=n_rows)
        groups += [Group(one, [by_rule[j] for j in places]) for one, places in chosen]
    return _merge(groups)


def _entries(value: Any, whose: str) -> list[Encoding | None]:
    """Return what stands for some columns as a list of encodings, None for "auto"."""
    if isinstance(value, str) and value == "auto":
        return [None]
    several = list(value) if isinstance(value, list | tuple) else [value]
    if not several:
        raise ValueError(f"`numeric_features`{whose} is empty; pass one encoding at least.")
    entries: list[Encoding | None] = []
    for one in several:
        if isinstance(one, str) and one in ENCODINGS:
            encoding = ENCODINGS[one]()
        elif isinstance(one, Encoding):
            encoding = deepcopy(one)
            encoding.check()
        else:
            raise ValueError(
                f"`numeric_features`{whose} is {value!r}; pass 'auto', one of "
                f"{list(ENCODINGS)}, an instance of a class of sk_mtl.numeric, a list of such, or "
                "a dict of them by column."
            )
        if any(_key(encoding) == _key(other) for other in entries if other is not None):
            raise ValueError(
                f"`numeric_features`{whose} is {value!r}, which has {encoding!r} twice; pass it "
                "once."
            )
        entries.append(encoding)
    return entries


def _place(key: Any, names: Sequence[Any], columns: Sequence[int]) -> int:
    """Return the place of a column among the numeric ones."""
    is_position = isinstance(key, int | np.integer) and not isinstance(key, bool)
    if key in names:
        position = list(names).index(key)
    elif is_position and 0 <= key < len(names):
        position = int(key)
    else:
        raise ValueError(
            f"`numeric_features` names {key!r}, which is no column of X; its columns are "
            f"{list(names)}."
        )
    if position not in columns:
        raise ValueError(
            f"`numeric_features` names {key!r}, which is a categorical column; the numeric ones "
            f"are {[names[j] for j in columns]}."
        )
    return list(columns).index(position)


def _merge(groups: list[Group]) -> list[Group]:
    """Give each of several equal encodings the columns of all of them."""
    merged: dict[Any, tuple[Encoding, set[int]]] = {}
    for encoding, places in groups:
        merged.setdefault(_key(encoding), (encoding, set()))[1].update(places)
    return [Group(encoding, sorted(places)) for encoding, places in merged.values()]


def _key(encoding: Encoding) -> Any:
    """Return what equal encodings share."""
    return type(encoding), repr(encoding.get_params())


def find_encoding_class(name: str) -> type[Encoding]:
    """Return the imported subclass of `Encoding` of a name.

    Raises
    ------
    ValueError
        If there is none.
    """
    for cls in (*ENCODINGS.values(), *subclasses(Encoding)):
        if cls.__name__ == name:
            return cls
    raise ValueError(f"unknown encoding {name!r}; import the module that defines it first")

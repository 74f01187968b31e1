"""Which kind of categories a column is: what users pass."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from sk_mtl.categorical.bag import Bag
from sk_mtl.categorical.base import CategoricalEncoding
from sk_mtl.categorical.hashed import Hashed
from sk_mtl.categorical.learned import Categories

KINDS: dict[str, type[CategoricalEncoding]] = {cls.name: cls for cls in (Categories, Hashed, Bag)}
"""The kinds by name."""


def resolve_kinds(
    asked: Any, names: Sequence[Any]
) -> tuple[dict[int, CategoricalEncoding], CategoricalEncoding]:
    """Return the kinds of categories that `categorical_features` asks for, copied and checked.

    Parameters
    ----------
    asked : object
        `categorical_features` as it was passed.
    names : sequence
        Names of the columns of X.

    Returns
    -------
    named : dict of int to CategoricalEncoding
        The kinds of the columns that a dict names, by position.
    other : CategoricalEncoding
        The kind of all other categorical columns.

    Raises
    ------
    ValueError
        If a kind, an option or a column is not known.
    """
    if isinstance(asked, CategoricalEncoding):
        return {}, _kind(asked, "")
    named: dict[int, CategoricalEncoding] = {}
    for key, value in asked.items() if isinstance(asked, Mapping) else ():
        j = _position(key, names)
        if j in named:
            raise ValueError(
                f"`categorical_features` names column {names[j]!r} twice, by name and by position; "
                "name it once."
            )
        named[j] = _kind(value, f" of column {names[j]!r}")
    return named, Categories()


def _kind(value: Any, whose: str) -> CategoricalEncoding:
    """Return what stands for a column as a kind of categories."""
    if value is None:
        return Categories()
    if isinstance(value, str) and value in KINDS:
        return KINDS[value]()
    if isinstance(value, CategoricalEncoding):
        kind = deepcopy(value)
        kind.check()
        return kind
    raise ValueError(
        f"`categorical_features`{whose} is {value!r}; pass an instance of a class of "
        f"sk_mtl.categorical, one of {list(KINDS)}, or None for the default."
    )


def _position(key: Any, names: Sequence[Any]) -> int:
    """Return the position of a column in X."""
    is_position = isinstance(key, int | np.integer) and not isinstance(key, bool)
    if key in names:
        return list(names).index(key)
    if is_position and 0 <= key < len(names):
        return int(key)
    raise ValueError(
        f"`categorical_features` names {key!r}, which is no column of X; its columns are "
        f"{list(names)}."
    )

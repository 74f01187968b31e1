"""Blocks of floats, dense or CSR: rounding, missing and infinite entries."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


def round_columns(block: Any, columns: list[int]) -> Any:
    """Return a block some columns of which are as float32 has them; a copy if there are some."""
    if not columns or block.dtype == np.float32:
        return block
    with np.errstate(over="ignore"):
        narrow = block.astype(np.float32)
    if np.isinf(narrow).any():  # numbers beyond those of float32 take its last ones
        limits = np.finfo(np.float32)
        narrow = block.clip(limits.min, limits.max).astype(np.float32)
    if len(columns) < block.shape[1]:
        block = block.copy()
        block[:, columns] = narrow[:, columns]
        return block
    return narrow


def loses_digits(column: NDArray) -> bool:
    """Whether a column of float64 has a number that float32 has not."""
    with np.errstate(over="ignore"):
        return not np.array_equal(column, column.astype(np.float32), equal_nan=True)


def columns_with_nan(block: Any) -> list[int]:
    """Return the positions of the columns that have a missing value."""
    if sparse.issparse(block):
        coo = block.tocoo()
        return np.unique(coo.col[np.isnan(coo.data)]).tolist()
    return np.flatnonzero(np.isnan(block).any(axis=0)).tolist()


def refuse_infinite(block: Any, names: list[Any]) -> None:
    """Raise if a block has an infinite entry, and name its column."""
    infinite = np.isinf(block.data if sparse.issparse(block) else block)
    if not infinite.any():
        return
    coo = block.tocoo() if sparse.issparse(block) else None
    bad = np.isinf(block).any(axis=0) if coo is None else coo.col[np.isinf(coo.data)]
    column = int(np.flatnonzero(bad)[0]) if coo is None else int(bad[0])
    raise ValueError(
        f"Input X contains infinity or a value too large for dtype('float64') in column "
        f"{names[column]!r}; replace it, by NaN if it means missing."
    )

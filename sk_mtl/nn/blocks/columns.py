"""What blocks of numbers share: which columns, what fills a gap, and marks of gaps."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from sk_mtl.nn.blocks.base import Block
from sk_mtl.nn.blocks.grid import Precise


def pick(part: Tensor, columns: Tensor | None) -> Tensor:
    """Return some columns of a part, all if None."""
    return part if columns is None else part.index_select(1, columns)


def as_columns(columns: Sequence[int] | None) -> Tensor | None:
    """Return positions of columns as a tensor, None for all."""
    return None if columns is None else torch.tensor(columns, dtype=torch.int64)


def number_places(
    columns: Tensor | None, n_columns: int, width: int, missing_columns: Tensor
) -> list[tuple[int, list[int]]]:
    """Return the places of columns with some numbers each, and indicators behind them."""
    where = range(n_columns) if columns is None else columns.tolist()
    found = [(own, [*range(k * width, (k + 1) * width)]) for k, own in enumerate(where)]
    for position, k in enumerate(missing_columns.tolist()):
        found[k][1].append(n_columns * width + position)
    return found


class ColumnsBlock(Precise, Block):
    """Base of blocks that turn each of some numeric columns into numbers of its own.

    Parameters
    ----------
    width : int
        Numbers per column.
    fill : array-like of shape (F,)
        The value that a missing one is read as, for each of the block's F columns.
    held : sequence of bool
        Columns that always read their fill: those that had a single value at `fit`, of which no
        other value has been learned.
    columns : sequence of int, optional
        Positions of the block's columns in the part. Default: all of them.
    missing_columns : sequence of int, default=()
        Those of the F columns, by position, that get an indicator of missing values.

    Notes
    -----
    Numbers are computed in float64 until `prepare` returns them in the network's precision.
    """

    precise: ClassVar[tuple[str, ...]] = ("fill",)
    columns: Tensor | None
    fill: Tensor
    held: Tensor
    missing_columns: Tensor
    like: Tensor

    def __init__(
        self,
        width: int,
        *,
        fill: Any,
        held: Sequence[bool],
        columns: Sequence[int] | None = None,
        missing_columns: Sequence[int] = (),
    ) -> None:
        super().__init__()
        values = torch.as_tensor(fill, dtype=torch.float64)
        missing = torch.tensor(missing_columns, dtype=torch.int64)
        self.n_columns, self.width = len(values), width
        self.register_buffer("fill", values.clone(), persistent=False)
        self.register_buffer("held", torch.tensor(held, dtype=torch.bool), persistent=False)
        self.register_buffer("columns", as_columns(columns), persistent=False)
        self.register_buffer("missing_columns", missing, persistent=False)
        # Tells the network's precision: casting a module casts it.
        self.register_buffer("like", torch.zeros(()), persistent=False)
        self.out_features = self.n_columns * width + len(missing_columns)

    def places(self) -> list[tuple[int, list[int]]]:
        """Return each column's places: its numbers, and its indicator behind those of all."""
        return number_places(self.columns, self.n_columns, self.width, self.missing_columns)

    def clean(self, part: Tensor) -> Tensor:
        """Return the block's columns without gaps: (B, all) -> (B, F) float64."""
        x = pick(part, self.columns).to(torch.float64)
        return torch.where(x.isnan() | self.held, self.fill, x)

    def join(self, numbers: Sequence[Tensor], part: Tensor) -> Tensor:
        """Set numbers, each (B, F), and the indicators side by side, in the network's precision."""
        parts = [own.to(self.like.dtype) for own in numbers]
        if len(self.missing_columns):
            missing = pick(part, self.columns).index_select(1, self.missing_columns).isnan()
            parts.append(missing.to(self.like.dtype))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def finish(self, vectors: Tensor, prepared: Tensor) -> Tensor:
        """Set the columns' vectors, (B, F, width), and the indicators side by side."""
        flat = vectors.flatten(1)
        n_marks = len(self.missing_columns)
        return torch.cat([flat, prepared[:, -n_marks:]], dim=1) if n_marks else flat


class ScalarsBlock(ColumnsBlock):
    """Base of blocks that turn each number into another one, without weights.

    Parameters
    ----------
    generator : torch.Generator, optional
        Not used: the block has no weights.
    **columns
        ``fill``, ``held``, ``columns``, ``missing_columns``: see `ColumnsBlock`.
    """

    def __init__(self, *, generator: torch.Generator | None = None, **columns: Any) -> None:
        super().__init__(1, **columns)

    @abstractmethod
    def numbers(self, x: Tensor) -> Tensor:
        """Turn numbers without gaps into others: (B, F) float64 -> (B, F) float64."""

    def prepare(self, part: Tensor) -> Tensor:
        """Do all there is to do: (B, all) -> (B, F + indicators)."""
        return self.join([self.numbers(self.clean(part))], part)

    def embed(self, prepared: Tensor) -> Tensor:
        """Return the prepared numbers."""
        return prepared

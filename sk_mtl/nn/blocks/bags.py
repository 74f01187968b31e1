"""Several categories in a cell, pooled."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sk_mtl.nn.blocks.tables import TablesBlock


def pool(vectors: Tensor, ends: Tensor, pooling: str) -> Tensor:
    """Pool runs of vectors: (N, d), where each run begins and the last one ends (B + 1,) -> (B, d).

    Parameters
    ----------
    vectors : Tensor of shape (N, d)
        The vectors.
    ends : Tensor of int64 of shape (B + 1,)
        Where the runs begin, counted from any start. No run is empty.
    pooling : {"sum", "mean", "max"}
        What becomes of a run. Of equal greatest entries each gets the same share of the gradient.
    """
    offsets = ends - ends[0]
    if pooling == "max" and torch.is_grad_enabled():
        return _Max.apply(vectors, offsets)
    return torch.segment_reduce(vectors, pooling, offsets=offsets, axis=0)


class _Max(torch.autograd.Function):
    """The greatest entries of runs.

    torch's own gradient (2.13) gives each of several equal entries the whole of a negative
    gradient, and a share of a positive one.
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, offsets: Tensor) -> Tensor:
        found = torch.segment_reduce(vectors, "max", offsets=offsets, axis=0)
        ctx.save_for_backward(vectors, offsets, found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        vectors, offsets, found = ctx.saved_tensors
        lengths = offsets.diff()
        is_greatest = (vectors == found.repeat_interleave(lengths, 0)).to(grad.dtype)
        ties = torch.segment_reduce(is_greatest, "sum", offsets=offsets, axis=0)
        return is_greatest * (grad / ties).repeat_interleave(lengths, 0), None


class BagsBlock(TablesBlock):
    """Embed categorical columns, in some of which a cell holds several categories.

    Parameters
    ----------
    n_categories : sequence of int
        As in `TablesBlock`.
    embedding_dims : sequence of int
        As in `TablesBlock`.
    poolings : sequence of {None, "sum", "mean", "max"}
        For each column what becomes of a cell's vectors: their sum, their mean, or the greatest of
        each entry. None: a cell holds one category.
    copies : int, default=0
        As in `TablesBlock`.
    generator : torch.Generator, optional
        Source of the initial embeddings.
    **options
        ``vocabularies``, ``hashed``, ``vectors``, ``frozen``: see `TablesBlock`.

    Notes
    -----
    Shape: rows of a `sk_mtl.data.bags.Bags` -> (B, out_features), or with copies
    (B, c, out_features). Of the columns of one width those with one category stand first.

    No cell is without a code: an empty one holds that of a missing value.
    """

    kind: ClassVar[str] = "bags"

    def __init__(
        self,
        n_categories: Sequence[int],
        embedding_dims: Sequence[int],
        *,
        poolings: Sequence[str | None],
        copies: int = 0,
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            n_categories, embedding_dims, copies=copies, generator=generator, **options
        )
        self.cells = [c for c, pooling in enumerate(poolings) if pooling is None]
        self.bags = [(c, pooling) for c, pooling in enumerate(poolings) if pooling is not None]
        self._set_columns(self.cells)

    def prepare(self, part: Any) -> Any:
        """Return the slots that rows read, in the place of codes."""
        values = [
            codes.long() + self.homes[column][1]
            for codes, (column, _) in zip(part.values, self.bags, strict=True)
        ]
        return part.replace(super().prepare(part.codes), values)

    def places(self) -> list[tuple[int, list[int]]]:
        """Return each column's places: of one width, first the columns with one category."""
        found, start = [], 0
        for index, table in enumerate(self.tables):
            width = table.shape[1] // max(self.copies, 1)
            for column in (*self.columns[index], *(c for c, _, _ in self._bags_of(index))):
                found.append((column, [*range(start, start + width)]))
                start += width
        return found

    def _bags_of(self, index: int) -> list[tuple[int, str, int]]:
        """Return the bags that read table `index`: column, pooling, and position among bags."""
        return [
            (column, pooling, k)
            for k, (column, pooling) in enumerate(self.bags)
            if self.homes[column][0] == index
        ]

    def embed(self, prepared: Any) -> Tensor:
        """Look the slots up and pool: rows -> (B, out_features), or (B, c, out_features)."""
        parts, start = [], 0
        for index, columns in enumerate(self.single):
            stop = start + len(columns)
            if columns:
                parts.append(self._embed_cells(index, prepared.codes[:, start:stop]))
            start = stop
            for column, pooling, k in self._bags_of(index):
                slots, ends = prepared.values[k], prepared.offsets[k]
                found = self._look_up(index, slots, self.homes[column][1])
                pooled = pool(found, ends, pooling)
                parts.append(pooled.unflatten(1, (self.copies, -1)) if self.copies else pooled)
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def _all_slots(self, part: Any, index: int) -> Tensor:
        """Return all slots of table `index` that rows read, (N,)."""
        bags = [
            part.values[k].long() + self.homes[column][1] for column, _, k in self._bags_of(index)
        ]
        return torch.cat([self._slots(part.codes, index).flatten(), *bags])

    def count(self, part: Any) -> None:
        """Count how often each category stands in the rows trained on."""
        self._count(part.codes, self.cells)
        for codes, (column, _) in zip(part.values, self.bags, strict=True):
            self._count(codes.unsqueeze(1), [column])

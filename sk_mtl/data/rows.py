"""Rows as tensors, and batches cut from them in slices."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from sk_mtl.data.bags import Bags

CHUNK_ROWS = 65_536
"""Rows gathered at once in shuffled order; batches are views of the gathered chunk."""

CHUNK_BYTES = 2**20
"""Most bytes, as dense float64, of the rows gathered at once, if they are more than a batch."""


class Batch(NamedTuple):
    """Some rows, ready for a network.

    ``parts`` are the rows' parts by name, ``target`` the encoded labels (B, K), ``weight`` their
    weights (B, K) or None for all one. ``stands_in`` says that no row is this share's: the one
    that is there has weight zero, and is there because networks take no empty batch.
    """

    parts: dict[str, Any]
    target: Tensor
    weight: Tensor | None
    stands_in: bool = False

    @property
    def n_rows(self) -> int:
        """Number of rows B that count."""
        return 0 if self.stands_in else self.target.shape[0]


class Numbers:
    """Numbers of n rows in four bytes each, and in eight where four would lose digits that count.

    Rows are written once, by slices from the first to the last.

    Parameters
    ----------
    n : int
        Number of rows.
    n_columns : int
        Number of columns F.
    exact : sequence of int
        Columns to look at: one of them that does not fit is kept in eight bytes. The others do.
    """

    def __init__(self, n: int, n_columns: int, exact: Sequence[int] = ()) -> None:
        self.shape = (n, n_columns)
        self.exact = list(exact)
        self.narrow = np.empty(self.shape, dtype=np.float32)
        self.wide: dict[int, NDArray] = {}

    def __len__(self) -> int:
        return self.shape[0]

    def __setitem__(self, at: slice, block: NDArray) -> None:
        """Write some rows, (b, F) floats."""
        with np.errstate(over="ignore"):  # too large for a float32: not equal, and so kept wide
            self.narrow[at] = block
        for j in self.exact:
            if j not in self.wide and not np.array_equal(
                self.narrow[at, j], block[:, j], equal_nan=True
            ):
                self.wide[j] = np.empty(len(self))
                self.wide[j][: at.start] = self.narrow[: at.start, j]
            if j in self.wide:
                self.wide[j][at] = block[:, j]

    def __getitem__(self, index: Any) -> Tensor:
        """Return some rows, (b, F) float64."""
        block = self.narrow[index].astype(np.float64)
        for j, values in self.wide.items():
            block[:, j] = values[index]
        return torch.from_numpy(block)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return self.narrow.nbytes + sum(values.nbytes for values in self.wide.values())

    def smallest(self) -> "NDArray | Numbers":
        """Return the plain array where four bytes did for every column, else itself."""
        return self if self.wide else self.narrow


class Rows(Dataset):
    """All rows of a data set: parts for the blocks, and targets and weights where there are any.

    Parameters
    ----------
    parts : mapping of str to (ndarray, CSR matrix or other)
        What encoders made, by name, n rows each. Arrays become tensors; a matrix is made dense a
        chunk at a time; anything else must have a length and be cut by slices and by arrays of
        positions.
    target : ndarray of shape (n, K), optional
        Encoded labels, NaN where not observed.
    weight : ndarray of shape (n, K), optional
        Weight of each label, zero where not observed. None: all one.
    dtype : torch.dtype
        Of targets and weights.
    device : torch.device
        Where tensors are to live.
    """

    def __init__(
        self,
        parts: Mapping[str, Any],
        target: NDArray | None = None,
        weight: NDArray | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.parts = {name: self._place(part) for name, part in parts.items()}
        self.target = self.weight = None
        if target is not None:
            self.target = _tensor(target).to(self.device, dtype)
        if weight is not None:
            self.weight = _tensor(weight).to(self.device, dtype)

    def __len__(self) -> int:
        return _n_rows(next(iter(self.parts.values())))

    def __getitem__(self, index: Any) -> Batch:
        """Return rows: a view for a slice, copies for a tensor of positions."""
        parts = {name: self._cut(part, index) for name, part in self.parts.items()}
        if self.target is None:
            target = torch.zeros(_n_rows(next(iter(parts.values()))), 0)
        else:
            target = take(self.target, index)
        return Batch(parts, target, None if self.weight is None else take(self.weight, index))

    def labels(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield the targets and weights of all rows in their order, some rows at a time."""
        assert self.target is not None
        for start in range(0, len(self), CHUNK_ROWS):
            here = slice(start, start + CHUNK_ROWS)
            yield self.target[here], None if self.weight is None else self.weight[here]

    def show(self, function: Callable[[Mapping[str, Any]], None]) -> None:
        """Call a function with the parts of all rows."""
        function(self.parts)

    def head(self) -> "Rows":
        """Return some of the rows, the first ones among them."""
        return self

    def _place(self, part: Any) -> Any:
        if isinstance(part, np.ndarray):
            return _tensor(part).to(self.device)
        return part.to(self.device) if isinstance(part, Bags) else part

    def _cut(self, part: Any, index: Any) -> Any:
        if isinstance(part, Tensor):
            return take(part, index)
        if isinstance(part, Bags):
            return part[index]
        cut = part[index.numpy(force=True) if isinstance(index, Tensor) else index]
        if _is_matrix(cut):
            cut = torch.from_numpy(cut.toarray())
        return cut.to(self.device) if isinstance(cut, Tensor) else cut

    @property
    def chunk_rows(self) -> int:
        """Rows to gather at once: fewer of wide ones."""
        width = sum(part.shape[1] for part in self.parts.values() if hasattr(part, "shape"))
        return max(1, min(CHUNK_ROWS, CHUNK_BYTES // (8 * max(width, 1))))


def take(tensor: Tensor, index: Any) -> Tensor:
    """Return rows of a tensor: a view for a slice, a copy for a tensor of positions."""
    # `index_select` is four times faster than `tensor[indices]`.
    return tensor.index_select(0, index) if isinstance(index, Tensor) else tensor[index]


def _is_matrix(part: Any) -> bool:
    return hasattr(part, "toarray")


def _n_rows(part: Any) -> int:
    return part.shape[0] if hasattr(part, "shape") else len(part)


def _tensor(array: NDArray) -> Tensor:
    """Share an array's memory, or copy it where torch cannot (read-only, negative strides)."""
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


class Batches:
    """Cut rows into batches: views of the rows, or of chunks gathered in shuffled order.

    Parameters
    ----------
    rows : Rows
        The data.
    batch_size : int
        Rows per batch. A last batch of a single row joins the one before it, since no statistic
        (batch normalization) can be taken of one row.
    shuffle : bool, default=False
        Whether each pass draws a new order.
    generator : torch.Generator, optional
        Source of the orders.
    device : torch.device, optional
        Where batches are needed; None: where the rows live.

    Attributes
    ----------
    prepare : callable or None
        If set, what a network makes of a row's parts before its weights, done once per chunk: the
        batches hold its results instead.
    share : (int, int)
        Which part of every batch to take, of how many: as many rows as in the other parts, or one
        more or less. The order is that of whole batches.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        shuffle: bool = False,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.rows, self.batch_size = rows, batch_size
        self.shuffle, self.generator, self.device = shuffle, generator, device
        self.prepare: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
        self.share = 0, 1

    def __len__(self) -> int:
        return len(self._starts())

    def _starts(self) -> list[int]:
        n = len(self.rows)
        starts = list(range(0, n, self.batch_size))
        if len(starts) > 1 and n - starts[-1] == 1 < self.batch_size:
            starts.pop()
        return starts

    def __iter__(self) -> Iterator[Batch]:
        n, starts = len(self.rows), self._starts()
        cuts = list(zip(starts, [*starts[1:], n], strict=True))
        order = None
        if self.shuffle:
            order = torch.randperm(n, generator=self.generator).to(self.rows.device)
        if self.share != (0, 1):
            yield from self._shared_batches(cuts, order)
            return
        per_chunk = max(1, self.rows.chunk_rows // self.batch_size)
        for first in range(0, len(cuts), per_chunk):
            members = cuts[first : first + per_chunk]
            offset, end = members[0][0], members[-1][1]
            chunk = self._gather(slice(offset, end) if order is None else order[offset:end])
            for start, stop in members:
                yield _slice(chunk, slice(start - offset, stop - offset))

    def _shared_batches(
        self, cuts: Sequence[tuple[int, int]], order: Tensor | None
    ) -> Iterator[Batch]:
        """Yield the own share of every batch; `cuts` are where the batches begin and end."""
        part, parts = self.share
        if order is None:
            order = torch.arange(len(self.rows), device=self.rows.device)
        per_chunk = max(1, self.rows.chunk_rows * parts // self.batch_size)
        for first in range(0, len(cuts), per_chunk):
            pieces = []
            for start, stop in cuts[first : first + per_chunk]:
                n = stop - start
                own = order[start + n * part // parts : start + n * (part + 1) // parts]
                pieces.append((own if len(own) else order[start : start + 1], not len(own)))
            chunk, offset = self._gather(torch.cat([own for own, _ in pieces])), 0
            for own, stands_in in pieces:
                batch = _slice(chunk, slice(offset, offset + len(own)))
                offset += len(own)
                if stands_in:
                    weight = torch.zeros_like(batch.target)
                    batch = batch._replace(weight=weight, stands_in=True)
                yield batch

    def _gather(self, index: Any) -> Batch:
        """Return the rows of a chunk where they are needed, prepared."""
        chunk = self.rows[index]
        if self.device is not None and torch.device(self.device) != self.rows.device:
            chunk = Batch(*(_move(part, self.device) for part in chunk))
        if self.prepare is not None:
            with torch.no_grad():
                chunk = chunk._replace(parts=self.prepare(chunk.parts))
        return chunk


def _slice(chunk: Batch, here: slice) -> Batch:
    """Return views of some rows."""
    return Batch(
        {name: part[here] for name, part in chunk.parts.items()},
        chunk.target[here],
        None if chunk.weight is None else chunk.weight[here],
    )


def _move(part: Any, device: Any) -> Any:
    """Move tensors to a device, in dictionaries too."""
    if isinstance(part, dict):
        return {name: _move(value, device) for name, value in part.items()}
    is_movable = isinstance(part, Tensor | Bags)
    return part.to(device, non_blocking=True) if is_movable else part

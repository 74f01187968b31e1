"""Rows that memory need not hold: read anew in every epoch, a window at a time."""

import ctypes
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sk_mtl.data.bags import BagStore
from sk_mtl.data.rows import Batch, Batches, Rows

HEAD_ROWS = 4096
"""Rows that are kept to try a network on."""


def give_back_memory() -> None:
    """Give the system back what the C library has free: windows leave gaps, and gaps add up."""
    if sys.platform == "linux":
        with suppress(AttributeError):  # a C library without it
            ctypes.CDLL(None).malloc_trim(0)


class Position(NamedTuple):
    """Where a pass over windows stands: the seed of its order, and how many windows are done."""

    seed: int
    window: int


class StreamedRows(Dataset):
    """Rows in groups, which are read, encoded and dropped again.

    Parameters
    ----------
    sizes : sequence of int
        Number of rows of each group.
    read : callable
        ``read(order, skip, n)`` yields `Rows`: of the groups in `order`, one after another, n rows
        from the one at position `skip` on.
    read_labels : callable
        ``read_labels()`` yields targets and weights of all rows in their order, some at a time.
    window_rows : int
        Rows held at once; beside them, the next as many are being read.
    seed : int, optional
        Seed of the orders; None: the generator of those who cut batches.
    identity : object, optional
        What says, by its `repr`, whose rows these are: names and sizes of files, say.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        read: Callable[[Sequence[int], int, int], Iterable[Rows]],
        read_labels: Callable[[], Iterable[tuple[Tensor, Tensor | None]]],
        window_rows: int,
        seed: int | None = None,
        identity: Any = None,
    ) -> None:
        self.identity = identity
        self.sizes, self.read, self.read_labels = list(sizes), read, read_labels
        self.window_rows = window_rows
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)
        self.shown: Callable[[Mapping[str, Any]], None] | None = None
        self._head: Rows | None = None

    def __len__(self) -> int:
        return sum(self.sizes)

    def labels(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield the targets and weights of all rows in their order, some rows at a time."""
        yield from self.read_labels()

    def show(self, function: Callable[[Mapping[str, Any]], None]) -> None:
        """Call a function with the parts of every window of the next pass."""
        self.shown = function

    def head(self) -> Rows:
        """Return the first rows."""
        if self._head is None:
            self._head = self.join(0, min(HEAD_ROWS, len(self)))
        return self._head

    def join(self, skip: int, n: int, order: Sequence[int] | None = None) -> Rows:
        """Return n rows from the one at position `skip` on, of the groups in an order."""
        order = range(len(self.sizes)) if order is None else order
        return join_rows(list(self.read(order, skip, n)))


class Windows:
    """Cut streamed rows into batches: those of a window, in an order of its own, then the next.

    A window is a run of rows over the groups, which come in a new order in every pass. The next
    window is read and encoded on a thread while the batches of one are used.

    Parameters
    ----------
    rows : StreamedRows
        The data.
    batch_size : int
        Rows per batch; a single row left at the end joins the batch before it.
    shuffle : bool, default=False
        Whether groups, and rows in their windows, come in an order of chance.
    generator : torch.Generator, optional
        Source of the seed of each pass, unless the rows have one.
    device : torch.device, optional
        Where batches are needed.

    Attributes
    ----------
    prepare : callable or None
        See `Batches`.
    share : (int, int)
        Which part of the rows to take, of how many: each reads an equal run of them. What the
        last one lacks are the first rows again; without shuffling they have no weight.
    next_pass : Position or None
        Where the next pass begins: as one that stopped there would have gone on.
    position : Position or None
        Where the pass stands that is under way.
    window_end : callable or None
        Called when all batches of a window have been used and others follow.
    """

    def __init__(
        self,
        rows: StreamedRows,
        batch_size: int,
        shuffle: bool = False,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.rows, self.batch_size = rows, batch_size
        self.shuffle, self.device = shuffle, device
        self.generator = generator if rows.generator is None else rows.generator
        self.prepare: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
        self.share = 0, 1
        self.next_pass: Position | None = None
        self.position: Position | None = None
        self.window_end: Callable[[], None] | None = None

    @property
    def own_batch_size(self) -> int:
        """Rows of a batch that this part takes."""
        return max(1, self.batch_size // self.share[1])

    def _cuts(self) -> list[tuple[int, int]]:
        """Return where each window begins in the run of rows to take, and its number of rows."""
        part, parts = self.share
        n = -(-len(self.rows) // parts)  # the last one takes some rows of the first again
        size = self.own_batch_size
        step = max(size, self.rows.window_rows // size * size)
        starts = list(range(0, n, step))
        if len(starts) > 1 and n - starts[-1] == 1 < size:
            starts.pop()  # no batch of a single row
        ends = [*starts[1:], n]
        return [(part * n + start, end - start) for start, end in zip(starts, ends, strict=True)]

    def __len__(self) -> int:
        size = self.own_batch_size
        return sum(max(1, n // size + (n % size > 1)) for _, n in self._cuts())

    def _draw(self) -> int:
        return int(torch.randint(2**62, (), generator=self.generator))

    def __iter__(self) -> Iterator[Batch]:
        begin = self.next_pass
        self.next_pass = None
        if begin is None:
            begin = Position(self._draw() if self.shuffle else 0, 0)
        cuts, order = self._cuts(), self._order(begin.seed)
        with ThreadPoolExecutor(1, thread_name_prefix="sk_mtl-window") as thread:
            coming = thread.submit(self._window, cuts[begin.window], order)
            for k in range(begin.window, len(cuts)):
                self.position = Position(begin.seed, k)
                if k > begin.window and self.window_end is not None:
                    self.window_end()
                window = coming.result()
                if k + 1 < len(cuts):
                    coming = thread.submit(self._window, cuts[k + 1], order)
                if self.rows.shown is not None:
                    self.rows.shown(window.parts)
                yield from self._batches(window, begin.seed, k)
                del window
                give_back_memory()
        self.position = self.rows.shown = None

    def _order(self, seed: int) -> list[int]:
        n = len(self.rows.sizes)
        if not self.shuffle:
            return list(range(n))
        return np.random.default_rng(seed).permutation(n).tolist()

    def _window(self, cut: tuple[int, int], order: list[int]) -> Rows:
        skip, n = cut
        whole = len(self.rows)
        pieces = list(self.rows.read(order, skip, min(n, max(whole - skip, 0))))
        if skip + n > whole:  # the last part goes on with the first rows
            first = max(skip - whole, 0)
            for again in self.rows.read(order, first, skip + n - whole - first):
                if not self.shuffle and again.target is not None:  # to be looked at once
                    again.weight = torch.zeros_like(again.target)
                pieces.append(again)
        return join_rows(pieces)

    def _batches(self, window: Rows, seed: int, k: int) -> Iterator[Batch]:
        generator = None
        if self.shuffle:
            # Each window has a seed of its own, so that a pass can begin at any of them.
            own = np.random.SeedSequence([seed, k]).generate_state(1, np.uint64)[0]
            generator = torch.Generator().manual_seed(int(own) >> 1)
        batches = Batches(window, self.own_batch_size, self.shuffle, generator, self.device)
        batches.prepare = self.prepare
        yield from batches


def cut_batches(
    rows: Rows | StreamedRows, batch_size: int, shuffle: bool = False, generator: Any = None
) -> Batches | Windows:
    """Return what cuts rows into batches."""
    kind = Windows if isinstance(rows, StreamedRows) else Batches
    return kind(rows, batch_size, shuffle, generator)  # type: ignore[arg-type]


def join_rows(pieces: Sequence[Rows]) -> Rows:
    """Return rows one after another, all on the CPU."""
    if len(pieces) == 1:
        return pieces[0]
    joined = Rows({})
    for name in pieces[0].parts:
        joined.parts[name] = _join([rows.parts[name] for rows in pieces])
    joined.target = _join([rows.target for rows in pieces])
    if any(rows.weight is not None for rows in pieces):
        joined.weight = _join([_weight(rows) for rows in pieces])
    return joined


def _weight(rows: Rows) -> Tensor:
    assert rows.target is not None
    return torch.ones_like(rows.target) if rows.weight is None else rows.weight


def _join(parts: Sequence[Any]) -> Any:
    if not isinstance(parts[0], Tensor):
        store = BagStore()
        store.pieces = list(parts)
        return store.smallest()
    # numpy's copy runs on this thread alone: torch's would start threads beside those that train.
    return torch.from_numpy(np.concatenate([part.numpy() for part in parts]))

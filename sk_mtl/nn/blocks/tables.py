"""Categories: codes looked up in embedding tables."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sk_mtl.nn.blocks.base import Block
from sk_mtl.nn.threads import on_one_thread

N_SPECIAL = 2
"""Codes before the known categories: 0 for a missing value, 1 for an unknown category."""

UNKNOWN = 1
"""Code of an unknown category."""

SPARSE_SLOTS = 50_000
"""Tables with more slots than this pass sparse gradients, if nothing else is asked for."""


def lookup(table: Tensor, slots: Tensor, sparse: bool) -> Tensor:
    """Return slots of a table, (S, d), (N,) -> (N, d); the gradient is sparse if asked."""
    if torch.compiler.is_compiling():
        return torch.nn.functional.embedding(slots, table, sparse=sparse)
    if not torch.is_grad_enabled():
        return table.index_select(0, slots)
    return _Lookup.apply(table, slots, sparse)


class _Lookup(torch.autograd.Function):
    """`torch.nn.functional.embedding` with cheaper sums of the gradients of equal slots."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, slots: Tensor, sparse: bool) -> Tensor:
        ctx.save_for_backward(slots)
        ctx.shape, ctx.sparse = table.shape, sparse
        return table.index_select(0, slots)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (slots,) = ctx.saved_tensors
        if not ctx.sparse:
            return sum_slots(grad, slots, ctx.shape[0]), None, None
        # A slot may stand several times: the optimizer adds it up, in less time than a sort.
        gradient = torch.sparse_coo_tensor(
            slots.unsqueeze(0), grad, ctx.shape, check_invariants=False
        )
        return gradient, None, None


def sum_slots(values: Tensor, slots: Tensor, n: int) -> Tensor:
    """Add up the values of equal slots: (N, d), (N,) -> (n, d)."""
    sums = values.new_zeros(n, values.shape[1])
    large = values.shape[1] > 8 and values.numel() > 2**18
    if large or values.device.type != "cpu":
        return sums.index_add_(0, slots, values)
    # With several threads `index_add_` sorts the indices first, and threads contend for cache
    # lines: five times slower for narrow rows.
    return on_one_thread(sums.index_add_, 0, slots, values)


class TablesBlock(Block):
    """Embed categorical columns.

    Vocabularies with the same embedding width share one table, each at an offset of its own, so
    that all columns of that width take one gather.

    Parameters
    ----------
    n_categories : sequence of int, default=()
        Number of known categories of each of the C columns.
    embedding_dims : sequence of int, default=()
        Width of each column's embedding.
    vocabularies : sequence of int, optional
        The vocabulary of each column, from 0 to V - 1. Columns of one vocabulary read the same
        slots. Default: each column has its own.
    hashed : sequence of int, default=()
        Vocabularies that are hashed: in evaluation a slot that training did not show reads as an
        unknown category does.
    vectors : mapping of int to (array of int64, array), optional
        Initial vectors by vocabulary: codes, and a vector for each, (n, width).
    frozen : mapping of int to array of int64, optional
        By vocabulary the codes whose vectors no gradient reaches.
    copies : int, default=0
        Number c of vectors that each slot holds; 0: one, and `embed` returns no axis of copies.
    generator : torch.Generator, optional
        Source of the initial embeddings.

    Attributes
    ----------
    out_features : int
        Sum of the widths.
    tables : nn.ParameterList
        One table for each width, (slots, width) or, with copies, (slots, c * width).
    sparse : tuple of bool
        For each table, whether it passes sparse gradients; see `choose_sparse`.

    Notes
    -----
    Shape: codes (B, C) of integers -> (B, out_features), the columns of one width side by side,
    or with copies (B, c, out_features).

    Code 0 is a missing value, 1 an unknown category, 2 and up the known categories. A vocabulary
    in which training showed no missing value or no unknown category reads that code as the mean
    of what it did show, see `settle`.

    Examples
    --------
    >>> import torch
    >>> from sk_mtl.nn import TablesBlock
    >>> block = TablesBlock(n_categories=[10, 4], embedding_dims=[8, 8])
    >>> block.embed(block.prepare(torch.tensor([[0, 5], [11, 2]]))).shape
    torch.Size([2, 16])
    """

    kind: ClassVar[str] = "tables"
    copyable: ClassVar[bool] = True
    owners: Tensor
    special_seen: Tensor
    totals: Tensor

    def __init__(
        self,
        n_categories: Sequence[int] = (),
        embedding_dims: Sequence[int] = (),
        *,
        vocabularies: Sequence[int] | None = None,
        hashed: Sequence[int] = (),
        vectors: Mapping[int, tuple[Any, Any]] | None = None,
        frozen: Mapping[int, Any] | None = None,
        copies: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        n_columns = len(n_categories)
        self.n_columns, self.copies = n_columns, copies
        owners = list(range(n_columns)) if vocabularies is None else list(vocabularies)
        first = {owner: column for column, owner in reversed([*enumerate(owners)])}
        n_owners = len(first)
        self.register_buffer("owners", torch.tensor(owners, dtype=torch.int64), persistent=False)
        # Whether training ever showed a vocabulary's missing and unknown codes.
        self.register_buffer("special_seen", torch.zeros(n_owners, N_SPECIAL, dtype=torch.bool))
        # How many known categories training showed of each vocabulary.
        self.register_buffer("totals", torch.zeros(n_owners, dtype=torch.float64))
        by_width: dict[int, list[int]] = {}
        for owner in range(n_owners):
            by_width.setdefault(embedding_dims[first[owner]], []).append(owner)
        self.vocabularies = list(by_width.values())
        self.sizes = [
            [n_categories[first[owner]] + N_SPECIAL for owner in own] for own in self.vocabularies
        ]
        # Where each vocabulary begins: its table, and the slot in it.
        homes: dict[int, tuple[int, int]] = {}
        self.tables = nn.ParameterList()
        for index, (own, sizes) in enumerate(zip(by_width, self.sizes, strict=True)):
            width = own * max(copies, 1)
            starts = torch.tensor([0, *sizes[:-1]]).cumsum(0)
            homes |= {
                owner: (index, start)
                for owner, start in zip(by_width[own], starts.tolist(), strict=True)
            }
            self.register_buffer(f"offsets_{index}", starts, persistent=False)
            table = torch.empty(sum(sizes), width).normal_(std=0.01, generator=generator)
            table[torch.cat([starts + special for special in range(N_SPECIAL)])] = 0.0
            self.tables.append(nn.Parameter(table))
            counts = torch.zeros(sum(sizes), dtype=torch.int32)
            self.register_buffer(f"counts_{index}", counts, persistent=False)
            for name in ("base", "sums"):
                sums = torch.zeros(len(sizes), width, dtype=torch.float64)
                self.register_buffer(f"{name}_{index}", sums, persistent=False)
        self.homes = [homes[owner] for owner in owners]
        self.each_alone = n_owners == n_columns
        self._set_columns(list(range(n_columns)))
        known = {owner: n_categories[column] for owner, column in first.items()}
        self._mark(homes, known, hashed, frozen or {})
        self._give(homes, vectors or {})
        self.tallied = False
        self.open_slots: list[Tensor | None] = [None] * len(self.tables)
        self.choose_sparse("auto")
        self.out_features = sum(embedding_dims)

    def _set_columns(self, columns: list[int]) -> None:
        """Note which columns a matrix of codes holds, and where each one's slots begin."""
        self.n_single = len(columns)
        self.columns: list[list[int]] = []
        self.single: list[list[int]] = []
        for index in range(len(self.tables)):
            own = [k for k, column in enumerate(columns) if self.homes[column][0] == index]
            self.single.append(own)
            self.columns.append([columns[k] for k in own])
            starts = torch.tensor([self.homes[columns[k]][1] for k in own], dtype=torch.int64)
            self.register_buffer(f"starts_{index}", starts, persistent=False)

    def _mark(
        self,
        homes: Mapping[int, tuple[int, int]],
        sizes: Mapping[int, int],
        hashed: Sequence[int],
        frozen: Mapping[int, Any],
    ) -> None:
        """Set up marks of slots: those that training showed, and those that it is not to move."""
        self.marks_shown = [False] * len(self.tables)
        self.marks_frozen = [False] * len(self.tables)
        for owner in hashed:
            index, start = homes[owner]
            n = len(self.tables[index])
            if not self.marks_shown[index]:
                self.marks_shown[index] = True
                self.register_buffer(f"shown_{index}", torch.ones(n, dtype=torch.bool))
            first = start + N_SPECIAL
            self.get_buffer(f"shown_{index}")[first : first + sizes[owner]] = False
        for owner, codes in frozen.items():
            index, start = homes[owner]
            if not self.marks_frozen[index]:
                self.marks_frozen[index] = True
                marks = torch.zeros(len(self.tables[index]), dtype=torch.bool)
                self.register_buffer(f"frozen_{index}", marks, persistent=False)
            self.get_buffer(f"frozen_{index}")[torch.as_tensor(codes) + start] = True

    @torch.no_grad()
    def _give(
        self, homes: Mapping[int, tuple[int, int]], vectors: Mapping[int, tuple[Any, Any]]
    ) -> None:
        """Fill in given vectors, the same in all copies."""
        for owner, (codes, values) in vectors.items():
            index, start = homes[owner]
            table = self.tables[index]
            given = torch.as_tensor(values, dtype=table.dtype)
            table[torch.as_tensor(codes) + start] = given.repeat(1, max(self.copies, 1))

    def choose_sparse(self, choice: str | bool) -> None:
        """Choose which tables pass sparse gradients, so that a step costs the slots it reads.

        Parameters
        ----------
        choice : "auto" or bool
            "auto": tables of more than 50,000 slots.
        """
        self.sparse = tuple(
            len(table) > SPARSE_SLOTS if choice == "auto" else bool(choice) for table in self.tables
        )

    def _slots(self, codes: Tensor, index: int) -> Tensor:
        """Return the slots of table `index` that a batch of codes reads: (B, columns)."""
        columns = self.single[index]
        own = codes if len(columns) == self.n_single else codes[:, columns]
        return own + self.get_buffer(f"starts_{index}")

    def prepare(self, part: Tensor) -> Tensor:
        """Return the slots that rows read: codes (B, C) -> (B, C) int64, table after table."""
        if not len(self.tables):
            return part
        slots = [self._slots(part, index) for index in range(len(self.tables))]
        return slots[0] if len(slots) == 1 else torch.cat(slots, dim=1)

    def places(self) -> list[tuple[int, list[int]]]:
        """Return each column's places: the columns of one width stand side by side."""
        found, start = [], 0
        for columns, table in zip(self.columns, self.tables, strict=True):
            width = table.shape[1] // max(self.copies, 1)
            for column in columns:
                found.append((column, [*range(start, start + width)]))
                start += width
        return found

    def embed(self, prepared: Tensor) -> Tensor:
        """Look the slots up: (B, C) -> (B, out_features), with copies (B, c, out_features)."""
        parts, start = [], 0
        for index, columns in enumerate(self.single):
            stop = start + len(columns)
            own = prepared if len(self.tables) == 1 else prepared[:, start:stop]
            parts.append(self._embed_cells(index, own))
            start = stop
        if not parts:
            shape = (prepared.shape[0], self.copies, 0) if self.copies else (prepared.shape[0], 0)
            return self.totals.new_empty(shape, dtype=torch.get_default_dtype())
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    def _embed_cells(self, index: int, slots: Tensor) -> Tensor:
        """Return the vectors of slots of one table side by side, (B, columns) -> (B, [c,] all)."""
        n, n_columns = slots.shape
        starts = self.get_buffer(f"starts_{index}") if self.marks_shown[index] else 0
        found = self._look_up(index, slots, starts)
        if self.copies:  # a slot holds its copies side by side
            by_column = found.view(n, n_columns, self.copies, found.shape[1] // self.copies)
            return by_column.transpose(1, 2).flatten(2)
        return found.view(n, n_columns * found.shape[1])

    def _look_up(self, index: int, slots: Tensor, starts: Tensor | int) -> Tensor:
        """Return the vectors of slots of one table, whose vocabularies begin at `starts`."""
        if self.marks_shown[index] and not self.training:
            shown = self.get_buffer(f"shown_{index}")
            slots = torch.where(shown[slots], slots, starts + UNKNOWN)
        slots = slots.flatten()
        found = lookup(self.tables[index], slots, self.sparse[index])
        if self.marks_frozen[index]:
            frozen = self.get_buffer(f"frozen_{index}")
            found = torch.where(frozen[slots].unsqueeze(1), found.detach(), found)
        return found

    # What training showed ---------------------------------------------------------------------

    def _all_slots(self, part: Tensor, index: int) -> Tensor:
        """Return all slots of table `index` that rows read, (N,)."""
        return self._slots(part, index).flatten()

    def touched(self, part: Tensor) -> dict[str, Tensor]:
        """Return the slots of the tables with sparse gradients that rows read, each once."""
        part = part.to(self.totals.device)
        found = {}
        for index, sparse in enumerate(self.sparse):
            if sparse:
                slots = found[f"tables.{index}"] = self._all_slots(part, index).unique()
                if self.marks_shown[index]:
                    found[f"shown_{index}"] = slots
        return found

    @torch.no_grad()
    def begin(self, part: Tensor) -> None:
        """Take what these rows read out of the sums, until `settle` puts it back as it is then."""
        if not self.tallied:
            self._recall()
        touched = self.touched(part)
        for index in range(len(self.tables)):
            slots = touched.get(f"tables.{index}")
            if slots is None:
                continue
            self.get_buffer(f"sums_{index}").sub_(self._sum(index, slots))
            self.open_slots[index] = slots

    def count(self, part: Tensor) -> None:
        """Count how often each category stands in the rows trained on."""
        self._count(part, list(range(self.n_columns)))

    @torch.no_grad()
    def _count(self, codes: Tensor, columns: list[int]) -> None:
        """Count the codes of some columns: (n, columns)."""
        if not self.tallied:
            self._recall()
        device = self.totals.device  # the rows may have stayed in the host's memory
        shown = [(codes == special).any(0).to(device) for special in range(N_SPECIAL)]
        known = (codes >= N_SPECIAL).sum(0).to(device)
        if self.each_alone and len(columns) == self.n_columns:
            for special in range(N_SPECIAL):
                self.special_seen[:, special] |= shown[special]
            self.totals += known
        else:
            owners = self.owners[columns]
            for special in range(N_SPECIAL):
                self.special_seen[owners[shown[special]], special] = True
            self.totals.index_add_(0, owners, known.to(self.totals.dtype))
        counts_of = [self.get_buffer(f"counts_{index}") for index in range(len(self.tables))]
        # Column by column: no copy of all codes is made.
        for k, column in enumerate(columns):
            index, start = self.homes[column]
            counts = counts_of[index]
            slots = codes[:, k].long().to(device) + start
            if 16 * len(slots) < len(counts):  # few rows of a stream: not the whole table
                counts.index_add_(0, slots, torch.ones_like(slots, dtype=counts.dtype))
            else:
                counts += torch.bincount(slots, minlength=len(counts)).to(counts.dtype)
            if self.marks_shown[index]:
                self.get_buffer(f"shown_{index}")[slots] = True

    def counted(self) -> list[Tensor]:
        """Return what `count` adds to."""
        named = dict(self.named_buffers())
        counts = [t for name, t in named.items() if name.startswith(("counts_", "shown_"))]
        return [self.special_seen, self.totals, *counts]

    @torch.no_grad()
    def settle(self) -> None:
        """Give missing and unknown codes that were never trained the mean of their column.

        Otherwise an unseen category would read a vector that no step has trained. The mean is
        weighted by how often training showed each category. After `begin` a table with sparse
        gradients costs the slots that its rows read, not its size.
        """
        for index, table in enumerate(self.tables):
            slots, sums = self.open_slots[index], self.get_buffer(f"sums_{index}")
            if slots is None:
                self._sum_all(index, sums)
            else:
                sums += self._sum(index, slots)
                self.open_slots[index] = None
            owners = self.vocabularies[index]
            totals = self.totals[owners].unsqueeze(1)
            means = (self.get_buffer(f"base_{index}") + sums) / totals
            offsets = self.get_buffer(f"offsets_{index}")
            for special in range(N_SPECIAL):
                wanted = ~self.special_seen[owners, special] & (totals[:, 0] > 0)
                table[offsets[wanted] + special] = means[wanted].to(table.dtype)

    def tallies(self) -> dict[str, Tensor]:
        """Return what is counted, beside the weights, for training that is to go on."""
        names = ("counts", "base", "sums")
        return {
            f"{name}_{index}": self.get_buffer(f"{name}_{index}")
            for index in range(len(self.tables))
            for name in names
        }

    def set_tallies(self, tallies: dict[str, Tensor]) -> None:
        """Take over what `tallies` returned."""
        for name, values in tallies.items():
            self.get_buffer(name).copy_(values)
        self.tallied = True

    def _sum(self, index: int, slots: Tensor) -> Tensor:
        """Sum slots times their counts by vocabulary, known categories only: (V, width)."""
        offsets = self.get_buffer(f"offsets_{index}")
        owner = torch.bucketize(slots, offsets, right=True) - 1
        known = slots - offsets[owner] >= N_SPECIAL
        slots, owner = slots[known], owner[known]
        counts = self.get_buffer(f"counts_{index}")[slots].double().unsqueeze(1)
        return sum_slots(counts * self.tables[index][slots], owner, len(offsets))

    def _sum_all(self, index: int, out: Tensor) -> None:
        """Do the same with all slots of a table."""
        table, counts = self.tables[index], self.get_buffer(f"counts_{index}")
        start = 0
        for position, size in enumerate(self.sizes[index]):
            known = slice(start + N_SPECIAL, start + size)
            out[position] = counts[known].to(table.dtype) @ table[known]
            start += size

    def _recall(self) -> None:
        """Take the means that the tables hold for those of what was counted before.

        A saved estimator that is not to go on keeps no counts: what it had seen weighs as a
        whole, at the mean that it had.
        """
        self.tallied = True
        for index, (owners, table) in enumerate(zip(self.vocabularies, self.tables, strict=True)):
            offsets, base = self.get_buffer(f"offsets_{index}"), self.get_buffer(f"base_{index}")
            for position, (owner, start) in enumerate(zip(owners, offsets.tolist(), strict=True)):
                unseen = (~self.special_seen[owner]).nonzero().flatten().tolist()
                if unseen:
                    base[position] = self.totals[owner] * table[start + unseen[0]]

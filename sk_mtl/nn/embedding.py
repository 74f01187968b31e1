"""From the parts of encoded rows to one vector per row."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from sk_mtl.nn.blocks import Block, build_copies, find_block


class FeatureEmbedding(nn.Module):
    """Set the vectors of several blocks side by side.

    Parameters
    ----------
    blocks : mapping of str to Block
        The blocks by name, in the order of their vectors.
    reads : mapping of str to str, optional
        The part of a row that a block reads, by the block's name. Default: the part of its name.
    own : mapping of str to Block, optional
        Blocks of `n_own` copies, (B, n_own, width), one copy for each task, by the names in
        `blocks` of the blocks that they are copies of, or whose place they take.
    n_own : int, default=0
        Number c of copies that belong to a task each.
    has_shared : bool, default=True
        Whether there is a copy for all tasks beside them, the last one.

    Attributes
    ----------
    out_features : int
        Width D of the output.

    Notes
    -----
    Shape: parts of B rows each -> (B, D), or with own copies (B, n_own, D) and with a shared one
    beside them (B, n_own + 1, D). Columns without weights are the same in every copy.

    Examples
    --------
    >>> import torch
    >>> from sk_mtl.nn import FeatureEmbedding, NumbersBlock, TablesBlock
    >>> tables = TablesBlock(n_categories=[10, 4], embedding_dims=[8, 8])
    >>> embedding = FeatureEmbedding({"numeric": NumbersBlock(3), "categorical": tables})
    >>> parts = {"numeric": torch.randn(5, 3), "categorical": torch.zeros(5, 2, dtype=torch.int64)}
    >>> embedding(parts).shape
    torch.Size([5, 19])
    """

    def __init__(
        self,
        blocks: Mapping[str, Block],
        reads: Mapping[str, str] | None = None,
        own: Mapping[str, Block] | None = None,
        n_own: int = 0,
        has_shared: bool = True,
    ) -> None:
        super().__init__()
        own = own or {}
        self.names = list(dict.fromkeys([*blocks, *own]))
        self.blocks, self.own = nn.ModuleDict(blocks), nn.ModuleDict(own)
        self.n_own, self.has_shared = n_own, has_shared
        self.reads = {name: (reads or {}).get(name, name) for name in self.names}
        widths = {name: self.first(name).out_features for name in self.names}
        self.out_features = sum(widths.values())
        self.embedded = [name for name in self.names if widths[name]] or self.names

    @classmethod
    def from_specs(
        cls,
        specs: Mapping[str, Any],
        generator: torch.Generator | None = None,
        n_own: int = 0,
        has_shared: bool = True,
    ) -> "FeatureEmbedding":
        """Build blocks from what encoders learned.

        Parameters
        ----------
        specs : mapping of str to (kind, options, part)
            For each block its kind, the arguments of its constructor, and the part that it reads.
        generator : torch.Generator, optional
            Source of initial weights.
        n_own : int, default=0
            Number of copies that belong to a task each.
        has_shared : bool, default=True
            Whether there is a copy for all tasks.
        """
        blocks, own = {}, {}
        for name, (kind, options, _) in specs.items():
            if n_own:
                copies = build_copies(kind, options, n_own, generator)
                if not any(True for _ in copies.parameters()):
                    blocks[name] = copies  # nothing to have copies of
                    continue
                own[name] = copies
            if has_shared:
                blocks[name] = find_block(kind)(**options, generator=generator)
        reads = {name: part for name, (_, _, part) in specs.items()}
        return cls(blocks, reads, own, n_own, has_shared)

    def first(self, name: str) -> Block:
        """Return the block of a name, the shared one if there are several."""
        return cast(Block, self.blocks[name] if name in self.blocks else self.own[name])

    def named_blocks(self) -> Iterator[tuple[str, str, Block]]:
        """Yield all blocks, each with its name among the modules and the name that it has here."""
        for owner, blocks in (("blocks", self.blocks), ("own", self.own)):
            for name, block in blocks.items():
                yield f"{owner}.{name}", name, cast(Block, block)

    def values(self) -> list[Block]:
        """Return all blocks."""
        return [block for _, _, block in self.named_blocks()]

    def own_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what a single task moves: its copies."""
        return self.own.parameters()

    def places(self) -> dict[tuple[str, int], list[int]]:
        """Return where columns stand in the vectors.

        Returns
        -------
        dict of (str, int) to list of int
            By part and position in it, the column's places among the D features.
        """
        found: dict[tuple[str, int], list[int]] = {}
        start = 0
        for name in self.names:
            block, part = self.first(name), self.reads[name]
            for column, places in block.places():
                found.setdefault((part, column), []).extend(start + place for place in places)
            start += block.out_features
        return found

    def prepare(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        """Do what depends on no weight, once for all batches that are cut from the result."""
        return {name: self.first(name).prepare(parts[self.reads[name]]) for name in self.names}

    def embed(self, prepared: Mapping[str, Any]) -> Tensor:
        """Return the vectors of rows that are prepared, (B, D) or (B, copies, D)."""
        names = self.embedded
        shared = {n: _embed(self.blocks[n], prepared[n]) for n in names if n in self.blocks}
        if not self.n_own:
            return _join(shared)
        own = {
            name: _embed(self.own[name], prepared[name])
            if name in self.own
            else shared[name].unsqueeze(1).expand(-1, self.n_own, -1)
            for name in names
        }
        if not self.has_shared:
            return _join(own)
        return torch.cat([_join(own), _join(shared).unsqueeze(1)], dim=1)

    def forward(self, parts: Mapping[str, Any]) -> Tensor:
        """Return the rows' vectors, (B, D) or (B, copies, D)."""
        return self.embed(self.prepare(parts))

    # What training showed, block by block: see `Block` --------------------------------------------

    def touched(self, parts: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the only slots of parameters that a step on some rows can move.

        The names are those of the parameters in a `MultiTaskModule`.
        """
        return {
            f"embedding.{path}.{parameter}": slots
            for path, name, block in self.named_blocks()
            for parameter, slots in block.touched(parts[self.reads[name]]).items()
        }

    def begin(self, parts: Mapping[str, Any]) -> None:
        """Get ready for training steps that show some rows and no others."""
        for _, name, block in self.named_blocks():
            block.begin(parts[self.reads[name]])

    def count(self, parts: Mapping[str, Any]) -> None:
        """Take note of the rows that training showed."""
        for _, name, block in self.named_blocks():
            block.count(parts[self.reads[name]])

    def counted(self) -> list[Tensor]:
        """Return what `count` adds to."""
        return [tensor for block in self.values() for tensor in block.counted()]

    def settle(self) -> None:
        """Set what no step has trained, by what the steps have trained."""
        for block in self.values():
            block.settle()

    def set_statistics(self, statistics: Mapping[str, Mapping[str, Any]]) -> None:
        """Hand the blocks what encoders have learned from further rows, by the blocks' names."""
        for _, name, block in self.named_blocks():
            if name in statistics:
                block.set_statistics(**statistics[name])

    def tallies(self) -> dict[str, dict[str, Tensor]]:
        """Return what the blocks have counted, by their names."""
        return {path.removeprefix("blocks."): b.tallies() for path, _, b in self.named_blocks()}

    def set_tallies(self, tallies: Mapping[str, dict[str, Tensor]]) -> None:
        """Take over what `tallies` returned."""
        for path, _, block in self.named_blocks():
            block.set_tallies(tallies[path.removeprefix("blocks.")])


def _embed(block: Any, prepared: Any) -> Tensor:
    return block.embed(prepared)


def _join(vectors: Mapping[str, Tensor]) -> Tensor:
    """Set the vectors of blocks side by side."""
    found = list(vectors.values())
    return found[0] if len(found) == 1 else torch.cat(found, dim=-1)

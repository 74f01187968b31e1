"""From the parts of encoded rows to one vector per row."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from sk_mtl.nn.blocks import Block, find_block


class FeatureEmbedding(nn.Module):
    """Set the vectors of several blocks side by side.

    Parameters
    ----------
    blocks : mapping of str to Block
        The blocks by name, in the order of their vectors.
    reads : mapping of str to str, optional
        The part of a row that a block reads, by the block's name. Default: the part of its name.

    Attributes
    ----------
    out_features : int
        Width D of the output.

    Notes
    -----
    Shape: parts of B rows each -> (B, D).

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

    def __init__(self, blocks: Mapping[str, Block], reads: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict(blocks)
        self.reads = {name: (reads or {}).get(name, name) for name in blocks}
        self.out_features = sum(block.out_features for block in blocks.values())

    @classmethod
    def from_specs(
        cls, specs: Mapping[str, Any], generator: torch.Generator | None = None
    ) -> "FeatureEmbedding":
        """Build blocks from what encoders learned.

        Parameters
        ----------
        specs : mapping of str to (kind, options, part)
            For each block its kind, the arguments of its constructor, and the part that it reads.
        generator : torch.Generator, optional
            Source of initial weights.
        """
        blocks = {
            name: find_block(kind)(**options, generator=generator)
            for name, (kind, options, _) in specs.items()
        }
        return cls(blocks, {name: part for name, (_, _, part) in specs.items()})

    def items(self) -> list[tuple[str, Block]]:
        """Return the blocks with their names."""
        return cast(list[tuple[str, Block]], list(self.blocks.items()))

    def values(self) -> list[Block]:
        """Return the blocks."""
        return cast(list[Block], list(self.blocks.values()))

    def prepare(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        """Do what depends on no weight, once for all batches that are cut from the result."""
        return {name: block.prepare(parts[self.reads[name]]) for name, block in self.items()}

    def embed(self, prepared: Mapping[str, Any]) -> Tensor:
        """Return the vectors of rows that are prepared, (B, D)."""
        vectors = [
            block.embed(prepared[name]) for name, block in self.items() if block.out_features
        ]
        if len(vectors) == 1:
            return vectors[0]
        if vectors:
            return torch.cat(vectors, dim=1)
        return torch.cat([block.embed(prepared[name]) for name, block in self.items()], dim=1)

    def forward(self, parts: Mapping[str, Any]) -> Tensor:
        """Return the rows' vectors, (B, D)."""
        return self.embed(self.prepare(parts))

    # What training showed, block by block: see `Block` --------------------------------------------

    def touched(self, parts: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the only slots of parameters that a step on some rows can move.

        The names are those of the parameters in a `MultiTaskModule`.
        """
        return {
            f"embedding.blocks.{name}.{parameter}": slots
            for name, block in self.items()
            for parameter, slots in block.touched(parts[self.reads[name]]).items()
        }

    def begin(self, parts: Mapping[str, Any]) -> None:
        """Get ready for training steps that show some rows and no others."""
        for name, block in self.items():
            block.begin(parts[self.reads[name]])

    def count(self, parts: Mapping[str, Any]) -> None:
        """Take note of the rows that training showed."""
        for name, block in self.items():
            block.count(parts[self.reads[name]])

    def settle(self) -> None:
        """Set what no step has trained, by what the steps have trained."""
        for block in self.values():
            block.settle()

    def set_statistics(self, statistics: Mapping[str, Mapping[str, Any]]) -> None:
        """Hand the blocks what encoders have learned from further rows, by the blocks' names."""
        blocks = dict(self.items())
        for name, values in statistics.items():
            blocks[name].set_statistics(**values)

    def tallies(self) -> dict[str, dict[str, Tensor]]:
        """Return what the blocks have counted, by their names."""
        return {name: block.tallies() for name, block in self.items()}

    def set_tallies(self, tallies: Mapping[str, dict[str, Tensor]]) -> None:
        """Take over what `tallies` returned."""
        for name, block in self.items():
            block.set_tallies(tallies[name])

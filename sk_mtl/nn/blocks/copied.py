"""Copies of a block that share what they read, and no weight."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from sk_mtl.nn.blocks.base import Block, find_block


class CopiedBlock(Block):
    """Several blocks alike, each with weights of its own, that read the same part.

    For kinds of block whose constructor takes no `copies`.

    Parameters
    ----------
    copies : sequence of Block
        The blocks, built by the same arguments.

    Notes
    -----
    Shape: what one block prepares -> (B, c, out_features).
    """

    kind: ClassVar[str] = "copied"

    def __init__(self, copies: Sequence[Block]) -> None:
        super().__init__()
        self.copies = nn.ModuleList(copies)
        self.out_features = copies[0].out_features

    @property
    def each(self) -> list[Block]:
        """The blocks."""
        return cast(list[Block], list(self.copies))

    def prepare(self, part: Any) -> Any:
        """Do what depends on no weight, once for all copies."""
        return self.each[0].prepare(part)

    def embed(self, prepared: Any) -> Tensor:
        """Return the vectors of every copy, (B, c, out_features)."""
        return torch.stack([block.embed(prepared) for block in self.each], dim=1)

    def places(self) -> list[tuple[int, list[int]]]:
        """Return each column's places, the same in every copy."""
        return self.each[0].places()

    def touched(self, part: Any) -> dict[str, Tensor]:
        """Return the slots of every copy's parameters that a step can move."""
        return {
            f"copies.{index}.{name}": slots
            for index, block in enumerate(self.each)
            for name, slots in block.touched(part).items()
        }

    def begin(self, part: Any) -> None:
        """Get every copy ready for training steps on some rows."""
        for block in self.each:
            block.begin(part)

    def count(self, part: Any) -> None:
        """Let every copy take note of the rows that training showed."""
        for block in self.each:
            block.count(part)

    def counted(self) -> list[Tensor]:
        """Return what `count` adds to, of every copy."""
        return [tensor for block in self.each for tensor in block.counted()]

    def settle(self) -> None:
        """Set what no step has trained, in every copy."""
        for block in self.each:
            block.settle()

    def set_statistics(self, **statistics: Any) -> None:
        """Hand every copy what its encoder has learned from further rows."""
        for block in self.each:
            block.set_statistics(**statistics)

    def choose_sparse(self, choice: str | bool) -> None:
        """Choose which parameters of every copy pass sparse gradients."""
        for block in self.each:
            block.choose_sparse(choice)

    def tallies(self) -> dict[str, Tensor]:
        """Return what every copy has counted."""
        return {
            f"{index}/{name}": values
            for index, block in enumerate(self.each)
            for name, values in block.tallies().items()
        }

    def set_tallies(self, tallies: dict[str, Tensor]) -> None:
        """Take over what `tallies` returned."""
        for index, block in enumerate(self.each):
            prefix = f"{index}/"
            own = {k.removeprefix(prefix): v for k, v in tallies.items() if k.startswith(prefix)}
            block.set_tallies(own)


def build_copies(
    kind: str, options: Mapping[str, Any], n: int, generator: torch.Generator | None
) -> Block:
    """Return a block of n copies, (B, n, width), or a plain one if its kind has no weights."""
    make = find_block(kind)
    if make.copyable:
        return make(**options, copies=n, generator=generator)
    first = make(**options, generator=generator)
    if not any(True for _ in first.parameters()):
        return first
    return CopiedBlock([first, *(make(**options, generator=generator) for _ in range(n - 1))])

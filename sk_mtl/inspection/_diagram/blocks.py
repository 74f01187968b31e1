"""The parts of a network that a diagram shows, and the slices of what they return."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sk_mtl.nn import (
    ColumnTokens,
    EncoderBlock,
    MultiTaskModule,
    StackedLinear,
    StackedMLP,
    StepAttention,
    Stitch,
    TaskTokens,
)

Slice = tuple[Any, ...]

AXES = {
    # kind of module: the axis of its output along which its slices stand; the members' axis, if
    # there is one beside it
    StackedMLP: (1, None),
    StackedLinear: (1, None),
    Stitch: (1, None),
    StepAttention: (1, None),
    ColumnTokens: (2, 1),
    TaskTokens: (2, 1),
    EncoderBlock: (1, 2),
}

MOST_SLICES = 64
"""An output of more slices is one node: every slice is perturbed by itself."""


class Block(NamedTuple):
    """A part of the network: where it is, and what it is."""

    path: str
    part: nn.Module


class Source(nn.Module):
    """What stands for the embedding in a copy of a network: it returns what it is told."""

    value: Tensor

    def prepare(self, parts: Any) -> Any:
        return parts

    def embed(self, parts: Any) -> Tensor:
        return self.value


def copy_for_probing(module: MultiTaskModule) -> Any:
    """Return a copy whose parts all answer to all of their inputs.

    It has no embedding: tables may be large, and what they return is set. A ReLU would hide an
    input where it returns zero; a softplus hides none.
    """
    memo: dict[int, Any] = {id(module.embedding): Source()}
    twin: Any = deepcopy(module, memo).cpu().double().eval().requires_grad_(False)
    for owner in list(twin.modules()):
        for name, part in list(owner.named_children()):
            if isinstance(part, nn.ReLU):
                setattr(owner, name, nn.Softplus())
        if isinstance(owner, StackedMLP):
            owner.plain = False  # what is quick there knows only ReLU
    return twin


def redraw(twin: nn.Module, scale: float, generator: torch.Generator) -> None:
    """Draw all parameters anew: what starts at zero would pass nothing on."""
    with torch.no_grad():
        for parameter in twin.parameters():
            fan_in = parameter.shape[-1] if parameter.ndim > 1 else 4
            std = scale / max(fan_in, 1) ** 0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)


def find_blocks(module: Any) -> list[Block]:
    """Return the largest parts of known kinds, and all others with weights, outermost first."""
    found = list(_below(module.bottom, "bottom"))
    if module.interaction is not None:
        found.insert(0, Block("interaction", module.interaction))
    found.append(Block("towers", module.towers))
    if not isinstance(module.head, nn.Identity):
        found.append(Block("head", module.head))
    return found


def _below(part: nn.Module, path: str) -> Iterator[Block]:
    if _is_block(part):
        yield Block(path, part)
        return
    for name, child in part.named_children():
        yield from _below(child, f"{path}.{name}")


def _is_block(part: nn.Module) -> bool:
    if hasattr(part, "streams"):
        return True
    if not any(True for _ in part.parameters()):
        return False
    if isinstance(part, tuple(AXES)):
        return True
    if isinstance(part, nn.ModuleList | nn.ModuleDict):
        return False
    if isinstance(part, nn.Sequential):
        return not any(hasattr(p, "streams") or isinstance(p, tuple(AXES)) for p in part.modules())
    of_torch = type(part).__module__.startswith("torch.nn")
    return of_torch or not any(True for _ in part.children())


def slices(block: Block, output: Any, widths: list[int]) -> list[Slice]:
    """Return where the slices of a block's output stand in it.

    Parameters
    ----------
    block : Block
        The block.
    output : Tensor or other
        What it returned. What is no tensor is one slice.
    widths : list of int
        How many logits each output has, which towers and the head return side by side.
    """
    if not isinstance(output, Tensor):
        return [(...,)]
    if block.path in ("towers", "head") and output.shape[1:] == (sum(widths),):
        ends = torch.tensor(widths).cumsum(0).tolist()
        return [
            (slice(None), slice(end - width, end)) for end, width in zip(ends, widths, strict=True)
        ]
    axis, members = 1, None
    for kind, where in AXES.items():
        if isinstance(block.part, kind):
            axis, members = where
    if output.ndim <= 2 or output.shape[axis] > MOST_SLICES:
        return [(...,)]
    found = []
    for position in range(output.shape[axis]):
        index: list[Any] = [slice(None)] * output.ndim
        index[axis] = position
        if members is not None:
            index[members] = 0
        found.append(tuple(index))
    return found


def source_slices(module: MultiTaskModule, groups: list[list[int]]) -> list[Slice]:
    """Return the slices of the embedding's output: a copy each, or a group of columns each."""
    copies = count_copies(module)
    if copies:
        return [(slice(None), copy) for copy in range(copies)]
    return [(slice(None), group) for group in groups]


def count_copies(module: MultiTaskModule) -> int:
    """Return how many copies of the embedding there are, 0 if the bottom takes no copies."""
    embedding = module.embedding
    return embedding.n_own + int(embedding.has_shared) if embedding.n_own else 0

"""Numbers as waves of learned frequencies."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from sk_mtl.nn.blocks.base import find_block
from sk_mtl.nn.blocks.columns import ColumnsBlock, ScalarsBlock


def build_number(number: tuple[str, Mapping[str, Any]]) -> ScalarsBlock:
    """Build the block that turns numbers into those that another block works on."""
    kind, options = number
    return cast(ScalarsBlock, find_block(kind)(**options))


class PeriodicBlock(ColumnsBlock):
    """Embed numbers by cosines of learned frequencies and phases, and the number itself.

    A column's number z becomes a vector: a linear layer over cos(2 pi w z + b), one w and b for
    each frequency, and z beside it. Each column has weights of its own.

    Parameters
    ----------
    number : (str, mapping)
        Kind and arguments of the `ScalarsBlock` that makes z.
    n_frequencies : int, default=16
        Frequencies per column.
    sigma : float, default=0.1
        Standard deviation of the initial frequencies.
    embedding_dim : int, default=4
        Width of a column's vector, the number itself included.
    generator : torch.Generator, optional
        Source of the initial weights.
    **columns
        ``fill``, ``held``, ``columns``, ``missing_columns``: see `ColumnsBlock`.

    Notes
    -----
    Shape: (B, all columns) float with NaN where missing -> (B, F * embedding_dim + indicators).

    References
    ----------
    D. Holzmüller, L. Grinsztajn, I. Steinwart, "Better by default: Strong pre-tuned MLPs and
    boosted trees on tabular data", NeurIPS 2024: "PBLD". Y. Gorishniy, I. Rubachev, A. Babenko,
    "On embeddings for numerical features in tabular deep learning", NeurIPS 2022.

    Examples
    --------
    >>> import torch
    >>> from sk_mtl.nn import PeriodicBlock
    >>> columns = {"fill": [1.0], "held": [False]}
    >>> number = ("scaled", {"center": [1.0], "scale": [2.0], **columns})
    >>> block = PeriodicBlock(number=number, embedding_dim=3, **columns)
    >>> block.embed(block.prepare(torch.tensor([[3.0], [1.0]]))).shape
    torch.Size([2, 3])
    """

    kind: ClassVar[str] = "periodic"

    def __init__(
        self,
        *,
        number: tuple[str, Mapping[str, Any]],
        n_frequencies: int = 16,
        sigma: float = 0.1,
        embedding_dim: int = 4,
        generator: torch.Generator | None = None,
        **columns: Any,
    ) -> None:
        super().__init__(embedding_dim, **columns)
        self.number = build_number(number)
        n, width = self.n_columns, embedding_dim - 1
        bound = n_frequencies**-0.5
        frequency, phase = torch.empty(n, n_frequencies), torch.empty(n, n_frequencies)
        weight, bias = torch.empty(n, n_frequencies, width), torch.empty(n, width)
        self.frequency = nn.Parameter(frequency.normal_(std=sigma, generator=generator))
        self.phase = nn.Parameter(phase.uniform_(-math.pi, math.pi, generator=generator))
        self.weight = nn.Parameter(weight.uniform_(-bound, bound, generator=generator))
        self.bias = nn.Parameter(bias.uniform_(-bound, bound, generator=generator))

    def prepare(self, part: Tensor) -> Tensor:
        """Return the numbers: (B, all) -> (B, F + indicators)."""
        return self.join([self.number.numbers(self.clean(part))], part)

    def embed(self, prepared: Tensor) -> Tensor:
        """Embed them: (B, F + indicators) -> (B, out_features)."""
        z = prepared[:, : self.n_columns]
        # Columns first: one matrix product for each.
        angle = torch.addcmul(
            self.phase.unsqueeze(1), z.T.unsqueeze(2), 2.0 * math.pi * self.frequency.unsqueeze(1)
        )
        waves = torch.baddbmm(self.bias.unsqueeze(1), angle.cos(), self.weight)
        vectors = torch.cat([waves.transpose(0, 1), z.unsqueeze(2)], dim=2)
        return self.finish(vectors, prepared)

"""Numbers as normal scores of their ranks."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from sk_mtl.nn.blocks.columns import ScalarsBlock
from sk_mtl.nn.blocks.grid import Grid

LARGEST = 5.199337582192817
"""The score of the share 1 - 1e-7; scores lie within it and its negative."""


class QuantilesBlock(ScalarsBlock):
    """Turn numbers into the normal scores of their shares among the values at `fit`.

    Parameters
    ----------
    knots : sequence of array-like
        For each column distinct values, sorted.
    below, upto : sequence of array-like
        For each knot the share of values below it, and of those up to it. Between two knots the
        share grows linearly from that up to the first to that below the second.
    at : sequence of array-like
        For each knot the share that it is read as.
    **columns
        ``fill``, ``held``, ``columns``, ``missing_columns``: see `ColumnsBlock`.

    Notes
    -----
    Shape: (B, all columns) float with NaN where missing -> (B, F + indicators).

    Examples
    --------
    >>> import torch
    >>> from sk_mtl.nn import QuantilesBlock
    >>> shares = {"below": [[0.0, 0.5, 1.0]], "upto": [[0.0, 0.5, 1.0]], "at": [[0.0, 0.5, 1.0]]}
    >>> block = QuantilesBlock(knots=[[1.0, 2.0, 10.0]], **shares, fill=[2.0], held=[False])
    >>> block.embed(block.prepare(torch.tensor([[float("nan")], [6.0], [1e9]])))
    tensor([[0.0000],
            [0.6745],
            [5.1993]])
    """

    kind: ClassVar[str] = "quantiles"
    precise: ClassVar[tuple[str, ...]] = ("fill", "table")
    table: Tensor

    def __init__(
        self,
        *,
        knots: Sequence[Any],
        below: Sequence[Any],
        upto: Sequence[Any],
        at: Sequence[Any],
        **columns: Any,
    ) -> None:
        super().__init__(**columns)
        self.grid = Grid(knots)
        left, start, exact = self.grid.edges, self.grid.pad(upto, 1.0), self.grid.pad(at, 1.0)
        width, rise = torch.ones_like(left), torch.zeros_like(left)
        width[:, :-1] = left.diff(dim=1)
        rise[:, :-1] = self.grid.pad(below, 1.0)[:, 1:] - start[:, :-1]
        last = ~width.isfinite()  # behind the last knot nothing rises
        width[last], rise[last] = 1.0, 0.0
        table = torch.stack([left, width, rise, start, exact], dim=-1).flatten(0, 1)
        self.register_buffer("table", table, persistent=False)

    def shares(self, x: Tensor) -> Tensor:
        """Return the share of values below each number."""
        count = self.grid(x)
        found = self.grid.read(self.table, (count - 1).clamp(min=0))
        left, width, rise, start, exact = found.unbind(-1)
        between = start + rise * ((x - left) / width)
        share = torch.where(x == left, exact, between)
        return torch.where(count == 0, torch.zeros_like(share), share)

    def numbers(self, x: Tensor) -> Tensor:
        """Return the normal scores of the shares."""
        return normal_score(self.shares(x))


def normal_score(share: Tensor) -> Tensor:
    """Return the inverse of the normal distribution function, from -5.2 to 5.2."""
    if not torch.compiler.is_compiling():
        return torch.special.ndtri(share).clamp(-LARGEST, LARGEST)
    # ONNX has no such function: Wichura's AS 241, exact to about 16 digits. The limit is set to
    # the tail: ONNX clamps float64 numbers at a limit in float32, and shares near 1 need more.
    q = share - 0.5
    tail = torch.sqrt(-torch.log(torch.minimum(share, 1.0 - share)))
    start, ahead = share.new_tensor(1.6), share.new_tensor(0.180625)
    outside = _ratio(_OUTSIDE, tail.clamp(max=math.sqrt(-math.log(1e-7))) - start) * q.sign()
    middle = q * _ratio(_MIDDLE, (ahead - q * q).clamp(min=0.0))
    return torch.where(q.abs() <= 0.425, middle, outside)


def _ratio(coefficients: tuple[list[float], list[float]], r: Tensor) -> Tensor:
    above, below = coefficients
    return _polynomial(above, r) / _polynomial(below, r)


def _polynomial(coefficients: list[float], r: Tensor) -> Tensor:
    total = torch.zeros_like(r)
    for coefficient in reversed(coefficients):
        # As a tensor: torch.onnx rounds Python's numbers to float32.
        total = total * r + r.new_tensor(coefficient)
    return total


_MIDDLE = (
    [
        3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3,
        1.3731693765509461125e4, 4.5921953931549871457e4, 6.7265770927008700853e4,
        3.3430575583588128105e4, 2.5090809287301226727e3,
    ],
    [
        1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
        2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4,
        5.2264952788528545610e3,
    ],
)  # fmt: skip
_OUTSIDE = (
    [
        1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0,
        3.64784832476320460504e0, 1.27045825245236838258e0, 2.41780725177450611770e-1,
        2.27238449892691845833e-2, 7.74545014278341407640e-4,
    ],
    [
        1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
        1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4,
        1.05075007164441684324e-9,
    ],
)  # fmt: skip

"""Numbers shifted and scaled, and held within limits smoothly."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from sk_mtl.nn.blocks.columns import ScalarsBlock


class ScaledBlock(ScalarsBlock):
    """Shift and scale numeric columns, and squash what lies far out.

    Parameters
    ----------
    center, scale : array-like of shape (F,)
        A value x becomes z = (x - center) / scale.
    limit : float, optional
        z becomes z / sqrt(1 + (z / limit)**2), which is nearly z about zero and never beyond the
        limit. None: z stays.
    **columns
        ``fill``, ``held``, ``columns``, ``missing_columns``: see `ColumnsBlock`.

    Notes
    -----
    Shape: (B, all columns) float with NaN where missing -> (B, F + indicators).

    Examples
    --------
    >>> import torch
    >>> from sk_mtl.nn import ScaledBlock
    >>> block = ScaledBlock(center=[1.0], scale=[2.0], limit=3.0, fill=[1.0], held=[False])
    >>> block.embed(block.prepare(torch.tensor([[1.0], [float("nan")], [1e9]])))
    tensor([[0.],
            [0.],
            [3.]])
    """

    kind: ClassVar[str] = "scaled"
    precise: ClassVar[tuple[str, ...]] = ("fill", "center", "scale")
    center: Tensor
    scale: Tensor

    def __init__(
        self, *, center: Any, scale: Any, limit: float | None = None, **columns: Any
    ) -> None:
        super().__init__(**columns)
        self.limit = limit
        for name, values in (("center", center), ("scale", scale)):
            own = torch.as_tensor(values, dtype=torch.float64).clone()
            self.register_buffer(name, own, persistent=False)

    def numbers(self, x: Tensor) -> Tensor:
        """Shift, scale and squash."""
        z = (x - self.center) / self.scale
        if self.limit is None:
            return z
        # z / sqrt(1 + (z / limit)**2), in a form that no large z breaks.
        far = 1.0 / z.abs().clamp(min=self.limit)
        near = torch.rsqrt(1.0 + (z / self.limit).clamp(-1.0, 1.0).square())
        outside = z.sign() * torch.rsqrt(far.square() + 1.0 / self.limit**2)
        return torch.where(z.abs() <= self.limit, z * near, outside)

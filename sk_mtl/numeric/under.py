"""The scaled numbers that embeddings of numbers work on."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_mtl.numeric.learned import common, read_columns
from sk_mtl.numeric.quantile import QuantileNormal
from sk_mtl.numeric.robust import RobustClip

NUMBERS = ["robust", "quantile", "standardize"]
"""What they may be."""


def fit_number(name: str, values: NDArray, weight: NDArray | None) -> tuple[str, dict[str, Any]]:
    """Return kind and arguments of the block that makes them."""
    if name == "robust":
        return RobustClip.kind, RobustClip().fit(values, weight)
    if name == "quantile":
        return QuantileNormal.kind, QuantileNormal().fit(values, weight)
    columns = read_columns(values, weight)
    found = [(0.0, 1.0) if c.held else (c.mean, c.deviation) for c in columns]
    center, scale = (np.array(own) for own in zip(*found, strict=True))
    return RobustClip.kind, {"center": center, "scale": scale, "limit": None, **common(columns)}

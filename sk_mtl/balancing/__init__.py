"""Balancers: how the vector of task losses becomes gradients. Torch only, one file per method."""

from sk_mtl.balancing.base import LossBalancer
from sk_mtl.balancing.equal import EqualBalancer

BALANCERS: dict[str, type[LossBalancer]] = {"equal": EqualBalancer}
"""The balancers that estimators accept by name."""

__all__ = ["BALANCERS", "EqualBalancer", "LossBalancer"]

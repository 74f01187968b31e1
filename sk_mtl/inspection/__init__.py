"""What a fitted network does: numbers, and matplotlib displays of them."""

from sk_mtl.inspection._gates import GateDisplay, gate_weights
from sk_mtl.inspection._losses import LossDisplay

__all__ = ["GateDisplay", "LossDisplay", "gate_weights"]

"""What a fitted network does: numbers, and matplotlib displays of them.

- Experts: `gate_weights`, `GateDisplay`; `expert_use`, `ExpertUseDisplay`.
- What a task takes from another: `stitch_weights`.
- Steps of a chain: `transfer_weights`.
- Epochs: `LossDisplay`.
- Tasks among each other: `gradient_conflict`, `GradientConflictDisplay`; `task_affinity`,
  `TaskAffinityDisplay`.
"""

from sk_mtl.inspection._affinity import TaskAffinityDisplay, task_affinity
from sk_mtl.inspection._conflict import GradientConflictDisplay, gradient_conflict
from sk_mtl.inspection._experts import ExpertUseDisplay, expert_use
from sk_mtl.inspection._gates import GateDisplay, gate_weights
from sk_mtl.inspection._losses import LossDisplay
from sk_mtl.inspection._stitches import stitch_weights
from sk_mtl.inspection._transfers import transfer_weights

__all__ = [
    "ExpertUseDisplay",
    "GateDisplay",
    "GradientConflictDisplay",
    "LossDisplay",
    "TaskAffinityDisplay",
    "expert_use",
    "gate_weights",
    "gradient_conflict",
    "stitch_weights",
    "task_affinity",
    "transfer_weights",
]

"""What a network is and does: diagrams, numbers, and matplotlib displays of them.

- The network itself: `draw`, `Diagram`.
- Experts: `gate_weights`, `GateDisplay`; `expert_use`, `ExpertUseDisplay`.
- What a task takes from another: `stitch_weights`.
- Steps of a chain: `transfer_weights`.
- Epochs: `LossDisplay`, `BalanceDisplay`.
- Categories: `embedding_vectors`, `embedding_neighbors`, `EmbeddingDisplay`.
- Probabilities: `TaskCalibrationDisplay`.
- Tasks among each other: `gradient_conflict`, `GradientConflictDisplay`; `task_affinity`,
  `TaskAffinityDisplay`.
"""

from sk_mtl.inspection._affinity import TaskAffinityDisplay, task_affinity
from sk_mtl.inspection._balance import BalanceDisplay
from sk_mtl.inspection._calibration import TaskCalibrationDisplay
from sk_mtl.inspection._conflict import GradientConflictDisplay, gradient_conflict
from sk_mtl.inspection._diagram import Diagram, draw
from sk_mtl.inspection._embedding_display import EmbeddingDisplay
from sk_mtl.inspection._embeddings import embedding_neighbors, embedding_vectors
from sk_mtl.inspection._experts import ExpertUseDisplay, expert_use
from sk_mtl.inspection._gate_display import GateDisplay
from sk_mtl.inspection._gates import gate_weights
from sk_mtl.inspection._losses import LossDisplay
from sk_mtl.inspection._stitches import stitch_weights
from sk_mtl.inspection._transfers import transfer_weights

__all__ = [
    "BalanceDisplay",
    "Diagram",
    "EmbeddingDisplay",
    "ExpertUseDisplay",
    "GateDisplay",
    "GradientConflictDisplay",
    "LossDisplay",
    "TaskAffinityDisplay",
    "TaskCalibrationDisplay",
    "draw",
    "embedding_neighbors",
    "embedding_vectors",
    "expert_use",
    "gate_weights",
    "gradient_conflict",
    "stitch_weights",
    "task_affinity",
    "transfer_weights",
]

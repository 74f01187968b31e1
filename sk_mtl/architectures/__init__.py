"""The published architectures, one file each: a bottom (or a head) and its estimator.

An *architecture* is a map from one representation of a row to one per task, (B, D) -> (B, K, H):
its bottom. All that comes before it (features) and after it (towers, losses, links) is the same
for every architecture and lives elsewhere. To add one, copy the file of its nearest relative.

A bottom passes `n_members`, where it is given, on to its parts, and gives (B, M * K, H): a
representation of each task for the first of M members, then those for the second.
"""

from sk_mtl.architectures.cgc import CGC, CGCBottom
from sk_mtl.architectures.esmm import ESMM
from sk_mtl.architectures.mmoe import MMoE, MMoEBottom
from sk_mtl.architectures.ple import PLE, PLEBottom
from sk_mtl.architectures.shared_bottom import SharedBottom, SharedBottomBottom
from sk_mtl.nn import SharedEmbeddingBottom

__all__ = [
    "CGC",
    "ESMM",
    "PLE",
    "CGCBottom",
    "MMoE",
    "MMoEBottom",
    "PLEBottom",
    "SharedBottom",
    "SharedBottomBottom",
    "SharedEmbeddingBottom",
]

"""The published architectures, one file each: a bottom (or a head) and its estimator.

An *architecture* is a map from one representation of a row to one per task, (B, D) -> (B, K, H):
its bottom. All that comes before it (features) and after it (towers, losses, links) is the same
for every architecture and lives elsewhere. To add one, copy the file of its nearest relative.

A bottom passes `n_members`, where it is given, on to its parts, and gives (B, M * K, H): a
representation of each task for the first of M members, then those for the second.
"""

from sk_mtl.architectures.adatt import AdaTT, AdaTTBottom
from sk_mtl.architectures.aitm import AITM, AITMBottom
from sk_mtl.architectures.cgc import CGC, CGCBottom
from sk_mtl.architectures.cross_stitch import CrossStitch, CrossStitchBottom
from sk_mtl.architectures.dbmtl import DBMTL, DBMTLBottom
from sk_mtl.architectures.escm2 import ESCM2
from sk_mtl.architectures.esmm import ESMM
from sk_mtl.architectures.mlmmoe import MLMMoE, MLMMoEBottom
from sk_mtl.architectures.mmoe import MMoE, MMoEBottom
from sk_mtl.architectures.multitab import MultiTabNet, MultiTabNetBottom
from sk_mtl.architectures.nise import NISE
from sk_mtl.architectures.omoe import OMoE, OMoEBottom
from sk_mtl.architectures.pepnet import PEPNet, PEPNetBottom
from sk_mtl.architectures.ple import PLE, PLEBottom
from sk_mtl.architectures.resflow import ResFlow, ResFlowBottom
from sk_mtl.architectures.shared_bottom import SharedBottom, SharedBottomBottom
from sk_mtl.architectures.single_task import SingleTask, SingleTaskBottom
from sk_mtl.architectures.stem import STEM, STEMBottom
from sk_mtl.nn import SharedEmbeddingBottom

__all__ = [
    "AITM",
    "CGC",
    "DBMTL",
    "ESCM2",
    "ESMM",
    "NISE",
    "PLE",
    "STEM",
    "AITMBottom",
    "AdaTT",
    "AdaTTBottom",
    "CGCBottom",
    "CrossStitch",
    "CrossStitchBottom",
    "DBMTLBottom",
    "MLMMoE",
    "MLMMoEBottom",
    "MMoE",
    "MMoEBottom",
    "MultiTabNet",
    "MultiTabNetBottom",
    "OMoE",
    "OMoEBottom",
    "PEPNet",
    "PEPNetBottom",
    "PLEBottom",
    "ResFlow",
    "ResFlowBottom",
    "STEMBottom",
    "SharedBottom",
    "SharedBottomBottom",
    "SharedEmbeddingBottom",
    "SingleTask",
    "SingleTaskBottom",
]

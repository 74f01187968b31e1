"""Plain torch building blocks: they import nothing but torch and run without scikit-learn.

Shape letters, used in every comment and docstring of this package:

====  ==========================================================
B     rows of a batch (a row is a sample; entries of an embedding table are called slots)
D     features of a row, after embedding and concatenation
H     hidden width
K     tasks
E     experts
L     logits of all tasks side by side (K if every task is binary)
M     members: whole networks that read one embedding; where it is not named it is one
====  ==========================================================
"""

from sk_mtl.nn.blocks import (
    BagsBlock,
    Block,
    ColumnsBlock,
    CopiedBlock,
    NumbersBlock,
    PeriodicBlock,
    PiecewiseBlock,
    QuantilesBlock,
    ScalarsBlock,
    ScaledBlock,
    TablesBlock,
    ValuesBlock,
)
from sk_mtl.nn.dselect import DSelectGates, DSelectK, check_gate, make_gates
from sk_mtl.nn.embedding import FeatureEmbedding
from sk_mtl.nn.extraction import ExtractionLevel
from sk_mtl.nn.factors import FactorGates, SteeredMLP
from sk_mtl.nn.fusion import FusionLevel
from sk_mtl.nn.gating import ExpertBalance, Gates, mix
from sk_mtl.nn.graph import TaskGraph, resolve_parents
from sk_mtl.nn.interactions import CrossNetwork, FMInteraction, build_interaction
from sk_mtl.nn.isolated import IsolatedLevel
from sk_mtl.nn.members import fold_members, repeat_per_task, unfold_members
from sk_mtl.nn.module import MultiTaskModule
from sk_mtl.nn.passing import SharedEmbeddingBottom
from sk_mtl.nn.probability import ProbabilityChain, chain_rates, logit_of_product
from sk_mtl.nn.propensity import binary_entropy, doubly_robust, inverse_propensity
from sk_mtl.nn.stacked import ACTIVATIONS, Dropout, StackedLinear, StackedMLP, undrawn
from sk_mtl.nn.stitching import Stitch
from sk_mtl.nn.tokens import ColumnTokens, EncoderBlock, TaskTokens
from sk_mtl.nn.towers import Towers
from sk_mtl.nn.transfer import CumulativeLogits, StepAttention, StepTransfer

__all__ = [
    "ACTIVATIONS",
    "BagsBlock",
    "Block",
    "ColumnTokens",
    "ColumnsBlock",
    "CopiedBlock",
    "CrossNetwork",
    "CumulativeLogits",
    "DSelectGates",
    "DSelectK",
    "Dropout",
    "EncoderBlock",
    "ExpertBalance",
    "ExtractionLevel",
    "FMInteraction",
    "FactorGates",
    "FeatureEmbedding",
    "FusionLevel",
    "Gates",
    "IsolatedLevel",
    "MultiTaskModule",
    "NumbersBlock",
    "PeriodicBlock",
    "PiecewiseBlock",
    "ProbabilityChain",
    "QuantilesBlock",
    "ScalarsBlock",
    "ScaledBlock",
    "SharedEmbeddingBottom",
    "StackedLinear",
    "StackedMLP",
    "SteeredMLP",
    "StepAttention",
    "StepTransfer",
    "Stitch",
    "TablesBlock",
    "TaskGraph",
    "TaskTokens",
    "Towers",
    "ValuesBlock",
    "binary_entropy",
    "build_interaction",
    "chain_rates",
    "check_gate",
    "doubly_robust",
    "fold_members",
    "inverse_propensity",
    "logit_of_product",
    "make_gates",
    "mix",
    "repeat_per_task",
    "resolve_parents",
    "undrawn",
    "unfold_members",
]

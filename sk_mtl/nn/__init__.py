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
from sk_mtl.nn.embedding import FeatureEmbedding
from sk_mtl.nn.extraction import ExtractionLevel
from sk_mtl.nn.gating import ExpertBalance, Gates, mix
from sk_mtl.nn.members import fold_members, repeat_per_task, unfold_members
from sk_mtl.nn.module import MultiTaskModule
from sk_mtl.nn.passing import SharedEmbeddingBottom
from sk_mtl.nn.probability import ProbabilityChain, chain_rates, logit_of_product
from sk_mtl.nn.stacked import ACTIVATIONS, Dropout, StackedLinear, StackedMLP, undrawn
from sk_mtl.nn.towers import Towers

__all__ = [
    "ACTIVATIONS",
    "Block",
    "ColumnsBlock",
    "CopiedBlock",
    "Dropout",
    "ExpertBalance",
    "ExtractionLevel",
    "FeatureEmbedding",
    "Gates",
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
    "TablesBlock",
    "Towers",
    "ValuesBlock",
    "chain_rates",
    "fold_members",
    "logit_of_product",
    "mix",
    "repeat_per_task",
    "undrawn",
    "unfold_members",
]

"""Blocks: the kinds of feature. One file each; `Block` is the contract."""

from sk_mtl.nn.blocks.bags import BagsBlock
from sk_mtl.nn.blocks.base import Block, find_block
from sk_mtl.nn.blocks.columns import ColumnsBlock, ScalarsBlock
from sk_mtl.nn.blocks.copied import CopiedBlock, build_copies
from sk_mtl.nn.blocks.numbers import NumbersBlock
from sk_mtl.nn.blocks.periodic import PeriodicBlock
from sk_mtl.nn.blocks.piecewise import PiecewiseBlock
from sk_mtl.nn.blocks.quantiles import QuantilesBlock
from sk_mtl.nn.blocks.scaled import ScaledBlock
from sk_mtl.nn.blocks.tables import TablesBlock
from sk_mtl.nn.blocks.values import ValuesBlock

__all__ = [
    "BagsBlock",
    "Block",
    "ColumnsBlock",
    "CopiedBlock",
    "NumbersBlock",
    "PeriodicBlock",
    "PiecewiseBlock",
    "QuantilesBlock",
    "ScalarsBlock",
    "ScaledBlock",
    "TablesBlock",
    "ValuesBlock",
    "build_copies",
    "find_block",
]

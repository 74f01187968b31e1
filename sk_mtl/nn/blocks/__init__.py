"""Blocks: the kinds of feature. One file each; `Block` is the contract."""

from sk_mtl.nn.blocks.base import Block, find_block
from sk_mtl.nn.blocks.numbers import NumbersBlock
from sk_mtl.nn.blocks.tables import TablesBlock

__all__ = ["Block", "NumbersBlock", "TablesBlock", "find_block"]

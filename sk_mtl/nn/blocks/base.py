"""The contract of a block: one kind of feature."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from sk_mtl._checks import subclasses


class Block(nn.Module, ABC):
    """Turn one part of the encoded rows into one vector per row.

    A new kind of feature is one subclass and one `sk_mtl.data.ColumnEncoder`. The encoder learns
    at `fit` how to build the block, its constructor arguments, and makes the part that the block
    reads: a tensor of B rows, or anything of B rows that a slice cuts. `FeatureEmbedding` sets the
    vectors of all blocks side by side.

    Attributes
    ----------
    kind : str
        Name of the kind, a class attribute.
    out_features : int
        Width of the vectors.
    copyable : bool
        Whether the constructor takes `copies`, a number c > 0: then `embed` returns c vectors for
        each row, (B, c, out_features), which read the same slots and share no weight. A class
        attribute.
    """

    kind: ClassVar[str]
    copyable: ClassVar[bool] = False
    out_features: int

    def prepare(self, part: Any) -> Any:
        """Do what depends on no weight, once for all batches that are cut from the result.

        Parameters
        ----------
        part : Tensor of shape (B, ...)
            The block's part of the rows, as its encoder made it.

        Returns
        -------
        Tensor of shape (B, ...)
            What `embed` takes; by default the part itself.
        """
        return part

    @abstractmethod
    def embed(self, prepared: Any) -> Tensor:
        """Return the vectors of rows that are prepared, (B, out_features)."""

    def places(self) -> list[tuple[int, list[int]]]:
        """Return where each column stands in the vectors.

        Returns
        -------
        list of (int, list of int)
            For each column its position in the part, and its places among the `out_features`.
            By default none: then the block's columns cannot be named to an architecture.
        """
        return []

    def touched(self, part: Any) -> dict[str, Tensor]:
        """Return which slots of its parameters a step on these rows can move.

        Parameters
        ----------
        part : Tensor of shape (B, ...)
            The block's part of the rows.

        Returns
        -------
        dict of str to Tensor of int64
            By name of the parameter, its slots (entries of its first axis), each once. A step can
            move all of a parameter that is not named. By default none is named.
        """
        return {}

    def begin(self, part: Any) -> None:
        """Get ready for training steps that show these rows and no others.

        Parameters
        ----------
        part : Tensor of shape (n, ...)
            The block's part of all rows to train on.
        """

    def count(self, part: Any) -> None:
        """Take note of the rows that training showed.

        Parameters
        ----------
        part : Tensor of shape (n, ...)
            The block's part of the rows trained on, all of them.
        """

    def counted(self) -> list[Tensor]:
        """Return what `count` adds to: numbers, and marks that it sets; the tensors themselves."""
        return []

    def settle(self) -> None:
        """Set what no step has trained, by what the steps have trained."""

    def set_statistics(self, **statistics: Any) -> None:
        """Take over what the encoder has learned from further rows of a stream.

        Parameters
        ----------
        **statistics
            What `sk_mtl.data.ColumnEncoder.statistics` returned.
        """

    def choose_sparse(self, choice: str | bool) -> None:
        """Choose which parameters pass sparse gradients.

        Parameters
        ----------
        choice : "auto" or bool
            "auto": the large ones.
        """

    def tallies(self) -> dict[str, Tensor]:
        """Return what is counted, beside the weights, for training that is to go on."""
        return {}

    def set_tallies(self, tallies: dict[str, Tensor]) -> None:
        """Take over what `tallies` returned."""


def find_block(kind: str) -> type[Block]:
    """Return the imported subclass of `Block` of a kind.

    Raises
    ------
    ValueError
        If there is none.
    """
    for cls in subclasses(Block):
        if getattr(cls, "kind", None) == kind:
            return cls
    raise ValueError(f"unknown kind of block {kind!r}; import the module that defines it first")

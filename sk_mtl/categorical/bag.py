"""Several categories in each cell."""

from typing import Any, ClassVar

from sk_mtl._checks import ParameterError, check_choice
from sk_mtl.categorical.base import PARAMETER, CategoricalEncoding

POOLINGS = ["mean", "sum", "max"]


class Bag(CategoricalEncoding):
    """Cells that hold several categories, whose vectors are pooled into one.

    A cell is a list, a tuple, a set or an array of categories (so are lists of Arrow and polars),
    or a string with a `separator`. Their order does not matter; a category that stands in a cell
    twice counts twice. A cell that is empty or missing reads a vector of its own, and so does a
    missing entry among others. Entries that are not known read the vector of unknown categories.

    Parameters
    ----------
    pooling : {"mean", "sum", "max"}, default="mean"
        What becomes of the vectors: their mean, their sum, or the greatest of each entry.
    n_slots : int, default=None
        Slots that categories are hashed into, see `Hashed`. None: the categories are learned.
    max_categories, min_frequency : number, default=None
        As in `Categories`. Each entry of a cell counts, and an empty cell as one.
    vocabulary : str, default=None
        Name of the vocabulary, which columns of lists and of single categories may share; see
        `Categories`.
    vectors : mapping or DataFrame, default=None
        As in `Categories`.
    trainable : bool, default=True
        As in `Categories`.
    separator : str, default=None
        What stands between the categories of cells that are strings, such as "|". Blanks around a
        category are left out, and so is what is blank between two separators. None: a string is
        an error.

    Examples
    --------
    >>> from sk_mtl.categorical import Bag
    >>> Bag("sum", separator="|")
    Bag(pooling='sum', separator='|')
    """

    name: ClassVar[str] = "bag"

    def __init__(
        self,
        pooling: str = "mean",
        n_slots: int | None = None,
        max_categories: int | None = None,
        min_frequency: float | None = None,
        vocabulary: str | None = None,
        vectors: Any = None,
        trainable: bool = True,
        separator: str | None = None,
    ) -> None:
        self.pooling = pooling
        self.n_slots = n_slots
        self.max_categories = max_categories
        self.min_frequency = min_frequency
        self.vocabulary = vocabulary
        self.vectors = vectors
        self.trainable = trainable
        self.separator = separator

    def check(self) -> None:
        """Check the options."""
        super().check()
        check_choice(f"{PARAMETER}__pooling", str(self.pooling), POOLINGS)
        if not (self.separator is None or (isinstance(self.separator, str) and self.separator)):
            raise ParameterError(
                f"`{PARAMETER}__separator` must be a string that is not empty, or None; got "
                f"{self.separator!r}."
            )

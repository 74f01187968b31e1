"""Ids without end, in a table of fixed size."""

from typing import ClassVar

from sk_mtl._checks import check_count
from sk_mtl.categorical.base import PARAMETER, CategoricalEncoding


class Hashed(CategoricalEncoding):
    """A table of fixed size, whose slots values find by their hash.

    No vocabulary is learned: the memory does not grow with the data, and `partial_fit` learns ids
    that earlier calls did not have. Several values may fall into one slot, and share its vector:
    of n values one has a slot of its own with probability exp(-n / n_slots). A missing value has
    a slot of its own. A value whose slot no training row has read is predicted as the mean of
    what training did read.

    A value's slot is the same in every process, on every platform and in every dtype: numbers
    that are equal hash alike, and so does a string that spells a whole number as Python prints it
    (3, 3.0 and "3", but not "03" and "3.0"; True and 1).

    Parameters
    ----------
    n_slots : int, default=65536
        Slots of the table.
    vocabulary : str, default=None
        Name of the vocabulary. Columns of one name share one table; see `Categories`.

    Examples
    --------
    >>> from sk_mtl.categorical import Hashed
    >>> Hashed(n_slots=1000)
    Hashed(n_slots=1000)
    """

    name: ClassVar[str] = "hashed"

    def __init__(self, n_slots: int = 2**16, vocabulary: str | None = None) -> None:
        self.n_slots = n_slots
        self.vocabulary = vocabulary

    def check(self) -> None:
        """Check the options."""
        check_count(f"{PARAMETER}__n_slots", self.n_slots)
        super().check()

"""Categories that `fit` learns."""

from typing import Any, ClassVar

from sk_mtl.categorical.base import CategoricalEncoding


class Categories(CategoricalEncoding):
    """A vector for each category that stands in the rows of `fit`.

    A missing value has a vector of its own. So have all values that are not known: those that
    `fit` did not see, and the infrequent ones.

    Parameters
    ----------
    max_categories : int, default=None
        Most categories per column, the infrequent ones counted as one: the commonest are kept.
        Of categories that stand in equally many rows the later ones, in sorted order, are kept,
        as by scikit-learn's OneHotEncoder. A missing value is no category. None: all.
    min_frequency : int or float, default=None
        Rows that a frequent category stands in at least: a number of rows, or as a float between
        0 and 1 a share of all rows, those with a missing value included. None: one row.
    vocabulary : str, default=None
        Name of the vocabulary. Columns of one name share its categories and its table, and have
        one width; a category counts in all of them together. None: the column's own.
    vectors : mapping or DataFrame, default=None
        Initial vectors: by category, or a DataFrame with the categories as its index and a column
        for each entry. Their length is the width of the embedding, whatever `embedding_dim` says
        of columns in general. A category with a vector is known, though it be infrequent or
        not stand in the rows of `fit` at all. The others start as usual. They are read at `fit`,
        and must not be changed between fits that go on from one another.
    trainable : bool, default=True
        Whether training moves the given vectors. False: only the vectors of other categories,
        and that of unknown ones.

    Examples
    --------
    >>> from sk_mtl.categorical import Categories
    >>> Categories(min_frequency=5)
    Categories(min_frequency=5)
    """

    name: ClassVar[str] = "learned"

    def __init__(
        self,
        max_categories: int | None = None,
        min_frequency: float | None = None,
        vocabulary: str | None = None,
        vectors: Any = None,
        trainable: bool = True,
    ) -> None:
        self.max_categories = max_categories
        self.min_frequency = min_frequency
        self.vocabulary = vocabulary
        self.vectors = vectors
        self.trainable = trainable

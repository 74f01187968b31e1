"""The vectors that a network has learned for categories, and which of them are close."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from sk_mtl._checks import check_count
from sk_mtl.base import MultiTaskEstimator
from sk_mtl.data import CategoryEncoder
from sk_mtl.data.lookup import FIRST_KNOWN
from sk_mtl.nn import TablesBlock


class Embedding(NamedTuple):
    """One column's part of the embedding."""

    column: Any
    """Name of the column."""
    place: int
    """Its place among the categorical ones."""
    encoder: CategoryEncoder
    """What knows the categories."""
    vectors: NDArray
    """The vectors of all slots, (2 + n_categories, dim)."""

    @property
    def categories(self) -> pd.Index:
        """The known categories, in the order of their slots."""
        return self.encoder.categories_[self.encoder.vocabularies_[self.place]]

    @property
    def known(self) -> pd.DataFrame:
        """The vectors of the known categories, (n_categories, dim)."""
        index = self.categories.rename(self.column)
        return pd.DataFrame(self.vectors[FIRST_KNOWN:], index=index)


def find_embedding(estimator: MultiTaskEstimator, column: Any, task: Any = None) -> Embedding:
    """Return a column's part of a fitted estimator's embedding.

    Raises
    ------
    ValueError
        If the column is not categorical, or its categories are hashed; or if `task` does not say
        which of several copies is meant.
    """
    check_is_fitted(estimator)
    fitted, embedding = estimator._fitted_, estimator.module_.embedding
    encoder = next((e for e in fitted.encoder.encoders if isinstance(e, CategoryEncoder)), None)
    names = [] if encoder is None else encoder.names_
    if encoder is None or column not in names:
        hint = f"pass one of {names}" if names else "this estimator was fitted to none"
        raise ValueError(f"`column` is {column!r}, which is no categorical column; {hint}.")
    place = names.index(column)
    owner = encoder.vocabularies_[place]
    if encoder.slots_[owner]:
        raise ValueError(
            f"`column` is {column!r}, whose categories are hashed into {encoder.slots_[owner]} "
            "slots: which categories there are is not kept. Pass a column of kind Categories or "
            "Bag."
        )
    own, shared = dict(embedding.own), dict(embedding.blocks)
    copies = estimator.task_names_ if "categorical" in own else []
    if task is not None and task not in copies:
        known = f"pass None or one of {copies}" if "categorical" in shared else f"pass {copies}"
        if not copies:
            known = "its tasks share one embedding, so pass None"
        raise ValueError(f"`task` is {task!r}; {known}.")
    if task is None and "categorical" not in shared:
        raise ValueError(
            f"Each task of this {type(estimator).__name__} has an embedding of its own; say whose "
            f"by `task`, one of {copies}."
        )
    block: Any = shared["categorical"] if task is None else own["categorical"]
    assert isinstance(block, TablesBlock)
    index, start = block.homes[place]
    size = FIRST_KNOWN + len(encoder.categories_[owner])
    vectors = block.tables[index][start : start + size].numpy(force=True)
    if task is not None:
        dim = encoder.dims_[place]
        which = copies.index(task)
        vectors = vectors[:, which * dim : (which + 1) * dim]
    return Embedding(column, place, encoder, vectors.copy())


def embedding_vectors(
    estimator: MultiTaskEstimator, column: Any, *, task: str | None = None, special: bool = False
) -> pd.DataFrame:
    """Return the vectors that a network has learned for the categories of a column.

    Parameters
    ----------
    estimator : MultiTaskEstimator
        A fitted estimator (of a pipeline its last step). All its members share the embedding.
    column : str or int
        A categorical column by its name, or its position if X had no names. Columns with a
        common `vocabulary` have the same vectors; a `sk_mtl.categorical.Bag` has those of the
        single categories, before they are pooled.
    task : str, default=None
        Whose vectors, where tasks have an embedding of their own (`STEM`, `SingleTask`); None:
        those that all tasks share.
    special : bool, default=False
        Whether to return the vectors ``"<missing>"``, of a missing value, and ``"<unknown>"``, of
        unknown and infrequent categories, before those of the categories.

    Returns
    -------
    DataFrame of shape (n_categories, dim)
        A row for each category that `fit` knows, sorted; the index has the column's name.

    Raises
    ------
    ValueError
        If the column is not categorical or its categories are hashed, or `task` does not suit the
        architecture.

    See Also
    --------
    embedding_neighbors : The categories whose vectors are close to one's.

    Examples
    --------
    >>> from sk_mtl import MMoE
    >>> from sk_mtl.datasets import make_census_like
    >>> from sk_mtl.inspection import embedding_vectors
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = MMoE(max_epochs=2, random_state=0).fit(X, Y)
    >>> vectors = embedding_vectors(model, "housing")
    >>> vectors.index.tolist(), vectors.shape
    (['other', 'owner', 'tenant'], (3, 8))
    """
    found = find_embedding(estimator, column, task)
    if not special:
        return found.known
    names = ["<missing>", "<unknown>", *found.categories]
    index = pd.Index(names, dtype=object, name=column, tupleize_cols=False)
    return pd.DataFrame(found.vectors, index=index)


def embedding_neighbors(
    estimator: MultiTaskEstimator,
    column: Any,
    category: Any,
    *,
    n_neighbors: int = 5,
    task: str | None = None,
) -> pd.Series:
    r"""Return the categories whose vectors point most nearly the same way as one's.

    .. math:: s(a, b) = \frac{\langle v_a, v_b \rangle}{\lVert v_a \rVert \, \lVert v_b \rVert}

    Parameters
    ----------
    estimator : MultiTaskEstimator
        A fitted estimator (of a pipeline its last step).
    column : str or int
        A categorical column, as in `embedding_vectors`.
    category : object
        A category that `fit` knows, of any type that `predict` would find it by.
    n_neighbors : int, default=5
        How many to return; all, if there are fewer.
    task : str, default=None
        Whose vectors, as in `embedding_vectors`.

    Returns
    -------
    Series of shape (n_neighbors,)
        Cosines by category, the closest first; `category` itself is not among them.

    Raises
    ------
    ValueError
        If the category is not known, or as `embedding_vectors`.

    Notes
    -----
    Close vectors mean that the network treats two categories alike, not that they are alike:
    vectors of categories that stand in few rows have hardly moved from where they were drawn.

    Examples
    --------
    >>> from sk_mtl import MMoE
    >>> from sk_mtl.datasets import make_census_like
    >>> from sk_mtl.inspection import embedding_neighbors
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = MMoE(max_epochs=2, random_state=0).fit(X, Y)
    >>> sorted(embedding_neighbors(model, "housing", "owner", n_neighbors=2).index)
    ['other', 'tenant']
    """
    n_neighbors = check_count("n_neighbors", n_neighbors)
    found = find_embedding(estimator, column, task)
    return closest(found.known, place_of(found, category)).iloc[:n_neighbors]


def place_of(found: Embedding, category: Any) -> int:
    """Return the position of a category among the known ones.

    Raises
    ------
    ValueError
        If it is not known.
    """
    given = pd.Series([category]) if np.isscalar(category) else pd.Series([category], dtype=object)
    code = int(found.encoder.lookups[found.place].encode(given, found.column)[0])
    if code < FIRST_KNOWN:
        some = ", ".join(map(repr, found.categories[:5].tolist()))
        raise ValueError(
            f"`category` is {category!r}, which column {found.column!r} has no vector of; pass one "
            f"of its {len(found.categories)} known categories, such as {some}."
        )
    return code - FIRST_KNOWN


def closest(vectors: pd.DataFrame, at: int) -> pd.Series:
    """Return the cosines of all other vectors with one, the closest first."""
    values = vectors.to_numpy(dtype=np.float64)
    lengths = np.linalg.norm(values, axis=1)
    cosines = values @ values[at] / np.maximum(lengths * lengths[at], np.finfo(float).tiny)
    others = np.delete(np.arange(len(values)), at)
    order = others[np.argsort(-cosines[others], kind="stable")]
    return pd.Series(cosines[order], index=vectors.index[order], name="cosine")

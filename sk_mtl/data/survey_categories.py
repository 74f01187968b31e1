"""What is learned of categorical columns of a stream.

Without `max_categories` and `min_frequency` a vocabulary learns every category, and takes memory
for these only. There may be ``MOST_CATEGORIES`` of them.

With one of the two the cells of each category are counted, of ``COUNTED`` categories at a time:
when there are more, the rarest are dropped, as in the algorithms of Misra-Gries and of Manku and
Motwani. So of n cells

- a category that stands in more than n / ``COUNTED`` of them is never dropped;
- a count is exact if its category was never dropped, and else too low by n / ``COUNTED`` at most;
- while there are no more than ``COUNTED`` categories all counts are exact.

A warning tells where the choice might hang on counts that are too low.

References
----------
P. K. Agarwal et al., "Mergeable Summaries", PODS 2012, section 2, for the bound.
"""

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sk_mtl.categorical import infrequent
from sk_mtl.data.frames import Table
from sk_mtl.data.lookup import FIRST_KNOWN, Lookup
from sk_mtl.data.survey import Survey
from sk_mtl.data.vocabularies import (
    Vocabulary,
    as_integers,
    cast_index,
    distinct,
    refuse_fractions,
    unite,
)

if TYPE_CHECKING:
    from sk_mtl.data.categories import CategoryEncoder

MOST_CATEGORIES = 20_000_000
"""Categories that a vocabulary may have where none is infrequent."""

COUNTED = 2_000_000
"""Categories of a vocabulary whose cells are counted at a time."""

LEAST = 2**12
"""Categories that are found before they are sorted in among those known."""


class CategorySurvey(Survey):
    """Learn the categories of all vocabularies.

    Parameters
    ----------
    encoder : CategoryEncoder
        The encoder; its ``columns_`` are known.
    table : Table
        The first table of the stream.
    """

    def __init__(self, encoder: "CategoryEncoder", table: Table) -> None:
        self.encoder = encoder
        self.groups = encoder.begin(table)
        self.tallies = [Tally(counts=group.has_rule) for group in self.groups]

    def add(self, table: Table, weight: NDArray | None) -> None:
        """Look at a table's categories."""
        for group, tally in zip(self.groups, self.tallies, strict=True):
            for values, name, n_cells in self.encoder.pieces(table, None, group):
                if group.n_slots is not None:
                    refuse_fractions(values, name)
                else:
                    tally.add(values, name, n_cells)

    def finish(self) -> None:
        """Choose the categories that are not infrequent."""
        for group, tally in zip(self.groups, self.tallies, strict=True):
            name = self.encoder.names_[group.columns[0]]
            known = tally.frequent(group, name)
            self.encoder.publish(group, tally.index, known, lost=tally.floor > 0)
        self.encoder.finish(self.groups, [tally.n_cells for tally in self.tallies])


class Tally:
    """The distinct categories of a stream, and how often each stands in it.

    Parameters
    ----------
    counts : bool
        Whether to count.

    Attributes
    ----------
    index : Index
        Categories, sorted; after `frequent` all that are known of.
    counts, missed : ndarray of int64 of shape (V,)
        Of each category the cells counted, and at most how many more there were.
    floor : int
        At most how many cells a category has that was dropped, zero if none was.
    n_cells : int
        Number of cells, those without a value too.
    """

    def __init__(self, *, counts: bool) -> None:
        self.counting = counts
        self.index = pd.Index([], dtype=object)
        self.counts = self.missed = np.zeros(0, dtype=np.int64)
        self.floor = self.n_cells = 0
        # Categories that are not among those known, each perhaps several times.
        self._found: list[tuple[pd.Index, NDArray]] = []
        self._n_found = 0

    def add(self, values: pd.Series, name: Any, n_cells: int) -> None:
        """Take in a column, or a piece of it, of some cells."""
        self.n_cells += n_cells
        found = distinct(values, name)
        if not len(found):
            return
        counts = np.zeros(len(found), dtype=np.int64)
        if self.counting:
            codes = Lookup.of(found).encode(values, name)
            counts = np.bincount(codes, minlength=len(found) + FIRST_KNOWN)[FIRST_KNOWN:]
        found = self._alike(found)
        place = self.index.get_indexer(found)
        is_new = place < 0
        self.counts[place[~is_new]] += counts[~is_new]
        if is_new.any():
            self._found.append((found[is_new], counts[is_new]))
            self._n_found += int(is_new.sum())
        if self._n_found > max(len(self.index), LEAST):
            self._settle(name)

    def _alike(self, found: pd.Index) -> pd.Index:
        """Return categories in the dtype of those known, as far as they have the same values."""
        known = self.index.dtype
        if not len(self.index) or found.dtype == known:
            return found
        if known.kind == "f":  # whole numbers, so far read as floats
            self.index = as_integers(self.index)
        found = as_integers(found)
        if found.dtype.kind == self.index.dtype.kind == "i":
            # Else each look-up would cast all that are known.
            self.index = self.index.astype(np.int64)
            return found.astype(np.int64)
        return cast_index(found, self.index.dtype)

    def _settle(self, name: Any) -> None:
        """Sort what has been found in among what is known."""
        if not self._found:
            return
        parts = [(self.index, self.counts), *self._found]
        index = unite([part for part, _ in parts])
        counts = np.zeros(len(index), dtype=np.int64)
        missed = np.full(len(index), self.floor)
        for number, (part, own) in enumerate(parts):
            place = index.get_indexer(part)
            counts[place] += own
            if number == 0:
                missed[place] = self.missed
        self.index, self.counts, self.missed = index, counts, missed
        self._found, self._n_found = [], 0
        if self.counting:
            if len(index) > COUNTED:
                self._drop()
        elif len(index) > MOST_CATEGORIES:
            raise ValueError(
                f"Column {name!r} has more than {MOST_CATEGORIES:,} categories; give it a kind in "
                f"`categorical_features`, {{{name!r}: Categories(max_categories=1_000_000)}} or "
                f"{{{name!r}: Hashed()}}, see sk_mtl.categorical."
            )

    def _drop(self) -> None:
        """Drop the rarest categories, so that no more are left than may be counted."""
        most = self.counts + self.missed
        # Each of COUNTED + 1 categories, at least, has so many more cells than the floor before.
        self.floor = int(np.partition(most, -COUNTED - 1)[-COUNTED - 1])
        kept = most > self.floor
        self.index = self.index[kept]
        self.counts, self.missed = self.counts[kept], self.missed[kept]

    def frequent(self, group: Vocabulary, name: Any) -> pd.Index:
        """Return the categories that are not infrequent."""
        self._settle(name)
        if not self.counting:
            return self.index
        rule = group.max_categories, group.min_frequency
        rare = infrequent(self.counts, self.n_cells, *rule)
        self._tell(rare, group, name)
        return self.index[~rare]

    def _tell(self, rare: NDArray, group: Vocabulary, name: Any) -> None:
        """Warn if categories might have been chosen otherwise by exact counts."""
        if not self.floor:
            return
        kept = self.counts[~rare]
        if group.max_categories is not None and len(kept) >= group.max_categories - 1:
            least = float(kept.min(initial=np.iinfo(np.int64).max))
        else:
            least = group.min_frequency or 0.0
            least = least if least >= 1 else least * self.n_cells
        most = max(self.floor, int((self.counts + self.missed)[rare].max(initial=0)))
        if most < least:
            return
        warnings.warn(
            f"Column {name!r} has so many categories that not all could be counted: those of "
            f"{self.floor} cells or fewer, of {self.n_cells}, may be missing among the frequent "
            "ones. Pass a lower `max_categories`, a higher `min_frequency`, or Hashed(), see "
            "sk_mtl.categorical.",
            UserWarning,
            stacklevel=2,
        )

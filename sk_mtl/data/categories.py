"""Categorical columns: categories learned at `fit`, and codes of them."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sk_mtl.categorical import CategoricalEncoding, resolve_kinds
from sk_mtl.data.bags import Bags, BagStore, as_bags
from sk_mtl.data.checks import choose_columns
from sk_mtl.data.encoder import BlockSpec, ColumnEncoder
from sk_mtl.data.frames import Table, is_categorical
from sk_mtl.data.lookup import (
    FIRST_KNOWN,
    UNKNOWN,
    HashLookup,
    Lookup,
    as_index,
    encode_cells,
    of_one_type,
)
from sk_mtl.data.survey_categories import CategorySurvey
from sk_mtl.data.vocabularies import (
    Members,
    Vocabulary,
    add_given,
    as_plain,
    given_codes,
    group_columns,
    keep_frequent,
    learn,
    read_cells,
    read_members,
    refuse_fractions,
)
from sk_mtl.numeric.values import auto_embedding_dim

ID_ROWS, ID_SHARE = 500, 0.9
"""From so many cells on, a column with so large a share of different ones is told of as an id."""

PIECE = 2**16
"""Cells with several categories that are looked at at once."""


class CategoryEncoder(ColumnEncoder):
    """Code categories by their positions.

    Parameters
    ----------
    categorical_features : "from_dtype", None, array-like, CategoricalEncoding or dict
        Which columns are categorical, and of which kind, see `sk_mtl.base.MultiTaskEstimator`.
    embedding_dim : int, "auto", mapping or sequence
        Width of the embeddings.

    Attributes
    ----------
    columns_ : list of int
        Positions of the categorical columns.
    names_ : list
        Their names.
    vocabularies_ : list of int
        The vocabulary of each of them, by its position among all V.
    poolings_, separators_ : list of (str or None)
        Of each of them, if a cell holds several categories, how they are pooled, and what stands
        between those of a string.
    categories_ : list of pandas.Index
        Known categories of each vocabulary, sorted; none of a hashed one.
    slots_ : list of int
        Slots that a vocabulary is hashed into; 0 if it is learned.
    infrequent_ : list of bool
        Whether a vocabulary has infrequent categories, which share the code of unknown ones.
    frozen_ : list of ndarray of int64
        Codes of each vocabulary whose vectors training leaves as they are.
    dims_ : list of int
        Width of each column's embedding.
    """

    part: ClassVar[str] = "categorical"
    categories_: list[pd.Index]

    def __init__(
        self, categorical_features: Any = "from_dtype", embedding_dim: Any = "auto"
    ) -> None:
        self.categorical_features = categorical_features
        self.embedding_dim = embedding_dim
        self._lookups: list[Lookup | HashLookup] | None = None
        # Initial vectors by vocabulary: needed once, to build the first network.
        self.given: dict[int, tuple[NDArray, NDArray]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # pandas objects are large in a pickle, and not every format takes them.
        state = {**self.__dict__, "_lookups": None, "given": {}}
        if "categories_" in state:
            state["categories_"] = [index.to_numpy() for index in self.categories_]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if "categories_" in state:
            known = [as_index(array) for array in state["categories_"]]
            self.categories_ = known

    def choose(self, table: Table) -> list[int]:
        """Resolve `categorical_features` to positions."""
        asked = self.categorical_features
        if asked is None:
            return []
        by_kind = isinstance(asked, CategoricalEncoding | Mapping)
        if by_kind or (isinstance(asked, str) and asked == "from_dtype"):
            named = resolve_kinds(asked, table.names)[0] if by_kind else {}
            by_dtype = table.dtypes if table.named else []
            return sorted({*named, *(j for j, d in enumerate(by_dtype) if is_categorical(d))})
        return choose_columns("categorical_features", asked, table.names, named=table.named)

    # What is learned ------------------------------------------------------------------------------

    def fit(self, table: Table, rows: NDArray | None, weight: NDArray | None) -> None:
        """Learn the categories that stand in the rows, and the widths of their embeddings."""
        groups = self.begin(table)
        n_cells = []
        for group in groups:
            known = seen = pd.Index([], dtype=object)
            if group.n_slots is not None:
                for values, whose, _ in self.pieces(table, rows, group):
                    refuse_fractions(values, whose)
            else:
                known = seen = learn(piece[:2] for piece in self.pieces(table, rows, group))
            if group.has_rule:
                known = keep_frequent(seen, self.pieces(table, rows, group), group)
            self.publish(group, seen, known)
            n_cells.append(len(group.columns) * (len(table) if rows is None else len(rows)))
        self.finish(groups, n_cells)

    def survey(self, table: Table, sample_rows: int) -> CategorySurvey:
        """Return what learns from a stream: the categories of all rows."""
        return CategorySurvey(self, table)

    # The steps of `fit`, which `CategorySurvey` takes table by table.

    def begin(self, table: Table) -> list[Vocabulary]:
        """Know the columns and their vocabularies, and no category; return the vocabularies."""
        self.names_ = [table.names[j] for j in self.columns_]
        named, other = resolve_kinds(self.categorical_features, table.names)
        kinds = [named.get(j, other) for j in self.columns_]
        self.poolings_ = [kind.pooling for kind in kinds]
        self.separators_ = [kind.separator for kind in kinds]
        self._lookups, self.given = None, {}
        groups = group_columns(kinds, self.names_)
        self.vocabularies_ = [0] * len(kinds)
        self.categories_ = []
        self.slots_: list[int] = []
        self.infrequent_: list[bool] = []
        self.frozen_: list[NDArray] = []
        for v, group in enumerate(groups):
            for c in group.columns:
                self.vocabularies_[c] = v
        return groups

    def pieces(
        self, table: Table, rows: NDArray | None, group: Vocabulary
    ) -> Iterator[tuple[pd.Series, Any, int]]:
        """Yield what stands in a vocabulary's columns: values, their column, how many cells."""
        for c in group.columns:
            values = table.column(self.columns_[c], rows)
            several = self.poolings_[c] is not None
            step = PIECE if several else max(len(values), 1)
            for start in range(0, len(values), step):
                piece = values if step >= len(values) else values.iloc[start : start + step]
                n = len(piece)
                if several:
                    members = self._members(c, piece)
                    n = int(members.lengths.clip(min=1).sum())  # an empty cell is one
                    piece = members.values
                yield piece, self.names_[c], n

    def publish(
        self, group: Vocabulary, seen: pd.Index, known: pd.Index, *, lost: bool = False
    ) -> None:
        """Take over one vocabulary: of the categories seen the known ones, and given vectors.

        Parameters
        ----------
        group : Vocabulary
            What its columns say of it.
        seen, known : Index
            Its categories, sorted, and those of them that are not infrequent.
        lost : bool, default=False
            Whether some, infrequent too, are not among those seen.
        """
        name = self.names_[group.columns[0]]
        frozen: NDArray = np.zeros(0, dtype=np.int64)
        if group.vectors is not None:
            known = add_given(known, seen, group.vectors, name)
            codes = given_codes(known, group.vectors, name)
            self.given[len(self.slots_)] = codes, group.vectors.values
            frozen = frozen if group.trainable else codes
        # Without given ones the known categories are some of those seen.
        is_all = len(known) == len(seen) if group.vectors is None else seen.isin(known).all()
        has_rare = group.has_rule and (lost or not is_all)
        self.categories_.append(known)
        self.slots_.append(group.n_slots or 0)
        self.infrequent_.append(bool(has_rare))
        self.frozen_.append(frozen)

    def finish(self, groups: Sequence[Vocabulary], n_cells: Sequence[int]) -> None:
        """Choose the widths: all categories are known, of so many cells of each vocabulary."""
        self.dims_ = self._widths(groups)
        asked = self.categorical_features
        if not (isinstance(asked, str) and asked == "from_dtype"):
            return
        told = [
            f"{self.names_[group.columns[0]]!r} has {len(known):,} in {n:,} rows"
            for group, known, n in zip(groups, self.categories_, n_cells, strict=True)
            if n >= ID_ROWS and len(known) > ID_SHARE * n
        ]
        if told:
            warnings.warn(
                "Columns of nearly as many values as rows are embedded, which says nothing of new "
                f"rows and harms what the other columns say: {'; '.join(told)}. Leave them out of "
                "X, make numbers of numbers and dates, or name them in `categorical_features` if "
                "they are meant.",
                UserWarning,
                stacklevel=2,
            )

    def _members(self, c: int, values: pd.Series) -> Members:
        return read_members(values, self.names_[c], self.separators_[c])

    def specs(self) -> dict[str, BlockSpec]:
        """Return how to build the block: a table for each width."""
        sizes = [len(known) or n for known, n in zip(self.categories_, self.slots_, strict=True)]
        owners = self.vocabularies_
        options: dict[str, Any] = {
            "n_categories": [sizes[v] for v in owners],
            "embedding_dims": self.dims_,
        }
        if len(sizes) < len(owners):
            options["vocabularies"] = owners
        if any(self.slots_):
            options["hashed"] = [v for v, n in enumerate(self.slots_) if n]
        if self.given:
            options["vectors"] = self.given
        if any(map(len, self.frozen_)):
            options["frozen"] = {v: codes for v, codes in enumerate(self.frozen_) if len(codes)}
        if any(self.poolings_):
            options["poolings"] = self.poolings_
            return {"categorical": BlockSpec("bags", options, self.part)}
        return {"categorical": BlockSpec("tables", options, self.part)}

    # Codes ----------------------------------------------------------------------------------------

    @property
    def lookups(self) -> list[Lookup | HashLookup]:
        """The known categories of each column, ready for single cells."""
        if self._lookups is None:
            known = [
                HashLookup(n) if n else Lookup.of(index)
                for n, index in zip(self.slots_, self.categories_, strict=True)
            ]
            self._lookups = [known[v] for v in self.vocabularies_]
        return self._lookups

    def _places(self, *, several: bool) -> list[int]:
        """Return the columns with several categories in a cell, or those with one."""
        return [c for c, pooling in enumerate(self.poolings_) if (pooling is not None) == several]

    def transform(self, table: Table) -> "NDArray | Bags":
        """Return codes, (n, C), in the smallest type that holds them, or bags of them."""
        dtype, single = self._code_dtype(), self._places(several=False)
        # Fill column by column and transpose once: writing strided rows is slow.
        codes = np.empty((len(single), len(table)), dtype=dtype)
        for position, c in enumerate(single):
            j, lookup, name = self.columns_[c], self.lookups[c], self.names_[c]
            values = table.column(j)
            if isinstance(values.dtype, pd.CategoricalDtype):
                given = values.array
                if j not in table.codes:
                    known = lookup.encode_categories(given.categories, name)
                    table.codes[j] = known.astype(dtype)
                codes[position] = table.codes[j][given.codes]
            else:
                codes[position] = lookup.encode(values, name)
        by_row = np.ascontiguousarray(codes.T)
        several = self._places(several=True)
        if not several:
            return by_row

        def encode(c: int) -> tuple[NDArray, NDArray]:
            members = self._members(c, table.column(self.columns_[c]))
            return self.lookups[c].encode(members.values, self.names_[c]), members.lengths

        return self._bags(by_row, several, encode)

    def _bags(
        self,
        codes: NDArray,
        several: list[int],
        encode: Callable[[int], tuple[NDArray, NDArray]],
    ) -> Bags:
        """Return bags of what `encode` gives for a column: codes, and how many each cell has."""
        values, lengths = [], []
        for c in several:
            found, sizes = encode(c)
            # In the order of their codes: sums of floats depend on the order, and that of a set
            # on the process. An empty cell gets the code of a missing value.
            n_codes = self.lookups[c].size + FIRST_KNOWN
            row = np.repeat(np.arange(len(sizes)), sizes)
            keys = np.concatenate([row * n_codes + found, np.flatnonzero(sizes == 0) * n_codes])
            keys.sort()
            values.append((keys % n_codes).astype(self._code_dtype()))
            lengths.append(sizes.clip(min=1))
        return as_bags(codes, values, lengths)

    def transform_few(self, table: Table, cells: list[list[Any]]) -> "NDArray | Bags | None":
        """Encode cell by cell, or return None where a column has to be looked at."""
        if not any(self.poolings_):
            return encode_cells(cells, self.columns_, self.lookups)
        single, several = self._places(several=False), self._places(several=True)
        codes = encode_cells(
            cells, [self.columns_[c] for c in single], [self.lookups[c] for c in single]
        )
        if codes is None:
            return None
        found: dict[int, tuple[NDArray, NDArray]] = {}
        for c in several:
            own = [row[self.columns_[c]] for row in cells]
            bags = [*map(as_plain, read_cells(own, self.names_[c], self.separators_[c]))]
            members, lookup = [value for bag in bags for value in bag], self.lookups[c]
            known = [lookup.code(value) for value in members]
            if None in known or (isinstance(lookup, HashLookup) and not of_one_type(members)):
                return None
            sizes = np.array([len(bag) for bag in bags], dtype=np.int64)
            found[c] = np.array(known, dtype=np.int64), sizes
        return self._bags(codes.astype(self._code_dtype()), several, found.__getitem__)

    def store(self, table: Table, n: int) -> "NDArray | BagStore":
        """Return what takes the codes of n rows."""
        if any(self.poolings_):
            return BagStore()
        return np.empty((n, len(self.columns_)), dtype=self._code_dtype())

    def _code_dtype(self) -> Any:
        sizes = [len(index) for index in self.categories_] + self.slots_
        return np.int16 if max(sizes, default=0) + FIRST_KNOWN < 2**15 else np.int32

    def seen(self, part: "NDArray | Bags") -> NDArray:
        """Return, for each column, whether a known and whether an unknown value stands in it."""
        if not isinstance(part, Bags):
            return np.stack([(part >= FIRST_KNOWN).any(axis=0), (part == UNKNOWN).any(axis=0)])
        found = np.zeros((2, len(self.columns_)), dtype=bool)
        found[:, self._places(several=False)] = self.seen(part.codes.numpy())
        for c, values in zip(self._places(several=True), part.values, strict=True):
            found[:, c] = self.seen(values.numpy())
        return found

    def tell(self, table: Table, seen: NDArray) -> None:
        """Warn of columns without a single known value."""
        any_known, any_unknown = seen
        told = []
        for c in np.flatnonzero(any_unknown & ~any_known).tolist():
            v = self.vocabularies_[c]
            if self.infrequent_[v]:
                continue  # the values may all be infrequent ones, which were learned from
            values = table.column(self.columns_[c])
            if self.poolings_[c] is not None:
                values = self._members(c, values).values
            (value,) = values.dropna().iloc[:1].tolist()
            known = "".join(f"such as {first!r}" for first in self.categories_[v][:1].tolist())
            told.append(
                f"column {self.names_[c]!r} has values such as {value!r}, and `fit` saw "
                f"{known or 'none'}"
            )
        if not told:
            return
        warnings.warn(
            f"No category of X is known in some columns: {'; '.join(told)}. Their rows are "
            "predicted as those of an unknown category; pass the values that `fit` saw, or leave a "
            "column whose values never come again out of X.",
            UserWarning,
            stacklevel=2,
        )

    # Widths ---------------------------------------------------------------------------------------

    def _widths(self, groups: Sequence[Vocabulary]) -> list[int]:
        """Resolve `embedding_dim` to one width per column."""
        asked, names = self.embedding_dim, self.names_
        for_all = False
        if isinstance(asked, Mapping):
            unknown = [name for name in asked if name not in names]
            if unknown:
                raise ValueError(
                    f"`embedding_dim` names {unknown[0]!r}, which is no categorical column; those "
                    f"are {names}."
                )
            dims = [asked.get(name, "auto") for name in names]
        elif isinstance(asked, Sequence) and not isinstance(asked, str):
            dims = list(asked)
            if len(dims) != len(names):
                raise ValueError(
                    f"`embedding_dim` has {len(dims)} entries and X has {len(names)} categorical "
                    f"columns: {names}."
                )
        else:
            dims, for_all = [asked] * len(names), True
        for name, dim in zip(names, dims, strict=True):
            is_count = isinstance(dim, int | np.integer) and not isinstance(dim, bool) and dim > 0
            if not (is_count or (isinstance(dim, str) and dim == "auto")):
                raise ValueError(
                    f"`embedding_dim` of column {name!r} must be a positive integer or 'auto', "
                    f"got {dim!r}."
                )
        widths = [0] * len(names)
        for v, group in enumerate(groups):
            for c in group.columns:
                widths[c] = self._width(v, group, dims, for_all=for_all)
        return widths

    def _width(self, v: int, group: Vocabulary, dims: list[Any], *, for_all: bool) -> int:
        """Return the width of one vocabulary."""
        said = [c for c in group.columns if dims[c] != "auto"]
        names = [self.names_[c] for c in said]
        if group.vectors is not None:
            width = group.vectors.width
            other = [c for c in said if dims[c] != width and not for_all]
            if other:
                raise ValueError(
                    f"`embedding_dim` of column {self.names_[other[0]]!r} is {dims[other[0]]}, and "
                    f"its `vectors` have {width} entries; leave the column out of "
                    "`embedding_dim`, or say 'auto'."
                )
            return width
        if len({dims[c] for c in said}) > 1:
            raise ValueError(
                f"Columns {names} share a vocabulary, and `embedding_dim` gives them the widths "
                f"{[dims[c] for c in said]}; pass one width for all of them."
            )
        if said:
            return int(dims[said[0]])
        return auto_embedding_dim(len(self.categories_[v]) or self.slots_[v])

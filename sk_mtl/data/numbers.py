"""Numeric columns: one part of floats, and what the blocks that read it have learned."""

import warnings
from collections.abc import Sequence
from copy import copy
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.preprocessing import StandardScaler

from sk_mtl.data.encoder import CHUNK_BYTES, USABLE, BlockSpec, ColumnEncoder
from sk_mtl.data.floats import columns_with_nan, loses_digits, refuse_infinite, round_columns
from sk_mtl.data.frames import FrameTable, Table, is_categorical, is_number
from sk_mtl.data.lookup import encode_numbers
from sk_mtl.data.rows import Numbers
from sk_mtl.data.survey_numbers import NumberSurvey
from sk_mtl.numeric import Affine, Encoding, Standardize
from sk_mtl.numeric.base import join_columns
from sk_mtl.numeric.choose import Group, resolve_encodings, sampled

LARGE_BYTES = 2**24
"""Bytes, as float64, from which on numbers are kept in the smallest types."""

FAR = 64
"""Standard deviations from zero up to which a mean may be for float32 to keep its differences."""


class Held(NamedTuple):
    """Some numeric columns and the block that reads them.

    Parameters
    ----------
    block : str
        The block's name.
    encoding : Encoding
        How the block encodes them.
    places : list of int or None
        The columns by their places among the numeric ones; None: all of them.
    missing : list of int
        Those of the block's columns that it marks missing values of, by position in the block.
    learned : dict
        What the encoding has learned: arguments of the block.
    """

    block: str
    encoding: Encoding
    places: list[int] | None
    missing: list[int]
    learned: dict[str, Any]


class NumberEncoder(ColumnEncoder):
    """Read columns as numbers, and learn how they are encoded.

    Several blocks may read the one part that it makes, each some of its columns.

    Parameters
    ----------
    numeric_features : str, Encoding, sequence or mapping
        How numbers enter the network, see `sk_mtl.base.MultiTaskEstimator`.
    exact : bool, default=False
        Whether no number may be rounded.

    Attributes
    ----------
    columns_ : list of int
        Positions of the numeric columns.
    names_ : list
        Their names.
    counts_, means_, variances_ : ndarray of shape (F,), float64
        Total weight of the numbers seen in each column, their mean and variance; NaN without any.
    missing_columns_ : list of int
        Places, among the numeric columns, of those with a missing value at `fit`.
    rounded_ : list of int
        Places of the columns that are read as float32, of a large table: it halves what training
        holds, and no digit is lost that the network would see. It is at fit and at predict alike.
    encodings_ : list of tuples
        The blocks that read the part: the fields of `Held`.
    """

    part: ClassVar[str] = "numeric"

    def __init__(self, numeric_features: Any = "standardize", exact: bool = False) -> None:
        self.numeric_features = numeric_features
        self.exact = exact

    def choose(self, table: Table) -> list[int]:
        """Return the columns with a number's dtype."""
        return [j for j, dtype in enumerate(table.dtypes) if is_number(dtype)]

    def fit(self, table: Table, rows: NDArray | None, weight: NDArray | None) -> None:
        """Learn the statistics, which columns have missing values, and the encodings."""
        self.begin(table)
        groups = self._choose_encodings(table, rows, weight)
        missing = np.zeros(len(self.columns_), dtype=bool)
        learned: list[list[dict[str, Any]]] = [[] for _ in groups]
        n_rows = len(table) if rows is None else len(rows)
        rounds = self.rounds(n_rows, sparse=table.sparse)
        for places in self.runs(n_rows, sparse=table.sparse):
            block = self._numbers(table, rows, [self.columns_[place] for place in places])
            scaler = StandardScaler(with_mean=not table.sparse)
            self._learn(block, weight, scaler, slice(places.start, places.stop))
            missing[[places[k] for k in columns_with_nan(block)]] = True
            if rounds and block.dtype == np.float64:
                fine = np.flatnonzero(self.may_be_rounded(places, groups)).tolist()
                few = [k for k in fine if loses_digits(block[:, k])]
                self.rounded_ += [places[k] for k in few]
                block = round_columns(block, few)
            for group, found in zip(groups, learned, strict=True):
                own = [place - places.start for place in group.places if place in places]
                if own and not isinstance(group.encoding, Affine):
                    found.append(group.encoding.fit(self.dense(block, places)[:, own], weight))
        self.publish(missing, groups, learned)

    def survey(self, table: Table, sample_rows: int) -> NumberSurvey:
        """Return what learns from a stream: statistics of all rows, the rest of a sample."""
        return NumberSurvey(self, table, sample_rows)

    # The steps of `fit`, which `NumberSurvey` takes table by table.

    def begin(self, table: Table) -> None:
        """Know the columns, and nothing of them."""
        self.names_ = [table.names[j] for j in self.columns_]
        n = len(self.columns_)
        self.counts_, self.means_, self.variances_ = np.zeros(n), np.zeros(n), np.zeros(n)
        self.constant_ = [True] * n
        self.rounded_: list[int] = []

    def learn_more(
        self, table: Table, places: range, weight: NDArray | None, *, first: bool
    ) -> Any:
        """Learn the statistics of some columns of a table, and return their numbers."""
        block = self._numbers(table, None, [self.columns_[place] for place in places])
        if weight is not None and not weight.any():  # scikit-learn refuses such rows
            return block
        at = slice(places.start, places.stop)
        scaler = StandardScaler(with_mean=not table.sparse)
        self._learn(block, weight, scaler if first else self._resume(scaler, at), at)
        return block

    def publish(
        self, missing: NDArray, groups: list[Group], learned: list[list[dict[str, Any]]]
    ) -> None:
        """Take over which columns have missing values, and what the encodings have learned."""
        # Of a column without any value no indicator: it would never have been off.
        self.missing_columns_ = np.flatnonzero(missing & (self.counts_ > 0)).tolist()
        self.encodings_ = self._name_blocks(groups, learned)
        self._check_variances()

    def rounds(self, n_rows: int, *, sparse: bool) -> bool:
        """Whether a table of so many rows is large enough for its numbers to be rounded."""
        return 8 * len(self.columns_) * n_rows > LARGE_BYTES and not self.exact and not sparse

    def may_be_rounded(self, places: range, groups: list[Group]) -> NDArray:
        """Return which columns lose no digit that counts as float32: a mask over the places.

        A float32 keeps 24 binary digits. That is as much as the network gets of a number, unless
        the column's mean is far beyond its spread, it is of a scale that float32 has not, or an
        encoding tells single values apart.
        """
        means, spread = self.means_[places], np.sqrt(self.variances_[places])
        with np.errstate(invalid="ignore"):
            fine = (np.abs(means) <= FAR * spread) & (spread > 1e-30) & (spread < 1e30)
        for encoding, own in groups:
            if encoding.exact:
                fine[[place - places.start for place in own if place in places]] = False
        return fine

    def runs(self, n_rows: int, *, sparse: bool) -> list[range]:
        """Return runs of columns, by their places: as many as are to be read at once."""
        n = len(self.columns_)
        size = n if sparse else max(1, CHUNK_BYTES // (8 * max(n_rows, 1)))
        return [range(start, min(start + size, n)) for start in range(0, n, max(size, 1))]

    def update(self, table: Table, rows: NDArray | None, weight: NDArray | None) -> Self:
        """Return a copy whose statistics are those of further rows too."""
        twin, block = copy(self), self._checked(table, rows)
        everything = slice(0, len(self.columns_))
        scaler = self._resume(StandardScaler(with_mean=not table.sparse), everything)
        twin.counts_, twin.means_ = self.counts_.copy(), self.means_.copy()
        twin.variances_, twin.constant_ = self.variances_.copy(), list(self.constant_)
        twin._learn(block, weight, scaler, everything)
        twin._check_variances()
        return twin

    def _resume(self, scaler: StandardScaler, at: slice) -> StandardScaler:
        """Return a scaler that knows what has been learned of some columns so far."""
        scaler.n_features_in_ = len(self.counts_[at])
        scaler.n_samples_seen_ = np.array(self.counts_[at])
        # Without a number so far a mean of any kind weighs nothing.
        scaler.mean_ = np.nan_to_num(self.means_[at])
        scaler.var_ = np.nan_to_num(self.variances_[at])
        scaler.scale_ = np.ones(len(self.counts_[at]))
        return scaler

    def _choose_encodings(
        self, table: Table, rows: NDArray | None, weight: NDArray | None
    ) -> list[Group]:
        """Share the columns among encodings."""
        everything = range(len(self.columns_))

        def sample() -> tuple[NDArray, int]:
            kept = np.arange(len(table)) if rows is None else rows
            kept = kept if weight is None else kept[weight > 0]
            few = kept[sampled(len(kept))]
            # Positions that are all rows of the table: no copy of it.
            part = table if len(few) == len(table) else table.take(few)
            block = self._numbers(part, None, self.columns_)
            return self.dense(block, everything), len(kept)

        return resolve_encodings(
            self.numeric_features, table.names, self.columns_, None if table.sparse else sample
        )

    def _name_blocks(
        self, groups: list[Group], learned: list[list[dict[str, Any]]]
    ) -> list[tuple[Any, ...]]:
        """Return the blocks, see `Held`."""
        n = len(self.columns_)
        if n == 0:
            return [Held("numeric", Standardize(), None, [], {})]
        found: list[tuple[Any, ...]] = []
        unmarked = set(self.missing_columns_)
        for (encoding, places), parts in zip(groups, learned, strict=True):
            missing = []
            if encoding.marks_missing:
                missing = [k for k, place in enumerate(places) if place in unmarked]
                unmarked.difference_update(places)
            name = _name(encoding, [name for name, *_ in found])
            whole = None if len(places) == n else places
            found.append(Held(name, encoding, whole, missing, join_columns(parts)))
        return found

    @property
    def held(self) -> list[Held]:
        """The blocks."""
        return [Held(*one) for one in self.encodings_]

    def dense(self, block: Any, places: Sequence[int]) -> NDArray:
        """Return some columns' numbers for encodings that look at single values."""
        self.check_dense(block)
        block = block.astype(np.float64, copy=False)
        if len(block) == 0:
            return block
        with np.errstate(over="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # columns may be all missing
            spread = np.nanmax(block, axis=0) - np.nanmin(block, axis=0)
        if np.isinf(spread).any():
            raise ValueError(
                f"Column {self.names_[places[int(np.isinf(spread).argmax())]]!r} has a range too "
                "large for dtype('float64'); give it in a larger unit."
            )
        return block

    def check_dense(self, block: Any) -> None:
        """Refuse a matrix where an encoding has to look at single values."""
        if sparse.issparse(block):
            raise ValueError(
                f"`numeric_features` is {self.numeric_features!r} and X is sparse; pass a dense "
                "X, `X.toarray()`, or 'standardize' or 'passthrough'."
            )

    def _learn(self, block: Any, weight: NDArray | None, scaler: StandardScaler, at: slice) -> None:
        """Take over the statistics of some columns' numbers."""
        if block.shape[1] == 0:
            return
        # Columns may be all missing, or too large to be squared.
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            scaler.partial_fit(block, sample_weight=weight)
            deviation = np.sqrt(scaler.var_)
        before = self.counts_[at].copy()
        self.counts_[at] = scaler.n_samples_seen_
        empty = self.counts_[at] == 0
        # scikit-learn says that a column is constant, up to rounding, by a scale of one.
        found = scaler.mean_, scaler.var_, empty | (scaler.scale_ != deviation)
        # It loses the variance of a column that has no further number.
        same = ~empty & (self.counts_[at] == before)
        known = self.means_[at], self.variances_[at], np.array(self.constant_[at], dtype=bool)
        mean, variance, constant = (
            np.where(same, old, new) for old, new in zip(known, found, strict=True)
        )
        self.means_[at] = np.where(empty, np.nan, mean)
        self.variances_[at] = np.where(empty, np.nan, variance)
        self.constant_[at] = constant.tolist()

    def _check_variances(self) -> None:
        """Refuse columns to standardize whose variance is no number."""
        with np.errstate(invalid="ignore"):
            too_large = np.isinf(np.sqrt(self.variances_))
        for held in self.held if too_large.any() else ():
            places = np.arange(len(too_large)) if held.places is None else np.array(held.places)
            bad = places[too_large[places]]
            if isinstance(held.encoding, Standardize) and len(bad):
                raise ValueError(
                    f"Column {self.names_[bad[0]]!r} has a variance too large for "
                    "dtype('float64'); give it in a larger unit."
                )

    def statistics(self) -> dict[str, dict[str, Any]]:
        """Return centre, scale and fill, in the network's units; a scale is NaN of a constant."""
        known = self.means_, self.variances_, np.array(self.constant_, dtype=bool)
        found = {}
        for held in self.held:
            if isinstance(held.encoding, Affine):
                own = [array if held.places is None else array[held.places] for array in known]
                found[held.block] = held.encoding.scales(*own)
        return found

    def specs(self) -> dict[str, BlockSpec]:
        """Return how to build the blocks: statistics are buffers of the network."""
        statistics, specs = self.statistics(), {}
        for name, encoding, places, missing, learned in self.held:
            options = dict(learned)
            if isinstance(encoding, Affine):
                options["n_columns"] = len(self.columns_ if places is None else places)
                options |= statistics[name]
            if encoding.marks_missing:
                options["missing_columns"] = missing
            if places is not None:
                options["columns"] = places
            specs[name] = BlockSpec(encoding.kind, options, self.part)
        return specs

    def transform(self, table: Table) -> Any:
        """Return the numbers as they are, (n, F) floats, NaN where missing, dense or CSR."""
        return self._checked(table, None)

    def transform_few(self, table: Table, cells: list[list[Any]]) -> Any | None:
        """Read cell by cell where the rows are a frame's."""
        if not isinstance(table, FrameTable):
            return self._checked(table, None)
        found = encode_numbers(cells, self.columns_)
        return None if found is None else round_columns(found, self.rounded_)

    def _checked(self, table: Table, rows: NDArray | None) -> Any:
        """Return the columns as one block of floats, a matrix only where no encoding minds."""
        block = round_columns(self._numbers(table, rows, self.columns_), self.rounded_)
        if not all(isinstance(held.encoding, Affine) for held in self.held):
            self.check_dense(block)
        return block

    def _numbers(self, table: Table, rows: NDArray | None, columns: list[int]) -> Any:
        """Return some columns as one block of floats."""
        replaced = {j: self._parse(table, j) for j in table.not_numbers(columns)}
        block = table.block(columns, replaced)
        refuse_infinite(block, [table.names[j] for j in columns])
        return block if rows is None else block[rows]

    def _parse(self, table: Table, j: int) -> NDArray:
        """Return a column that should be numeric as numbers, or say why it cannot be."""
        dtype, name = table.dtypes[j], table.names[j]
        if not table.named:
            raise ValueError(f"X has dtype {dtype}; {USABLE}.")
        if not is_categorical(dtype):
            raise ValueError(f"Column {name!r} has dtype {dtype}; {USABLE}.")
        try:
            values = pd.to_numeric(table.column(j))
            return values.to_numpy(dtype=np.float64, na_value=np.nan)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"Column {name!r} should hold numbers and cannot be read as such "
                f"({error}); mend it, or name it in `categorical_features`."
            ) from error

    def seen(self, part: Any) -> NDArray:
        """Return which columns, of one value at `fit`, hold another in half of the rows or more."""
        constant = np.array(self.constant_, dtype=bool)
        if sparse.issparse(part) or not constant.any():
            return np.zeros(0, dtype=bool)
        known, values = self.means_[constant], part[:, constant]
        here = ~np.isnan(values)
        near = np.abs(values - known) <= 1e-6 * np.maximum(np.abs(known), 1.0)
        constant[constant] = (here & ~near).mean(axis=0) >= 0.5
        return constant

    def tell(self, table: Table, seen: NDArray) -> None:
        """Warn of columns of which `fit` saw no value, or one, and most rows hold another."""
        strange = np.flatnonzero(seen).tolist()
        if not strange:
            return
        told = "; ".join(
            f"column {self.names_[k]!r} had "
            + ("no value" if np.isnan(self.means_[k]) else f"only the value {self.means_[k]:g}")
            for k in strange
        )
        warnings.warn(
            f"In the rows of `fit` {told}: nothing was learned of other values, which most rows of "
            "X hold, and they are not used. Fit anew to use them.",
            UserWarning,
            stacklevel=2,
        )

    def store(self, table: Table, n: int) -> "NDArray | Numbers | None":
        """Return what holds the numbers of n rows: of a large table in the least memory."""
        if table.sparse:
            return None
        n_columns, is_narrow = len(self.columns_), not table.named and table.dtypes[0] == np.float32
        if is_narrow or 8 * n * n_columns <= LARGE_BYTES:
            return np.empty((n, n_columns), dtype=np.float32 if is_narrow else np.float64)
        rounded = set(self.rounded_)
        return Numbers(n, n_columns, [k for k in range(n_columns) if k not in rounded])


def _name(encoding: Encoding, taken: list[str]) -> str:
    """Return a name for a block: "numeric" for numbers that stay so, if it is the first one."""
    if isinstance(encoding, Affine) and not taken:
        return "numeric"
    name, number = f"numeric_{encoding.name}", 2
    while name in taken:
        name, number = f"numeric_{encoding.name}_{number}", number + 1
    return name

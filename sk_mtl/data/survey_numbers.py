"""What is learned of numeric columns of a stream."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sk_mtl.data.floats import columns_with_nan, loses_digits, round_columns
from sk_mtl.data.frames import Table
from sk_mtl.data.survey import Survey
from sk_mtl.numeric import Affine
from sk_mtl.numeric.choose import Group, resolve_encodings, sampled
from sk_mtl.tasks.reservoir import Reservoir

if TYPE_CHECKING:
    from sk_mtl.data.numbers import NumberEncoder


class NumberSurvey(Survey):
    """Learn statistics of all rows, and of a sample what encodings see in single values.

    Parameters
    ----------
    encoder : NumberEncoder
        The encoder; its ``columns_`` are known.
    table : Table
        The first table of the stream.
    sample_rows : int
        Most rows of the sample.
    """

    def __init__(self, encoder: "NumberEncoder", table: Table, sample_rows: int) -> None:
        self.encoder = encoder
        encoder.begin(table)
        self.names, self.sparse = table.names, table.sparse
        n = len(encoder.columns_)
        self.n_rows = self.n_weighted = 0
        self.missing, self.lossy = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        # The lowest and the highest number of each column.
        self.ends = np.full((2, n), np.nan)
        groups, by_rule = self._ask()
        looked_at = {k for group in groups if not _is_affine(group) for k in group.places}
        self.places = list(range(n)) if by_rule else sorted(looked_at)
        """Columns that the sample holds, by their places among the numeric ones."""
        self.sample = Reservoir(sample_rows)

    def _ask(self) -> tuple[list[Group], bool]:
        """Return the encodings known before any number, and whether "auto" is to choose others."""
        asked = []

        def nothing() -> tuple[NDArray, int]:
            asked.append(True)
            return np.zeros((0, len(self.encoder.columns_))), 0

        return self._resolve(nothing), bool(asked)

    def _resolve(self, sample: Any) -> list[Group]:
        encoder = self.encoder
        return resolve_encodings(
            encoder.numeric_features,
            self.names,
            encoder.columns_,
            None if self.sparse else sample,
        )

    def add(self, table: Table, weight: NDArray | None) -> None:
        """Learn from a table."""
        encoder, n = self.encoder, len(table)
        rows = self.sample.pick(n)
        few = np.empty((len(rows), len(self.places)))
        for places in encoder.runs(n, sparse=self.sparse):
            block = encoder.learn_more(table, places, weight, first=self.n_rows == 0)
            self.missing[[places[k] for k in columns_with_nan(block)]] = True
            if self.sparse:
                if self.places:
                    encoder.check_dense(block)
                continue
            here = slice(places.start, places.stop)
            if block.dtype == np.float64 and not encoder.exact:
                for k in np.flatnonzero(~self.lossy[here]).tolist():
                    self.lossy[places[k]] = loses_digits(block[:, k])
            own = [(to, place) for to, place in enumerate(self.places) if place in places]
            if own:
                low, high = np.fmin.reduce(block, axis=0), np.fmax.reduce(block, axis=0)
                self.ends[0, here] = np.fmin(self.ends[0, here], low)
                self.ends[1, here] = np.fmax(self.ends[1, here], high)
            for to, place in own:
                few[:, to] = block[rows, place - places.start]
        self.n_rows += n
        self.n_weighted += n if weight is None else int(np.count_nonzero(weight > 0))
        self.sample.put(few, None if weight is None else weight[rows])

    def finish(self) -> None:
        """Choose the encodings, and fit those that look at single values on the sample."""
        encoder, n = self.encoder, len(self.missing)
        sample, weight = self.sample.result()
        encoder.dense(self.ends[:, self.places], self.places)

        def look() -> tuple[NDArray, int]:
            kept = sample if weight is None else sample[weight > 0]
            return kept[sampled(len(kept))], self.n_weighted

        groups = self._resolve(look)
        if encoder.rounds(self.n_rows, sparse=self.sparse):
            fine = encoder.may_be_rounded(range(n), groups)
            encoder.rounded_ = np.flatnonzero(fine & self.lossy).tolist()
            position = {place: to for to, place in enumerate(self.places)}
            sample = round_columns(sample, [position[k] for k in encoder.rounded_ if k in position])
        learned: list[list[dict[str, Any]]] = [[] for _ in groups]
        for places in encoder.runs(len(sample), sparse=self.sparse):
            for group, found in zip(groups, learned, strict=True):
                own = [to for to, k in enumerate(self.places) if k in places and k in group.places]
                if own and not _is_affine(group):
                    found.append(group.encoding.fit(sample[:, own], weight))
        encoder.publish(self.missing, groups, learned)


def _is_affine(group: Group) -> bool:
    return isinstance(group.encoding, Affine)

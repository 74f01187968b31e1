"""A uniform sample of the rows of a stream."""

from collections.abc import Callable, Sequence
from operator import getitem
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Reservoir:
    """Keep so many rows of a stream, each with the same chance, in their order.

    Each row draws a number, and the rows with the least numbers are kept. Two reservoirs of one
    size and seed that are shown as many rows keep the same ones.

    Parameters
    ----------
    size : int
        Most rows to keep; between two calls up to twice as many are held.
    take : callable, default=operator.getitem
        Returns some rows of a piece, by an array of positions.
    join : callable, default=numpy.concatenate
        Makes one piece of several.
    seed : int, default=0
        Seed of the draws.
    """

    def __init__(
        self,
        size: int,
        take: Callable[[Any, NDArray], Any] = getitem,
        join: Callable[[Sequence[Any]], Any] = np.concatenate,
        seed: int = 0,
    ) -> None:
        self.size, self.take, self.join = size, take, join
        self._generator, self._limit = np.random.default_rng(seed), np.inf
        self._draws: list[NDArray] = []
        self._pieces: list[Any] = []
        self._weights: list[NDArray | None] = []
        self._n = 0

    def pick(self, n: int) -> NDArray:
        """Return the positions, among the next n rows, of those to be given to `put`."""
        draws = self._generator.random(n)
        rows = np.flatnonzero(draws < self._limit)
        self._draws.append(draws[rows])
        return rows

    def put(self, piece: Any, weight: NDArray | None) -> None:
        """Take over the rows that the last call of `pick` chose, and their weights."""
        n = len(self._draws[-1])
        if n == 0:
            self._draws.pop()
            return
        self._pieces.append(piece)
        self._weights.append(weight)
        self._n += n
        if self._n > 2 * self.size:
            self._shrink()

    def _shrink(self) -> None:
        """Drop the rows with the greatest draws, as many as are too many."""
        draws = np.concatenate(self._draws)
        self._limit = float(np.partition(draws, self.size)[self.size])
        pieces, weights = [], []
        for own, piece, weight in zip(self._draws, self._pieces, self._weights, strict=True):
            rows = np.flatnonzero(own < self._limit)
            if len(rows):
                pieces.append(self.take(piece, rows))
                weights.append(np.ones(len(rows)) if weight is None else weight[rows])
        plain = all(weight is None for weight in self._weights)
        self._draws = [draws[draws < self._limit]]
        self._n = len(self._draws[0])
        # One piece: a stream of many tables would leave a few rows of each.
        self._pieces = [self.join(pieces)]
        self._weights = [None if plain else np.concatenate(weights)]

    def result(self) -> tuple[Any, NDArray | None]:
        """Return the rows kept as one piece, and their weights, None if no row had one.

        Rows without a weight weigh one beside others that have one. There must be a row.
        """
        if self._n > self.size:
            self._shrink()
        pieces, weights = self._pieces, self._weights
        weight = None
        if any(one is not None for one in weights):
            sizes = map(len, self._draws)
            parts = zip(weights, sizes, strict=True)
            weight = np.concatenate([np.ones(n) if w is None else w for w, n in parts])
        return pieces[0] if len(pieces) == 1 else self.join(pieces), weight

"""What the peers share that take a table as a dict of columns."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from benchmarks.speed.workloads import Job


class ColumnContender:
    """Holds the columns, and describes them in a peer's own terms."""

    by_epoch = False
    id_type: ClassVar[type] = np.int64

    def __init__(self, job: Job) -> None:
        self.job = job
        categorical, numeric = job.names
        ids = job.table.categorical.T.astype(self.id_type, order="C")
        self.X = dict(zip(categorical, ids, strict=True))
        self.X |= dict(zip(numeric, job.table.numeric.T.astype(np.float32), strict=True))

    def columns(self, sparse: Callable[[str, int, int], Any], dense: Callable[[str], Any]) -> list:
        """Return a peer's columns: of (name, vocabulary, embedding width), and of names."""
        categorical, numeric = self.job.names
        width = self.job.workload.embedding_dim
        sizes = map(int, self.job.table.vocabularies)
        found = [sparse(n, size, width) for n, size in zip(categorical, sizes, strict=True)]
        return found + [dense(name) for name in numeric]

    def inputs(self, start: int, stop: int) -> dict[str, np.ndarray]:
        return {name: column[start:stop] for name, column in self.X.items()}

"""sk_mtl's estimators on one array of floats, ids and numbers side by side."""

import numpy as np

from benchmarks.speed.contenders import frames
from benchmarks.speed.workloads import Job


class Contender(frames.Contender):
    def __init__(self, job: Job) -> None:
        self.X = np.hstack([job.table.categorical.astype(np.float64), job.table.numeric])
        self.Y = job.table.labels
        self.model = frames.estimator(job, list(range(job.table.categorical.shape[1])))

    def inputs(self, start: int, stop: int) -> np.ndarray:
        return self.X[start:stop]

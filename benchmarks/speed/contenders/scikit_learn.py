"""scikit-learn's MLPClassifier on one-hot columns: shared layers only, all labels in one output."""

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import OneHotEncoder

from benchmarks.speed.clock import Clock
from benchmarks.speed.contenders import NoSuchModel
from benchmarks.speed.workloads import Job

MAX_COLUMNS = 10_000


class Contender:
    by_epoch = True

    def __init__(self, job: Job) -> None:
        if job.model != "shared_bottom":
            raise NoSuchModel("no gated experts and no chain of tasks")
        if job.table.vocabularies.sum() > MAX_COLUMNS:
            raise NoSuchModel(f"no embeddings, and over {MAX_COLUMNS} one-hot columns")
        self.job = job
        self.encoder = OneHotEncoder(dtype=np.float32).fit(job.table.categorical)
        self.X = self.inputs(0, len(job.table.labels))
        layers = (*job.sizes.bottom, *job.sizes.towers)
        self.model = MLPClassifier(
            layers, alpha=0.0, batch_size=job.workload.batch, learning_rate_init=job.workload.lr
        )

    def fit(self, clock: Clock) -> None:
        labels = self.job.table.labels
        while True:
            self.model.partial_fit(self.X, labels, classes=[0, 1])
            clock.tick()

    def inputs(self, start: int, stop: int) -> Any:
        table = self.job.table
        one_hot = self.encoder.transform(table.categorical[start:stop])
        numbers = sparse.csr_matrix(table.numeric[start:stop].astype(np.float32))
        return sparse.hstack([numbers, one_hot]).tocsr()

    def predict(self, inputs: Any) -> np.ndarray:
        return self.model.predict_proba(inputs)

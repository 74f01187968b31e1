"""deepctr-torch: its models, compile, fit and predict."""

from typing import Any

import numpy as np
import torch
from deepctr_torch.inputs import DenseFeat, SparseFeat
from deepctr_torch.models import multitask
from torch.optim.optimizer import register_optimizer_step_post_hook

from benchmarks.speed.clock import Clock
from benchmarks.speed.contenders import BULK_BATCH
from benchmarks.speed.contenders.deepctr_sizes import kind_and_sizes
from benchmarks.speed.workloads import Job


class Contender:
    by_epoch = False

    def __init__(self, job: Job) -> None:
        self.job = job
        table = job.table
        categorical, numeric = job.names
        self.X = dict(zip(categorical, table.categorical.T.copy(), strict=True))
        self.X |= dict(zip(numeric, table.numeric.T.astype(np.float32), strict=True))

    def fit(self, clock: Clock) -> None:
        job, workload = self.job, self.job.workload
        categorical, numeric = job.names
        sizes = map(int, job.table.vocabularies)
        columns: list[Any] = [
            SparseFeat(name, vocabulary_size=size, embedding_dim=workload.embedding_dim)
            for name, size in zip(categorical, sizes, strict=True)
        ]
        columns += [DenseFeat(name) for name in numeric]
        kind, parameters = kind_and_sizes(job)
        self.model = getattr(multitask, kind)(
            columns, l2_reg_linear=0, l2_reg_embedding=0, l2_reg_dnn=0, **parameters
        )
        optimizer = torch.optim.Adam(self.model.parameters(), lr=workload.lr)
        self.model.compile(optimizer, loss=["binary_crossentropy"] * 2)
        register_optimizer_step_post_hook(clock.tick)
        labels = job.table.labels.astype(np.float32)
        self.model.fit(self.X, labels, batch_size=workload.batch, epochs=1_000_000, verbose=0)

    def inputs(self, start: int, stop: int) -> dict[str, np.ndarray]:
        return {name: column[start:stop] for name, column in self.X.items()}

    def predict(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        return self.model.predict(inputs, BULK_BATCH)

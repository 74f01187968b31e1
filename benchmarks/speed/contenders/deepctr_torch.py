"""deepctr-torch: its models, compile, fit and predict."""

import numpy as np
import torch
from deepctr_torch.inputs import DenseFeat, SparseFeat
from deepctr_torch.models import multitask
from torch.optim.optimizer import register_optimizer_step_post_hook

from benchmarks.speed.clock import Clock
from benchmarks.speed.contenders import BULK_BATCH
from benchmarks.speed.contenders.columns import ColumnContender
from benchmarks.speed.contenders.deepctr_sizes import kind_and_sizes


class Contender(ColumnContender):
    def fit(self, clock: Clock) -> None:
        job, workload = self.job, self.job.workload
        columns = self.columns(SparseFeat, DenseFeat)
        kind, parameters = kind_and_sizes(job)
        self.model = getattr(multitask, kind)(
            columns, l2_reg_linear=0, l2_reg_embedding=0, l2_reg_dnn=0, **parameters
        )
        optimizer = torch.optim.Adam(self.model.parameters(), lr=workload.lr)
        self.model.compile(optimizer, loss=["binary_crossentropy"] * 2)
        register_optimizer_step_post_hook(clock.tick)
        labels = job.table.labels.astype(np.float32)
        self.model.fit(self.X, labels, batch_size=workload.batch, epochs=1_000_000, verbose=0)

    def predict(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        return self.model.predict(inputs, BULK_BATCH)

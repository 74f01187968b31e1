"""torch-rechub: its models, data loaders and trainer, without worker processes."""

from typing import Any

import numpy as np
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader
from torch_rechub.basic.features import DenseFeature, SparseFeature
from torch_rechub.models import multi_task
from torch_rechub.trainers import MTLTrainer
from torch_rechub.utils.data import DataGenerator, PredictDataset

from benchmarks.speed.clock import Clock
from benchmarks.speed.contenders import BULK_BATCH
from benchmarks.speed.contenders.columns import ColumnContender
from benchmarks.speed.workloads import Job, Sizes


class Contender(ColumnContender):
    def __init__(self, job: Job) -> None:
        super().__init__(job)
        labels = job.table.labels.astype(np.float32)
        # ESMM's columns are conversion, click, both; the loss leaves out the first.
        is_chain = job.model == "esmm"
        self.labels = labels[:, [1, 0, 1]] if is_chain else labels

    def fit(self, clock: Clock) -> None:
        job, workload = self.job, self.job.workload
        features = self.columns(SparseFeature, DenseFeature)
        self.model = built(job.model, job.sizes, features)
        self.trainer = MTLTrainer(
            self.model,
            task_types=["classification"] * self.labels.shape[1],
            optimizer_params={"lr": workload.lr, "weight_decay": 0.0},
        )
        data = DataGenerator(self.X, self.labels)
        empty = {name: column[:1] for name, column in self.X.items()}
        loader, _, _ = data.generate_dataloader(
            x_val=empty,
            y_val=self.labels[:1],
            x_test=empty,
            y_test=self.labels[:1],
            batch_size=workload.batch,
        )
        register_optimizer_step_post_hook(clock.tick)
        while True:
            self.trainer.train_one_epoch(loader)

    def predict(self, inputs: dict[str, np.ndarray]) -> Any:
        loader = DataLoader(PredictDataset(inputs), batch_size=BULK_BATCH)
        return self.trainer.predict(self.model, loader)


def built(model: str, sizes: Sizes, features: list) -> Any:
    """Return a model of given sizes; gates are linear as it has no others, CGC is PLE."""
    kinds = ["classification"] * 2
    towers = [{"dims": list(sizes.towers)}] * 2
    experts = {"dims": list(sizes.experts)}
    if model == "esmm":
        numbers = [feature for feature in features if isinstance(feature, DenseFeature)]
        ids = [feature for feature in features if not isinstance(feature, DenseFeature)]
        return multi_task.ESMM(ids, numbers, towers[0], towers[0])
    if model == "shared_bottom":
        return multi_task.SharedBottom(features, kinds, {"dims": list(sizes.bottom)}, towers)
    if model == "mmoe":
        return multi_task.MMOE(features, kinds, sizes.n_experts, experts, towers)
    numbers = (sizes.n_levels, sizes.n_task_experts, sizes.n_shared_experts)
    return multi_task.PLE(features, kinds, *numbers, experts, towers)

"""sk_mtl's estimators on data frames."""

from typing import Any

import numpy as np
import pandas as pd
from torch.optim.optimizer import register_optimizer_step_post_hook

from benchmarks.shared import PLAIN
from benchmarks.speed.clock import Clock
from benchmarks.speed.workloads import Job, Sizes
from sk_mtl import CGC, ESMM, PLE, MMoE, SharedBottom


class Contender:
    """Predictions encode their rows, as users' do."""

    by_epoch = False

    def __init__(self, job: Job) -> None:
        categorical, numeric = job.names
        ids = pd.DataFrame(job.table.categorical, columns=categorical)
        numbers = pd.DataFrame(job.table.numeric, columns=numeric)
        self.X: Any = pd.concat([ids, numbers], axis=1)
        self.Y = pd.DataFrame(job.table.labels).add_prefix("task")
        self.model = estimator(job, categorical)

    def fit(self, clock: Clock) -> None:
        register_optimizer_step_post_hook(clock.tick)
        self.model.fit(self.X, self.Y)

    def inputs(self, start: int, stop: int) -> Any:
        return self.X.iloc[start:stop]

    def predict(self, inputs: Any) -> np.ndarray:
        return self.model.predict_proba(inputs)


def estimator(job: Job, categorical: list, **changed: Any) -> Any:
    """Return an estimator of the job's sizes that trains until it is stopped."""
    workload, sizes = job.workload, job.sizes
    common = PLAIN | {
        "categorical_features": categorical,
        "numeric_features": "passthrough",
        "embedding_dim": workload.embedding_dim,
        "tower_units": sizes.towers,
        "lr": workload.lr,
        "batch_size": workload.batch,
        "max_epochs": 1_000_000,
        "random_state": 0,
        **changed,
    }
    return {
        "shared_bottom": lambda: SharedBottom(bottom_units=sizes.bottom, **common),
        "esmm": lambda: ESMM(**common),
        "mmoe": lambda: MMoE(
            n_experts=sizes.n_experts,
            expert_units=sizes.experts,
            gate_units=sizes.gates,
            **common,
        ),
        "cgc": lambda: CGC(**experts(sizes), **common),
        "ple": lambda: PLE(n_levels=sizes.n_levels, **experts(sizes), **common),
    }[job.model]()


def experts(sizes: Sizes) -> dict[str, Any]:
    return {
        "n_task_experts": sizes.n_task_experts,
        "n_shared_experts": sizes.n_shared_experts,
        "expert_units": sizes.experts,
        "gate_units": sizes.gates,
    }

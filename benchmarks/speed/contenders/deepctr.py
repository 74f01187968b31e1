"""deepctr on TensorFlow: Keras models with their own compile, fit and predict."""

from typing import Any

import keras
import numpy as np
from deepctr.feature_column import DenseFeat, SparseFeat
from deepctr.models import multitask

from benchmarks.speed.clock import Clock
from benchmarks.speed.contenders import BULK_BATCH
from benchmarks.speed.contenders.columns import ColumnContender
from benchmarks.speed.contenders.deepctr_sizes import kind_and_sizes


class Ticks(keras.callbacks.Callback):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.clock.tick()


class Contender(ColumnContender):
    id_type = np.int32

    def fit(self, clock: Clock) -> None:
        job, workload = self.job, self.job.workload
        columns = self.columns(SparseFeat, DenseFeat)
        kind, parameters = kind_and_sizes(job)
        self.model = getattr(multitask, kind)(
            columns, l2_reg_embedding=0, l2_reg_dnn=0, **parameters
        )
        optimizer = keras.optimizers.Adam(learning_rate=workload.lr)
        self.model.compile(optimizer, loss=["binary_crossentropy"] * 2)
        self.model.fit(
            self.X,
            list(job.table.labels.T.astype(np.float32)),
            batch_size=workload.batch,
            epochs=1_000_000,
            verbose=0,
            callbacks=[Ticks(clock)],
        )

    def predict(self, inputs: dict[str, np.ndarray]) -> Any:
        if len(next(iter(inputs.values()))) == 1:
            return self.model.predict_on_batch(inputs)  # for few rows, quicker than predict
        return self.model.predict(inputs, batch_size=BULK_BATCH, verbose=0)

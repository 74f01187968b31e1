"""Training: the only package that imports skorch. It knows neither pandas nor estimators."""

from sk_mtl._training.callbacks import EpochHook, RestoreBest
from sk_mtl._training.data import Batches, Rows
from sk_mtl._training.devices import available_device, resolve_device
from sk_mtl._training.loss import MultiTaskLoss
from sk_mtl._training.net import (
    OPTIMIZERS,
    MultiTaskNet,
    NonFiniteLossError,
    carry_optimizer_state,
    fit_epochs,
    make_net,
    predict_logits,
)
from sk_mtl._training.optim import LazyAdam

__all__ = [
    "OPTIMIZERS",
    "Batches",
    "EpochHook",
    "LazyAdam",
    "MultiTaskLoss",
    "MultiTaskNet",
    "NonFiniteLossError",
    "RestoreBest",
    "Rows",
    "available_device",
    "carry_optimizer_state",
    "fit_epochs",
    "make_net",
    "predict_logits",
    "resolve_device",
]

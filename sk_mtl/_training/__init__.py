"""Training: the only package that imports skorch. It knows neither pandas nor estimators."""

from sk_mtl._training.budget import SCHEDULES, STOPPING_ROWS, auto_batch_size, auto_members
from sk_mtl._training.callbacks import EpochHook, RestoreBest
from sk_mtl._training.checkpoint import Checkpointer, optimizer_example
from sk_mtl._training.devices import available_device, place_of_rows, resolve_device
from sk_mtl._training.loop import fit_epochs, fit_further, predict_logits
from sk_mtl._training.net import MultiTaskNet, make_net
from sk_mtl._training.objective import Criterion, Objective
from sk_mtl._training.optim import LazyAdam
from sk_mtl._training.optimizers import OPTIMIZERS
from sk_mtl._training.progress import (
    carry_optimizer_state,
    get_progress,
    get_seen,
    set_progress,
    set_seen,
)
from sk_mtl._training.ranks import Ranks, join_ranks
from sk_mtl._training.settings import Training
from sk_mtl._training.signals import NonFiniteLossError, RankError

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "STOPPING_ROWS",
    "Checkpointer",
    "Criterion",
    "EpochHook",
    "LazyAdam",
    "MultiTaskNet",
    "NonFiniteLossError",
    "Objective",
    "RankError",
    "Ranks",
    "RestoreBest",
    "Training",
    "auto_batch_size",
    "auto_members",
    "available_device",
    "carry_optimizer_state",
    "fit_epochs",
    "fit_further",
    "get_progress",
    "get_seen",
    "join_ranks",
    "make_net",
    "optimizer_example",
    "place_of_rows",
    "predict_logits",
    "resolve_device",
    "set_progress",
    "set_seen",
]

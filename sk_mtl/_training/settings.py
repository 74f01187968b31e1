"""The training parameters, as one object."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Monitor = str | Callable[[Any], float]
"""What early stopping watches: a column of the history, or a function of the net; lower is better.
"""


@dataclass(frozen=True)
class Training:
    """How a network is trained: an estimator's training parameters, resolved.

    Parameters
    ----------
    optimizer : str or subclass of torch.optim.Optimizer
        A name in `OPTIMIZERS`, or a class.
    lr, weight_decay : float
        Its learning rate and L2 penalty; see `sk_mtl.nn.MultiTaskModule.undecayed_parameters`.
    lr_schedule : str
        How the learning rate moves in a fit, one of `SCHEDULES`.
    clip_norm : float or None
        Greatest length of a step's gradient; None: any.
    batch_size : int or None
        Rows per step; None: all in one batch.
    sparse_embeddings : "auto" or bool
        Which embedding tables pass sparse gradients.
    callbacks : sequence
        skorch callbacks, or (name, callback) pairs.
    device : torch.device
        Where to train.
    dtype : torch.dtype
        Precision of the network.
    verbose : int
        Above 0: print a line for each epoch.
    patience : int or None
        Epochs without an improvement before early stopping ends training; None: it does not.
    tol : float
        Smallest improvement that counts.
    monitor : str or callable
        What early stopping watches.
    """

    optimizer: str | type[torch.optim.Optimizer] = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    lr_schedule: str = "constant"
    clip_norm: float | None = None
    batch_size: int | None = 256
    sparse_embeddings: str | bool = "auto"
    callbacks: Sequence[Any] = ()
    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32
    verbose: int = 0
    patience: int | None = None
    tol: float = 1e-4
    monitor: Monitor = "valid_loss"

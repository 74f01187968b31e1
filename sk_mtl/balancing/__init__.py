"""Balancers: how the vector of task losses becomes gradients. Torch only, one file per method.

Pass one to an estimator by name or as an instance, ``MMoE(balancer="dwa")`` or
``MMoE(balancer=DWABalancer(temperature=1.0))``; parameters can be searched as ``balancer__...``.

- Weights that are given: `EqualBalancer`, `FixedBalancer`, `ScheduleBalancer`.
- Weights from the losses: `UncertaintyBalancer`, `DWABalancer`, `FAMOBalancer`, `STCHBalancer`,
  `GLSBalancer`, `LogBalancer`; from chance: `RLWBalancer`.
- Weights from norms of gradients: `GradNormBalancer`, `MetaBalanceBalancer`.
- Gradients combined so that they do not conflict: `TorchJDBalancer`, with ten methods by name.
- For authors: `LossBalancer` is the contract, `GradientBalancer` the base of those that combine
  gradients, `Step` what they get to see, `Partners` what they ask of other processes.
  ``BALANCERS`` lists all by name.

Examples
--------
A balancer by itself: set up for the tasks, then called for each step's losses.

>>> import torch
>>> from sk_mtl.balancing import BALANCERS, Step
>>> network = torch.nn.Linear(3, 2)
>>> balancer = BALANCERS["uncertainty"]()
>>> balancer.setup(["click", "price"], regression=[False, True])
>>> losses = network(torch.ones(4, 3)).square().mean(0)
>>> loss = balancer.backward(losses, Step(shared=[], own=list(network.parameters())))
>>> network.weight.grad.shape
torch.Size([2, 3])
>>> balancer.weights
tensor([1.0000, 0.5000])
"""

from collections.abc import Callable
from functools import partial

from sk_mtl.balancing.aggregators import AGGREGATORS, TorchJDBalancer
from sk_mtl.balancing.base import LossBalancer, Partners, Step
from sk_mtl.balancing.dwa import DWABalancer
from sk_mtl.balancing.equal import EqualBalancer
from sk_mtl.balancing.famo import FAMOBalancer
from sk_mtl.balancing.fixed import FixedBalancer
from sk_mtl.balancing.gls import GLSBalancer
from sk_mtl.balancing.gradients import GradientBalancer
from sk_mtl.balancing.gradnorm import GradNormBalancer
from sk_mtl.balancing.log import LogBalancer
from sk_mtl.balancing.metabalance import MetaBalanceBalancer
from sk_mtl.balancing.rlw import RLWBalancer
from sk_mtl.balancing.schedule import ScheduleBalancer
from sk_mtl.balancing.stch import STCHBalancer
from sk_mtl.balancing.uncertainty import UncertaintyBalancer

BALANCERS: dict[str, Callable[[], LossBalancer]] = {
    "equal": EqualBalancer,
    "fixed": FixedBalancer,
    "schedule": ScheduleBalancer,
    "uncertainty": UncertaintyBalancer,
    "dwa": DWABalancer,
    "famo": FAMOBalancer,
    "stch": STCHBalancer,
    "gls": GLSBalancer,
    "log": LogBalancer,
    "rlw": RLWBalancer,
    "gradnorm": GradNormBalancer,
    "metabalance": MetaBalanceBalancer,
    **{name: partial(TorchJDBalancer, name) for name in AGGREGATORS},
}
"""The balancers that estimators accept by name."""

__all__ = [
    "BALANCERS",
    "DWABalancer",
    "EqualBalancer",
    "FAMOBalancer",
    "FixedBalancer",
    "GLSBalancer",
    "GradNormBalancer",
    "GradientBalancer",
    "LogBalancer",
    "LossBalancer",
    "MetaBalanceBalancer",
    "Partners",
    "RLWBalancer",
    "STCHBalancer",
    "ScheduleBalancer",
    "Step",
    "TorchJDBalancer",
    "UncertaintyBalancer",
]

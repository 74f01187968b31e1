"""PEPNet: columns that steer, by factors on the embedding and on the tasks' hidden layers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sk_mtl.base import (
    AT_LEAST_ONE,
    NON_EMPTY_UNITS,
    MultiTaskEstimator,
    StrOptions,
    Tasks,
    Units,
    choose_places,
    parameter,
)
from sk_mtl.nn import FactorGates, SteeredMLP


class PEPNetBottom(nn.Module):
    """A network per task, its hidden layers scaled by gates, as perhaps the input before them.

    Parameters
    ----------
    in_features, n_tasks : int
        Width D of the input and number K of tasks.
    prior, domain : sequence of int
        Places of what steers the tasks' layers, and of what steers the input (none: nothing).
    n_members, **network
        As in `sk_mtl.nn.SteeredMLP`, with `units`, `gate_units` and the rest.

    Notes
    -----
    Shape: (B, D) -> (B, M * K, H)
    """

    prior: Tensor
    domain: Tensor

    def __init__(
        self,
        in_features: int,
        n_tasks: int,
        *,
        prior: Sequence[int],
        domain: Sequence[int] = (),
        n_members: int = 1,
        **network: Any,
    ) -> None:
        super().__init__()
        self.n_members, network["n_members"] = n_members, n_members
        self.register_buffer("prior", torch.tensor([*prior]), persistent=False)
        self.register_buffer("domain", torch.tensor([*domain]), persistent=False)
        self.epnet = None
        if domain:
            drawn = {name: network[name] for name in ("activation", "generator", "n_members")}
            shape = 1, len(domain) + in_features, in_features, network["gate_units"]
            self.epnet = FactorGates(*shape, streams=("<domain>",), **drawn)
        self.ppnet = SteeredMLP(n_tasks, in_features, len(prior) + in_features, **network)
        self.out_features = network["units"][-1]

    def forward(self, x: Tensor) -> Tensor:
        """Return what each task's network makes of the input, its layers scaled."""
        prior, h = x.index_select(1, self.prior).unsqueeze(1), x.unsqueeze(1)  # (B, 1, ...)
        if self.epnet is not None:
            steering = torch.cat([x.index_select(1, self.domain), x.detach()], dim=1)
            h = self.epnet(steering) * h  # (B, M, D)
            prior = prior.expand(-1, self.n_members, -1)
        return self.ppnet(h, torch.cat([prior, h.detach()], dim=2))

    def own_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what a single task moves: its layers and their gates, not those of the input."""
        return self.ppnet.parameters()


@dataclass(kw_only=True, eq=False, repr=False)
class PEPNet(MultiTaskEstimator):
    r"""Parameter and embedding personalized network (PEPNet): columns that steer the network.

    Each task has a network of its own. The prior columns, such as user and item, scale each of its
    hidden units (PPNet), and the domain columns, such as the page, may scale the embedding before
    (EPNet). Factors are between 0 and 2, at first 1; `sk_mtl.inspection.gate_weights` shows them.

    Parameters
    ----------
    bottom_units : tuple of int, default=(256, 128)
        Widths of the hidden layers of each task's network.
    gate_width : int, default=64
        Width of the gates' hidden layer, whose activation is `activation`; ReLU in the paper.
    prior_features : "all" or array-like, default="all"
        Columns that steer the tasks' layers: names, indices or a bool mask. "all": every column.
    domain_features : array-like, default=None
        Columns that steer the embedding. None: nothing scales it.
    {common_parameters}

    Attributes
    ----------
    {common_attributes}

    See Also
    --------
    SingleTask : The same networks without gates.

    Notes
    -----
    With :math:`\mathrm{gate}(a) = 2\sigma(W' \phi(W a + b) + b')`, other weights for each, and sg
    for a stopped gradient:

    .. math::
        x' &= \mathrm{gate}([x_{\mathrm{domain}}, \mathrm{sg}(x)]) \odot x \\
        h_{k,l} &= \mathrm{gate}_{k,l}([x_{\mathrm{prior}}, \mathrm{sg}(x')])
        \odot f(W_{k,l} h_{k,l-1} + b_{k,l}), \qquad h_{k,0} = x'

    NOTE[DIFF]: reconstructed from notes on the paper and from public code, which disagree; the
    paper's text was not at hand. The first layer's input is not scaled; each task and layer has a
    gate of its own, where the paper splits the output of one; prior and domain columns stand in x
    and learn from the gates. Towers (`tower_units`) have no gates.

    References
    ----------
    J. Chang et al., "PEPNet: Parameter and Embedding Personalized Network for Infusing with
    Personalized Prior Information", KDD 2023, arXiv 2302.01115.

    Examples
    --------
    >>> from sk_mtl import PEPNet
    >>> from sk_mtl.datasets import make_census_like
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = PEPNet(bottom_units=(16,), prior_features=["age"], max_epochs=2, random_state=0)
    >>> model.fit(X, Y).predict(X).shape
    (500, 3)
    """

    bottom_units: Units = parameter((256, 128), NON_EMPTY_UNITS, search=[(128, 64), (256, 128)])
    gate_width: int = parameter(64, AT_LEAST_ONE, search=[16, 32, 64])
    prior_features: Any = parameter("all", StrOptions({"all"}), "array-like")
    domain_features: Any = parameter(None, "array-like", None)

    def _describe(self, tasks: Tasks, columns: dict[Any, list[int]]) -> dict[str, Any]:
        prior = choose_places("prior_features", self.prior_features, columns, "'all'")
        domain = choose_places("domain_features", self.domain_features, columns, "None for none")
        return {"prior": prior, "domain": domain}

    def _build_bottom(self, in_features: int, n_tasks: int, **network: Any) -> nn.Module:
        network |= {"units": self.bottom_units, "gate_units": (self.gate_width,)}
        return PEPNetBottom(in_features, n_tasks, **network)

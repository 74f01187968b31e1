"""AITM: each step of a chain of conversions attends to what the step before hands on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sk_mtl._chains import ChainEstimator, OrderedObjective
from sk_mtl.base import (
    NON_EMPTY_UNITS,
    NON_NEGATIVE,
    POSITIVE,
    Objective,
    Range,
    StrOptions,
    Tasks,
    Units,
    parameter,
)
from sk_mtl.nn import StackedMLP, StepTransfer


class AITMBottom(nn.Module):
    """A network per task, each but the first fused with what the task before hands on.

    Parameters
    ----------
    in_features, n_tasks : int
        Width D of the input, and number of tasks K, in the order of the chain.
    units : sequence of int
        Widths of each task's network; the last one is H.
    attention_init : float or "glorot", default=0.01
        How the matrices of the attention start, see `sk_mtl.nn.StepTransfer`.
    n_members, **network
        As in `sk_mtl.nn.StackedMLP`: `activation`, `dropout`, `batch_norm` and `generator`.

    Notes
    -----
    Shape: (B, D) -> (B, M * K, H)
    """

    def __init__(
        self,
        in_features: int,
        n_tasks: int,
        *,
        units: Sequence[int],
        attention_init: float | str = 0.01,
        n_members: int = 1,
        **network: Any,
    ) -> None:
        super().__init__()
        self.n_tasks, self.n_members = n_tasks, n_members
        network["n_members"] = n_members
        # Apart from the others, since the last task's loss alone reaches it.
        self.last = StackedMLP(1, in_features, units, **network)
        self.out_features = width = self.last.out_features
        if n_tasks > 1:
            self.before = StackedMLP(n_tasks - 1, in_features, units, **network)
            self.transfer = StepTransfer(n_tasks, width, init=attention_init, **network)

    def forward(self, x: Tensor) -> Tensor:
        """Return each task's fused representation."""
        last = self.last(x)
        if self.n_tasks == 1:
            return last
        before = self.before(x).unflatten(1, (self.n_members, -1)).unbind(2)
        return self.transfer([*before, last]).flatten(1, 2)

    def own_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what the last task alone moves: its network, and a part of the transfers."""
        yield from self.last.parameters()
        if self.n_tasks > 1:
            yield from self.transfer.own_parameters()


@dataclass(kw_only=True, eq=False, repr=False)
class AITM(ChainEstimator):
    r"""Adaptive information transfer multi-task (AITM): each step attends to the step before.

    `y` holds one column per step of a chain: click, click-and-conversion, and so on. An attention
    fuses a step's network with what the step before hands on; `sk_mtl.inspection.transfer_weights`
    shows it. A probability, that of having come to a step, is punished above that of the last one.

    Parameters
    ----------
    bottom_units : tuple of int, default=(128, 64, 32)
        Widths of each task's network.
    calibrator : float, default=0.6
        Weight of the penalty. 0: none; then ordered tasks of any kind and number, one too, may
        come, and labels that others would imply are not filled in.
    attention_init : float or "glorot", default=0.01
        Standard deviation of the attention's first weights. With the paper's, later steps start
        some 20 times smaller than the first; with "glorot" they do not.
    positive : label, list or dict, default=None
        The class that says "reached": one label for all tasks, or one per task as a list or a
        dict by name. None: the second class in sorted order, of booleans True.
    tower_units : tuple of int, list of tuples or dict, default=()
        As everywhere, but by default the towers are linear, as in the paper.
    {common_parameters}

    Attributes
    ----------
    {common_attributes}

    Notes
    -----
    With networks :math:`q_t` and transfers :math:`g_t` (a layer H to H), :math:`z_1 = q_1(x)` and

    .. math::
        z_t = \sum_{u \in \{q_t(x),\, g_{t-1}(z_{t-1})\}} \mathrm{softmax}_u\Big(
        \frac{\langle u W_1, u W_2 \rangle}{\sqrt H}\Big)\, u W_3, \qquad
        L = \sum_t L_t + \alpha \sum_{t \ge 2} \mathrm{mean}\, \max(p_t - p_{t-1}, 0)

    The penalty is the mean over all rows, whatever their labels, each with the weight of its
    heaviest label. It moves both probabilities. NOTE[DIFF]: the authors' code always normalizes
    batches and drops 0.1, 0.3, 0.3; here `batch_norm` and one `dropout` hold for all layers.

    References
    ----------
    D. Xi et al., "Modeling the Sequential Dependence among Audience Multi-step Conversions with
    Multi-task Learning in Targeted Display Advertising", KDD 2021, and the authors' code.

    Examples
    --------
    >>> from sk_mtl import AITM
    >>> from sk_mtl.datasets import make_click_conversion
    >>> world = make_click_conversion(500, random_state=0)
    >>> model = AITM(bottom_units=(16,), max_epochs=2, random_state=0).fit(world.data, world.target)
    >>> model.predict_proba(world.data).shape
    (500, 4)
    """

    bottom_units: Units = parameter((128, 64, 32), NON_EMPTY_UNITS, search=[(64,), (128, 64, 32)])
    calibrator: float = parameter(0.6, NON_NEGATIVE, search=Range(0.0, 1.0))
    attention_init: Any = parameter(0.01, StrOptions({"glorot"}), POSITIVE, search=[0.01, "glorot"])
    tower_units: Any = parameter((), tuple, list, dict, search=[(), (32,)])

    def _build_bottom(self, in_features: int, n_tasks: int, **network: Any) -> nn.Module:
        network |= {"units": self.bottom_units, "attention_init": self.attention_init}
        return AITMBottom(in_features, n_tasks, **network)

    def _build_objective(self, tasks: Tasks) -> Objective:
        return OrderedObjective(tasks, self.calibrator) if self._nests() else Objective(tasks)

    def _nests(self) -> bool:
        return self.calibrator != 0

"""ResFlow: sums of hidden layers and of logits flow from task to task."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

from torch import Tensor, nn

from sk_mtl._chains import ChainEstimator
from sk_mtl.base import NON_EMPTY_UNITS, BinaryTask, OrdinalTask, Tasks, Units, parameter
from sk_mtl.nn import CumulativeLogits, StackedMLP


class ResFlowBottom(nn.Module):
    """A network for each task, each layer of which reads the layers before of all tasks up to it.

    Parameters
    ----------
    in_features : int
        Width D of the input.
    n_tasks : int
        Number of tasks K, in their order.
    units : sequence of int
        Widths of each network's layers.
    n_members, **network
        As in `sk_mtl.nn.StackedMLP`.

    Notes
    -----
    Shape: (B, D) -> (B, M * K, H)

    The last task's slices of the weights are its own, the others' serve later tasks too. They are
    one tensor, so none of it counts as a single task's.
    """

    def __init__(
        self,
        in_features: int,
        n_tasks: int,
        *,
        units: Sequence[int],
        n_members: int = 1,
        **network: Any,
    ) -> None:
        super().__init__()
        self.n_members = n_members
        self.layers = nn.ModuleList(
            StackedMLP(n_tasks, before, (width,), n_members=n_members, **network)
            for before, width in pairwise([in_features, *units])
        )
        self.out_features = units[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Return the sums of the tasks' last layers, each up to its task."""
        for layer in self.layers:
            x = layer(x).unflatten(1, (self.n_members, -1)).cumsum(2).flatten(1, 2)
        return x


@dataclass(kw_only=True, eq=False, repr=False)
class ResFlow(ChainEstimator):
    r"""Residual flow (ResFlow): each task adds to the layers and logits of the task before.

    Single-task networks and no parameter more. `y` holds one column per step of a chain (click,
    click-and-conversion), or ordered ratings. Every hidden layer of a task, and its logit, is the
    sum of its own and that of the task before, so that a later, rarer step learns what it differs
    in. Nothing keeps its probability below that of the step before.

    Parameters
    ----------
    bottom_units : tuple of int, default=(256, 128, 32)
        Widths of each task's hidden layers.
    positive : label, list or dict, default=None
        The class of binary tasks that says "reached": one label for all tasks, or one per task as
        a list or a dict by name. None: the second class in sorted order, of booleans True.
    tower_units : tuple of int, list of tuples or dict, default=()
        As everywhere, but by default there is only a linear layer: hidden layers of towers take no
        part in the flow.
    {common_parameters}

    Attributes
    ----------
    {common_attributes}

    See Also
    --------
    SingleTask : The same networks without the flow.
    AITM : An attention in place of sums, and a penalty that keeps the order.

    Notes
    -----
    With layers :math:`f_k^l` and :math:`r_k^0 = x`:

    .. math::
        r_k^l = f_k^l(r_k^{l-1}) + r_{k-1}^l, \qquad z_k = w_k^\top r_k^N + b_k + z_{k-1}

    The source has two tasks. NOTE[DIFF]: of more, what task k - 1 hands on holds what it was given,
    as the logits of the authors' second variant do.

    NOTE[DIFF]: each layer of the authors' is linear, PReLU, normalized, in this order; here
    `activation` and `batch_norm` say it as everywhere. The weights that they give positive labels
    (100 and more) spoil probabilities and are left out: pass ``BinaryTask(pos_weight=...)``.

    NOTE[DIFF]: of an ordinal task the first logit takes part, from which all thresholds descend;
    so all shift. The authors cut a rating into steps that are tasks: binary columns do that here.
    Only where all tasks are binary are labels filled in that others imply.

    References
    ----------
    C. Fu et al., "Residual Multi-Task Learner for Applied Ranking", KDD 2024, arXiv 2411.09705, and
    the authors' code.

    Examples
    --------
    >>> from sk_mtl import ResFlow
    >>> from sk_mtl.datasets import make_click_conversion
    >>> world = make_click_conversion(500, random_state=0)
    >>> model = ResFlow(bottom_units=(16,), max_epochs=2, random_state=0)
    >>> model.fit(world.data, world.target).predict_proba(world.data).shape
    (500, 4)
    """

    takes: ClassVar[Any] = (BinaryTask, OrdinalTask)

    bottom_units: Units = parameter(
        (256, 128, 32), NON_EMPTY_UNITS, search=[(64, 32), (128, 64, 32), (256, 128, 32)]
    )
    tower_units: Any = parameter((), tuple, list, dict, search=[(), (32,)])

    def _build_bottom(self, in_features: int, n_tasks: int, **network: Any) -> nn.Module:
        return ResFlowBottom(in_features, n_tasks, units=self.bottom_units, **network)

    def _build_head(self, tasks: Tasks) -> nn.Module:
        return CumulativeLogits([task.n_logits for task in tasks])

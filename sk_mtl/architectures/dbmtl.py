"""DBMTL: tasks read the hidden features of the tasks that they depend on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sk_mtl.base import (
    NON_EMPTY_UNITS,
    UNITS,
    WIDTHS,
    MultiTaskEstimator,
    Tasks,
    Units,
    parameter,
)
from sk_mtl.nn import StackedMLP, TaskGraph, resolve_parents


class DBMTLBottom(nn.Module):
    """A network for all tasks, and behind it one per task, along the edges of a graph.

    Parameters
    ----------
    in_features, n_tasks : int
        Width D of the input, and number of tasks K.
    units : sequence of int
        Widths of the shared network's layers.
    parents : sequence of sequences of int
        For each task the positions of those that it reads; tasks beyond its end read none.
    task_units, relation_units : sequence of int
        As in `sk_mtl.nn.TaskGraph`.
    n_members, **network
        As in `sk_mtl.nn.StackedMLP`.

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
        parents: Sequence[Sequence[int]],
        task_units: Sequence[int],
        relation_units: Sequence[int],
        **network: Any,
    ) -> None:
        super().__init__()
        self.mlp = StackedMLP(1, in_features, units, **network)
        parents = [*parents, *([[]] * (n_tasks - len(parents)))]
        network |= {"task_units": task_units, "relation_units": relation_units}
        self.graph = TaskGraph(n_tasks, self.mlp.out_features, parents, **network)
        self.out_features = self.graph.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Return each task's hidden features, joined with those of its parents."""
        return self.graph(self.mlp(x))

    def own_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what a single task moves: the networks of tasks that no other task reads."""
        return self.graph.own_parameters()


@dataclass(kw_only=True, eq=False, repr=False)
class DBMTL(MultiTaskEstimator):
    r"""Deep Bayesian multi-target learning (DBMTL): a graph of tasks that read one another.

    For tasks of which one depends on another, such as a purchase on a click, of any kind. A task
    reads its parents' hidden features, not their predictions, and its loss trains them too.

    Parameters
    ----------
    parents : dict of task to list of tasks, default=None
        Which tasks each task reads, by name, such as ``{"purchase": ["click"]}``. Tasks not
        named read none, and their order does not matter. None: no task reads another.
    bottom_units : tuple of int, default=(256, 128)
        Widths of the shared network's layers.
    task_units : tuple of int, default=(64,)
        Widths of the layers that each task has before it reads its parents.
    relation_units : tuple of int, default=(32,)
        Widths of each task's layers after that. Empty, without `parents` only: none.
    tower_units : tuple of int, list of tuples or dict, default=()
        Widths of further layers after those: one tuple for all tasks, or one per task as a list
        of tuples or a dict by task name. Empty: a linear tower.
    {common_parameters}

    Attributes
    ----------
    {common_attributes}

    See Also
    --------
    AITM : A chain of tasks, each attending to the one before.

    Notes
    -----
    .. math::
        h = f(x), \qquad u_t = \mathrm{MLP}_t(h), \qquad
        r_t = \mathrm{MLP}'_t([u_t, r_p \text{ of all parents } p]), \qquad y_t = w_t^\top r_t + b_t

    NOTE[DIFF]: reconstructed from the implementations in EasyRec and TorchEasyRec; of the paper
    only the abstract was at hand, and it leaves open how one task enters another. The bottom is a
    plain network, which may be an MMoE there; tasks may stand in any order.

    References
    ----------
    Q. Wang et al., "Deep Bayesian Multi-Target Learning for Recommender Systems", 2019,
    arXiv 1902.09154.

    Examples
    --------
    >>> from sk_mtl import DBMTL
    >>> from sk_mtl.datasets import make_census_like
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = DBMTL(parents={"log_wage": ["high_income"]}, max_epochs=2, random_state=0)
    >>> model.fit(X, Y).predict(X).shape
    (500, 3)
    """

    parents: Any = parameter(None, dict, None)
    bottom_units: Units = parameter((256, 128), NON_EMPTY_UNITS, search=[(128, 64), (256, 128)])
    task_units: Units = parameter((64,), NON_EMPTY_UNITS, search=WIDTHS)
    relation_units: Units = parameter((32,), UNITS, search=[(32,), (64,), (64, 32)])
    tower_units: Any = parameter((), tuple, list, dict, search=[(), (32,)])

    def _describe(self, tasks: Tasks, columns: dict[Any, list[int]]) -> dict[str, Any]:
        parents = resolve_parents(self.parents or {}, [task.name for task in tasks])
        if any(parents) and not len(self.relation_units):
            raise ValueError(
                "`relation_units` is empty, so that no task would read its `parents`; pass widths "
                "such as (32,), or parents=None."
            )
        return {"parents": parents}

    def _build_bottom(self, in_features: int, n_tasks: int, **network: Any) -> nn.Module:
        return DBMTLBottom(
            in_features,
            n_tasks,
            units=self.bottom_units,
            task_units=self.task_units,
            relation_units=self.relation_units,
            **network,
        )

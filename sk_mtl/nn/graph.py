"""Tasks that read other tasks' hidden features."""

from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

import torch
from torch import Tensor, nn

from sk_mtl.nn.stacked import StackedMLP


class TaskGraph(nn.Module):
    r"""A network per task, and one that joins its output with what the task's parents gave.

    .. math::
        u_t = \mathrm{MLP}_t(h), \qquad r_t = \mathrm{MLP}'_t([u_t, r_p \text{ of parents } p])

    Parameters
    ----------
    n_tasks, in_features : int
        Number K of tasks, and width D of the input h.
    parents : sequence of sequences of int
        For each task the positions of those that it reads. There is no way round in a circle.
    task_units : sequence of int
        Widths of each task's network; at least one.
    relation_units : sequence of int
        Widths of the joining networks; at least one where a task has a parent. Empty: r is u.
    n_members, **network
        As in `StackedMLP`, with `activation`, `dropout`, `batch_norm` and `generator`.

    Attributes
    ----------
    out_features : int
        Width R of r.
    groups : list of list of int
        The tasks whose networks run as one, parents before children: those as far from the
        beginning that have as many parents and, alike, children or none.

    Notes
    -----
    Shape: (B, M, D) -> (B, M * K, R). A task's parents are read in the order of `parents`.

    Examples
    --------
    >>> import torch
    >>> from sk_mtl.nn import TaskGraph
    >>> graph = TaskGraph(3, 5, [[1], [], [0, 1]], task_units=(4,), relation_units=(6,))
    >>> graph.groups, graph(torch.zeros(7, 1, 5)).shape
    ([[1], [0], [2]], torch.Size([7, 3, 6]))
    """

    def __init__(
        self,
        n_tasks: int,
        in_features: int,
        parents: Sequence[Sequence[int]],
        *,
        task_units: Sequence[int],
        relation_units: Sequence[int],
        n_members: int = 1,
        **network: Any,
    ) -> None:
        super().__init__()
        self.n_members, self.parents = n_members, [list(of_task) for of_task in parents]
        network["n_members"] = n_members
        read = {parent for of_task in self.parents for parent in of_task}
        depth: dict[int, int] = {}
        for task in TopologicalSorter(dict(enumerate(self.parents))).static_order():
            depth[task] = max((depth[parent] + 1 for parent in self.parents[task]), default=0)
        alike: dict[tuple[int, int, bool], list[int]] = {}
        for task in range(n_tasks):
            key = depth[task], len(self.parents[task]), task not in read
            alike.setdefault(key, []).append(task)
        self.groups = [alike[key] for key in sorted(alike)]
        self.leaves = [key[2] for key in sorted(alike)]
        self.task_mlps, self.relation_mlps = nn.ModuleList(), nn.ModuleList()
        done: list[int] = []
        for index, tasks in enumerate(self.groups):
            mlp = StackedMLP(len(tasks), in_features, task_units, **network)
            width = relation_units[-1] if len(relation_units) else mlp.out_features
            joined = mlp.out_features + width * len(self.parents[tasks[0]])
            self.task_mlps.append(mlp)
            self.relation_mlps.append(StackedMLP(len(tasks), joined, relation_units, **network))
            places = [done.index(parent) for task in tasks for parent in self.parents[task]]
            where = torch.tensor(places, dtype=torch.int64)
            self.register_buffer(f"reads_{index}", where, persistent=False)
            done += tasks
        order = torch.tensor([done.index(task) for task in range(n_tasks)])
        self.register_buffer("order", order, persistent=False)
        self.in_order = done == sorted(done)
        self.out_features = width

    def forward(self, h: Tensor) -> Tensor:
        """Return what every task's joining network gives, in task order."""
        done: list[Tensor] = []
        for index, tasks in enumerate(self.groups):
            joined = self._split(self.task_mlps[index](h))  # (B, M, tasks, U)
            if self.parents[tasks[0]]:
                known = torch.cat(done, dim=2).index_select(2, self.get_buffer(f"reads_{index}"))
                read = known.unflatten(2, (len(tasks), -1)).flatten(3)  # (B, M, tasks, p * R)
                joined = torch.cat([joined, read], dim=3)
            done.append(self._split(self.relation_mlps[index](joined.flatten(1, 2))))
        all_tasks = done[0] if len(done) == 1 else torch.cat(done, dim=2)
        if not self.in_order:
            all_tasks = all_tasks.index_select(2, self.get_buffer("order"))
        return all_tasks.flatten(1, 2)

    def own_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what a single task moves: the networks of tasks that no other task reads."""
        for index, leaf in enumerate(self.leaves):
            if leaf:
                yield from self.task_mlps[index].parameters()
                yield from self.relation_mlps[index].parameters()

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.n_members, -1))


def resolve_parents(parents: Mapping[Any, Any], names: Sequence[Any]) -> list[list[int]]:
    """Return the positions of each task's parents.

    Parameters
    ----------
    parents : mapping of task to (task or list of tasks)
        Parents by name.
    names : sequence
        Names of all tasks, in order.

    Returns
    -------
    list of list of int
        In the order of `names`, and each task's parents too.

    Raises
    ------
    ValueError
        If a name is no task's, or a task reads itself, directly or through others.
    """
    found = {
        task: [given] if isinstance(given, str) else list(given) for task, given in parents.items()
    }
    unknown = [
        name for task, given in found.items() for name in (task, *given) if name not in names
    ]
    if unknown:
        raise ValueError(
            f"`parents` names the task {unknown[0]!r}, which y does not have; its tasks are "
            f"{list(names)}."
        )
    try:
        TopologicalSorter(found).prepare()
    except CycleError as error:
        circle = " -> ".join(map(repr, error.args[1]))
        raise ValueError(
            f"`parents` goes round in a circle, {circle}: a task would read itself; leave out one "
            "of these steps."
        ) from None
    return [[k for k, name in enumerate(names) if name in found.get(task, ())] for task in names]

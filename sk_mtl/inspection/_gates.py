"""How much each task's gate leans on each expert."""

from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sk_mtl._training import predict_logits
from sk_mtl.base import MultiTaskEstimator
from sk_mtl.data import Rows


class GateOutput(NamedTuple):
    """What one gate gave for some rows."""

    level: int
    """The level of the gate, from 1 on."""
    stream: str
    """Name of the task or stream whose gate it is."""
    experts: tuple[int, ...] | None
    """Numbers of its experts within the level; None of a gate whose factors scale a vector."""
    weights: NDArray
    """Of shape (n_samples, n_members, n_experts), or with factors in place of experts."""


def run_gates(estimator: MultiTaskEstimator, X: ArrayLike) -> list[GateOutput]:
    """Return what each gate of a fitted estimator gives for some rows, in the network's order.

    A part of the network counts as gates if it has `streams` and returns (B, M * n_gates, n).
    Gates are of one level if they are parts of the same module, and not entries of a list.
    """
    check_is_fitted(estimator)
    # A copy that shares the weights: hooks on the network itself would see what other threads
    # predict meanwhile.
    module: Any = estimator.module_
    tensors = [*module.parameters(), *module.buffers()]
    twin = deepcopy(module, {id(tensor): tensor for tensor in tensors})
    gates = {name: part for name, part in twin.named_modules() if hasattr(part, "streams")}
    if not gates:
        raise ValueError(
            f"{type(estimator).__name__} has no gates; AdaTT, CGC, MLMMoE, MMoE, OMoE, PEPNet, PLE "
            "and STEM have."
        )
    seen: dict[str, list[NDArray]] = {name: [] for name in gates}
    for name, gate in gates.items():
        gate.register_forward_hook(
            lambda _module, _inputs, out, batches=seen[name]: batches.append(out.numpy(force=True))
        )
    table = estimator._read_rows(X)
    rows = Rows(estimator._fitted_.encoder.transform(table), device=estimator.net_.device)
    predict_logits(twin, rows)
    n_extra = estimator.net_.criterion_.objective.extra_outputs
    names = [*estimator.task_names_, *(f"<output {k}>" for k in range(n_extra))]
    levels: dict[str, int] = {}
    found = []
    for name, gate in gates.items():
        level = levels.setdefault(_level_of(twin, name), len(levels) + 1)
        whole = np.concatenate(seen[name])
        whole = whole.reshape(len(whole), module.n_members, -1, whole.shape[2])
        known: Any = getattr(gate, "experts", None)
        for position, stream in enumerate(gate.streams):
            owner = names[stream] if isinstance(stream, int) else stream
            experts = None if known is None else known[position]
            found.append(GateOutput(level, owner, experts, whole[:, :, position]))
    return found


def _level_of(module: nn.Module, name: str) -> str:
    """Return the name of the module whose gates are one level."""
    parent = name.rpartition(".")[0]
    return name if isinstance(module.get_submodule(parent), nn.ModuleList) else parent


def gate_weights(estimator: MultiTaskEstimator, X: ArrayLike) -> dict[str, list[NDArray]]:
    """Return the weights that each gate gives its experts, row by row.

    Parameters
    ----------
    estimator : MultiTaskEstimator
        A fitted estimator with gates: `AdaTT`, `CGC`, `MLMMoE`, `MMoE`, `OMoE`, `PLE` or `STEM`,
        with any kind of gate; or `PEPNet`, whose gates give factors. An `ESMM`, `ESCM2` or `NISE`
        on such a bottom has them too.
    X : {array-like, dataframe, CSR matrix} of shape (n_samples, n_features)
        Rows as the estimator takes them (in a pipeline: transformed by the steps before).

    Returns
    -------
    dict of str to list of ndarray of shape (n_samples, n_experts)
        By task name, one array per level where the task has a gate. A gate over experts has rows
        that sum to one (of DSelect-k at most one, unless the number of experts is a power of
        two). A task's own experts come before the shared ones; where a gate covers all tasks'
        experts they stand in task order. Gates that are no task's own have names in brackets:
        ``"<shared>"`` of a shared stream, or of the one gate of `OMoE`; ``"<level 2, expert 0>"``
        of what an expert of `MLMMoE` reads; ``"<domain>"`` of `PEPNet`'s factors on the
        embedding. The factors of `PEPNet` are between 0 and 2, one for each number that they
        scale.

        Of several members the experts stand side by side, member after member, each weighed by
        its share in the mean; factors stand side by side as they are.

    Raises
    ------
    ValueError
        If the architecture has no gates.

    See Also
    --------
    expert_use : How much each expert is used, over all rows.
    GateDisplay : Pictures of their means, of all rows or by the values of a column.

    Examples
    --------
    >>> from sk_mtl import MMoE
    >>> from sk_mtl.datasets import make_census_like
    >>> from sk_mtl.inspection import gate_weights
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = MMoE(n_experts=4, n_members=1, max_epochs=2, random_state=0).fit(X, Y)
    >>> weights = gate_weights(model, X)
    >>> list(weights), weights["married"][0].shape
    (['high_income', 'married', 'log_wage'], (500, 4))
    """
    weights: dict[str, list[NDArray]] = {}
    for gate in run_gates(estimator, X):
        weights.setdefault(gate.stream, []).append(side_by_side(gate))
    return weights


def side_by_side(gate: GateOutput) -> NDArray:
    """Return the weights of all members in a row, each by its share in their mean."""
    n_members = gate.weights.shape[1]
    flat = gate.weights.reshape(len(gate.weights), -1)
    return flat if n_members == 1 or gate.experts is None else flat / n_members

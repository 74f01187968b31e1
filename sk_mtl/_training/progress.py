"""Where training stands, beside the weights: what is needed to go on as if nothing had happened."""

from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sk_mtl._training.net import MultiTaskNet
from sk_mtl._training.snapshot import named_parameters, optimizer_state


def carry_optimizer_state(old: MultiTaskNet, new: MultiTaskNet) -> None:
    """Let a net's optimizer go on with copies of another's moments, matched by name.

    With another kind of optimizer there is nothing to carry.
    """
    if type(old.optimizer_) is type(new.optimizer_):
        _set_optimizer_state(new, deepcopy(optimizer_state(old)))


def _set_optimizer_state(net: MultiTaskNet, states: dict[str, dict[str, Any]]) -> None:
    for name, parameter in named_parameters(net):
        state = states.get(name)
        if state is not None and _fits(state, parameter):
            net.optimizer_.state[parameter] = state


def _fits(state: dict[str, Any], parameter: Tensor) -> bool:
    """Whether a state's tensors are the parameter's: of its shape, or with one entry in its place.

    Of row-wise Adagrad a tensor holds one number per slot; others keep a single number.
    """
    tensors = [entry for entry in state.values() if isinstance(entry, Tensor)]
    return all(
        tensor.ndim == 0
        or (
            tensor.ndim == parameter.ndim
            and all(own in (n, 1) for own, n in zip(tensor.shape, parameter.shape, strict=True))
        )
        for tensor in tensors
    )


def get_progress(net: MultiTaskNet) -> dict[str, Any]:
    """Return the state of optimizer, balancer, generator and counts, without torch objects."""
    return _plain(find_progress(net))


def find_progress(net: MultiTaskNet) -> dict[str, Any]:
    """Return the same with the net's own tensors, for `set_progress`."""
    criterion = net.criterion_
    return {
        "optimizer": {"kind": type(net.optimizer_).__name__, "state": optimizer_state(net)},
        "balancer": criterion.balancer.get_state(),
        "balancer_parameters": dict(criterion.balancer.named_parameters()),
        "generator": net.iterator_train__generator.get_state(),
        "tallies": net.module_.embedding.tallies(),
        "seen": get_seen(net),
    }


def set_progress(net: MultiTaskNet, progress: dict[str, Any]) -> None:
    """Give a net the state that `get_progress` or `find_progress` returned."""
    found, criterion = _tensors(progress, net.device), net.criterion_
    if found["optimizer"]["kind"] == type(net.optimizer_).__name__:
        _set_optimizer_state(net, found["optimizer"]["state"])
    criterion.balancer.set_state(found["balancer"])
    with torch.no_grad():
        for name, parameter in criterion.balancer.named_parameters():
            parameter.copy_(found["balancer_parameters"][name])
    net.iterator_train__generator.set_state(found["generator"].cpu())
    net.module_.embedding.set_tallies(found["tallies"])
    set_seen(net, progress["seen"])


def get_seen(net: MultiTaskNet) -> dict[str, Any]:
    """Return how many rows the terms have been taken over, and with what weights."""
    return {"weight": net.criterion_.total_weight.tolist(), "rows": net.criterion_.n_rows}


def set_seen(net: MultiTaskNet, seen: dict[str, Any]) -> None:
    """Undo `get_seen`."""
    net.criterion_.total_weight = torch.tensor(seen["weight"], dtype=torch.float64)
    net.criterion_.n_rows = seen["rows"]


TENSOR = "__tensor__"
"""Key of the array that stands for a tensor: arrays themselves stay what they are."""


def _plain(tree: Any) -> Any:
    """Return a tree of dictionaries with arrays for tensors."""
    if isinstance(tree, dict):
        return {key: _plain(value) for key, value in tree.items()}
    return {TENSOR: np.array(tree.numpy(force=True))} if isinstance(tree, Tensor) else tree


def _tensors(tree: Any, device: Any) -> Any:
    """Undo `_plain`."""
    if not isinstance(tree, dict):
        return tree.to(device) if isinstance(tree, Tensor) else tree
    if TENSOR in tree:
        return torch.tensor(tree[TENSOR], device=device)
    return {key: _tensors(value, device) for key, value in tree.items()}

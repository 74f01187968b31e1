"""Copies of all that training moves, to go back to."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


class Snapshot:
    """The state of a net: weights, buffers, the optimizer's, the balancer's and the generator's.

    Parameters
    ----------
    net : MultiTaskNet
        The net. What is copied is what it is now.
    slots : mapping of str to Tensor, optional
        By name of a parameter of the module, the only slots of it that will move until `restore`,
        each once: the rest is not copied.
    """

    def __init__(self, net: Any, slots: Mapping[str, Tensor] | None = None) -> None:
        self.slots = dict(slots or {})
        self.copies: list[Tensor] = []
        self.steps: dict[str, dict[str, Any]] = {}
        self.take(net)

    @torch.no_grad()
    def take(self, net: Any) -> None:
        """Copy the net's state anew, into the same memory where it fits."""
        found = list(self._tensors(net))
        before: list[Tensor | None] = [None] * len(found)
        if len(self.copies) == len(found):
            before = list(self.copies)
        self.copies = []
        for old, (tensor, where) in zip(before, found, strict=True):
            part = tensor[where]
            if old is None or old.shape != part.shape:
                old = torch.empty_like(part)
            self.copies.append(old.copy_(part))
        self.steps = {name: _plain(state) for name, state in optimizer_state(net).items()}
        self.balancer = net.criterion_.balancer.get_state()
        self.generator = net.iterator_train__generator.get_state()

    @torch.no_grad()
    def restore(self, net: Any) -> None:
        """Give the net the state back."""
        states = optimizer_state(net)
        for name, state in states.items():
            # A parameter that had no state then is to have none again.
            if name not in self.steps:
                state.clear()
        for (tensor, where), copy in zip(self._tensors(net), self.copies, strict=True):
            tensor[where] = copy
        for name, plain in self.steps.items():
            states[name].update(plain)
        net.criterion_.balancer.set_state(self.balancer)
        net.iterator_train__generator.set_state(self.generator)

    def get_state(self) -> dict[str, Any]:
        """Return what `from_state` makes an equal snapshot of: tensors, numbers, strings."""
        return {
            "copies": self.copies,
            "steps": self.steps,
            "balancer": self.balancer,
            "generator": self.generator,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], device: Any) -> "Snapshot":
        """Undo `get_state`, for a net on a device."""
        self = cls.__new__(cls)
        self.slots = {}
        self.copies = [copy.to(device) for copy in state["copies"]]
        self.steps = dict(state["steps"])
        self.balancer, self.generator = state["balancer"], state["generator"]
        return self

    def _tensors(self, net: Any) -> Iterator[tuple[Tensor, Any]]:
        """Yield what is copied: tensors, and which part of each."""
        everything: Any = ...
        states = optimizer_state(net)
        for name, tensor in net.module_.state_dict(keep_vars=True).items():
            where = self.slots.get(name, everything)
            yield tensor, where
            for entry in states.get(f"module.{name}", {}).values():
                if isinstance(entry, Tensor):
                    # An optimizer may keep one number per slot.
                    by_slots = entry.ndim > 0 and len(entry) == len(tensor)
                    yield entry, where if by_slots else everything
        for name, parameter in net.criterion_.named_parameters():
            yield parameter, everything
            for entry in states.get(f"criterion.{name}", {}).values():
                if isinstance(entry, Tensor):
                    yield entry, everything


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if not isinstance(value, Tensor)}


def named_parameters(net: Any) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """Yield what the optimizer moves: the module's parameters and the balancer's, by name."""
    for part in ("module", "criterion"):
        for name, parameter in getattr(net, f"{part}_").named_parameters():
            yield f"{part}.{name}", parameter


def optimizer_state(net: Any) -> dict[str, dict[str, Any]]:
    """Return the optimizer's state of each parameter that has some, by the parameter's name."""
    state = net.optimizer_.state
    return {name: state[p] for name, p in named_parameters(net) if state.get(p)}


def bytes_of(net: Any) -> int:
    """Return how many bytes a snapshot of a net takes."""
    tensors = list(net.module_.state_dict().values())
    for state in optimizer_state(net).values():
        tensors += [entry for entry in state.values() if isinstance(entry, Tensor)]
    return sum(tensor.nbytes for tensor in tensors)

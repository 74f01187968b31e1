"""Adam for networks whose large embedding tables pass sparse gradients."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sk_mtl.nn.blocks.tables import sum_slots

aten = torch.ops.aten

FLUSH_STEPS = 100
"""How often moments close to the subnormal numbers are set to zero."""


class _Update:
    """Tensors that one call of the kernel is to update."""

    def __init__(self) -> None:
        self.params: list[Tensor] = []
        self.grads: list[Tensor] = []
        self.means: list[Tensor] = []
        self.squares: list[Tensor] = []
        self.steps: list[Tensor] = []
        self.counts: dict[int, Tensor] = {}

    def append(self, p: Tensor, grad: Tensor, mean: Tensor, square: Tensor, step: int) -> None:
        self.params.append(p)
        self.grads.append(grad)
        self.means.append(mean)
        self.squares.append(square)
        # The kernel reads the number of steps from tensors.
        if step not in self.counts:
            self.counts[step] = torch.tensor(float(step), device=p.device)
        self.steps.append(self.counts[step])
        if step % FLUSH_STEPS == 0:
            # Where gradients stay zero, moments decay to subnormal numbers, with which a step
            # takes up to twice as long. Beside eps, numbers so small are none.
            for moment in (mean, square):
                moment.masked_fill_(moment.abs() < 1e8 * torch.finfo(moment.dtype).tiny, 0.0)

    def run(self, group: dict[str, Any]) -> None:
        # The kernel of torch.optim.Adam without torch's wrapper, which took half of a small
        # network's step.
        beta1, beta2 = group["betas"]
        kernel = aten._fused_adamw_ if group["decoupled_weight_decay"] else aten._fused_adam_
        kernel(
            self.params,
            self.grads,
            self.means,
            self.squares,
            [],
            self.steps,
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )


class LazyAdam(torch.optim.Optimizer):
    """Adam that, for a sparse gradient, reads and writes only the slots touched.

    For dense gradients it is `torch.optim.Adam` (or `AdamW`), all parameters in one fused step.
    For sparse ones it does what `torch.optim.SparseAdam` does: moments of slots that a batch does
    not touch stay as they are, bias correction counts all steps. A step's cost does not depend on
    the size of the table.

    Parameters
    ----------
    params : iterable
        As in `torch.optim.Adam`.
    lr : float, default=1e-3
        Learning rate.
    betas : (float, float), default=(0.9, 0.999)
        Decay of the running means of gradients and of their squares.
    eps : float, default=1e-8
        Added to the denominator.
    weight_decay : float, default=0.0
        L2 penalty, of parameters with dense gradients.
    decoupled_weight_decay : bool, default=False
        Whether the penalty is AdamW's.
    """

    # torch's decorator imports its compiler, which costs a process's first fit two seconds.
    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one step, evaluating the closure first if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            dense = _Update()
            for p in group["params"]:
                grad = p.grad
                if grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state.update(self._new_state(p, grad))
                self._take(dense, group, p, grad, state)
            if dense.params:
                dense.run(group)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients, or set them to zero."""
        if not set_to_none:
            super().zero_grad(set_to_none=False)
            return
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def _new_state(self, p: Tensor, grad: Tensor) -> dict[str, Any]:
        """Return the state of a parameter before its first step."""
        return {"step": 0, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}

    def _take(
        self, dense: _Update, group: dict[str, Any], p: Tensor, grad: Tensor, state: dict[str, Any]
    ) -> None:
        """Move a parameter, or let it wait for the kernel that moves all dense ones at once."""
        step = state["step"] = state["step"] + 1
        if grad.is_sparse:
            self._step_slots(group, p, grad, state)
        else:
            dense.append(p, grad, state["exp_avg"], state["exp_avg_sq"], step)

    def _step_slots(
        self, group: dict[str, Any], p: Tensor, grad: Tensor, state: dict[str, Any]
    ) -> None:
        slots, g = self._sum_slots(p, grad)
        whole = (p, state["exp_avg"], state["exp_avg_sq"])
        part = [tensor.index_select(0, slots) for tensor in whole]
        touched = _Update()
        touched.append(part[0], g, part[1], part[2], state["step"])
        touched.run({**group, "weight_decay": 0.0})
        for tensor, values in zip(whole, part, strict=True):
            tensor.index_copy_(0, slots, values)

    def _sum_slots(self, p: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Return the distinct slots of a sparse gradient, in no order, and their sums."""
        slots, values = grad._indices()[0], grad._values()
        if grad.is_coalesced():
            return slots, values
        # Kept outside `state`, because `load_state_dict` casts its entries to float.
        marks = self.__dict__.setdefault("_marks", {})
        if p not in marks:
            marks[p] = torch.empty(len(p), dtype=torch.int32, device=p.device)
        # `marks[slot]` is the position of the slot's last entry; that entry stands for all. A
        # sort, as in `coalesce`, takes several times as long.
        position = torch.arange(len(slots), dtype=torch.int32, device=p.device)
        last = marks[p].scatter_(0, slots, position).gather(0, slots)
        counts = last == position
        place = (counts.cumsum(0) - 1).index_select(0, last)
        distinct = slots.masked_select(counts)
        return distinct, sum_slots(values, place, len(distinct))

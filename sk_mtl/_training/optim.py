"""Adam for networks whose large embedding tables pass sparse gradients."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class LazyAdam(torch.optim.Adam):
    """Adam that, for a sparse gradient, reads and writes only the rows touched.

    For dense gradients it is `torch.optim.Adam`, in one fused step. For sparse ones it does what
    `torch.optim.SparseAdam` does: moments of rows that a batch does not touch stay as they are,
    bias correction counts all steps. A step's cost does not depend on the size of the table.

    Parameters
    ----------
    params : iterable
        As in `torch.optim.Adam`.
    **defaults
        As in `torch.optim.Adam`.
    """

    def __init__(self, params: Any, **defaults: Any) -> None:
        super().__init__(params, **{"fused": True, **defaults})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one step, evaluating the closure first if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        sparse = [
            (group, p, p.grad)
            for group in self.param_groups
            for p in group["params"]
            if p.grad is not None and p.grad.is_sparse
        ]
        for _, p, _ in sparse:
            p.grad = None  # torch's Adam refuses sparse gradients
        super().step()
        for group, p, grad in sparse:
            self._step_rows(group, p, grad)
            p.grad = grad
        return loss

    @torch.no_grad()
    def _step_rows(self, group: dict[str, Any], p: Tensor, grad: Tensor) -> None:
        state = self.state[p]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(p)
            state["exp_avg_sq"] = torch.zeros_like(p)
        state["step"] += 1
        beta1, beta2 = group["betas"]
        grad = grad.coalesce()
        rows, g = grad.indices()[0], grad.values()
        m = state["exp_avg"][rows].lerp_(g, 1 - beta1)
        v = state["exp_avg_sq"][rows].mul_(beta2).addcmul_(g, g, value=1 - beta2)
        state["exp_avg"][rows] = m
        state["exp_avg_sq"][rows] = v
        m_hat = m / (1 - beta1 ** state["step"])
        v_hat = v / (1 - beta2 ** state["step"])
        p.index_add_(0, rows, m_hat / (v_hat.sqrt_() + group["eps"]), alpha=-group["lr"])

"""Row-wise Adagrad for large embedding tables, beside Adam for everything else."""

from typing import Any

from torch import Tensor

from sk_mtl._training.optim import LazyAdam, _Update


class RowwiseAdagrad(LazyAdam):
    """Adagrad with one number per slot for tables with sparse gradients, Adam for the rest.

    Of the gradient g of a slot, (d,), summed over the batch's rows that read it, a step does

        h <- h + mean(g ** 2),    w <- w - lr * table_factor * g / (sqrt(h) + eps)

    where h, one number per slot, begins at zero. Slots that a batch does not read stay as they
    are. A table's state is 4 bytes per slot in float32; Adam's is 8 bytes per entry of the table.

    Which rule moves a parameter is decided by its first gradient, and kept.

    Parameters
    ----------
    params : iterable
        As in `torch.optim.Adam`.
    lr, betas, eps, weight_decay
        As in `LazyAdam`. Tables are not decayed.
    table_factor : float, default=10.0
        Factor of the learning rate of tables. Adagrad's steps grow shorter with every gradient of
        a slot, Adam's do not.

    Notes
    -----
    This is EXACT_ROWWISE_ADAGRAD of FBGEMM, and RWSAdagrad of the DLRM's code
    (facebookresearch/dlrm). A slot that holds several vectors, as one for each task, has one h for
    all of them.

    References
    ----------
    Naumov et al., "Deep Learning Recommendation Model for Personalization and Recommendation
    Systems", 2019, arXiv:1906.00091. Duchi et al., "Adaptive Subgradient Methods for Online
    Learning and Stochastic Optimization", JMLR 12, 2011.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        table_factor: float = 10.0,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)
        self.defaults["table_factor"] = table_factor
        for group in self.param_groups:
            group.setdefault("table_factor", table_factor)

    def _new_state(self, p: Tensor, grad: Tensor) -> dict[str, Any]:
        if grad.is_sparse:
            return {"sum": p.new_zeros(len(p), 1)}
        return super()._new_state(p, grad)

    def _take(
        self, dense: _Update, group: dict[str, Any], p: Tensor, grad: Tensor, state: dict[str, Any]
    ) -> None:
        if "sum" not in state:
            super()._take(dense, group, p, grad, state)
            return
        rate = group["lr"] * group["table_factor"]
        if not grad.is_sparse:
            sums = state["sum"].add_(_mean_square(grad))
            p.addcdiv_(grad, sums.sqrt().add_(group["eps"]), value=-rate)
            return
        slots, g = self._sum_slots(p, grad)
        sums = state["sum"].index_select(0, slots).add_(_mean_square(g))
        values = p.index_select(0, slots)
        state["sum"].index_copy_(0, slots, sums)
        values.addcdiv_(g, sums.sqrt_().add_(group["eps"]), value=-rate)
        p.index_copy_(0, slots, values)


def _mean_square(gradient: Tensor) -> Tensor:
    """Return the mean square of each slot's gradient: (n, d) -> (n, 1)."""
    return gradient.square().mean(1, keepdim=True)

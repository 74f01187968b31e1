"""The skorch net: hooks that make its loop a multi-task one."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import Callback, EpochTimer, PrintLog
from skorch.helper import predefined_split
from torch import Tensor, nn

from sk_mtl._training.callbacks import EpochHook
from sk_mtl._training.data import Batches, Rows
from sk_mtl._training.loss import MultiTaskLoss
from sk_mtl._training.memory import keep_memory
from sk_mtl._training.optim import LazyAdam
from sk_mtl.balancing import Step
from sk_mtl.nn import MultiTaskModule
from sk_mtl.tasks import Task, logit_slices

OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "adam": (LazyAdam, {}),
    "adamw": (LazyAdam, {"decoupled_weight_decay": True}),
    "sgd": (torch.optim.SGD, {}),
    "adagrad": (torch.optim.Adagrad, {}),
}
"""The optimizers that estimators accept by name; all of them take sparse gradients."""

ROUNDING = 1e-6
"""How far below zero rounding may bring a loss."""

PREDICT_ROWS = 4096
"""Rows per batch of a prediction."""


class NonFiniteLossError(ValueError):
    """A task's loss became NaN or infinite."""


class MultiTaskNet(NeuralNet):
    """skorch's net with per-task losses, a balancer, and batches cut in slices.

    Per epoch `history` holds, beside skorch's own entries, ``train_loss_<task>`` and
    ``valid_loss_<task>``, the mean losses without `loss_weights`. ``train_loss`` and
    ``valid_loss`` are their sums with the fixed `loss_weights`, whatever the balancer does;
    ``weight_<task>`` is the balancer's weight, the mean over the steps.

    Scorers given to skorch's callbacks get this net: `predict_proba` returns the tasks' blocks,
    `decision_function` the logits; `y` are the encoded labels, NaN where not observed.
    """

    @property
    def _default_callbacks(self) -> list[tuple[str, Callback]]:
        # The losses are recorded below, over observed labels; skorch would average batches.
        return [("epoch_timer", EpochTimer()), ("print_log", PrintLog())]

    def infer(self, x: dict[str, Tensor], **fit_params: Any) -> Tensor:
        """Return the logits of a batch."""
        return self.module_.read(self._represent(x))

    def _represent(self, x: dict[str, Tensor]) -> Tensor:
        """Return the tasks' representations of a batch, prepared by `Batches` or not."""
        ready = (x["dense"], x["rows"]) if "rows" in x else (x["numeric"], x["categorical"])
        dense, rows = (part.to(self.device) for part in ready)
        if "rows" not in x:
            dense, rows = self.module_.prepare(dense, rows)
        return self.module_.represent(dense, rows)

    def get_iterator(self, dataset: Rows, training: bool = False) -> Batches:
        """Return batches that are prepared for the module."""
        batches = super().get_iterator(dataset, training=training)
        batches.prepare = self.module_.prepare
        return batches

    def get_loss(
        self, y_pred: Tensor, y_true: Tensor, X: dict[str, Tensor], training: bool = False
    ) -> Tensor:
        """Return the losses of all tasks, (K,)."""
        weight = X.get("weight")
        weight = None if weight is None else weight.to(self.device)
        return self.criterion_(y_pred, y_true.to(self.device), weight)

    def initialize_module(self) -> "MultiTaskNet":
        """Take the module, and note which of its parameters several tasks move."""
        super().initialize_module()
        self.shared_parameters_ = list(self.module_.shared_parameters())
        shared = {id(p) for p in self.shared_parameters_}
        self.own_parameters_ = [p for p in self.module_.parameters() if id(p) not in shared]
        return self

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Compute the gradients of one batch."""
        inputs, target = batch
        h = self._represent(inputs)
        logits = self.module_.read(h)
        losses = self.get_loss(logits, target, X=inputs, training=True)
        if self.criterion_.balancer.reads_zero:
            self._check_not_negative(losses.detach())
        features = h if self.module_.one_representation else None
        step = Step(self.shared_parameters_, self.own_parameters_, features)
        loss = self.criterion_.balancer.backward(self.criterion_.weigh(losses), step)
        return {"loss": loss, "losses": losses.detach(), "y_pred": logits}

    def _check_not_negative(self, losses: Tensor) -> None:
        """Refuse what balancers would take for a task without labels."""
        lowest = int(losses.nan_to_num(torch.inf).argmin())
        value = losses[lowest].item()
        if value < -ROUNDING:
            raise ValueError(
                f"The loss of task {self.criterion_.tasks[lowest].name!r} is {value}, below zero: "
                "balancers need losses of at least 0. Add a constant to the loss of its kind, or "
                "pass balancer='equal'."
            )

    def train_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Do one step of the optimizer, and let the balancer see what it did if it wants to."""
        result = super().train_step(batch, **fit_params)
        balancer = self.criterion_.balancer
        if balancer.step_hook:
            inputs, target = batch
            with torch.no_grad():
                losses = self.get_loss(self.infer(inputs), target, X=inputs)
                balancer.after_step(self.criterion_.weigh(losses))
        return result

    def validation_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Compute the losses of one batch, without gradients."""
        inputs, target = batch
        with torch.no_grad():
            logits = self.infer(inputs)
            losses = self.get_loss(logits, target, X=inputs)
        return {"loss": self.criterion_.weigh(losses).sum(), "losses": losses, "y_pred": logits}

    def run_single_epoch(
        self,
        iterator: Batches | None,
        training: bool,
        prefix: str,
        step_fn: Callable[..., dict[str, Any]],
        **fit_params: Any,
    ) -> None:
        """Run one epoch of training or validation and record its losses."""
        if iterator is None:
            return
        self._set_training(training)
        history, tasks, balancer = self.history, self.criterion_.tasks, self.criterion_.balancer
        all_losses, all_counts, all_weights = [], [], []
        for batch in iterator:
            inputs, target = batch
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            loss, losses = step["loss"].item(), step.pop("losses")
            if not np.isfinite(loss):
                raise self._non_finite(losses, loss, prefix)
            history.record_batch(f"{prefix}_loss", loss)
            history.record_batch(f"{prefix}_batch_size", len(target))
            weight = inputs.get("weight")
            all_losses.append(losses)
            all_counts.append(len(target) if weight is None else weight.sum(0))
            all_weights.append(balancer.weights)
            self.notify("on_batch_end", batch=batch, training=training, **step)
        history.record(f"{prefix}_batch_count", len(all_losses))

        means = _means(all_losses, all_counts)
        # A task without a label in the held-out rows has no validation loss and does not count.
        weighed = self.criterion_.weigh(means.to(self.device))
        total = weighed.nansum().item()
        best = min((row.get(f"{prefix}_loss", np.inf) for row in history[:-1]), default=np.inf)
        history.record(f"{prefix}_loss", total)
        history.record(f"{prefix}_loss_best", total < best)
        for task, mean in zip(tasks, means.tolist(), strict=True):
            history.record(f"{prefix}_loss_{task.name}", mean)
        if training:
            balancer.end_epoch(weighed)
            for task, mean in zip(tasks, _mean_weights(all_weights), strict=False):
                history.record(f"weight_{task.name}", mean)

    def _non_finite(self, losses: Tensor, loss: float, prefix: str) -> NonFiniteLossError:
        names = [
            task.name
            for task, finite in zip(self.criterion_.tasks, losses.isfinite().tolist(), strict=True)
            if not finite
        ]
        which = ", ".join(map(repr, names)) or "all tasks together"
        return NonFiniteLossError(
            f"The {prefix} loss of task {which} became {loss} in epoch {len(self.history)}. The "
            f"usual causes are a learning rate that is too high (lr={self.lr}), values of a very "
            "large scale with numeric_features='passthrough', or extreme sample weights."
        )

    def epochs(self) -> list[dict[str, Any]]:
        """Return the numbers of each epoch, without skorch's own bookkeeping."""
        hidden = ("_best", "_batch_count")
        return [
            {
                name: value
                for name, value in row.items()
                if not name.endswith(hidden) and not isinstance(value, list | bool | str)
            }
            for row in self.history
        ]

    def decision_function(self, X: Any) -> NDArray:
        """Return the logits of a data set, (n, L)."""
        return self.forward(X).numpy(force=True)


def _means(losses: list[Tensor], counts: list[Any]) -> Tensor:
    """Return each task's mean loss over an epoch, (K,) float64 on the CPU, NaN without labels."""
    each = torch.stack(losses).double().cpu()
    if isinstance(counts[0], Tensor):
        weight = torch.stack(counts).double().cpu()
    else:
        weight = torch.tensor(counts, dtype=torch.float64).unsqueeze(1)
    return (each * weight).sum(0) / weight.sum(0)


def _mean_weights(weights: list[Tensor | None]) -> list[float]:
    """Return each task's mean weight over an epoch's steps, without those it was absent from.

    Of a balancer that reports no weights there are none.
    """
    known = [w for w in weights if w is not None]
    return torch.stack(known).double().nanmean(0).tolist() if known else []


class Blocks:
    """The inverse links of all tasks at once: logits (B, L) -> blocks side by side."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tasks

    def __call__(self, logits: Tensor) -> Tensor:
        parts = zip(self.tasks, logit_slices(self.tasks), strict=True)
        return torch.cat([task.link(logits[:, where]) for task, where in parts], dim=1)


def carry_optimizer_state(old: MultiTaskNet, new: MultiTaskNet) -> None:
    """Let a net's optimizer go on with copies of another's moments.

    The two hold the same parameters in the same order. With another kind of optimizer there is
    nothing to carry.
    """
    before, after = old.optimizer_, new.optimizer_
    if type(before) is not type(after):
        return
    groups = zip(before.param_groups, after.param_groups, strict=False)
    for group, twin in groups:
        for p, q in zip(group["params"], twin["params"], strict=False):
            if p in before.state and p.shape == q.shape:
                after.state[q] = deepcopy(before.state[p])


def make_net(
    module: MultiTaskModule,
    criterion: MultiTaskLoss,
    *,
    optimizer: str | type[torch.optim.Optimizer],
    lr: float,
    weight_decay: float,
    batch_size: int | None,
    max_epochs: int,
    callbacks: Sequence[Any],
    device: torch.device,
    dtype: torch.dtype,
    generator: torch.Generator,
    verbose: int,
) -> MultiTaskNet:
    """Put module, criterion and training parameters into a net that is ready to train.

    `weight_decay` applies to weight matrices: not to biases, nor to embedding tables, where it
    would touch every row at every step.
    """
    if isinstance(optimizer, str):
        kind, options = OPTIMIZERS[optimizer]
    else:
        kind, options = optimizer, {}
        module.embedding.sparse = (False,) * len(module.embedding.sparse)
    # The last are a balancer's own parameters.
    patterns = ("embedding.*", "*bias", "balancer.*")
    undecayed = [(pattern, {"weight_decay": 0.0}) for pattern in patterns]
    net = MultiTaskNet(
        module=module.to(dtype),
        criterion=criterion.to(dtype),
        optimizer=kind,
        optimizer__weight_decay=weight_decay,
        optimizer__param_groups=undecayed if weight_decay else [],
        lr=lr,
        max_epochs=max_epochs,
        batch_size=-1 if batch_size is None else batch_size,
        iterator_train=Batches,
        iterator_train__shuffle=True,
        iterator_train__generator=generator,
        iterator_valid=Batches,
        train_split=None,
        callbacks=list(callbacks),
        predict_nonlinearity=Blocks(criterion.tasks),
        device=device,
        verbose=verbose,
        **{f"optimizer__{name}": value for name, value in options.items()},
    )
    return net.initialize()


def fit_epochs(
    net: MultiTaskNet,
    rows: Rows,
    valid: Rows | None,
    epochs: int,
    hook: EpochHook | None = None,
) -> MultiTaskNet:
    """Train for some epochs, every random number drawn from generators of the net's own.

    Parameters
    ----------
    net : MultiTaskNet
        An initialized net; training goes on from where it stands.
    rows, valid : Rows
        Rows to train on, and rows held out or None.
    epochs : int
        Number of epochs at most.
    hook : EpochHook, optional
        What to call back in this run only.
    """
    callbacks = net.callbacks_
    if hook is not None:
        net.callbacks_ = [("begin", hook), *callbacks, ("stop", hook.stopper)]
    net.train_split = None if valid is None else predefined_split(valid)
    seed = int(torch.randint(2**62, (), generator=net.iterator_train__generator))
    net.module_.set_generator(torch.Generator(net.device).manual_seed(seed))
    try:
        with keep_memory():
            net.partial_fit(rows, epochs=epochs)
    finally:
        net.module_.set_generator(None)
        net.train_split, net.callbacks_ = None, callbacks
    embedding = net.module_.embedding
    if embedding.n_categorical:
        embedding.fill_unseen(rows.categorical)
    net.module_.eval()
    return net


def predict_logits(module: nn.Module, rows: Rows, method: str = "forward") -> Tensor:
    """Return the float64 logits of all rows, (n, L), on the CPU, with the module in eval mode."""
    if module.training:  # walking through all submodules takes longer than a small one's forward
        module.eval()
    function = getattr(module, method)
    with torch.inference_mode():
        parts = [
            function(inputs["numeric"], inputs["categorical"])
            for inputs, _ in Batches(rows, PREDICT_ROWS)
        ]
        return torch.cat(parts).cpu().to(torch.float64)

"""The skorch net: hooks that make its loop a multi-task one."""

import math
from collections.abc import Callable
from copy import copy
from typing import Any

import torch
from skorch.callbacks import Callback, EpochTimer
from skorch.utils import TeeGenerator
from torch import Tensor

from sk_mtl._training.exchange import Exchange
from sk_mtl._training.objective import Criterion
from sk_mtl._training.optimizers import find_optimizer, may_be_sparse
from sk_mtl._training.ranks import Ranks
from sk_mtl._training.scored import Blocks, ScoredNet
from sk_mtl._training.settings import Training
from sk_mtl._training.signals import Interrupts, StopTraining
from sk_mtl._training.tally import Tally, mean_weights
from sk_mtl.balancing import Step
from sk_mtl.data.rows import Batch, Batches, Rows
from sk_mtl.data.windows import StreamedRows, Windows, cut_batches
from sk_mtl.nn import MultiTaskModule


class MultiTaskNet(ScoredNet):
    """skorch's net with an objective of several terms, a balancer, and batches cut in slices.

    Per epoch `history` holds, beside skorch's own entries, ``train_loss_<term>`` and
    ``valid_loss_<term>``, the weighted mean losses without `loss_weights`. ``train_loss`` and
    ``valid_loss`` are their sums with the fixed `loss_weights`, whatever the balancer does;
    ``weight_<term>`` is the balancer's weight, the mean over the steps; ``train_penalty`` the
    mean of the network's own penalty, if it has one.

    Scorers given to skorch's callbacks get this net. Its labels are codes of classes, and values
    on their own scale, NaN where not observed: (n, K). `predict` returns such labels,
    `predict_proba` the tasks' blocks and `decision_function` the logits of their classes.

    Attributes
    ----------
    stop : bool
        Set to true, it ends training after the epoch at hand, which all callbacks see to its end.
    valid_batches : Batches, Windows or None
        The rows held out in this run.
    interrupts : Interrupts
        Tells of a Ctrl-C in this run.
    settings : Training
        The training parameters.
    stand_in : callable or None
        Returns, of this net, what a scorer takes for the rows held out in this run.
    noise : torch.Generator or None
        What dropout draws from in this run.
    tally : Tally or None
        The sums of the training epoch under way.
    tally_state : dict or None
        The sums that the next training epoch begins with, of one that was cut off.
    """

    stop = False
    valid_batches: Batches | Windows | None = None
    interrupts = Interrupts()
    settings = Training()
    stand_in: Callable[..., Any] | None = None
    noise: torch.Generator | None = None
    tally: Tally | None = None
    tally_state: dict[str, Any] | None = None
    ranks: Ranks | None = None
    exchange: Exchange | None = None
    _known_listeners: tuple[Any, dict[str, list[Callback]]] = (None, {})

    @property
    def _default_callbacks(self) -> list[tuple[str, Callback]]:
        # The losses are recorded below, over observed labels; skorch would average batches.
        # A line per epoch is printed by the loop, if at all.
        return [("epoch_timer", EpochTimer())]

    def notify(self, method_name: str, **cb_kwargs: Any) -> None:
        """Call the net's method and those callbacks' that have one of their own.

        A callback that raises KeyboardInterrupt, skorch's way to end training, ends it after the
        epoch at hand, or at once where it does so in the midst of one.
        """
        getattr(self, method_name)(self, **cb_kwargs)
        wants_end = False
        for callback in self._listeners(method_name):
            try:
                getattr(callback, method_name)(self, **cb_kwargs)
            except KeyboardInterrupt:
                if self.interrupts.seen:
                    raise
                wants_end = True
            except KeyError as error:
                if self.valid_batches is not None or "valid" not in str(error):
                    raise
                raise ValueError(
                    f"The callback {type(callback).__name__} needs losses of rows held out "
                    f"({error.args[0]}), and there are none; pass validation_fraction=0.1, or "
                    "X_val and y_val to fit."
                ) from error
        if wants_end:
            self.stop = True
            if method_name in ("on_batch_begin", "on_batch_end", "on_grad_computed"):
                if self.ranks is None:
                    raise StopTraining
                self.ranks.wants_end = True  # all ranks end together, at the next exchange

    def _listeners(self, method_name: str) -> list[Callback]:
        whose, known = self._known_listeners
        if whose is not self.callbacks_:
            known = {}
            self._known_listeners = self.callbacks_, known
        if method_name not in known:
            known[method_name] = [
                callback for _, callback in self.callbacks_ if _listens(callback, method_name)
            ]
        return known[method_name]

    def infer(self, x: dict[str, Any], **fit_params: Any) -> Tensor:
        """Return the logits of rows whose parts are prepared."""
        return self.module_.read(self.module_.represent(x))

    def get_iterator(
        self, dataset: Rows | StreamedRows, training: bool = False
    ) -> Batches | Windows:
        """Return batches that are prepared for the module."""
        batches = super().get_iterator(dataset, training=training)
        batches.prepare, batches.device = self.module_.prepare, self.device
        if training and self.ranks is not None:
            batches.share = self.ranks.rank, self.ranks.size
        return batches

    def evaluation_step(self, batch: Batch, training: bool = False) -> Tensor:
        """Return the logits of one batch."""
        with torch.set_grad_enabled(training):
            self._set_training(training)
            return self.infer(batch.parts)

    def initialize_history(self) -> "MultiTaskNet":
        """Begin an empty history."""
        self._best: dict[str, float] = {}
        return super().initialize_history()

    def initialize_module(self) -> "MultiTaskNet":
        """Take the module, and note which of its parameters several tasks move."""
        super().initialize_module()
        self.shared_parameters_ = list(self.module_.shared_parameters())
        shared = {id(p) for p in self.shared_parameters_}
        self.own_parameters_ = [p for p in self.module_.parameters() if id(p) not in shared]
        return self

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> "MultiTaskNet":
        """Build the optimizer, or name it where it does not take the network."""
        try:
            return super().initialize_optimizer(*args, **kwargs)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"`optimizer` is {self.optimizer.__name__}, which does not take the parameters of "
                f"this network ({error}); pass another one."
            ) from error

    def get_params_for_optimizer(self, prefix: str, named_parameters: Any) -> Any:
        """Return the optimizer's arguments: a group for each rate, and for what is not to decay.

        A group's ``factor`` is that of its learning rate.
        """
        (groups,), kwargs = super().get_params_for_optimizer(prefix, named_parameters)
        factors = {id(p): factor for p, factor in self.module_.rate_factors().items()}
        spared: set[int] = set()
        if kwargs.get("weight_decay"):
            spared = {id(p) for p in self.module_.undecayed_parameters()}
            spared |= {id(p) for p in self.criterion_.parameters()}
        elif not factors:
            return (groups,), kwargs
        (everything,) = (group["params"] for group in groups)
        kinds: dict[tuple[float, bool], list[Any]] = {(1.0, False): []}
        for p in everything:
            kinds.setdefault((factors.get(id(p), 1.0), id(p) in spared), []).append(p)
        made = []
        for (factor, is_spared), params in kinds.items():
            group: dict[str, Any] = {"params": params}
            if is_spared:
                group["weight_decay"] = 0.0
            if factor != 1.0:
                group |= {"lr": self.lr * factor, "factor": factor}
            made.append(group)
        return (made,), kwargs

    # Steps ------------------------------------------------------------------------------------

    def _sums(self, batch: Batch, representations: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the terms' sums and weights over a batch, its logits before the head and after."""
        tower_logits = self.module_.towers(representations)
        logits = self.module_.join(tower_logits)
        sums, weights = self.criterion_(tower_logits, logits, batch.target, batch.weight)
        return sums, weights, tower_logits, logits

    def _losses(
        self, batch: Batch, exchange: Exchange | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
        """Return losses, the terms' sums and weights, logits and number of rows of a batch."""
        sums, weights, _, logits = self._sums(batch, self.module_.represent(batch.parts))
        n_rows = batch.n_rows
        if exchange is not None:
            sums, weights, n_rows, _ = exchange.terms(sums, weights, n_rows)
        losses = self.criterion_.weigh(self.criterion_.estimate(sums, n_rows))
        return losses, sums, weights, logits, n_rows

    def train_step_single(self, batch: Batch, **fit_params: Any) -> dict[str, Any]:
        """Compute the gradients of one batch."""
        criterion, module, exchange = self.criterion_, self.module_, self.exchange
        h = module.represent(batch.parts)
        sums, weights, tower_logits, logits = self._sums(batch, h)
        penalty = _add(module.penalty(), criterion.penalty(tower_logits, logits, batch.weight))
        n_rows, complete = batch.n_rows, batch.weight is None
        if exchange is not None:
            sums, weights, n_rows, penalty = exchange.terms(sums, weights, n_rows, penalty)
            complete = False  # of the own share, and unknown of the others
        losses = criterion.weigh(criterion.estimate(sums, n_rows))
        joint, aside = criterion.balancer.takes_penalty, None
        if penalty is not None and not joint:
            # Before the balancer frees the graph; its own gradients add to these.
            penalty.backward(retain_graph=True)
            if exchange is not None:
                aside = exchange.take_gradients()
        step = Step(
            self.shared_parameters_,
            self.own_parameters_,
            h if module.one_representation else None,
            criterion.present(weights, complete=complete),
            penalty if joint else None,
            exchange,
        )
        loss = criterion.balancer.backward(losses, step)
        if exchange is not None:
            exchange.add_gradients(aside)
        if penalty is not None:
            loss = loss + penalty.detach()
        return {
            "loss": loss,
            "y_pred": logits,
            "losses": losses.detach(),
            "sums": sums.detach(),
            "weights": weights,
            "penalty": None if penalty is None else penalty.detach(),
            "n_rows": n_rows,
        }

    def train_step(self, batch: Batch, **fit_params: Any) -> dict[str, Any]:
        """Do one step of the optimizer, and let the balancer see what it did if it wants to."""
        result: dict[str, Any] = {}

        def closure() -> Tensor:
            self.optimizer_.zero_grad()
            result.update(self.train_step_single(batch, **fit_params))
            if self._listeners("on_grad_computed"):
                named = TeeGenerator(self.get_all_learnable_params())
                pair = batch.parts, batch.target
                self.notify("on_grad_computed", named_parameters=named, batch=pair, training=True)
            return result["loss"]

        self.optimizer_.step(closure)
        balancer = self.criterion_.balancer
        if balancer.step_hook:
            with torch.no_grad():
                losses, *_ = self._losses(batch, self.exchange)
            balancer.after_step(losses)
        return result

    @torch.no_grad()
    def validation_step(self, batch: Batch, **fit_params: Any) -> dict[str, Any]:
        """Compute the losses of one batch, without gradients."""
        exchange = None if self._hears_batches() else self.exchange
        losses, sums, weights, logits, n_rows = self._losses(batch, exchange)
        return {
            "loss": losses.sum(),
            "y_pred": logits,
            "losses": losses,
            "sums": sums,
            "weights": weights,
            "penalty": None,
            "n_rows": n_rows,
        }

    # Epochs -----------------------------------------------------------------------------------

    def _hears_batches(self) -> bool:
        """Whether a callback is told of every batch."""
        return bool(self._listeners("on_batch_begin") or self._listeners("on_batch_end"))

    def share_of_valid(self) -> Batches | Windows:
        """Return the rows held out to compute losses of: with several ranks the own share.

        All of them where a callback is told of every batch, which may collect predictions.
        """
        assert self.valid_batches is not None
        if self.ranks is None or self._hears_batches():
            return self.valid_batches
        batches = copy(self.valid_batches)
        batches.share = self.ranks.rank, self.ranks.size
        return batches

    @property
    def speaks(self) -> bool:
        """Whether to print: of several ranks the first one does."""
        return bool(self.verbose) and (self.ranks is None or self.ranks.rank == 0)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the connections to other processes."""
        return {**super().__getstate__(), "ranks": None, "exchange": None}

    def run_single_epoch(
        self,
        iterator: Batches | Windows | None,
        training: bool,
        prefix: str,
        step_fn: Callable[..., dict[str, Any]],
        **fit_params: Any,
    ) -> None:
        """Run one epoch of training or validation and record its losses."""
        if iterator is None:
            return
        self._set_training(training)
        history, balancer = self.history, self.criterion_.balancer
        tally = Tally(self, prefix)
        if training:
            self.tally, state, self.tally_state = tally, self.tally_state, None
            if state is not None:
                tally.set_state(state)
        heard = self._hears_batches()
        for batch in iterator:
            # What skorch's callbacks take a batch to be.
            pair = batch.parts, self._restore(batch.target) if heard else batch.target
            self.notify("on_batch_begin", batch=pair, training=training)
            step = step_fn(batch, **fit_params)
            history.record_batch(f"{prefix}_loss", tally.add(step, training))
            history.record_batch(f"{prefix}_batch_size", step["n_rows"])
            self.notify(
                "on_batch_end", batch=pair, training=training, loss=step["loss"],
                y_pred=step["y_pred"],
            )  # fmt: skip
        tally.look()
        tally.read_batches(history[-1]["batches"])
        history.record(f"{prefix}_batch_count", len(tally.sums))
        row = tally.row()
        best, now = self._best.get(prefix, math.inf), row[f"{prefix}_loss"]
        self._best[prefix] = min(best, now)
        history.record(f"{prefix}_loss_best", now < best)
        for name, value in row.items():
            history.record(name, value)
        if training:
            self.tally = None
            balancer.end_epoch(self.criterion_.weigh(tally.means().to(self.device)))
            weights = mean_weights(tally.balance)
            for term, mean in zip(self.criterion_.names, weights, strict=False):
                history.record(f"weight_{term}", mean)
            if len(tally.penalties):
                history.record("train_penalty", tally.penalty())

    def on_epoch_begin(self, net: Any, *args: Any, **kwargs: Any) -> None:
        """Begin a row of the history; of epochs before the last one batches are forgotten."""
        super().on_epoch_begin(net, *args, **kwargs)
        for row in self.history[-3:-2]:
            row["batches"] = []

    def validate(self) -> dict[str, float]:
        """Return the losses of the rows held out, as a row of the history has them."""
        assert self.valid_batches is not None
        self._set_training(False)
        tally = Tally(self, "valid")
        for batch in self.share_of_valid():
            tally.add(self.validation_step(batch), training=False)
        tally.look()
        return tally.row()

    def epochs(self, since: int = 0) -> list[dict[str, Any]]:
        """Return the numbers of the epochs from one on, without skorch's own bookkeeping."""
        hidden = ("train_batch_count", "valid_batch_count")
        return [
            {
                name: value
                for name, value in row.items()
                if name not in hidden and not isinstance(value, list | bool | str)
            }
            for row in self.history[since:]
        ]


def _add(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Add two penalties, either of which may be none."""
    return one if other is None else other if one is None else one + other


def _listens(callback: Callback, method_name: str) -> bool:
    """Whether a callback does anything in a method."""
    own = method_name in vars(callback)
    return own or getattr(type(callback), method_name, None) is not getattr(
        Callback, method_name, None
    )


def make_net(
    module: MultiTaskModule,
    criterion: Criterion,
    training: Training,
    generator: torch.Generator,
) -> MultiTaskNet:
    """Put module, criterion and training parameters into a net that is ready to train."""
    kind, options = find_optimizer(training)
    criterion.n_members = criterion.objective.n_members = module.n_members
    for block in module.embedding.values():
        block.choose_sparse(training.sparse_embeddings if may_be_sparse(training) else False)
    net = MultiTaskNet(
        module=module.to(training.dtype),
        criterion=criterion.to(training.dtype),
        optimizer=kind,
        lr=training.lr,
        batch_size=-1 if training.batch_size is None else training.batch_size,
        iterator_train=cut_batches,
        iterator_train__shuffle=True,
        iterator_train__generator=generator,
        iterator_valid=cut_batches,
        train_split=None,
        callbacks=list(training.callbacks),
        predict_nonlinearity=Blocks(criterion.objective.tasks),
        device=training.device,
        verbose=training.verbose,
        **{f"optimizer__{name}": value for name, value in options.items()},
    )
    net.settings = training
    return net.initialize()

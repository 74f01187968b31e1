"""A training run: some epochs over rows, from its begin to its end."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from sk_mtl._training.budget import ClipNorm, make_schedule
from sk_mtl._training.callbacks import EpochHook, EpochLine, KeepLast
from sk_mtl._training.checkpoint import Checkpointer
from sk_mtl._training.exchange import Exchange, SharedCounts
from sk_mtl._training.memory import keep_memory
from sk_mtl._training.net import MultiTaskNet
from sk_mtl._training.signals import Interrupts, NonFiniteLossError, StopTraining
from sk_mtl._training.snapshot import Snapshot
from sk_mtl._training.tally import causes
from sk_mtl.data.rows import Batches, Rows
from sk_mtl.data.windows import StreamedRows
from sk_mtl.nn import MultiTaskModule
from sk_mtl.tasks import logit_slices

PREDICT_ROWS = 4096
"""Rows per batch of a prediction."""


def fit_epochs(
    net: MultiTaskNet,
    rows: Rows | StreamedRows,
    valid: Rows | StreamedRows | None,
    epochs: int,
    hook: EpochHook | None = None,
    *,
    keeps: bool = True,
    checkpointer: Checkpointer | None = None,
) -> KeyboardInterrupt | None:
    """Train for some epochs, every random number drawn from generators of the net's own.

    Parameters
    ----------
    net : MultiTaskNet
        An initialized net that nobody else uses; training goes on from where it stands.
    rows, valid : Rows or StreamedRows
        Rows to train on, and rows held out or None.
    epochs : int
        Number of epochs at most.
    hook : EpochHook, optional
        What to call back in this run only.
    keeps : bool, default=True
        Whether the C library is to keep memory while the run lasts.
    checkpointer : Checkpointer, optional
        Where the run's state is kept, and the state to go on from.

    Returns
    -------
    KeyboardInterrupt or None
        The Ctrl-C that ended the run, after an epoch or more: the net is as the last whole epoch
        left it.

    Raises
    ------
    KeyboardInterrupt
        After a Ctrl-C in the first epoch.
    NonFiniteLossError
        If a loss, a weight or a prediction is not finite.
    """
    embedding, last = net.module_.embedding, KeepLast(epochs)
    net.criterion_.count(rows, net.device)
    rows.show(embedding.count)
    if checkpointer is not None and checkpointer.finished:
        checkpointer.restore_end(net)
        net.module_.eval()
        return None
    more = [] if hook is None else [("begin", hook)]
    n_steps = epochs * len(net.get_iterator(rows, training=True))
    rates = [net.lr * group.get("factor", 1.0) for group in net.optimizer_.param_groups]
    schedule = make_schedule(net.settings.lr_schedule, rates, n_steps, valid is not None)
    interrupt = None
    with _run(net, rows, valid, [*more, *net.callbacks_, *schedule, ("last", last)], keeps=keeps):
        if checkpointer is not None:
            checkpointer.begin(net, last, schedule[0][1] if schedule else None)
        net.notify("on_train_begin", X=rows, y=None)
        try:
            _epochs(net, rows, valid, epochs, checkpointer)
        except StopTraining:
            pass
        except KeyboardInterrupt as error:
            # Of several ranks one may be in another epoch than the others.
            if last.done == 0 or net.ranks is not None:
                raise
            last.go_back(net)
            interrupt = error
        del net.history[last.done :]  # an epoch that was not ended does not count
        net.notify("on_train_end", X=rows, y=None)
    embedding.settle()
    net.module_.eval()
    check_finite(net, rows)
    if checkpointer is not None and interrupt is None:
        checkpointer.end(net)
    return interrupt


def fit_further(
    net: MultiTaskNet, rows: Rows, statistics: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Train one epoch on further rows of a stream.

    The cost depends on the rows, not on the size of tables with sparse gradients. If it raises,
    the net is as it was.

    Parameters
    ----------
    net : MultiTaskNet
        An initialized net; it is changed in place.
    rows : Rows
        The rows.
    statistics : mapping of str to mapping, optional
        What blocks are to take over before, by name: see `sk_mtl.nn.Block.set_statistics`.
    """
    module, criterion = net.module_, net.criterion_
    slots = module.embedding.touched(rows.parts)
    before = Snapshot(net, slots)
    seen, n_epochs = (criterion.total_weight, criterion.n_rows), len(net.history)
    module.embedding.begin(rows.parts)
    try:
        module.embedding.set_statistics(statistics or {})
        criterion.count(rows, net.device, goes_on=True)
        with _run(net, rows, None, net.callbacks_, keeps=False):
            net.notify("on_train_begin", X=rows, y=None)
            try:
                _epochs(net, rows, None, 1)
            except StopTraining:
                net.history.pop()
            net.notify("on_train_end", X=rows, y=None)
        module.eval()
        check_finite(net, rows, slots)
    except BaseException:
        before.restore(net)
        module.embedding.settle()
        module.eval()
        criterion.total_weight, criterion.n_rows = seen
        del net.history[n_epochs:]
        raise
    module.embedding.count(rows.parts)
    module.embedding.settle()


@contextmanager
def _run(
    net: MultiTaskNet,
    rows: Rows | StreamedRows,
    valid: Rows | StreamedRows | None,
    callbacks: list[Any],
    *,
    keeps: bool,
) -> Iterator[None]:
    """Set up what holds for one run only."""
    usual = net.callbacks_
    if net.ranks is not None:
        net.exchange = Exchange(
            net.ranks, net.module_, net.criterion_.objective, _sparse_parameters(net, rows)
        )
    if net.settings.clip_norm is not None:
        callbacks = [*callbacks, ("clip", ClipNorm(net.settings.clip_norm))]
    if net.speaks:
        callbacks = [*callbacks, ("line", EpochLine())]
    net.callbacks_, net.stop = callbacks, False
    net.valid_batches = None if valid is None else net.get_iterator(valid)
    seed = int(torch.randint(2**62, (), generator=net.iterator_train__generator))
    # Each rank drops out units of its own rows.
    net.noise = torch.Generator(net.device).manual_seed(seed + (net.ranks.rank if net.ranks else 0))
    net.module_.set_generator(net.noise)
    try:
        with keep_memory() if keeps else nullcontext(), Interrupts() as net.interrupts:
            yield
    finally:
        net.optimizer_.zero_grad(set_to_none=True)  # of no use to anyone any more
        if net.settings.lr_schedule != "constant":
            for group in net.optimizer_.param_groups:
                # A stream goes on from where the schedule began.
                group["lr"] = net.lr * group.get("factor", 1.0)
        net.module_.set_generator(None)
        net.noise = net.tally = net.tally_state = None
        net.callbacks_, net.valid_batches, net.stand_in = usual, None, None
        net.exchange = net.ranks = None


def _sparse_parameters(net: MultiTaskNet, rows: Rows | StreamedRows) -> set[str]:
    """Return the names of the parameters that have sparse gradients."""
    return set(net.module_.embedding.touched(rows.head()[:1].parts))


def _epochs(
    net: MultiTaskNet,
    rows: Rows | StreamedRows,
    valid: Rows | StreamedRows | None,
    epochs: int,
    checkpointer: Checkpointer | None = None,
) -> None:
    """Run epochs until their number is reached or a callback wants to stop."""
    data = {"dataset_train": rows, "dataset_valid": valid}
    batches = net.get_iterator(rows, training=True)
    done = 0 if checkpointer is None else checkpointer.go_on(batches)
    counts = None
    if net.ranks is not None and isinstance(rows, StreamedRows) and rows.shown is not None:
        counts = SharedCounts(net.ranks, net.module_.embedding.counted())
    for _ in range(done, epochs):
        if net.stop:
            return
        net.notify("on_epoch_begin", **data)
        if checkpointer is not None:
            checkpointer.epoch_begin()
        net.run_single_epoch(batches, training=True, prefix="train", step_fn=net.train_step)
        if counts is not None:  # each rank has counted the rows that it read
            counts.add_up()
            counts = None
        if valid is not None:
            net.module_.embedding.settle()
            net.run_single_epoch(
                net.share_of_valid(), training=False, prefix="valid", step_fn=net.validation_step
            )
        if net.exchange is not None:
            net.exchange.end_pass()
        net.notify("on_epoch_end", **data)
        if net.ranks is not None:
            net.stop = net.ranks.any(net.stop)
        if checkpointer is not None:
            checkpointer.epoch_end()


def check_finite(
    net: MultiTaskNet, rows: Rows | StreamedRows, slots: dict[str, Tensor] | None = None
) -> None:
    """Refuse a network whose weights or predictions a last step has made infinite.

    Parameters
    ----------
    net : MultiTaskNet
        The net, in evaluation mode.
    rows : Rows
        Rows to predict, some of them.
    slots : dict of str to Tensor, optional
        The only slots of parameters to look at, by name.

    Raises
    ------
    NonFiniteLossError
        If one is NaN or infinite.
    """
    end = f"after epoch {len(net.history)}. {causes(net)}"
    for name, parameter in net.module_.named_parameters():
        part = parameter.detach()
        if slots is not None and name in slots:
            part = part[slots[name]]
        if part.numel() and not torch.stack(part.aminmax()).isfinite().all():
            raise NonFiniteLossError(f"The weights {name!r} are NaN or infinite {end}")
    rows = rows.head()
    some = Batches(rows, min(PREDICT_ROWS, rows.chunk_rows), device=net.device)
    some.prepare = net.module_.prepare
    with torch.inference_mode():
        logits = net.module_.split_members(net.infer(next(iter(some)).parts))
    tasks = net.criterion_.objective.tasks
    for task, where in zip(tasks, logit_slices(tasks), strict=True):
        if not logits[:, where].isfinite().all():
            raise NonFiniteLossError(
                f"The predictions of task {task.name!r} are NaN or infinite {end}"
            )


def predict_logits(module: MultiTaskModule, rows: Rows, method: str = "forward") -> Tensor:
    """Return the float64 logits of all rows, (n, L), on the CPU, with the module in eval mode."""
    if module.training:  # walking through all submodules takes longer than a small one's forward
        module.eval()
    function = getattr(module, method)
    with torch.inference_mode():
        n = len(rows)
        if n == 1:  # one row, the case where every microsecond is a share
            return function(**rows[:].parts).cpu().to(torch.float64)
        logits, start = None, 0
        for batch in Batches(rows, min(PREDICT_ROWS, rows.chunk_rows)):
            part = function(**batch.parts).cpu()
            # One array for all: small results kept between large temporary tensors would keep the
            # memory of these from being used again.
            if logits is None:
                logits = torch.empty(n, part.shape[1], dtype=torch.float64)
            logits[start : start + len(part)] = part
            start += len(part)
        assert logits is not None
        return logits

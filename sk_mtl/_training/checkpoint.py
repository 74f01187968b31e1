"""Where a training run stands, and how it goes on from there with the same bits."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sk_mtl._training.callbacks import KeepLast, RestoreBest
from sk_mtl._training.net import MultiTaskNet
from sk_mtl._training.progress import find_progress, set_progress
from sk_mtl.data.rows import Batches
from sk_mtl.data.windows import Position, Windows

WINDOW_SECONDS = 30.0
"""Seconds between two checkpoints within an epoch, at least."""

WRITING_SHARE = 20.0
"""Training takes at least so many times as long as writing, within an epoch."""


class Checkpointer:
    """Hand on a run's state after every epoch and now and then within one; go on from one.

    Parameters
    ----------
    write : callable
        ``write(state)`` keeps a state: a dict of dicts, lists, tensors, arrays, numbers and
        strings, which are the net's own and are to be copied.
    found : dict, optional
        The state to go on from.

    Attributes
    ----------
    finished : bool
        Whether that state is the end of a run.
    """

    def __init__(
        self, write: Callable[[dict[str, Any]], None], found: dict[str, Any] | None = None
    ) -> None:
        self.write, self.found = write, found
        self.finished = found is not None and found["finished"]
        self._written, self._cost = time.monotonic(), 0.0

    def begin(self, net: MultiTaskNet, last: KeepLast, schedule: Any) -> None:
        """Take note of what the run consists of; give the net the state that was found, if any.

        Parameters
        ----------
        net : MultiTaskNet
            The net, whose run has been set up.
        last : KeepLast
            The run's own copy of the last epoch.
        schedule : skorch callback or None
            What moves the learning rate.
        """
        self.net, self.last, self.schedule = net, last, schedule
        self.best = next((c for _, c in net.callbacks_ if isinstance(c, RestoreBest)), None)
        if self.found is not None:
            set_net(net, self.found["net"])

    def go_on(self, batches: Batches | Windows) -> int:
        """Give the run's own callbacks their state, and return how many epochs are done.

        Call it after the callbacks have begun: they look at the history and forget the rest.
        """
        self.batches = batches
        if isinstance(batches, Windows):
            batches.window_end = self.window_end
        found, self.found = self.found, None
        if found is None:
            return 0
        set_groups(self.net, found["net"]["groups"])  # schedules begin by setting rates
        own = found["callbacks"]
        self.last.set_state(self.net, own["last"])
        if self.best is not None:
            self.best.set_state(self.net, own["best"])
        if self.schedule is not None:
            self.schedule.lr_scheduler_.load_state_dict(own["schedule"])
            self.schedule.batch_idx_ = own["batch_idx"]
        if found["order"] is not None:
            assert batches.generator is not None
            batches.generator.set_state(found["order"])
        self._amid = found["amid"]
        if isinstance(batches, Windows) and found["epochs"] > 0:
            batches.rows.shown = None  # the first epoch has counted all rows
        self.net.stop = found["stop"]
        if self.net.speaks:
            done = found["epochs"]
            where = f"within epoch {done + 1}" if self._amid else f"after epoch {done}"
            print(f"Resumed {where}.")
        return found["epochs"]

    _amid: dict[str, Any] | None = None

    def epoch_begin(self) -> None:
        """Go on in the midst of an epoch, if the state found is from there."""
        amid, self._amid = self._amid, None
        if amid is None:
            return
        row = self.net.history[-1]
        row.update(amid["row"])
        row["batches"] = rows_of(amid["batches"])
        self.net.tally_state = amid["tally"]
        self.batches.next_pass = Position(*amid["position"])  # type: ignore[union-attr]

    def window_end(self) -> None:
        """Hand on the state in the midst of an epoch, unless it has just been done.

        Several ranks do so together, when the first one finds it is time; in the first epoch they
        do not, since each has counted its own rows then.
        """
        net, batches = self.net, self.batches
        assert isinstance(batches, Windows)
        waited = time.monotonic() - self._written
        is_time = waited >= max(WINDOW_SECONDS, WRITING_SHARE * self._cost)
        if net.ranks is not None:
            if batches.rows.shown is not None:
                return
            is_time = net.ranks.any(is_time and net.ranks.rank == 0)
        if not is_time:
            return
        tally = net.tally
        assert batches.position is not None
        assert tally is not None
        tally.look()
        row = {name: value for name, value in net.history[-1].items() if name != "batches"}
        self._hand_on(
            {
                "position": list(batches.position),
                "row": row,
                "batches": columns_of(net.history[-1]["batches"]),
                "tally": tally.get_state(),
            }
        )

    def epoch_end(self) -> None:
        """Hand on the state after an epoch."""
        self._hand_on(None)

    def _hand_on(self, amid: dict[str, Any] | None) -> None:
        net, start = self.net, time.monotonic()
        generator = self.batches.generator
        is_own = generator is not None and generator is not net.iterator_train__generator
        own: dict[str, Any] = {"last": self.last.get_state(net, is_now=amid is None)}
        if self.best is not None:
            own["best"] = self.best.get_state(net)
        if self.schedule is not None:
            own["schedule"] = self.schedule.lr_scheduler_.state_dict()
            own["batch_idx"] = self.schedule.batch_idx_
        whole = len(net.history) - (amid is not None)
        self.write(
            {
                "finished": False,
                "epochs": whole,
                "stop": net.stop,
                "net": get_net(net, whole),
                "callbacks": own,
                "order": generator.get_state() if generator is not None and is_own else None,
                "amid": amid,
            }
        )
        self._written = time.monotonic()
        self._cost = self._written - start

    def end(self, net: MultiTaskNet) -> None:
        """Hand on the state after the run."""
        epochs = len(net.history)
        state = {"finished": True, "epochs": epochs, "stop": net.stop, "net": get_net(net, epochs)}
        self.write(state)

    def restore_end(self, net: MultiTaskNet) -> None:
        """Give a net the state at the end of the run that was found."""
        assert self.found is not None
        set_net(net, self.found["net"])
        net.stop, self.found = self.found["stop"], None


def get_net(net: MultiTaskNet, epochs: int) -> dict[str, Any]:
    """Return the state of a net and of what it consists of, its history up to some epochs."""
    noise = [None if net.noise is None else net.noise.get_state()]
    if net.ranks is not None:
        noise = net.ranks.gather_objects(noise[0])
    return {
        **find_progress(net),
        "weights": net.module_.state_dict(),
        "objective": net.criterion_.objective.state_dict(),
        "groups": [_without_params(group) for group in net.optimizer_.param_groups],
        "noise": noise,
        "best": net._best,
        "history": [
            {name: value for name, value in row.items() if name != "batches"}
            for row in net.history[:epochs]
        ],
    }


def set_net(net: MultiTaskNet, state: Mapping[str, Any]) -> None:
    """Undo `get_net`."""
    net.module_.load_state_dict(state["weights"])
    net.criterion_.objective.load_state_dict(state["objective"])
    set_progress(net, dict(state))
    set_groups(net, state["groups"])
    if net.noise is not None:
        net.noise.set_state(state["noise"][0 if net.ranks is None else net.ranks.rank].cpu())
    net._best = dict(state["best"])
    del net.history[:]
    net.history.extend({**row, "batches": []} for row in state["history"])


def set_groups(net: MultiTaskNet, groups: list[dict[str, Any]]) -> None:
    """Give the optimizer's groups of parameters their learning rates and other numbers back."""
    for group, found in zip(net.optimizer_.param_groups, groups, strict=True):
        group.update(found)


def _without_params(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}


def columns_of(batches: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what was recorded of batches, as columns: many numbers are best kept as an array.

    A column that some batches lack is NaN there.
    """
    names = dict.fromkeys(name for batch in batches for name in batch)
    return {name: np.array([float(batch.get(name, np.nan)) for batch in batches]) for name in names}


def rows_of(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Undo `columns_of`."""
    names = list(columns)
    found = zip(*(values.tolist() for values in columns.values()), strict=True)
    rows = [
        {name: value for name, value in zip(names, row, strict=True) if value == value}
        for row in found
    ]
    for row in rows:
        row.update({name: int(row[name]) for name in row if name.endswith("_batch_size")})
    return rows


def optimizer_example(net: MultiTaskNet) -> dict[str, Any]:
    """Return what the net's optimizer remembers after two steps on a parameter of four entries.

    Raises
    ------
    ValueError
        If it remembers something outside the state of its parameters and their groups, which
        could not be found again.
    """
    p = nn.Parameter(torch.ones(2, 2, dtype=net.settings.dtype))
    args, kwargs = net.get_params_for_optimizer("optimizer", [("p", p)])
    optimizer = net.optimizer(*args, **kwargs)
    before = _numbers(optimizer)
    for _ in range(2):
        p.grad = torch.ones_like(p)
        optimizer.step()
    moved = [name for name, value in _numbers(optimizer).items() if before.get(name) != value]
    others = [key for key in optimizer.state if not isinstance(key, Tensor)]
    if moved or others:
        raise ValueError(f"it remembers {[*moved, *others][0]!r} outside its parameters' states")
    groups = [_without_params(group) for group in optimizer.param_groups]
    return {"state": optimizer.state.get(p, {}), "groups": groups}


def _numbers(optimizer: Any) -> dict[str, Any]:
    kinds = (int, float, str)
    return {
        name: value
        for name, value in vars(optimizer).items()
        if isinstance(value, kinds) and not name.startswith("_")
    }

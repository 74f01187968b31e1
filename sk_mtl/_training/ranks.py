"""Several processes that train one network together: what they say to each other.

The processes ("ranks") are those of a group of `torch.distributed` that the script has set up, or
of torchrun. Every fit has connections of its own, so that an error can take them down without harm
to the script's group.
"""

import ctypes
import itertools
import os
import pickle
import re
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing import current_process
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sk_mtl._training.signals import RankError

SLICE = timedelta(seconds=1)
"""How long a rank waits for the others before it looks for errors and for a Ctrl-C."""

BEAT = 2.0
"""Seconds between two signs of life in the store."""

SILENCE = 300
"""Beats without a sign of life after which a rank counts as lost: ten minutes.

A process that ends closes its connections, and the others know at once. Silence is the sign of a
machine or a network that is lost. The limit is high because a process that works on, but does not
let Python's threads run, is silent too.
"""

REMIND = 60.0
"""Seconds after which a rank that waits for others to come to `fit` says for whom."""

FOREVER = timedelta(days=365)
"""Time limit of a single exchange: the others may be busy for hours."""

_fits = itertools.count()
_inherited: Any = None
_stores: list[tuple[Any, int, int]] = []
_beside: list[tuple[Any, Any]] = []


def _note_fork() -> None:
    """Remember the group of a parent process, whose connections a forked child must not use."""
    global _inherited
    _inherited = dist.group.WORLD if dist.is_available() and dist.is_initialized() else None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def find_ranks() -> tuple[Any, int, int] | None:
    """Return the store of the processes that are to train together, the own rank, and their number.

    These are the processes of the default group of `torch.distributed` if there is one, else those
    that torchrun has started. None where there is one process only: without either, in processes
    that a rank has started (such as joblib's), and in threads beside the main one, whose fits
    could come in another order on every rank.
    """
    if not dist.is_available() or threading.current_thread() is not threading.main_thread():
        return None
    if dist.is_initialized():
        if dist.group.WORLD is _inherited or dist.get_world_size() == 1:
            return None
        store = dist.distributed_c10d._get_default_store()
        return store, dist.get_rank(), dist.get_world_size()
    if not dist.is_torchelastic_launched() or int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return None
    if current_process().name != "MainProcess":
        return None
    if not _stores:  # once per process: rank 0 may keep the store itself
        _stores.append(next(iter(dist.rendezvous("env://"))))
    return _stores[0]


@contextmanager
def join_ranks() -> Iterator["Ranks | None"]:
    """Meet the other processes for one fit; yield None where there are none.

    An error in the block is told to the others, who then fail with a `RankError` that carries it.
    """
    found = find_ranks()
    if found is None:
        yield None
        return
    store, rank, size = found
    prefix = f"sk_mtl/{next(_fits)}"
    beside = dist.PrefixStore(prefix, _connection_beside(store))
    ranks = Ranks(dist.PrefixStore(prefix, store), rank, size, beside)
    try:
        ranks.meet()
        yield ranks
    except BaseException as error:
        ranks.fail(error)
        raise
    finally:
        ranks.close()


def _connection_beside(store: Any) -> Any:
    """Return another connection to a store, which serves one call of a connection at a time.

    One for all fits: some connections take five seconds to make (torch 2.13).
    """
    if not _beside or _beside[0][0] is not store:
        _beside[:] = [(store, store.clone())]
    return _beside[0][1]


class Ranks:
    """The processes of one fit.

    Every method but `check`, `fail` and `close` must be called by all ranks, in the same order.

    Parameters
    ----------
    store : torch.distributed.Store
        Where ranks leave notes, of this fit alone.
    rank : int
        Number of this process, from 0 on.
    size : int
        Number of processes.
    beside : torch.distributed.Store
        The same store by a connection of its own, for the thread that watches.

    Attributes
    ----------
    wants_end : bool
        Whether this rank wants training to end at once; the others learn it at the next step.
    """

    def __init__(self, store: Any, rank: int, size: int, beside: Any) -> None:
        self.store, self.rank, self.size = store, rank, size
        self.wants_end = False
        self.watch = Watch(beside, rank, size)
        self._groups: dict[str, Any] = {}
        self._pending: Any = None

    # Begin and end ------------------------------------------------------------------------------

    def meet(self) -> None:
        """Wait until all ranks have come, and connect with them.

        There is no time limit, since one of them may have data to read before. From a minute on a
        warning says who is missing.
        """
        names = [f"here/{r}" for r in range(self.size)]
        self.store.set(names[self.rank], "1")
        start, pause, reminded = time.monotonic(), 1e-3, False
        while not self.store.check(names):
            if not reminded and time.monotonic() - start > REMIND:
                missing = [r for r, name in enumerate(names) if not self.store.check([name])]
                warnings.warn(
                    f"Rank {self.rank} of {self.size} waits in fit for rank "
                    f"{', '.join(map(str, missing))}: every process of the group is to call fit.",
                    UserWarning,
                    stacklevel=2,
                )
                reminded = True
            time.sleep(pause)
            pause = min(2 * pause, 0.1)
        self._groups["cpu"] = self._connect("gloo")
        self.watch.start()

    def _connect(self, kind: str) -> Any:
        store = dist.PrefixStore(kind, self.store)
        if kind == "nccl":
            options = dist.ProcessGroupNCCL.Options()
            options._timeout = FOREVER
            return dist.ProcessGroupNCCL(store, self.rank, self.size, options)
        return dist.ProcessGroupGloo(store, self.rank, self.size, FOREVER)

    def part(self) -> None:
        """Wait until all ranks have come to the end: whoever closes first would disturb others."""
        self.store.add("done", 1)
        pause = 1e-4
        while int(self.store.add("done", 0)) < self.size:
            self.check()
            time.sleep(pause)
            pause = min(2 * pause, 0.1)

    def fail(self, error: BaseException) -> None:
        """Tell the others of an error; the first one told counts."""
        if self.watch.failure is None:
            # Without a store to write to, the others learn it by the connections closed.
            with _silenced():
                self.store.compare_set("failed", "", _note(self.rank, error))
                if self.rank > 0:
                    self.store.add("heard", 1)  # it may have met the same error as rank 0
                elif not dist.is_torchelastic_launched():
                    self._wait_until_heard()

    def _wait_until_heard(self) -> None:
        """Give the others time to read the note: the store may end with this process."""
        end = time.monotonic() + 2 * BEAT
        while int(self.store.add("heard", 0)) < self.size - 1 and time.monotonic() < end:
            time.sleep(0.05)

    def close(self) -> None:
        """Close the connections."""
        self.watch.stop()
        if self._pending is not None and not self._pending.is_completed():
            # The destructor would wait for the exchange, for ever, and hold Python's lock.
            for group in self._groups.values():
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(group))
        self._pending = None
        self._groups.clear()

    def check(self) -> None:
        """Raise the error of another rank, if there is one."""
        failure = self.watch.look()
        if failure is not None:
            raise RankError(failure)

    # Exchanges ----------------------------------------------------------------------------------

    def _group(self, tensor: Tensor) -> Any:
        """Return the connections for a tensor's device: NCCL's on GPUs (untested), else gloo's."""
        kind = tensor.device.type
        if kind not in self._groups:
            has_nccl = kind == "cuda" and dist.is_nccl_available()
            self._groups[kind] = self._connect("nccl") if has_nccl else self._groups["cpu"]
        return self._groups[kind]

    def _wait(self, work: Any, tensor: Tensor) -> None:
        """Wait for an exchange, with an eye on errors of others and on Ctrl-C."""
        self._pending = work
        if tensor.device.type == "cuda" and self._group(tensor) is not self._groups["cpu"]:
            work.wait()  # queues it on the GPU, and does not wait here
            self.check()
            return
        while True:
            try:
                work.wait(SLICE)
                return
            except RuntimeError as error:
                if work.is_completed() and not _succeeded(work):
                    raise RankError(self.watch.find_lost(error)) from error
            self.check()

    def sum(self, tensor: Tensor) -> Tensor:
        """Add up a tensor over the ranks, in place; all get the same bits."""
        self._wait(self._group(tensor).allreduce([tensor]), tensor)
        return tensor

    def sum_all(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Add up several tensors of one type over the ranks, in one exchange: new tensors."""
        if not tensors:
            return []
        flat = self.sum(torch.cat([tensor.detach().reshape(-1) for tensor in tensors]))
        parts = flat.split([tensor.numel() for tensor in tensors])
        return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

    def gather(self, *tensors: Tensor) -> list[list[Tensor]]:
        """Return every rank's tensors, all (n, ...) with the same n, which differs between ranks.

        Returns
        -------
        list of lists
            For each tensor, those of all ranks, in their order.
        """
        device = tensors[0].device
        counts = torch.zeros(self.size, dtype=torch.int64, device=device)
        counts[self.rank] = len(tensors[0])
        lengths = self.sum(counts).tolist()
        found = []
        for tensor in tensors:
            # Gloo gathers tensors of one size only.
            own = tensor.new_zeros(max(lengths), *tensor.shape[1:])
            own[: len(tensor)] = tensor.detach()
            everyone = [torch.empty_like(own) for _ in range(self.size)]
            if own.numel():
                self._wait(self._group(own).allgather([everyone], [own]), own)
            found.append([part[:n] for part, n in zip(everyone, lengths, strict=True)])
        return found

    def broadcast(self, tensor: Tensor) -> Tensor:
        """Overwrite a tensor with rank 0's, which has the same shape."""
        options = dist.BroadcastOptions()
        options.rootRank, options.rootTensor = 0, 0
        self._wait(self._group(tensor).broadcast([tensor], options), tensor)
        return tensor

    def broadcast_object(self, value: Any = None) -> Any:
        """Return rank 0's object, whatever the others pass; pickled between our own processes."""
        data = pickle.dumps(value) if self.rank == 0 else b""
        length = self.broadcast(torch.tensor([len(data)]))
        buffer = torch.zeros(int(length), dtype=torch.uint8)
        if self.rank == 0:
            buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        self.broadcast(buffer)
        return value if self.rank == 0 else pickle.loads(buffer.numpy().tobytes())

    def gather_objects(self, value: Any) -> list[Any]:
        """Return every rank's object, in the order of the ranks."""
        own = torch.frombuffer(bytearray(pickle.dumps(value)), dtype=torch.uint8)
        (everyone,) = self.gather(own)
        return [pickle.loads(part.numpy().tobytes()) for part in everyone]

    def any(self, wish: bool) -> bool:
        """Return whether a rank has a wish."""
        return bool(self.sum(torch.tensor([float(wish)])).item())

    def check_same(self, facts: Mapping[str, Any]) -> None:
        """Refuse facts that differ between the ranks.

        Raises
        ------
        ValueError
            On every rank, with the first fact that differs.
        """
        everyone = self.gather_objects(dict(facts))
        for name in facts:
            values = [known.get(name) for known in everyone]
            if any(value != values[0] for value in values):
                who = next(r for r, value in enumerate(values) if value != values[0])
                raise ValueError(
                    f"{name} differs between processes: {values[0]} on rank 0 and {values[who]} "
                    f"on rank {who}. Pass the same parameters and the same rows in every process: "
                    "fit shares the rows among them by itself."
                )


class Watch:
    """A thread that gives signs of life, and looks for errors and the silence of others.

    Parameters
    ----------
    store, rank, size
        As in `Ranks`, the store by a connection that nobody else uses.

    Attributes
    ----------
    failure : str or None
        What has gone wrong elsewhere.
    """

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self.store, self.rank, self.size = store, rank, size
        self.failure: str | None = None
        self.names = [f"beat/{r}" for r in range(size)]
        self.beats, self.silent, self.looks = [b""] * size, [0] * size, 0
        self._ends, self._seen = threading.Event(), time.monotonic()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name="sk_mtl ranks", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._ends.set()
        if self._thread is not None:
            self._thread.join(timeout=2 * BEAT)

    def look(self) -> str | None:
        """Return what has gone wrong elsewhere."""
        if self.failure is None and time.monotonic() - self._seen > SILENCE * BEAT:
            return "The store of the process group no longer answers: its machine may be lost."
        return self.failure

    def _run(self) -> None:
        for beat in itertools.count(1):
            try:
                self._beat(beat)
            except RuntimeError as error:
                if not self._ends.is_set():
                    self.failure = (
                        "The store of the process group no longer answers: the process that keeps "
                        f"it, rank 0 or torchrun, has ended ({_first_line(error)})."
                    )
                return
            if self.failure is not None or self._ends.wait(BEAT):
                return

    def _beat(self, beat: int) -> None:
        self.store.set(self.names[self.rank], str(beat))
        if self.store.check(["failed"]):
            rank, text = self.store.get("failed").decode().split("\n", 1)
            if int(rank) != self.rank:
                self.failure = f"Rank {rank} of {self.size} has failed: {text}"
                self.store.add("heard", 1)
            return
        known = [name for name in self.names if self.store.check([name])]
        now = dict(zip(known, self.store.multi_get(known), strict=True))
        for r, name in enumerate(self.names):
            moves = now.get(name, b"") != self.beats[r]
            self.beats[r], self.silent[r] = now.get(name, b""), 0 if moves else self.silent[r] + 1
        self._seen, self.looks = time.monotonic(), self.looks + 1
        lost = [r for r, n in enumerate(self.silent) if n >= SILENCE]
        if lost:
            self.failure = (
                f"Rank {', '.join(map(str, lost))} of {self.size} has given no sign of life for "
                f"{SILENCE * BEAT / 60:.0f} minutes: its machine or the network may be lost."
            )

    def find_lost(self, error: BaseException) -> str:
        """Return what is to be said after a connection has broken: why, or at least who it was."""
        if self._thread is None:
            return f"The connection to another process has broken ({_first_line(error)})."
        # A rank that fails leaves its note first; one that was killed falls silent: the first of
        # some looks may find its last beat, the others do not.
        start, waited = self.looks, 0
        while self.looks < start + 4 and waited < 10:
            self._thread.join(timeout=BEAT)
            waited += 1
            if self.failure is not None:
                return self.failure
        silent = [r for r in range(self.size) if self.silent[r] >= 3 and r != self.rank]
        who = f"Rank {', '.join(map(str, silent))}" if silent else "Another rank"
        return (
            f"{who} of {self.size} has ended without a word, as a process does that is killed or "
            f"runs out of memory ({_first_line(error)})."
        )


def _succeeded(work: Any) -> bool:
    """Whether an exchange that has ended has come to its end."""
    try:
        work.wait()
    except RuntimeError:
        return False
    return True


@contextmanager
def _silenced() -> Iterator[None]:
    """Pass over a store that no longer answers."""
    try:
        yield
    except RuntimeError as error:
        print(f"sk_mtl: {_first_line(error)}", file=sys.stderr)


def _first_line(error: BaseException) -> str:
    text = str(error).partition("\n")[0]
    return re.sub(r"^\[\S*\] ", "", text).partition(". ")[0][:200]  # without torch's file and line


def _note(rank: int, error: BaseException) -> str:
    text = str(error)
    if not isinstance(error, RankError):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"{rank}\n{text}"

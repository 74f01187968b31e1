"""Checkpoints of a fit: their files, whose they are, and which one to go on from."""

import hashlib
import json
import os
import re
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from errno import ENOTDIR
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sk_mtl._files import TEMPORARY, digest, locked, need_package, read_tensors, write_whole
from sk_mtl._forms import from_json, to_json
from sk_mtl._training import Checkpointer, Ranks, optimizer_example
from sk_mtl._version import __version__

FORMAT = 1
"""Version of what is in a checkpoint."""

KEPT = 2
"""Checkpoints that stay: if the disk spoils the last one, the one before is there."""

NAME = re.compile(r"checkpoint-(\d+)\.safetensors")
LOCK = ".lock"

FREE = ("callbacks", "verbose", "checkpoint", "resume", "warm_start", "device")
"""Parameters that may differ between the fit that wrote a checkpoint and one that goes on."""

ANY_LENGTH = ("constant", "plateau")
"""Schedules of the learning rate that do not depend on the number of epochs."""

LONG_TEXT = 200
"""Characters of a parameter that are kept as they are; of longer ones a checksum is."""


class CheckpointError(ValueError):
    """Checkpoints that a fit cannot go on from: broken, of another fit, or being written."""


class Found(NamedTuple):
    """A checkpoint that was read: its file, whose it is, the seed of its fit, and its state."""

    path: Path
    fingerprint: dict[str, str]
    seed: int
    state: dict[str, Any]


class CheckpointFolder:
    """The files of checkpoints, the last two; no other fit writes there meanwhile.

    Parameters
    ----------
    path : Path
        The folder, which is there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept: list[Path] = []

    def sweep(self) -> None:
        """Remove what a fit that was killed had half written."""
        self._remove(self.path.glob(f"*{TEMPORARY}"))

    def files(self) -> list[tuple[int, Path]]:
        """Return the checkpoints with their numbers, the newest first."""
        found = ((NAME.fullmatch(file.name), file) for file in self.path.iterdir())
        return sorted(((int(match[1]), file) for match, file in found if match), reverse=True)

    def newest(self, wanted: Callable[[Found], bool]) -> Found | None:
        """Return the newest checkpoint that is intact and wanted, None if there is no file.

        Raises
        ------
        CheckpointError
            If there are files and none of them is both.

        Warns
        -----
        UserWarning
            If a file is broken and one before it is taken.
        """
        files, broken = [file for _, file in self.files()], []
        for k, file in enumerate(files):
            try:
                found = read_checkpoint(file)
            except Exception as error:  # whatever a damaged file leads to
                broken.append(f"{file.name} ({type(error).__name__}: {error})")
                continue
            if not wanted(found):
                continue
            self.kept = files[k : k + KEPT][::-1]
            self._remove(files[k + KEPT :])  # of a fit that was killed before it came to do so
            if broken:
                warnings.warn(
                    f"The checkpoint {broken[0]} in {str(self.path)!r} is truncated or altered; "
                    f"going on from the one before, {file.name}.",
                    UserWarning,
                    stacklevel=7,
                )
            return found
        if not files:
            return None
        what = (
            f"is truncated or altered: {'; '.join(broken)}"
            if broken
            else "is the end of a fit, and training for more epochs needs the one before the end"
        )
        raise CheckpointError(
            f"No checkpoint in {str(self.path)!r} can be gone on from: each {what}. Pass "
            "resume=False to begin anew, or another folder as `checkpoint`."
        )

    def write(self, text: str, tensors: dict[str, torch.Tensor]) -> None:
        """Write the next checkpoint, and drop those that are not among the last two any more.

        Raises
        ------
        OSError
            If the system does not take it; the checkpoints before are as they were.
        """
        files = self.files()
        number = files[0][0] + 1 if files else 1
        path = self.path / f"checkpoint-{number:06d}.safetensors"
        try:
            write_whole(path, text, tensors)
        except OSError as error:
            raise unwritable(self.path, error) from error
        self.kept = [*self.kept, path][-KEPT:]
        self._remove([file for _, file in files if file not in self.kept])

    def _remove(self, files: Iterable[Path]) -> None:
        for file in files:
            with suppress(OSError):
                file.unlink()


def unwritable(path: Path, error: OSError) -> OSError:
    """Return the error of a folder that the system does not let a checkpoint be written to."""
    return OSError(
        error.errno,
        f"No checkpoint could be written to {str(path)!r} ({error.strerror or error}). Make room "
        "there, or pass another folder as `checkpoint`. What was written before is as it was: "
        "resume=True goes on from it",
    )


def read_checkpoint(path: Path) -> Found:
    """Return what a file holds; whatever is wrong with it raises an error of any kind."""
    text, tensors = read_tensors(path)
    content = json.loads(text)
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']}, this version reads {FORMAT}")
    # Copies: the file is mapped into memory, and products of matrices that lie at other addresses
    # than torch's own differ in the last bit.
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    state = from_json(content["state"], tensors)
    return Found(path, content["fingerprint"], content["seed"], state)


class FitCheckpoints:
    """The checkpoints of one fit.

    Parameters
    ----------
    estimator : MultiTaskEstimator
        The estimator that is being fitted.
    folder : CheckpointFolder
        Where they are.
    found : Found or None
        The checkpoint to go on from.

    Attributes
    ----------
    seed : int or None
        The seed to use again; None: the fit draws one.
    """

    def __init__(self, estimator: Any, folder: CheckpointFolder, found: Found | None) -> None:
        self.estimator, self.folder, self.found = estimator, folder, found
        self.seed = None if found is None else found.seed

    def begin(self, ready: Any) -> Checkpointer:
        """Return what keeps the state of the run that is about to begin.

        Parameters
        ----------
        ready : Ready
            What the fit has prepared.

        Raises
        ------
        CheckpointError
            If the checkpoint found is of another fit.
        ValueError
            If the optimizer or the balancer remembers what a checkpoint cannot hold.
        """
        net = ready.net
        self._check_holdable(net)
        now = fingerprint(self.estimator, ready)
        state = None
        if self.found is not None:
            state = self.found.state
            self._compare(self.found.fingerprint, now, state["epochs"])
            if self.estimator.callbacks and not state["finished"]:
                warnings.warn(
                    "`callbacks` begin anew when a fit is resumed: checkpoints hold the history, "
                    "and nothing else of what they remember.",
                    UserWarning,
                    stacklevel=5,
                )
        self.found = None
        content = {"format": FORMAT, "fingerprint": now, "seed": ready.fitted.seed}
        writes = net.ranks is None or net.ranks.rank == 0

        def write(state: dict[str, Any]) -> None:
            if not writes:
                return
            tensors: dict[str, torch.Tensor] = {}
            try:
                form = to_json(state, tensors, tensors=True)
            except TypeError as error:
                raise CheckpointError(
                    "A checkpoint cannot hold what a callback has recorded in the history or the "
                    f"balancer or optimizer remembers: {error.args[0].partition(';')[0]} Leave "
                    "that out, or pass checkpoint=None."
                ) from error
            self.folder.write(json.dumps({**content, "state": form}), storable(tensors))

        return Checkpointer(write, state)

    def _check_holdable(self, net: Any) -> None:
        """Refuse before training what could not be written after an epoch."""
        try:
            to_json(net.criterion_.balancer.get_state(), {}, tensors=True)
        except TypeError as error:
            raise ValueError(
                f"`balancer` is {self.estimator.balancer!r}, which remembers what a checkpoint "
                f"cannot hold ({error.args[0].partition(';')[0]}); pass checkpoint=None, or let "
                "its get_state return tensors, numbers and strings."
            ) from error
        if isinstance(self.estimator.optimizer, str):
            return
        try:
            to_json(optimizer_example(net), {}, tensors=True)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"`optimizer` is {self.estimator.optimizer.__name__}, whose state a checkpoint "
                f"cannot hold ({error.args[0].partition(';')[0]}); pass checkpoint=None, or "
                "another optimizer."
            ) from error

    def _compare(self, before: dict[str, str], now: dict[str, str], epochs: int) -> None:
        """Refuse the checkpoint of another fit, naming what differs."""
        estimator = self.estimator
        differ = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        if estimator.lr_schedule in ANY_LENGTH and epochs <= estimator.max_epochs:
            differ = [name for name in differ if name != "`max_epochs`"]
        if not differ:
            return
        which = "; ".join(
            f"{name} was {before.get(name, 'not there')} and is {now.get(name, 'not there')}"
            for name in differ
        )
        if differ == ["`max_epochs`"] and epochs <= estimator.max_epochs:
            which += (
                f", and under lr_schedule={estimator.lr_schedule!r} every epoch hangs on their "
                "number"
            )
        raise CheckpointError(
            f"The checkpoints in {str(self.folder.path)!r} are of another fit: {which}. Pass "
            "resume=False to begin anew, or another folder as `checkpoint`."
        )


def _leads_on(found: Found, max_epochs: int) -> bool:
    """Whether training for some epochs comes by a checkpoint."""
    state = found.state
    if not state["finished"] or state["stop"]:
        return True
    # A fit that ran through all epochs has restored its best: one of more epochs had not yet.
    return state["epochs"] >= max_epochs


@contextmanager
def open_checkpoints(
    estimator: Any, ranks: Ranks | None = None, *, goes_on: bool, stream: bool
) -> Iterator[FitCheckpoints | None]:
    """Open the folder of an estimator's checkpoints while the block runs.

    Of several processes the first one reads and writes; the others hear what it has read.

    Yields
    ------
    FitCheckpoints or None
        None if it has none.

    Raises
    ------
    ValueError
        If this kind of fit has no checkpoints, or the folder cannot be used (`CheckpointError`).
    OSError
        If the folder cannot be made or written to.
    """
    if estimator.checkpoint is None:
        if estimator.resume:
            raise ValueError(
                "`resume` is True and `checkpoint` is None; pass the folder of the checkpoints, "
                "or resume=False."
            )
        yield None
        return
    path = Path(estimator.checkpoint)
    if stream or goes_on:
        what = "partial_fit" if stream else "A fit that goes on from the one before (warm_start)"
        raise ValueError(
            f"`checkpoint` is {str(path)!r}. {what} has no checkpoints: they belong to a fit from "
            "its begin. Pass checkpoint=None."
        )
    need_package("`checkpoint` needs")
    if ranks is not None and ranks.rank > 0:
        yield FitCheckpoints(estimator, CheckpointFolder(path), ranks.broadcast_object())
        return
    with ExitStack() as stack:
        try:
            if path.exists() and not path.is_dir():
                raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR))
            path.mkdir(parents=True, exist_ok=True)
            is_free = stack.enter_context(locked(path / LOCK))
        except OSError as error:
            raise unwritable(path, error) from error
        if not is_free:
            raise CheckpointError(
                f"`checkpoint` is {str(path)!r}, where another fit is writing; pass a folder of "
                "its own to each fit."
            )
        folder, found = CheckpointFolder(path), None
        folder.sweep()
        if estimator.resume:
            found = folder.newest(lambda found: _leads_on(found, estimator.max_epochs))
        if ranks is not None:
            ranks.broadcast_object(found)
        yield FitCheckpoints(estimator, folder, found)


# Whose a checkpoint is ---------------------------------------------------------------------------


def fingerprint(estimator: Any, ready: Any) -> dict[str, str]:
    """Return by name all that has to be the same for a fit to go on with the same bits."""
    params = estimator.get_params(deep=False)
    seeded = isinstance(params["random_state"], int | np.integer)
    params["random_state"] = params["random_state"] if seeded else None
    valid = "none" if ready.valid is None else describe_rows(ready.valid)
    more = {}
    if hasattr(ready.rows, "window_rows"):
        # Files of the same names and sizes may hold other rows.
        learned = [
            {name: value for name, value in vars(one).items() if name.endswith("_")}
            for one in ready.fitted.encoder.encoders
        ]
        more["what the features have learned"] = _checksum(learned)
    return {
        "the class": type(estimator).__name__,
        **{f"`{name}`": describe(value) for name, value in params.items() if name not in FREE},
        "the columns": describe(ready.fitted.encoder.names_),
        "the tasks": describe([task.name for task in ready.tasks]),
        "what the tasks have learned": _checksum(list(ready.tasks)),
        "what is trained on": describe_rows(ready.rows),
        "what is validated on": valid,
        **more,
        "the number of processes": str(1 if ready.net.ranks is None else ready.net.ranks.size),
        "the device": torch.device(ready.net.device).type,
        "the version of sk_mtl": __version__,
        "the version of torch": torch.__version__,
    }


def _checksum(value: Any) -> str:
    arrays: dict[str, torch.Tensor] = {}
    text = json.dumps(_form(value, arrays))
    return f"checksum {digest(text, storable(arrays))[:8]}"


def describe(value: Any) -> str:
    """Return a text that two equal values of a parameter have in common, in any process."""
    arrays: dict[str, torch.Tensor] = {}
    is_plain = value is None or isinstance(value, bool | int | float | str)
    text = repr(value) if is_plain else json.dumps(_form(value, arrays))
    if len(text) <= LONG_TEXT and not arrays:
        return text
    start = "" if arrays else f"{text[:50]}... "
    return f"{start}(checksum {digest(text, storable(arrays))[:8]})"


def _form(value: Any, arrays: dict[str, torch.Tensor]) -> Any:
    """Return a value in JSON's types; of what has no form, its class or name."""
    try:
        return to_json(value, arrays, tensors=True)
    except TypeError:
        pass
    if isinstance(value, Mapping):
        return [[_form(key, arrays), _form(item, arrays)] for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [_form(item, arrays) for item in value]
    named = value if hasattr(value, "__qualname__") else type(value)
    name = f"{named.__module__}.{named.__qualname__}"
    if hasattr(value, "get_params") and not isinstance(value, type):
        return [name, _form(value.get_params(deep=False), arrays)]
    return name


def describe_rows(rows: Any) -> str:
    """Return how many rows there are, and a checksum of what they hold.

    Of rows that memory does not hold, their attribute `identity` says whose they are: names and
    sizes of files, say.
    """
    if hasattr(rows, "window_rows"):
        identity = repr(getattr(rows, "identity", None)), rows.sizes, rows.window_rows
        held = hashlib.sha256(repr(identity).encode()).hexdigest()[:8]
    else:
        held = f"{checksum(vars(rows)):08x}"
    return f"{len(rows)} rows (checksum {held})"


def checksum(value: Any, crc: int = 0) -> int:
    """Return a checksum of the numbers that an object holds, whatever its kind.

    Cheap rather than safe from forgery: it is to notice other rows, a gigabyte in a second.
    """
    if isinstance(value, torch.Tensor):
        value = value.numpy(force=True)
    if isinstance(value, np.ndarray):
        crc = zlib.crc32(f"{value.dtype} {value.shape}".encode(), crc)
        return zlib.crc32(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data, crc)
    if isinstance(value, Mapping):
        for name, entry in value.items():
            crc = checksum(entry, zlib.crc32(str(name).encode(), crc))
        return crc
    if isinstance(value, list | tuple):
        for entry in value:
            crc = checksum(entry, crc)
        return crc
    if hasattr(value, "toarray"):
        return checksum([value.shape, value.data, value.indices, value.indptr], crc)
    if hasattr(value, "__dict__"):
        return checksum(vars(value), crc)
    return zlib.crc32(repr(value).encode(), crc)


def storable(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors on the CPU, contiguous, each in memory of its own."""
    found: dict[str, torch.Tensor] = {}
    memory: set[int] = set()
    for name, tensor in tensors.items():
        stored = tensor.detach().cpu().contiguous()
        place = stored.untyped_storage().data_ptr()
        if place in memory:
            stored = stored.clone()
        memory.add(place)
        found[name] = stored
    return found

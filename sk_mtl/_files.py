"""Files without pickle, whole or not at all, and locks of folders.

A file is a safetensors file whose header holds a text beside the tensors, and a checksum over both.
"""

import hashlib
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

TEXT, CHECKSUM = "sk_mtl", "sha256"
"""Keys of the text and of the checksum in the header."""


def need_package(who: str = "save and load need") -> Any:
    """Return the module safetensors, or say who needs it."""
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError(f'{who} the package safetensors: pip install "sk_mtl[save]".') from error
    return safetensors


def digest(text: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """Return a checksum over a text and tensors with their names."""
    found = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def write_tensors(path: str | Path, text: str, tensors: dict[str, torch.Tensor]) -> None:
    """Write a text and tensors on the CPU to a file.

    Raises
    ------
    OSError
        If the system does not take it.
    """
    safetensors = need_package()
    try:
        safetensors.torch.save_file(
            tensors, str(path), metadata={TEXT: text, CHECKSUM: digest(text, tensors)}
        )
    except safetensors.SafetensorError as error:
        # The package gives the system's error as text only.
        found = re.search(r"\(os error (\d+)\)", str(error))
        if found is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number), str(path)) from error


def read_tensors(path: str | Path) -> tuple[str, dict[str, torch.Tensor]]:
    """Return what `write_tensors` wrote.

    Raises
    ------
    Exception
        Of any kind, if the file is truncated, altered or foreign.
    """
    safetensors = need_package()
    with safetensors.safe_open(str(path), framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    text = metadata[TEXT]
    if metadata[CHECKSUM] != digest(text, tensors):
        raise ValueError("its checksum does not fit its content")
    return text, tensors


TEMPORARY = ".tmp"
"""How the name of a file ends that is being written."""


def write_whole(path: Path, text: str, tensors: dict[str, torch.Tensor]) -> None:
    """Write a file of that name so that it is there whole or not at all, whatever happens.

    Raises
    ------
    OSError
        If the system does not take it: then nothing has changed.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        write_tensors(temporary, text, tensors)
        # The package puts a file there that others, such as a server, may not read.
        temporary.chmod(mode)
        sync(temporary)
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    if sys.platform != "win32":
        sync(path.parent)  # the name, too, is to outlast a failure of power


def sync(path: Path) -> None:
    """Wait until the disk holds what was written."""
    descriptor = os.open(path, os.O_RDONLY if sys.platform != "win32" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_guard = threading.Lock()
_held: set[str] = set()
"""Locks of this process: the system knows processes only, not their threads."""


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold a file as a lock while the block runs; the system gives up that of a killed process.

    Yields
    ------
    bool
        False if another thread or process holds it.
    """
    key = os.path.realpath(path)
    with _guard:
        mine = key not in _held
        if mine:
            _held.add(key)
    if not mine:
        yield False
        return
    try:
        with open(path, "a", encoding="utf-8") as file:
            yield _lock(file.fileno())
    finally:
        with _guard:
            _held.discard(key)


def _lock(descriptor: int) -> bool:
    """Lock an open file until it is closed; return whether it was free."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            # Unlike `flock`, it is not inherited by processes that this one has forked.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True

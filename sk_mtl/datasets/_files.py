"""Find the data files on disk, or download them into the cache."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from sklearn.datasets import get_data_home

from ._sources import Source
from ._verify import difference

ENV_VAR = "SK_MTL_DATA"
N_ATTEMPTS = 3
DELAY = 1.0
TIMEOUT = 30.0


def locate(
    source: Source,
    *,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Path:
    """Give the path of a verified copy of a file.

    The copy is looked for in `data_home`, then in the folder the environment variable
    ``SK_MTL_DATA`` names, then, when `data_home` is None, in the default cache.

    Parameters
    ----------
    source : Source
        File to find.
    data_home : path-like or None, default=None
        Cache folder; None for ``<scikit-learn data home>/sk_mtl``. Files are looked for in the
        folder itself and in its sub-folder ``source.folder``.
    download_if_missing : bool, default=True
        Download the file into the cache folder when no copy is found.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    OSError
        If the file is missing and may not or cannot be downloaded, or if a copy was found but
        is not the published file.
    """
    looked_at = []
    for folder in _folders(data_home):
        looked_at.append(str(folder))
        for path in (folder / source.folder / source.name, folder / source.name):
            if path.is_file():
                _check_copy(path, source)
                return path
    missing = f"{source.name} was not found in {' or '.join(looked_at)}"
    remedy = (
        f"Put the file (published at {source.url}) into a local folder, and pass that folder "
        f"as data_home or name it in the environment variable {ENV_VAR}."
    )
    if not download_if_missing:
        raise OSError(f"{missing}, and download_if_missing is False. {remedy}")
    target = _cache(data_home) / source.folder / source.name
    try:
        _download(source, target)
    except _NotReceivedError as error:
        raise OSError(f"{missing}, and {error}. {remedy}") from error.__cause__
    return target


class _NotReceivedError(Exception):
    """The server could not be reached or did not send the whole file."""


def _cache(data_home: str | os.PathLike[str] | None) -> Path:
    if data_home is not None:
        return Path(data_home).expanduser()
    return Path(get_data_home()) / "sk_mtl"


def _folders(data_home: str | os.PathLike[str] | None) -> Iterator[Path]:
    if data_home is not None:
        yield _cache(data_home)
    if os.environ.get(ENV_VAR):
        yield Path(os.environ[ENV_VAR]).expanduser()
    # Last and lazily: get_data_home() creates its folder, which a read-only home would refuse.
    if data_home is None:
        yield _cache(None)


def _check_copy(path: Path, source: Source) -> None:
    problem = difference(path, source)
    if problem is not None:
        raise OSError(
            f"{path} is not the published {source.name}: {problem}. The file is damaged or was "
            "changed: delete it and fetch it again."
        )


def _download(source: Source, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        _receive(source.url, part)
        problem = difference(part, source)
        if problem is not None:
            raise OSError(
                f"{source.url} did not send the published {source.name}: {problem}. Nothing was "
                f"kept; get the file from another place and put it at {target}."
            )
        # Atomic, so that another process never sees half a file.
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _receive(url: str, part: Path) -> None:
    for attempt in range(1, N_ATTEMPTS + 1):
        try:
            return _receive_once(url, part)
        except (OSError, HTTPException) as error:
            # The server has answered: asking again does not change a "not found".
            final = isinstance(error, HTTPError) and 400 <= error.code < 500
            if final or attempt == N_ATTEMPTS:
                raise _NotReceivedError(
                    f"downloading it from {url} failed (attempts: {attempt}, last error: {error!r})"
                ) from error
        time.sleep(DELAY)
    return None


def _receive_once(url: str, part: Path) -> None:
    with urlopen(url, timeout=TIMEOUT) as answer, part.open("wb") as out:
        shutil.copyfileobj(answer, out)
        length = answer.headers.get("Content-Length")
        # A connection that breaks off early ends the copy without an error.
        if length is not None and out.tell() != int(length):
            raise OSError(f"received {out.tell()} of {length} bytes")

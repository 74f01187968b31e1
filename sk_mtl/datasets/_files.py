"""Find the data files on disk, or download them into the cache."""

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

from sk_mtl.datasets._sources import Source
from sk_mtl.datasets._verify import difference

ENV_VAR = "SK_MTL_DATA"
"""The environment variable that names a folder of local files."""

N_ATTEMPTS = 3
"""Downloads of one file are tried this often."""

DELAY = 1.0
"""Seconds between two attempts."""

TIMEOUT = 30.0
"""Seconds to wait for the server."""


def locate(
    source: Source,
    *,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Path:
    """Return the path of a verified copy of a file; download the file if there is none.

    The search goes through `data_home`, then the folder that the environment variable
    ``SK_MTL_DATA`` names, then, if `data_home` is None, the default cache.

    Parameters
    ----------
    source : Source
        File to find.
    data_home : path-like or None, default=None
        Cache folder; None for ``<scikit-learn data home>/sk_mtl``. The file may lie in the folder
        itself or in its sub-folder ``source.folder``.
    download_if_missing : bool, default=True
        Whether to download the file into the cache folder if no copy is found.

    Raises
    ------
    OSError
        If the file is missing and may not or cannot be downloaded, or if the copy found is not
        the published file.
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
        f"as `data_home` or name it in the environment variable {ENV_VAR}."
    )
    if not download_if_missing:
        raise OSError(f"{missing}, and `download_if_missing` is False. {remedy}")
    target = _cache(data_home) / source.folder / source.name
    try:
        _download(source, target)
    except _NotReceivedError as error:
        raise OSError(f"{missing}, and {error}. {remedy}") from error.__cause__
    return target


class _NotReceivedError(Exception):
    """The server could not be reached or did not send the whole file."""


def _cache(data_home: str | os.PathLike[str] | None) -> Path:
    """Return the folder that downloads are written to."""
    if data_home is not None:
        return Path(data_home).expanduser()
    return Path(get_data_home()) / "sk_mtl"


def _folders(data_home: str | os.PathLike[str] | None) -> Iterator[Path]:
    """Yield the folders to search."""
    if data_home is not None:
        yield _cache(data_home)
    if os.environ.get(ENV_VAR):
        yield Path(os.environ[ENV_VAR]).expanduser()
    # Only if it is needed: get_data_home() creates its folder, which a read-only home refuses.
    if data_home is None:
        yield _cache(None)


def _check_copy(path: Path, source: Source) -> None:
    """Raise if a copy is not the published file."""
    problem = difference(path, source)
    if problem is not None:
        raise OSError(
            f"{path} is not the published {source.name}: {problem}. The file is damaged or was "
            "changed: delete it and fetch it again."
        )


def _download(source: Source, target: Path) -> None:
    """Download a file, verify it, and only then give it its name."""
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
        # This is atomic: another process never sees half a file.
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _receive(url: str, part: Path) -> None:
    """Write what an address sends to a file, in several attempts."""
    for attempt in range(1, N_ATTEMPTS + 1):
        try:
            return _receive_once(url, part)
        except (OSError, HTTPException) as error:
            # An error 4xx, such as "not found", is an answer: asking again does not change it.
            final = isinstance(error, HTTPError) and 400 <= error.code < 500
            if final or attempt == N_ATTEMPTS:
                raise _NotReceivedError(
                    f"downloading it from {url} failed (attempts: {attempt}, last error: {error!r})"
                ) from error
        time.sleep(DELAY)
    return None


def _receive_once(url: str, part: Path) -> None:
    """Write what an address sends to a file."""
    with urlopen(url, timeout=TIMEOUT) as answer, part.open("wb") as out:
        shutil.copyfileobj(answer, out)
        length = answer.headers.get("Content-Length")
        # copyfileobj ends without an error if the connection breaks off.
        if length is not None and out.tell() != int(length):
            raise OSError(f"received {out.tell()} of {length} bytes")

"""Where data files lie: filesystems, and the files that a path, a folder or a glob means."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

HIDDEN = ("_", ".")
"""A name that begins so is no data: logs, markers of success, files half-written."""

MAGIC = re.compile(r"[*?\[]")
"""What makes a path a glob."""


class DataFileError(ValueError):
    """A data file that cannot be read, or does not fit the others or what is asked of it."""


class Found(NamedTuple):
    """A data file.

    ``path`` is the path on its filesystem, ``size`` in bytes, and ``keys`` the keys of the folders
    named ``key=value``, as Hive does, that lie between it and the folder a user named.
    """

    path: str
    size: int
    keys: tuple[str, ...] = ()


def import_parquet() -> Any:
    """Return the module `pyarrow.parquet`, or say which extra brings it."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            'Parquet files need the package pyarrow: pip install "sk_mtl[parquet]".'
        ) from error
    return pyarrow.parquet


def resolve(path: Any, filesystem: Any = None) -> tuple[Any, str]:
    """Return a filesystem of pyarrow and the path on it.

    Parameters
    ----------
    path : str or path-like
        A local path, or a URL that fsspec knows, such as "s3://bucket/folder".
    filesystem : pyarrow.fs.FileSystem or fsspec.AbstractFileSystem, default=None
        Where the path lies. By default the URL says it.

    Raises
    ------
    TypeError
        If the path is no path, or the filesystem of another kind.
    """
    import_parquet()
    from pyarrow import fs

    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"`path` must be a string or a path, got {path!r}.")
    text = os.fspath(path)
    if not isinstance(text, str) or not text:
        raise TypeError(f"`path` must be a string or a path, got {path!r}.")
    if isinstance(filesystem, fs.FileSystem):
        if isinstance(filesystem, fs.LocalFileSystem):
            return filesystem, _absolute(text)
        return filesystem, text
    if filesystem is None and "://" not in text:
        return fs.LocalFileSystem(), _absolute(text)
    from fsspec import AbstractFileSystem
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    if filesystem is None:
        try:
            filesystem, text = url_to_fs(text)
        except (ImportError, ValueError) as error:
            raise type(error)(f"`path` is {path!r}, which fsspec cannot open: {error}") from error
    elif isinstance(filesystem, AbstractFileSystem):
        text = filesystem._strip_protocol(text)
    else:
        raise TypeError(
            f"`filesystem` must be one of pyarrow or fsspec, got {type(filesystem).__name__}."
        )
    if isinstance(filesystem, LocalFileSystem):
        return fs.LocalFileSystem(), text
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), text


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path)).replace(os.sep, "/")


def find_files(path: Any, filesystem: Any = None) -> tuple[Any, list[Found]]:
    """Return a filesystem of pyarrow and the data files that a user's path means.

    Parameters
    ----------
    path : str, path-like or sequence of them
        Files, folders (all files `*.parquet` below them) and globs (``*``, ``?``, ``[ab]``, and
        ``**`` for any number of folders). Files of a folder or a glob are sorted by their paths,
        and those whose name or folder begins with "_" or "." are left out.
    filesystem : pyarrow.fs.FileSystem or fsspec.AbstractFileSystem, default=None
        See `resolve`.

    Raises
    ------
    FileNotFoundError
        If a path matches no file.
    ValueError
        If there is no path, paths lie on different filesystems, or mean the same file.
    """
    alone = isinstance(path, str | os.PathLike)
    paths = [path] if alone else list(path) if isinstance(path, Sequence) else None
    if paths is None:
        raise TypeError(f"`path` must be a path or a list of paths, got {path!r}.")
    if not paths:
        raise ValueError("`path` is an empty list; pass at least one file, folder or glob.")
    first, _ = resolve(paths[0], filesystem)
    found: list[Found] = []
    for one in paths:
        where, text = resolve(one, filesystem)
        if where != first:
            raise ValueError(
                f"The paths {os.fspath(paths[0])!r} and {os.fspath(one)!r} lie on different "
                "filesystems; make a source of one of them."
            )
        found += _expand(where, text, os.fspath(one))
    seen: set[str] = set()
    for file in found:
        if file.path in seen:
            raise ValueError(f"`path` names the file {file.path!r} twice.")
        seen.add(file.path)
    return first, found


def _expand(where: Any, path: str, asked: str) -> list[Found]:
    """Return the files that one path means."""
    from pyarrow.fs import FileType

    info = where.get_file_info(path)
    if info.type == FileType.File:
        return [Found(info.path, info.size)]
    if info.type == FileType.Directory:
        found = _below(where, path)
        if not found:
            raise FileNotFoundError(
                f"The folder {asked!r} has no file *.parquet in it or below; files and folders "
                "whose names begin with '_' or '.' do not count."
            )
        return found
    if not MAGIC.search(path):
        raise FileNotFoundError(f"There is no file or folder {asked!r}.")
    base, matches = _match(where, path)
    found = []
    for info in matches:
        is_file = info.type == FileType.File
        found += [_found(info, base)] if is_file else _below(where, info.path)
    if not found:
        raise FileNotFoundError(f"No file matches the glob {asked!r}.")
    return found


def _below(where: Any, folder: str) -> list[Found]:
    """Return the Parquet files in a folder and in those below it."""
    from pyarrow.fs import FileSelector, FileType

    found = [
        _found(info, folder)
        for info in where.get_file_info(FileSelector(folder, recursive=True))
        if info.type == FileType.File
        and info.path.endswith(".parquet")
        and not _is_hidden(info.path, folder)
    ]
    return sorted(found)


def _match(where: Any, pattern: str) -> tuple[str, list[Any]]:
    """Return the folder that a glob begins with, and what matches the glob."""
    from pyarrow.fs import FileSelector

    parts = pattern.split("/")
    fixed = next(i for i, part in enumerate(parts) if MAGIC.search(part))
    base = "/".join(parts[:fixed])
    deep = "**" in parts or fixed < len(parts) - 1
    selector = FileSelector(base or ("/" if pattern[0] == "/" else ""), recursive=deep)
    try:
        infos = where.get_file_info(selector)
    except FileNotFoundError:
        return base, []
    rule = _regex(pattern)
    found = [i for i in infos if rule.fullmatch(i.path) and not _is_hidden(i.path, base)]
    return base, sorted(found, key=lambda info: info.path)


def _regex(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a glob."""
    text = ""
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", pattern)
    for part in parts:
        if part in GLOBS:
            text += GLOBS[part]
        elif part[:1] == "[" and part[-1:] == "]":
            inner = part[1:-1].replace("\\", "\\\\")
            text += "[" + ("^" + inner[1:] if inner[0] == "!" else inner) + "]"
        else:
            text += re.escape(part)
    return re.compile(text)


GLOBS = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def _parts(path: str, base: str) -> list[str]:
    """Return the names of the folders between a base and a file, and the file's."""
    return path.removeprefix(base).strip("/").split("/")


def _is_hidden(path: str, base: str) -> bool:
    return any(part.startswith(HIDDEN) for part in _parts(path, base))


def _found(info: Any, base: str) -> Found:
    folders = _parts(info.path, base)[:-1]
    return Found(info.path, info.size, tuple(f.split("=", 1)[0] for f in folders if "=" in f))


@contextmanager
def reading(path: str, column: str | None = None) -> Iterator[None]:
    """Turn what pyarrow says of a damaged file into an error that names it, and a column.

    Raises
    ------
    DataFileError
        If the file is damaged. Errors of the operating system stay what they are.
    """
    try:
        yield
    except (OSError, arrow_error()) as error:
        if not is_damage(error):
            raise
        raise cannot_read(path, error, column) from error


def arrow_error() -> Any:
    """Return the class of pyarrow's errors."""
    import pyarrow

    return pyarrow.ArrowException


def is_damage(error: BaseException) -> bool:
    """Whether an error of pyarrow speaks of what a file holds, and not of getting at it."""
    return not (isinstance(error, OSError) and error.errno is not None)


def cannot_read(path: str, error: BaseException, column: str | None = None) -> DataFileError:
    """Return the error of a file that is damaged, in a column if one is known."""
    where = "" if column is None else f" in the column {column!r}"
    return DataFileError(f"{path!r} cannot be read as Parquet{where}: {error}")


def open_parquet(filesystem: Any, path: str, dictionaries: Sequence[str] = ()) -> Any:
    """Return an open `pyarrow.parquet.ParquetFile` that holds little memory.

    Parameters
    ----------
    filesystem : pyarrow.fs.FileSystem
        Where the file lies.
    path : str
        Its path.
    dictionaries : sequence of str, default=()
        Strings to read as dictionaries.
    """
    from pyarrow.fs import LocalFileSystem

    # Without buffers whole columns of a row group are held encoded; with `pre_buffer` they are
    # held until the file is closed (apache/arrow#39808). Small pieces are slow over a network.
    buffer = 2**16 if isinstance(filesystem, LocalFileSystem) else 2**20
    parquet = import_parquet()
    with reading(path):
        handle = filesystem.open_input_file(path)
        try:
            return parquet.ParquetFile(
                handle,
                read_dictionary=list(dictionaries),
                pre_buffer=False,
                buffer_size=buffer,
                page_checksum_verification=True,
            )
        except BaseException:
            handle.close()
            raise

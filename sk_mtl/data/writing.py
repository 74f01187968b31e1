"""Parquet files that are there whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sk_mtl.data.storage import import_parquet, resolve


@contextmanager
def atomic_parquet(
    path: Any, schema: Any, filesystem: Any = None, **options: Any
) -> Iterator["AtomicWriter"]:
    """Write a Parquet file under a temporary name, and rename it when it is whole.

    A file of that name is replaced at the end, and left as it is if an error or an interruption
    comes before. A process that is killed leaves a file ``.NAME.xxxxxxxx.part`` behind, which
    sources do not read.

    Parameters
    ----------
    path : str or path-like
        A local path or a URL of fsspec. Its folder must exist. A link keeps pointing to the file
        that is replaced.
    schema : pyarrow.Schema
        Types of the columns.
    filesystem : pyarrow.fs.FileSystem or fsspec.AbstractFileSystem, default=None
        Where the path lies; by default the path says it. Locally renaming is atomic, also when the
        machine goes down. Elsewhere it is what the filesystem's `mv` does: object stores copy the
        file, and show the copy when it is whole.
    **options
        Further options of `pyarrow.parquet.ParquetWriter`.

    Yields
    ------
    AtomicWriter
        Takes tables by `write`.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    IsADirectoryError
        If the path is a folder.
    OSError
        If the file cannot be written, as on a full disk; it names the path.

    Examples
    --------
    >>> import pyarrow
    >>> from sk_mtl.data import atomic_parquet
    >>> table = pyarrow.table({"click": [0.1, 0.7]})
    >>> with atomic_parquet("memory://answers.parquet", table.schema) as writer:
    ...     writer.write(table)
    """
    import_parquet()
    place = _place(path, filesystem)
    with _naming(place.asked):
        writer = AtomicWriter(place, schema, options)
    try:
        yield writer
        with _naming(place.asked):
            writer.finish()
    except BaseException:
        writer.discard()
        raise


class AtomicWriter:
    """Takes the tables of a file that is not yet whole, see `atomic_parquet`."""

    def __init__(self, place: "Place", schema: Any, options: dict[str, Any]) -> None:
        self.place = place
        self.n_rows = 0
        self._file = place.open()
        try:
            self._writer = import_parquet().ParquetWriter(self._file, schema, **options)
        except BaseException:
            self._file.close()
            place.remove()
            raise

    def write(self, table: Any) -> None:
        """Append a table, as one or more row groups.

        Parameters
        ----------
        table : pyarrow.Table
            Rows with the file's schema.
        """
        with _naming(self.place.asked):
            self._writer.write_table(table)
        self.n_rows += len(table)

    def finish(self) -> None:
        """Write the footer and give the file its name."""
        self._writer.close()
        self.place.close(self._file)
        self.place.rename()

    def discard(self) -> None:
        """Remove what was written."""
        for close in (self._writer.close, self._file.close):
            with suppress(Exception):  # the disk may be full still
                close()
        with suppress(Exception):
            self.place.remove()


class Place:
    """Where a file is written to: the name it gets, and the one it has until then."""

    def __init__(self, asked: str, path: str) -> None:
        self.asked, self.path = asked, path
        folder, _, name = path.rpartition("/")
        self.folder = folder
        self.part = f"{folder}/.{name}.{secrets.token_hex(4)}.part"

    def open(self) -> Any:
        """Open the temporary file."""
        return open(self.part, "xb")

    def close(self, file: Any) -> None:
        """Close the temporary file when all of it is on the disk."""
        file.flush()
        os.fsync(file.fileno())
        file.close()

    def rename(self) -> None:
        """Give the file its name."""
        os.replace(self.part, self.path)
        if os.name == "posix":  # the new name too must be on the disk
            folder = os.open(self.folder or "/", os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def remove(self) -> None:
        """Remove the temporary file."""
        os.unlink(self.part)


class RemotePlace(Place):
    """A place on a filesystem of pyarrow that is not local."""

    def __init__(self, asked: str, path: str, filesystem: Any) -> None:
        super().__init__(asked, path)
        self.filesystem = filesystem

    def open(self) -> Any:
        """Open the temporary file."""
        return self.filesystem.open_output_stream(self.part)

    def close(self, file: Any) -> None:
        """Close the temporary file."""
        file.close()

    def rename(self) -> None:
        """Move the file to its name."""
        handler = getattr(self.filesystem, "handler", None)
        if handler is not None and hasattr(
            handler, "fs"
        ):  # pyarrow would have fsspec move a folder
            handler.fs.mv(self.part, self.path)
        else:
            self.filesystem.move(self.part, self.path)

    def remove(self) -> None:
        """Remove the temporary file."""
        self.filesystem.delete_file(self.part)


def _place(path: Any, filesystem: Any) -> Place:
    """Return the place of a file, or raise if there can be none."""
    from pyarrow.fs import FileType, LocalFileSystem

    where, text = resolve(path, filesystem)
    asked = os.fspath(path)
    if where.get_file_info(text).type == FileType.Directory:
        raise IsADirectoryError(f"{asked!r} is a folder; pass the path of a file.")
    if not isinstance(where, LocalFileSystem):
        return RemotePlace(asked, text, where)  # folders of object stores exist by their files
    text = os.path.realpath(text).replace(os.sep, "/")
    if not os.path.isdir(os.path.dirname(text)):
        raise FileNotFoundError(
            f"{asked!r} cannot be written: there is no folder {os.path.dirname(text)!r}; make it "
            "first."
        )
    return Place(asked, text)


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Make errors of the operating system name the file that the user asked for."""
    try:
        yield
    except OSError as error:
        message = f"{path!r} cannot be written: {error.strerror or error}"
        raise type(error)(*([error.errno, message] if error.errno else [message])) from error

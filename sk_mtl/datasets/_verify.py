"""Tell whether a file is the published one."""

import gzip
import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path

from sk_mtl.datasets._sources import Source


def difference(path: Path, source: Source) -> str | None:
    """Return what was expected of a file and what was found, or None if it is the published one.

    The numbers of rows, columns and labels stand in for a digest that is not known.

    Parameters
    ----------
    path : pathlib.Path
        File to check.
    source : Source
        What the file should be.
    """
    if source.sha256:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found in source.sha256:
            return None
        return f"expected sha256 {' or '.join(source.sha256)}, found sha256 {found}"
    expected = _summary(source.n_rows, {source.n_columns}, source.totals)
    try:
        found = _summary(*_count(path, source))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        found = repr(error)
    return None if found == expected else f"expected {expected}, found {found}"


def _count(path: Path, source: Source) -> tuple[int, set[int], dict[tuple[int, str], int]]:
    """Return a file's number of rows, the numbers of columns in them, and its totals."""
    n_rows = 0
    widths: set[int] = set()
    totals = dict.fromkeys(source.totals, 0)
    wanted = [(key, key[0], key[1].encode()) for key in totals]
    with gzip.open(path) as lines:
        for line in lines:
            if not line.strip():
                continue
            fields = line.split(b",")
            n_rows += 1
            widths.add(len(fields))
            for key, position, value in wanted:
                if position < len(fields) and _answer(fields[position]) == value:
                    totals[key] += 1
    return n_rows, widths, totals


def _answer(field: bytes) -> bytes:
    """Return a field's value, without blanks and without the full stop of some files."""
    return field.strip().removesuffix(b".")


def _summary(n_rows: int, widths: set[int], totals: Mapping[tuple[int, str], int]) -> str:
    """Describe a file by its size and totals."""
    columns = " or ".join(map(str, sorted(widths)))
    counts = [f"{count} rows with {value!r}" for (_, value), count in totals.items()]
    return ", ".join([f"{n_rows} rows of {columns} columns", *counts])

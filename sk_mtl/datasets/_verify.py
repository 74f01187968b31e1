"""Tell whether a file on disk is the file it claims to be."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path

from ._sources import Source


def difference(path: Path, source: Source) -> str | None:
    """Compare a file with what is known of its source.

    Parameters
    ----------
    path : pathlib.Path
        File to check.
    source : Source
        What the file should be.

    Returns
    -------
    str or None
        None if the file is the published one, else what was expected and what was found. A
        source without a digest is checked by its numbers of rows, columns and labels.
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
    return field.strip().removesuffix(b".")


def _summary(n_rows: int, widths: set[int], totals: Mapping[tuple[int, str], int]) -> str:
    columns = " or ".join(map(str, sorted(widths)))
    counts = [f"{count} rows with {value!r}" for (_, value), count in totals.items()]
    return ", ".join([f"{n_rows} rows of {columns} columns", *counts])

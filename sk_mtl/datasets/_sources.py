"""The public files that the loaders read: where they come from, and what is known of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

UCI = "https://archive.ics.uci.edu/ml/machine-learning-databases"


@dataclass(frozen=True)
class Source:
    """One file of a public data set.

    Parameters
    ----------
    name : str
        File name, the same on the server and on disk.
    folder : str
        Sub-folder of the data folder that holds the file.
    url : str
        Address on the server.
    sha256 : tuple of str, default=()
        Digests that are accepted, the published file's first. Empty if none is known; `n_rows`,
        `n_columns` and `totals` then tell whether the file is whole.
    n_rows, n_columns : int, default=0
        Expected size; read only if `sha256` is empty.
    totals : mapping of (int, str) to int, default={}
        Expected number of rows by column position and value (without blanks around it and a full
        stop at its end); read only if `sha256` is empty.
    """

    name: str
    folder: str
    url: str
    sha256: tuple[str, ...] = ()
    n_rows: int = 0
    n_columns: int = 0
    totals: Mapping[tuple[int, str], int] = field(default_factory=dict)


SOURCES: dict[str, Source] = {
    "adult-train": Source(
        name="adult.data",
        folder="adult",
        url=f"{UCI}/adult/adult.data",
        sha256=("5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",),
    ),
    "adult-test": Source(
        name="adult.test",
        folder="adult",
        url=f"{UCI}/adult/adult.test",
        sha256=(
            "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05",
            # This copy lacks the published file's first line, "|1x3 Cross validator".
            "72567b94f5c1a6f8501377dd80f93892c3848ff071cf91ba47e00b0785a28074",
        ),
    ),
    # We could not confirm a digest of this file. The totals are the published ones of both files
    # together (18,568 and 129,628) less the test file's (6,186 and 43,143), which were counted.
    "census-train": Source(
        name="census-income.data.gz",
        folder="census_income",
        url=f"{UCI}/census-income-mld/census-income.data.gz",
        n_rows=199_523,
        n_columns=42,
        totals={(41, "50000+"): 12_382, (7, "Never married"): 86_485},
    ),
    "census-test": Source(
        name="census-income.test.gz",
        folder="census_income",
        url=f"{UCI}/census-income-mld/census-income.test.gz",
        sha256=("5ac4cacd3ca9f1ecb10de1a0a41e4ac68fdc419e3fec190f5c0c6cc03b2ea659",),
    ),
}
"""The files by table and part: ``<table>-train`` and ``<table>-test``."""

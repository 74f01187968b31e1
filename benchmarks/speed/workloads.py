"""What is trained: tables of rows, and the sizes of the networks."""

import os
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FIELDS = ("categorical", "numeric", "labels", "vocabularies")


class Table(NamedTuple):
    """Ids (n, C) from 0 to each column's vocabulary, numbers (n, F), labels (n, 2) of 0 and 1."""

    categorical: NDArray
    numeric: NDArray
    labels: NDArray
    vocabularies: NDArray

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for field, array in zip(FIELDS, self, strict=True):
            np.save(folder / f"{field}.npy", array)

    @classmethod
    def load(cls, folder: Path) -> "Table":
        return cls(*(np.load(folder / f"{field}.npy") for field in FIELDS))


@dataclass(frozen=True)
class Sizes:
    """Widths and numbers of a network's parts; what its architecture lacks stays empty."""

    towers: tuple[int, ...]
    bottom: tuple[int, ...] = ()
    experts: tuple[int, ...] = ()
    gates: tuple[int, ...] = ()
    n_experts: int = 0
    n_task_experts: int = 0
    n_shared_experts: int = 0
    n_levels: int = 1


@dataclass(frozen=True)
class Workload:
    """A table, networks, and how they are trained."""

    make: Callable[[int], Table]
    rows: int
    batch: int
    lr: float
    embedding_dim: int
    models: dict[str, Sizes]


class Job(NamedTuple):
    """One thing to measure: a network on a table."""

    workload: Workload
    model: str
    table: Table

    @property
    def sizes(self) -> Sizes:
        return self.workload.models[self.model]

    @property
    def names(self) -> tuple[list[str], list[str]]:
        """Names of the categorical and of the numeric columns."""
        n_categorical, n_numeric = self.table.categorical.shape[1], self.table.numeric.shape[1]
        return [f"c{j}" for j in range(n_categorical)], [f"x{j}" for j in range(n_numeric)]


ADULT_VOCABULARIES = [73, 9, 16, 15, 6, 5, 2, 42]
CENSUS_VOCABULARIES = [
    9, 52, 47, 17, 3, 7, 24, 15, 5, 10, 2, 3, 6, 8, 6, 6, 50, 37, 8, 9, 8, 9, 3, 4, 5, 42, 42, 42,
    5,
]  # fmt: skip
CENSUS_NUMBERS = [
    "age", "wage_per_hour", "capital_gains", "capital_losses", "stock_dividends",
    "instance_weight", "num_emp", "own_or_self", "vet_benefits", "weeks_worked", "year",
]  # fmt: skip


def data_home() -> str | None:
    """Return the folder beside the checkout that holds the real files, if no other is named."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    return str(beside) if "SK_MTL_DATA" not in os.environ and beside.is_dir() else None


FILES: dict[str, Any] = {"return_X_y": True, "download_if_missing": False}


def adult(rows: int) -> Table:
    """Return the train file's rows, or random ones of its sizes where the file is not at hand."""
    from benchmarks.adult import NUMBERS
    from sk_mtl.datasets import fetch_adult

    try:
        X, Y = fetch_adult(subset="train", data_home=data_home(), **FILES)
    except OSError:
        return random_table(rows, ADULT_VOCABULARIES, 5)
    return encoded(X, Y, NUMBERS, rows)


def census(rows: int) -> Table:
    """Return the test file's rows, repeated, or random ones where the file is not at hand."""
    from sk_mtl.datasets import fetch_census_income

    try:
        X, Y = fetch_census_income(subset="test", data_home=data_home(), **FILES)
    except OSError:
        return random_table(rows, CENSUS_VOCABULARIES, 11)
    return encoded(X, Y, CENSUS_NUMBERS, rows)


def encoded(X: Any, Y: Any, numbers: list[str], rows: int) -> Table:
    """Return a frame's columns as ids and as numbers scaled to [0, 1]; rows repeat from the top."""
    numeric = X[numbers].to_numpy(np.float64)
    low, high = numeric.min(0), numeric.max(0)
    categorical, vocabularies = [], []
    for name in X.columns.drop(numbers):
        ids, known = X[name].factorize(use_na_sentinel=False)
        categorical.append(ids)
        vocabularies.append(len(known))
    labels = [Y[name].factorize(sort=True)[0] for name in Y]
    index = np.arange(rows) % len(X)
    return Table(
        np.column_stack(categorical)[index],
        ((numeric - low) / (high - low))[index],
        np.column_stack(labels)[index],
        np.array(vocabularies),
    )


def click_log(times: int) -> Callable[[int], Table]:
    """Return a maker of 26 columns of ids; vocabularies are `times` 10 to `times` a million.

    None is larger than ten times the rows, which only a quick run is short of.
    """
    sizes = (np.logspace(1, 6, 26) * times).astype(int)
    return lambda rows: random_table(rows, np.minimum(sizes, 10 * rows), 13)


def random_table(rows: int, vocabularies: Any, n_numeric: int, seed: int = 0) -> Table:
    """Return ids by Zipf's law (frequency 1 / rank), uniform numbers, and labels that read both."""
    rng = np.random.default_rng(seed)
    sizes = np.asarray(vocabularies)
    ids = np.exp(rng.random((rows, len(sizes))) * np.log(sizes + 1.0)) - 1.0
    categorical = np.minimum(ids.astype(np.int64), sizes - 1)
    numeric = rng.random((rows, n_numeric))
    score = numeric[:, 0] + np.log1p(categorical[:, 0]) / np.log1p(sizes[0])
    noise = rng.normal(scale=0.3, size=(rows, 2))
    labels = (score[:, None] + noise > [1.0, 1.3]).astype(np.int64)
    return Table(categorical, numeric, labels, sizes)


def split(n_task: int, n_shared: int, **sizes: Any) -> dict[str, Sizes]:
    """Return a CGC's and a two-level PLE's sizes, which are otherwise the same."""
    experts = {"n_task_experts": n_task, "n_shared_experts": n_shared}
    return {"cgc": Sizes(**experts, **sizes), "ple": Sizes(**experts, n_levels=2, **sizes)}


ADULT_MODELS = {
    "shared_bottom": Sizes(bottom=(128, 128), towers=(64, 32)),
    "esmm": Sizes(towers=(64, 64)),
    "mmoe": Sizes(n_experts=8, experts=(64, 64), gates=(32, 32), towers=(32, 32)),
    **split(8, 4, experts=(64, 64), gates=(16, 16), towers=(32, 32)),
}
CENSUS_MODELS = {
    "shared_bottom": Sizes(bottom=(16,), towers=(8,)),
    "esmm": Sizes(towers=(8,)),
    "mmoe": Sizes(n_experts=8, experts=(16,), towers=(8,)),
    **split(4, 4, experts=(16,), towers=(8,)),
}
CLICK_MODELS = {
    "mmoe": Sizes(n_experts=8, experts=(256, 128), towers=(64,)),
    "ple": split(4, 4, experts=(128,), towers=(64,))["ple"],
}
ID_MODELS = {"shared_bottom": Sizes(bottom=(64,), towers=(32,))}

WORKLOADS = {
    "w1": Workload(adult, 32_561, 256, 1e-3, 16, ADULT_MODELS),
    "w1-4096": Workload(adult, 32_561, 4096, 1e-3, 16, ADULT_MODELS),
    "w2": Workload(census, 149_642, 1024, 0.01, 4, CENSUS_MODELS),
    "w3": Workload(click_log(1), 1_000_000, 4096, 1e-3, 16, CLICK_MODELS),
    "w4": Workload(click_log(10), 1_000_000, 4096, 1e-3, 16, ID_MODELS),
}
QUICK_ROWS = {"w1": 2_000, "w1-4096": 9_000, "w2": 3_000, "w3": 9_000, "w4": 9_000}


def described(model: str, sizes: Sizes) -> str:
    """Return a network's sizes in words."""
    names = ("towers", "bottom", "experts", "gates")
    names += ("experts in all", "task experts", "shared experts", "levels")
    parts = zip(names, astuple(sizes), strict=True)
    said = ", ".join(f"{name} {value}" for name, value in parts if value not in ((), 0, 1))
    return f"{model}: {said}"

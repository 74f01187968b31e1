"""The data sets: their rows, how long a fit trains on them, and which columns steer PEPNet."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.defaults.sets import SETS as REAL
from benchmarks.defaults.sets import Split, at_random
from benchmarks.defaults.study import is_real
from sk_mtl.datasets import fetch_census_income, make_click_conversion, make_correlated_tasks
from sk_mtl.tasks import BinaryTask, MulticlassTask, RegressionTask

CORRELATIONS = (0.9, 0.5, 0.0)
WORLDS = ((0.6, 0.2), (0.9, 0.2), (0.6, 0.05), (0.9, 0.05))  # confounding, click rate
EDUCATED = {
    "Some college but no degree",
    "Bachelors degree(BA AB BS)",
    "Masters degree(MA MS MEng MEd MSW MBA)",
    "Prof school degree (MD DDS DVM LLB JD)",
    "Doctorate degree(PhD EdD)",
}


@dataclass(frozen=True)
class DataSet:
    """A data set and the training budget that all architectures have on it.

    Attributes
    ----------
    draw : callable
        From a seed and at most how many rows to train and to test on, to a `Split` and the true
        rates of the test rows, None but for clicks and conversions.
    n_train, n_test : int
        Most rows to train and to test on.
    epochs, batch : int
        How long a fit trains.
    parameters : int
        About how many parameters bottom and towers have together.
    prior : tuple of str
        Columns that PEPNet's gates read.
    nested : bool
        Whether each task implies the one before.
    """

    draw: Callable[[int, int, int], tuple[Split, Any]]
    n_train: int
    n_test: int
    epochs: int
    batch: int
    prior: tuple[str, ...]
    parameters: int = 20_000
    nested: bool = False

    def quick(self) -> "DataSet":
        """Return the set with few rows and a short training."""
        return replace(self, n_train=min(self.n_train, 600), n_test=min(self.n_test, 600), epochs=2)


def real(load: Callable[[int], Split]) -> Callable[[int, int, int], tuple[Split, None]]:
    """Return a loader of at most so many rows, drawn by the seed."""

    def draw(seed: int, n_train: int, n_test: int) -> tuple[Split, None]:
        X, Y, X_test, Y_test = load(seed)
        rng = np.random.default_rng(seed)
        train, test = (
            rng.permutation(len(part))[:n] for part, n in ((X, n_train), (X_test, n_test))
        )
        return (taken(X, train), taken(Y, train), taken(X_test, test), taken(Y_test, test)), None

    return draw


def taken(frame: pd.DataFrame, rows: Any) -> pd.DataFrame:
    return frame.iloc[rows].reset_index(drop=True)


def census_of_three(seed: int) -> Split:
    """Split the published test file at random, with the three tasks of AdaTT's paper."""
    names = ["income_50k", "education", "marital_stat"]
    X, labels = fetch_census_income(subset="test", tasks=names, return_X_y=True)
    values = labels.astype(str)
    Y = pd.DataFrame(
        {
            "income": values["income_50k"].str.contains("50000+", regex=False).astype(int),
            "college": values["education"].isin(EDUCATED).astype(int),
            "never_married": (values["marital_stat"] == "Never married").astype(int),
        }
    )
    return at_random(X, Y, seed)


def correlated(p: float) -> Callable[[int, int, int], tuple[Split, None]]:
    def draw(seed: int, n_train: int, n_test: int) -> tuple[Split, None]:
        x, y = make_correlated_tasks(n_train + n_test, task_correlation=p, random_state=seed)
        X = pd.DataFrame(x).add_prefix("x")
        Y = pd.DataFrame(y).add_prefix("y")
        return halves(X, Y, n_train), None

    return draw


def clicks(confounding: float, click_rate: float) -> Callable[[int, int, int], tuple[Split, Any]]:
    def draw(seed: int, n_train: int, n_test: int) -> tuple[Split, Any]:
        world = make_click_conversion(
            n_train + n_test, confounding=confounding, click_rate=click_rate, random_state=seed
        )
        return halves(world.data, world.target, n_train), world

    return draw


def halves(X: pd.DataFrame, Y: pd.DataFrame, n: int) -> Split:
    """Return the first n rows to train on, the others to test on."""
    train, test = np.split(np.arange(len(X)), [n])
    return taken(X, train), taken(Y, train), taken(X, test), taken(Y, test)


def world_name(confounding: float, click_rate: float) -> str:
    return f"clicks {confounding}, {click_rate}"


CENSUS = {"n_train": 20_000, "n_test": 20_000, "epochs": 6, "batch": 512, "parameters": 40_000}
PERSON = ("age", "race", "sex")
SETS = {
    "Adult": DataSet(real(REAL["Adult"].load), 20_000, 16_281, 8, 512, ("age", "race", "gender")),
    "Census income": DataSet(real(REAL["Census income"].load), prior=PERSON, **CENSUS),
    "Census college": DataSet(real(REAL["Census college"].load), prior=PERSON, **CENSUS),
    "Census three": DataSet(real(census_of_three), prior=PERSON, **CENSUS),
    "Online shoppers": DataSet(
        real(REAL["Online shoppers"].load), 10_000, 10_000, 10, 256, ("Month", "Weekend")
    ),
    "Seoul bikes": DataSet(
        real(REAL["Seoul bikes"].load), 10_000, 10_000, 20, 256, ("Hour", "Seasons", "Holiday")
    ),
    "Student": DataSet(real(REAL["Student"].load), 1_000, 1_000, 20, 32, ("school", "sex", "age")),
    **{
        f"p = {p:g}": DataSet(correlated(p), 10_000, 5_000, 10, 256, ("x0", "x1", "x2", "x3"))
        for p in CORRELATIONS
    },
    **{
        world_name(*world): DataSet(
            clicks(*world),
            40_000,
            40_000,
            8,
            1024,
            ("user_segment", "device", "item_category"),
            nested=True,
        )
        for world in WORLDS
    },
}


@lru_cache(maxsize=8)
def drawn(name: str, seed: int, quick: bool) -> tuple[Split, Any]:
    """Return the rows of a set, drawn once in a process."""
    data = budget(name, quick)
    return data.draw(seed, data.n_train, data.n_test)


def budget(name: str, quick: bool) -> DataSet:
    return SETS[name].quick() if quick else SETS[name]


def kinds(Y: pd.DataFrame) -> list[Any]:
    """Return the kind of each task."""
    found: list[Any] = []
    for task in Y:
        if is_real(Y[task]):
            found.append(RegressionTask)
        else:
            found.append(BinaryTask if Y[task].nunique() == 2 else MulticlassTask)
    return found

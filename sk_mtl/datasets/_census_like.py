"""A synthetic census: mixed columns, two binary tasks and one regression task."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sk_mtl._checks import check_count, check_number
from sk_mtl.datasets._logistic import sigmoid
from sk_mtl.datasets._random import RandomState, as_generator

_VALUES = {
    "sex": ("female", "male"),
    "housing": ("owner", "tenant", "other"),
    "workclass": ("private", "public", "self_employed", "cooperative", "family", "casual"),
    "region": tuple(f"region_{k:02d}" for k in range(10)),
    "occupation": tuple(f"occupation_{k:02d}" for k in range(15)),
    "country": tuple(f"country_{k:02d}" for k in range(40)),
}
_WITH_GAPS = ("hours_per_week", "capital_gain", "occupation", "country")


def make_census_like(
    n_samples: int = 20_000,
    *,
    missing: float = 0.02,
    random_state: RandomState = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Generate a census-like table with two correlated binary tasks and one regression task.

    It needs no download and looks like the public census tables: skewed and mostly zero amounts,
    categorical columns of 2 to 40 values, some of them rare, and gaps. All targets are nonlinear
    in the inputs and depend on interactions of them. The population is fixed: calls with
    different random states draw different rows from one distribution, so one call can give the
    training data and another the test data.

    Parameters
    ----------
    n_samples : int, default=20000
        Number of rows.
    missing : float, default=0.02
        Share of the values of ``hours_per_week``, ``capital_gain``, ``occupation`` and
        ``country`` that is removed at random, in [0, 1). 0: no gaps.
    random_state : int, RandomState, Generator or None, default=None
        Determines the rows drawn. One random state gives the same rows with any `missing`: the
        gaps are drawn last.

    Returns
    -------
    X : DataFrame of shape (n_samples, 12)
        Inputs. Numeric: ``age``, ``education_years``, ``household_size`` (int64),
        ``hours_per_week``, ``capital_gain``, ``commute_minutes`` (float64). Categorical, of dtype
        category with strings: ``sex`` (2 values), ``housing`` (3), ``workclass`` (6), ``region``
        (10), ``occupation`` (15) and ``country`` (40); every column has all its categories,
        drawn or not.
    Y : DataFrame of shape (n_samples, 3)
        Targets ``high_income`` and ``married`` (int64, 0 or 1) and ``log_wage`` (float64).

    Raises
    ------
    ValueError
        If a number has the wrong type or is out of range. The error is a TypeError as well.

    Examples
    --------
    >>> from sk_mtl.datasets import make_census_like
    >>> X, Y = make_census_like(1000, random_state=0)
    >>> X.shape, list(Y.columns)
    ((1000, 12), ['high_income', 'married', 'log_wage'])
    """
    check_count("n_samples", n_samples)
    check_number("missing", missing, 0, 1, below=True)
    rng = as_generator(random_state)
    numbers, codes = _draw_persons(n_samples, rng)
    Y = _draw_targets(numbers, codes, rng)
    categories = {
        name: pd.Categorical.from_codes(codes[name], categories=list(values))
        for name, values in _VALUES.items()
    }
    X = pd.DataFrame({**numbers, **categories})
    if missing > 0.0:
        for name in _WITH_GAPS:
            X[name] = X[name].mask(rng.random(n_samples) < missing)
    return X, Y


def _effects(size: int, step: float) -> NDArray:
    """Return a fixed effect of each category: mean 0, variance 1, in no visible order."""
    raw = np.sin(step * np.arange(1, size + 1))
    return (raw - raw.mean()) / raw.std()


def _draw_codes(scores: NDArray, rng: np.random.Generator) -> NDArray:
    """Draw one category per row from log weights, (n, size) -> (n,): the Gumbel trick."""
    return (scores + rng.gumbel(size=scores.shape)).argmax(axis=1)


def _draw_persons(
    n: int, rng: np.random.Generator
) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
    """Draw the numeric columns and the codes of the categorical ones."""
    age = np.floor(17 + 63 * rng.beta(1.5, 2.2, size=n))
    sex = rng.integers(0, 2, size=n)
    region = rng.integers(0, 10, size=n)
    country = rng.choice(40, size=n, p=_zipf(40))
    education = np.clip(np.round(12 + 2.5 * rng.standard_normal(n) - (age > 60)), 4, 20)

    schooling = ((education - 12) / 2.5)[:, None]
    occupation = _draw_codes(1.2 * schooling * _effects(15, 1.9), rng)
    workclass = _draw_codes(np.log(_zipf(6)) + 0.3 * schooling * _effects(6, 2.7), rng)
    old = ((age - 40) / 15)[:, None]
    housing = _draw_codes(old * np.array([0.9, -0.6, 0.0]) + np.array([0.4, 0.4, -1.5]), rng)

    household = 1 + rng.poisson(0.6 + 1.6 * np.exp(-(((age - 38) / 14) ** 2)))
    hours = np.clip(40 + 9 * rng.standard_normal(n) + 3 * sex - 8 * (age > 65), 5, 90).round()
    gain = np.where(rng.random(n) < 0.1, rng.lognormal(8.0, 1.0, size=n), 0.0).round()
    commute = rng.gamma(2.0, 14.0, size=n).round(1)
    numbers = {
        "age": age.astype(np.int64),
        "education_years": education.astype(np.int64),
        "hours_per_week": hours,
        "capital_gain": gain,
        "household_size": household.astype(np.int64),
        "commute_minutes": commute,
    }
    codes = {
        "sex": sex,
        "housing": housing,
        "workclass": workclass,
        "region": region,
        "occupation": occupation,
        "country": country,
    }
    return numbers, codes


def _draw_targets(
    numbers: dict[str, NDArray], codes: dict[str, NDArray], rng: np.random.Generator
) -> pd.DataFrame:
    """Draw the targets of persons."""
    n = len(numbers["age"])
    age = (numbers["age"] - 40) / 15
    education = (numbers["education_years"] - 12) / 2.5
    hours = (numbers["hours_per_week"] - 40) / 10
    household = numbers["household_size"] - 2
    male = codes["sex"]
    owner = codes["housing"] == 0
    region = _effects(10, 2.3)[codes["region"]]
    occupation = _effects(15, 1.9)[codes["occupation"]]
    country = _effects(40, 2.6)[codes["country"]]
    workclass = _effects(6, 2.7)[codes["workclass"]]

    married_score = (
        3.0 * np.tanh(1.5 * age + 1.2)
        - 2.0 * np.maximum(age - 0.7, 0) * (1 - male)
        + 1.1 * household * (age > -0.9)
        + 0.9 * owner
        + 0.5 * country
        + 0.4 * male * np.tanh(hours)
        - 1.8
    )
    married = rng.random(n) < sigmoid(married_score)
    # The career curve is steeper for the well educated; skills pay differently by workclass.
    log_wage = (
        2.8
        + 0.22 * education
        + 0.25 * np.tanh(age + 1.0) * (1.0 + 0.5 * education)
        - 0.08 * np.maximum(age - 1.0, 0) ** 2
        + 0.18 * occupation
        + 0.16 * occupation * workclass
        + 0.08 * region
        + 0.06 * country
        + 0.10 * male * owner
        + 0.12 * np.tanh(numbers["commute_minutes"] / 30 - 1.0)
        + 0.28 * rng.standard_normal(n)
    )
    income_score = (
        5.0 * (log_wage - 2.9)
        + 1.2 * hours * (1.0 + 0.7 * workclass)
        + 0.9 * np.log1p(numbers["capital_gain"] / 1000)
        + 1.2 * married * np.tanh(age + 1.0)
        + 0.4 * owner
        - 3.0
    )
    high_income = rng.random(n) < sigmoid(income_score)
    return pd.DataFrame(
        {
            "high_income": high_income.astype(np.int64),
            "married": married.astype(np.int64),
            "log_wage": log_wage,
        }
    )


def _zipf(size: int) -> NDArray:
    """Return probabilities in proportion to 1, 1/2, 1/3, ..."""
    weight = 1.0 / np.arange(1, size + 1)
    return weight / weight.sum()

"""Clicks and conversions with known probabilities."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import Bunch

from sk_mtl._checks import check_count, check_number
from sk_mtl.datasets._logistic import rates_with_mean
from sk_mtl.datasets._random import RandomState, as_generator

_CATEGORIES = {"user_segment": 6, "device": 4, "item_category": 20}
"""The categorical columns and their sizes, one for each part of the scores: the shared part, the
click's and the conversion's.
"""

_SPREAD = 1.5
"""Standard deviation of the log odds."""

_DESCRIPTION = """\
Simulated exposures of items to users

Each row is an exposure. A click is drawn with probability propensity, a latent conversion with
probability conversion_rate, independently given the inputs; a conversion is both together. The
log odds of the two share a part, so the clicked rows are not a random sample of all rows.
"""


def make_click_conversion(
    n_samples: int = 10_000,
    n_features: int = 8,
    *,
    click_rate: float = 0.2,
    conversion_rate: float = 0.1,
    confounding: float = 0.6,
    random_state: RandomState = None,
) -> Bunch:
    r"""Generate click and conversion labels whose true probabilities are known for every row.

    Conversions are seen only after a click. A model of the conversion rate that is trained on
    the clicked rows has a selection bias on all rows [1]_. The true rates of the rows that were
    not clicked let one measure this bias.

    The log odds of click and conversion are, up to constants, 1.5 times a score of mean 0 and
    variance 1. Each score is the weighted sum of a shared part and a part of its own. A part is a
    nonlinear function of every third numeric column and one categorical column, with an
    interaction.

    Parameters
    ----------
    n_samples : int, default=10000
        Number of rows.
    n_features : int, default=8
        Number of numeric columns, at least 3. Columns 0, 3, ... are in the shared part, 1, 4, ...
        in the click's part, 2, 5, ... in the conversion's part. Each part has a categorical
        column besides: ``user_segment`` (6 values), ``device`` (4) and ``item_category`` (20).
    click_rate : float, default=0.2
        Mean over all rows of P(click | x), strictly between 0 and 1.
    conversion_rate : float, default=0.1
        Mean over all rows, clicked or not, of P(conversion | click, x), strictly between 0 and 1.
        With positive `confounding` the clicked rows have a higher rate.
    confounding : float, default=0.6
        Correlation of the two scores in the population, in [-1, 1]. 0: clicked rows are a fair
        sample of the conversion rates; above 0: rows likely to be clicked are likely to convert;
        below 0: they are unlikely to.
    random_state : int, RandomState, Generator or None, default=None
        Determines the numbers drawn. The effects of the columns are drawn too: split the rows of
        one call into training and test data rather than calling twice.

    Returns
    -------
    data : sklearn.utils.Bunch
        With the fields

        data : DataFrame of shape (n_samples, n_features + 3)
            Inputs: ``num_0``, ``num_1``, ... (float64) and three category columns of strings.
        target : DataFrame of shape (n_samples, 2), int64
            ``click`` and ``conversion``; a conversion implies a click.
        frame : DataFrame of shape (n_samples, n_features + 5)
            Both.
        propensity : ndarray of shape (n_samples,), float64
            True P(click | x).
        conversion_rate : ndarray of shape (n_samples,), float64
            True P(conversion | click, x) of every row, clicked or not.
        latent_conversion : ndarray of shape (n_samples,), int64
            Whether the row would convert if it were clicked. The conversion is the product of
            this and the click.
        feature_names, target_names, categorical_features : list of str
            Column names.
        DESCR : str
            Description of the data.

    Raises
    ------
    ValueError
        If a number has the wrong type or is out of range. The error is a TypeError as well.

    References
    ----------
    .. [1] X. Ma, L. Zhao, G. Huang, Z. Wang, Z. Hu, X. Zhu and K. Gai, "Entire Space Multi-Task
       Model: An Effective Approach for Estimating Post-Click Conversion Rate", SIGIR 2018.

    Examples
    --------
    >>> from sk_mtl.datasets import make_click_conversion
    >>> bunch = make_click_conversion(5000, random_state=0)
    >>> clicked = bunch.target["click"] == 1
    >>> bool(bunch.conversion_rate[clicked].mean() > bunch.conversion_rate.mean())
    True
    """
    check_count("n_samples", n_samples)
    check_count("n_features", n_features, 3)
    check_number("click_rate", click_rate, 0, 1, above=True, below=True)
    check_number("conversion_rate", conversion_rate, 0, 1, above=True, below=True)
    check_number("confounding", confounding, -1, 1)
    rng = as_generator(random_state)

    numbers = rng.standard_normal((n_samples, n_features))
    columns: dict[str, object] = {f"num_{j}": numbers[:, j] for j in range(n_features)}
    parts = []
    for first, (name, size) in enumerate(_CATEGORIES.items()):
        codes, effect = _draw_category(n_samples, size, rng)
        values = [f"{name}_{k:02d}" for k in range(size)]
        columns[name] = pd.Categorical.from_codes(codes, categories=values)
        parts.append(_part(numbers[:, first::3], effect, rng))
    shared, click_only, conversion_only = parts

    # The parts are independent and of variance 1, so the scores correlate by `confounding`.
    common, own = np.sqrt(abs(confounding)), np.sqrt(1.0 - abs(confounding))
    click_score = common * shared + own * click_only
    conversion_score = np.sign(confounding) * common * shared + own * conversion_only
    propensity = rates_with_mean(_SPREAD * click_score, click_rate)
    rate = rates_with_mean(_SPREAD * conversion_score, conversion_rate)

    click = (rng.random(n_samples) < propensity).astype(np.int64)
    latent = (rng.random(n_samples) < rate).astype(np.int64)
    X = pd.DataFrame(columns)
    Y = pd.DataFrame({"click": click, "conversion": click * latent})
    return Bunch(
        data=X,
        target=Y,
        frame=pd.concat([X, Y], axis=1),
        propensity=propensity,
        conversion_rate=rate,
        latent_conversion=latent,
        feature_names=list(X.columns),
        target_names=list(Y.columns),
        categorical_features=list(_CATEGORIES),
        DESCR=_DESCRIPTION,
    )


def _draw_category(n_samples: int, size: int, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Draw codes, high ones more rarely, and return them and each row's effect.

    The effects have mean 0 and variance 1 in the population.
    """
    weight = 1.0 / np.arange(2, size + 2)
    probability = weight / weight.sum()
    effects = rng.standard_normal(size)
    effects -= probability @ effects
    effects /= np.sqrt(probability @ effects**2)
    codes = rng.choice(size, size=n_samples, p=probability)
    return codes, effects[codes]


def _part(numbers: NDArray, effect: NDArray, rng: np.random.Generator) -> NDArray:
    """Combine columns into a score of mean 0 and variance 1."""
    direction = rng.standard_normal(numbers.shape[1])
    linear = numbers @ (direction / np.linalg.norm(direction))
    # The four terms have variance 1 and are uncorrelated.
    curved = (linear**2 - 1.0) / np.sqrt(2.0)
    terms = np.stack([linear, curved, effect, linear * effect])
    return np.sqrt([0.5, 0.1, 0.2, 0.2]) @ terms

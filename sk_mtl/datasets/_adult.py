"""Loader of the Adult data set."""

import os
from collections.abc import Sequence
from typing import Literal

import pandas as pd
from sklearn.utils import Bunch

from sk_mtl.datasets._table import BinaryTarget, Table, fetch

_DESCRIPTION = """\
Adult (UCI): income and marital status of persons in the 1994 US census

Rows: 32,561 (train file) and 16,281 (test file).
Columns: 15, of which 6 are numeric (age, fnlwgt, education_num, capital_gain, capital_loss,
hours_per_week); fnlwgt is a survey weight. A "?" in the files (workclass, occupation,
native_country) is a missing value.

Task group "income-marital": income (above 50,000 dollars a year) and never_married. Both source
columns are left out of the inputs. The column relationship stays in, as in published results,
although "Husband" and "Wife" tell much about marital status.

Source: B. Becker and R. Kohavi, Adult, UCI Machine Learning Repository, 1996,
https://doi.org/10.24432/C5XW20.
"""

_ADULT = Table(
    name="adult",
    columns=(
        "age",
        "workclass",
        "fnlwgt",
        "education",
        "education_num",
        "marital_status",
        "occupation",
        "relationship",
        "race",
        "gender",
        "capital_gain",
        "capital_loss",
        "hours_per_week",
        "native_country",
        "income",
    ),
    numeric={
        "age": "int64",
        "fnlwgt": "int64",
        "education_num": "int64",
        "capital_gain": "int64",
        "capital_loss": "int64",
        "hours_per_week": "int64",
    },
    label="income",
    tasks={
        "income-marital": {
            "income": BinaryTarget("income", (">50K",)),
            "never_married": BinaryTarget("marital_status", ("Never-married",)),
        },
    },
    description=_DESCRIPTION,
)


def fetch_adult(
    *,
    subset: Literal["train", "test", "all"] = "train",
    tasks: str | Sequence[str] = "income-marital",
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
) -> Bunch | tuple[pd.DataFrame, pd.DataFrame]:
    """Load the Adult data set with two or more targets.

    The loader searches `data_home`, then the folder that the environment variable ``SK_MTL_DATA``
    names, then, if `data_home` is None, the default cache. A file may be
    ``<folder>/adult/adult.data`` or ``<folder>/adult.data``. A missing file is downloaded from
    the UCI repository (6 MB for both). The sha256 of each file is always checked.

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="train"
        File to load: 32,561 or 16,281 rows. "all" gives the train file's rows, then the test
        file's, with one set of categories for each column.
    tasks : "income-marital" or sequence of str, default="income-marital"
        The task group (targets ``income``: above 50K, and ``never_married``; int64, 0 or 1), or
        the columns to use as targets as they are. The targets' source columns are not inputs.
    data_home : path-like or None, default=None
        Cache folder, for downloads too. None for ``<scikit-learn data home>/sk_mtl``. Nothing is
        written to the folder of ``SK_MTL_DATA``.
    download_if_missing : bool, default=True
        Whether to download a missing file; if not, it is an error.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    data : sklearn.utils.Bunch
        With the fields

        data : DataFrame of shape (n_rows, n_features)
            Inputs. Numbers are int64, all else is category; "?" is a missing value (NaN).
        target : DataFrame of shape (n_rows, n_tasks)
            Targets.
        frame : DataFrame of shape (n_rows, n_features + n_tasks)
            Both.
        feature_names, target_names : list of str
            Column names of `data` and `target`.
        categorical_features : list of str
            Names of the categorical columns of `data`.
        filenames : list of str
            Files read.
        DESCR : str
            Description of the data.

        or, if `return_X_y` is True, the tuple ``(data, target)``.

    Raises
    ------
    ValueError
        If `subset`, the task group or a column is unknown, or if a list of columns is empty,
        names a column twice or leaves no inputs.
    OSError
        If a file is missing and may not or cannot be downloaded, or is not the published file.

    Notes
    -----
    With "train" or "test" alone a column has the categories that occur in that file. If both
    parts must share their categories, load "all" and cut it at row 32,561.

    References
    ----------
    .. [1] B. Becker and R. Kohavi, "Adult", UCI Machine Learning Repository, 1996,
       https://doi.org/10.24432/C5XW20.

    Examples
    --------
    >>> from sk_mtl.datasets import fetch_adult
    >>> X, Y = fetch_adult(return_X_y=True)  # doctest: +SKIP
    >>> list(Y.columns)  # doctest: +SKIP
    ['income', 'never_married']
    """
    return fetch(
        _ADULT,
        subset=subset,
        tasks=tasks,
        data_home=data_home,
        download_if_missing=download_if_missing,
        return_X_y=return_X_y,
    )

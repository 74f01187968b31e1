"""Loader of the Census-Income (KDD) data set."""

import os
from collections.abc import Sequence
from typing import Literal

import pandas as pd
from sklearn.utils import Bunch

from sk_mtl.datasets._table import BinaryTarget, Table, fetch

_DESCRIPTION = """\
Census-Income (KDD) (UCI): persons in the US current population surveys of 1994 and 1995

Rows: 199,523 (train file) and 99,762 (test file).
Columns: 42, of which 11 are taken as numeric (age, wage_per_hour, capital_gains, capital_losses,
stock_dividends, instance_weight, num_emp, own_or_self, vet_benefits, weeks_worked, year). The
industry and occupation codes det_ind_code and det_occ_code are categorical although they are
written as numbers. instance_weight is a survey weight, not a property of the person: its authors
advise against it as an input, published multi-task results use it.

A "?" in the files is a missing value: in mig_chg_msa, mig_chg_reg, mig_move_reg and
mig_prev_sunbelt it marks the rows of the year these were not asked in, about half of all; in
state_prev_res and the countries of birth an unknown answer. "NA" (hisp_origin) and "Not in
universe" are answers and stay categories.

Task group "income-marital": income (above 50,000 dollars a year) and never_married.
Task group "education-marital": college (some college but no degree, bachelors, masters,
professional school or doctorate; associate degrees do not count) and never_married; income_50k is
then an input. The source columns of a group are left out of the inputs. Columns such as
det_hh_fam_stat stay in, as in published results, although they tell much about marital status.

Source: Census-Income (KDD), UCI Machine Learning Repository, 2000,
https://archive.ics.uci.edu/dataset/117/census+income+kdd.
"""

_COLUMNS = (
    "age",
    "class_worker",
    "det_ind_code",
    "det_occ_code",
    "education",
    "wage_per_hour",
    "hs_college",
    "marital_stat",
    "major_ind_code",
    "major_occ_code",
    "race",
    "hisp_origin",
    "sex",
    "union_member",
    "unemp_reason",
    "full_or_part_emp",
    "capital_gains",
    "capital_losses",
    "stock_dividends",
    "tax_filer_stat",
    "region_prev_res",
    "state_prev_res",
    "det_hh_fam_stat",
    "det_hh_summ",
    "instance_weight",
    "mig_chg_msa",
    "mig_chg_reg",
    "mig_move_reg",
    "mig_same",
    "mig_prev_sunbelt",
    "num_emp",
    "fam_under_18",
    "country_father",
    "country_mother",
    "country_self",
    "citizenship",
    "own_or_self",
    "vet_question",
    "vet_benefits",
    "weeks_worked",
    "year",
    "income_50k",
)

_NEVER_MARRIED = BinaryTarget("marital_stat", ("Never married",))

_CENSUS_INCOME = Table(
    name="census",
    columns=_COLUMNS,
    numeric={
        "age": "int64",
        "wage_per_hour": "int64",
        "capital_gains": "int64",
        "capital_losses": "int64",
        "stock_dividends": "int64",
        "instance_weight": "float64",
        "num_emp": "int64",
        "own_or_self": "int64",
        "vet_benefits": "int64",
        "weeks_worked": "int64",
        "year": "int64",
    },
    label="income_50k",
    tasks={
        "income-marital": {
            "income": BinaryTarget("income_50k", ("50000+",)),
            "never_married": _NEVER_MARRIED,
        },
        "education-marital": {
            "college": BinaryTarget(
                "education",
                (
                    "Some college but no degree",
                    "Bachelors degree(BA AB BS)",
                    "Masters degree(MA MS MEng MEd MSW MBA)",
                    "Prof school degree (MD DDS DVM LLB JD)",
                    "Doctorate degree(PhD EdD)",
                ),
            ),
            "never_married": _NEVER_MARRIED,
        },
    },
    description=_DESCRIPTION,
)


def fetch_census_income(
    *,
    subset: Literal["train", "test", "all"] = "train",
    tasks: str | Sequence[str] = "income-marital",
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
) -> Bunch | tuple[pd.DataFrame, pd.DataFrame]:
    """Load the Census-Income (KDD) data set with two or more targets.

    The loader searches `data_home`, then the folder that the environment variable ``SK_MTL_DATA``
    names, then, if `data_home` is None, the default cache. A file may be
    ``<folder>/census_income/census-income.test.gz`` or ``<folder>/census-income.test.gz``. A
    missing file is downloaded from the UCI repository (10 MB for both).

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="train"
        File to load: 199,523 or 99,762 rows. "all" gives the train file's rows, then the test
        file's, with one set of categories for each column.
    tasks : {"income-marital", "education-marital"} or sequence of str, default="income-marital"
        A task group, or the columns to use as targets as they are. "income-marital" gives
        ``income`` (above 50K) and ``never_married``; "education-marital" gives ``college`` (some
        college but no degree, bachelors, masters, professional school or doctorate; associate
        degrees do not count) and ``never_married``, and keeps ``income_50k`` as an input. They
        are int64, 0 or 1. The targets' source columns are not inputs.
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
            Inputs. Numbers are int64 or float64, all else is category; "?" is a missing value
            (NaN), while "NA" and "Not in universe" are categories. Blanks around a value and the
            full stop after an income are removed.
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
    The sha256 of the test file is always checked. The authors of this package could not confirm
    the train file's, so its contents are checked instead: 199,523 rows of 42 columns, 12,382
    incomes above 50K and 86,485 persons never married.

    With "train" or "test" alone a column has the categories that occur in that file. If both
    parts must share their categories, load "all" and cut it at row 199,523.

    The two task groups are those of [2]_.

    References
    ----------
    .. [1] "Census-Income (KDD)", UCI Machine Learning Repository, 2000,
       https://archive.ics.uci.edu/dataset/117/census+income+kdd.
    .. [2] J. Ma, Z. Zhao, X. Yi, J. Chen, L. Hong and E. H. Chi, "Modeling Task Relationships in
       Multi-task Learning with Multi-gate Mixture-of-Experts", KDD 2018.

    Examples
    --------
    >>> from sk_mtl.datasets import fetch_census_income
    >>> X, Y = fetch_census_income(tasks="education-marital", return_X_y=True)  # doctest: +SKIP
    >>> list(Y.columns)  # doctest: +SKIP
    ['college', 'never_married']
    """
    return fetch(
        _CENSUS_INCOME,
        subset=subset,
        tasks=tasks,
        data_home=data_home,
        download_if_missing=download_if_missing,
        return_X_y=return_X_y,
    )

"""Data sets with several targets: two public census tables and three generators.

The loaders and generators return plain pandas or numpy objects; nothing here needs torch.
"""

from sk_mtl.datasets._adult import fetch_adult
from sk_mtl.datasets._census_income import fetch_census_income
from sk_mtl.datasets._census_like import make_census_like
from sk_mtl.datasets._click_conversion import make_click_conversion
from sk_mtl.datasets._correlated import make_correlated_tasks

__all__ = [
    "fetch_adult",
    "fetch_census_income",
    "make_census_like",
    "make_click_conversion",
    "make_correlated_tasks",
]

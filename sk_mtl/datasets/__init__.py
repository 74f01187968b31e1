"""Data sets with several targets: two public census tables and three generators.

Every loader and generator returns plain pandas or numpy objects; nothing here needs torch.
"""

from ._adult import fetch_adult
from ._census_income import fetch_census_income
from ._census_like import make_census_like
from ._click_conversion import make_click_conversion
from ._correlated import make_correlated_tasks

__all__ = [
    "fetch_adult",
    "fetch_census_income",
    "make_census_like",
    "make_click_conversion",
    "make_correlated_tasks",
]

"""Encodings of numbers: how numeric columns enter the network.

An estimator's `numeric_features` takes one by name or as an instance with options, a list of
several side by side, or a dict of these by column: ``numeric_features="quantile"``,
``["standardize", Periodic(sigma=1.0)]``, ``{"age": "piecewise", "zip": ["robust", "values"]}``.

=============  ==================  ================================================
"standardize"  `Standardize`       mean 0, variance 1
"passthrough"  `Passthrough`       as they are
"quantile"     `QuantileNormal`    normal scores of ranks, against heavy tails
"robust"       `RobustClip`        by median and quartiles, squashed far out
"piecewise"    `PiecewiseLinear`   a line that may bend at the edges of bins
"periodic"     `Periodic`          waves of learned frequencies
"values"       `ExactValues`       distinct values as categories
=============  ==================  ================================================

"auto" chooses by `choose_encodings`. What an encoding learns, but for the first two, stays as it
is at the first `fit` or `partial_fit`, and takes a dense X. Columns that have a single value then
are held at it.

- For authors: a new encoding is one subclass of `Encoding` and one `sk_mtl.nn.Block`.
  ``ENCODINGS`` lists all by name.
"""

from sk_mtl.numeric.affine import Passthrough, Standardize
from sk_mtl.numeric.base import Affine, Encoding
from sk_mtl.numeric.choose import (
    ENCODINGS,
    Group,
    choose_encodings,
    find_encoding_class,
    resolve_encodings,
)
from sk_mtl.numeric.periodic import Periodic
from sk_mtl.numeric.piecewise import PiecewiseLinear
from sk_mtl.numeric.quantile import QuantileNormal
from sk_mtl.numeric.robust import RobustClip
from sk_mtl.numeric.values import ExactValues

__all__ = [
    "ENCODINGS",
    "Affine",
    "Encoding",
    "ExactValues",
    "Group",
    "Passthrough",
    "Periodic",
    "PiecewiseLinear",
    "QuantileNormal",
    "RobustClip",
    "Standardize",
    "choose_encodings",
    "find_encoding_class",
    "resolve_encodings",
]

"""Kinds of categories: how categorical columns enter the network.

An estimator's `categorical_features` takes one as an instance with options, or a dict of them by
column: ``categorical_features=Categories(min_frequency=5)``, ``{"item": Hashed(), "tags": Bag()}``.

===========  ============  ===================================================
"learned"    `Categories`  a vocabulary that `fit` learns; the default
"hashed"     `Hashed`      ids without end, hashed into a table of fixed size
"bag"        `Bag`         several categories in each cell, pooled
===========  ============  ===================================================

Columns whose kinds name the same `vocabulary` share its categories and its table.
"""

from sk_mtl.categorical.bag import Bag
from sk_mtl.categorical.base import CategoricalEncoding
from sk_mtl.categorical.choose import KINDS, resolve_kinds
from sk_mtl.categorical.frequency import infrequent
from sk_mtl.categorical.hashed import Hashed
from sk_mtl.categorical.hashing import hash_integers, hash_value
from sk_mtl.categorical.learned import Categories
from sk_mtl.categorical.vectors import Vectors, read_vectors

__all__ = [
    "KINDS",
    "Bag",
    "CategoricalEncoding",
    "Categories",
    "Hashed",
    "Vectors",
    "hash_integers",
    "hash_value",
    "infrequent",
    "read_vectors",
    "resolve_kinds",
]

"""One module per contender; each is imported only in the process that measures it.

A module's `Contender` takes a `Job` and puts the table into the form that its library wants, which
is not timed. `fit` builds the model and trains it until the clock stops it; `inputs` cuts the rows
of a prediction, `predict` is timed. `by_epoch` says that the clock hears of epochs only.
"""

CONTENDERS = {
    "sk_mtl": "frames",
    "sk_mtl_array": "arrays",
    "loop": "loop",
    "limit": "limit",
    "deepctr_torch": "deepctr_torch",
    "torch_rechub": "torch_rechub",
    "deepctr": "deepctr",
    "scikit_learn": "scikit_learn",
}
"""Module of each contender."""

DISTRIBUTIONS = {
    "deepctr_torch": ("deepctr-torch",),
    "torch_rechub": ("torch-rechub",),
    "deepctr": ("deepctr", "tensorflow-cpu", "keras"),
    "scikit_learn": ("scikit-learn",),
}
"""Distributions behind the contenders from elsewhere."""


BULK_BATCH = 8_192
"""Rows per batch of a prediction; sk_mtl takes 4,096 of its own accord."""


class NoSuchModel(Exception):
    """The library has no such model."""

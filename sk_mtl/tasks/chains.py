"""Chains: binary tasks that are the steps of one way, such as click and conversion."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEGATIVE = re.compile(
    r"(no|non|none|not|never|nil|null|nothing|neg|negative|n|false|f|off|0|without|absent|missing)"
    r"([ _\-./].*)?|(no|non|not|un)[ _\-].+|",
    re.IGNORECASE,
)
"""Labels that say that something did not happen; the empty one too."""


def looks_negative(label: Any) -> bool:
    """Whether a label says that something did not happen."""
    return isinstance(label, str) and NEGATIVE.fullmatch(label.strip()) is not None


def complete_chain(targets: NDArray, usable: NDArray) -> tuple[NDArray, int]:
    """Fill in the labels that the others of a chain imply.

    After a step that was not reached none is reached; before a step that was reached all are.

    Parameters
    ----------
    targets : ndarray of shape (n, K)
        Steps in order: 1 reached, 0 not, NaN not observed.
    usable : ndarray of shape (n, K), bool
        Labels that may be filled in where they are NaN.

    Returns
    -------
    targets : ndarray of shape (n, K)
        With implied labels in place of NaN. A row that contradicts itself is left as it is.
    n_contradictions : int
        Number of rows that have come to a step without one before it.
    """
    n_steps = targets.shape[1]
    missed, reached = targets == 0, targets == 1
    first_missed = np.where(missed.any(axis=1), missed.argmax(axis=1), n_steps)
    last_reached = np.where(reached.any(axis=1), n_steps - 1 - reached[:, ::-1].argmax(axis=1), -1)
    contradicts = last_reached > first_missed
    gaps = np.isnan(targets) & usable & ~contradicts[:, None]
    step = np.arange(n_steps)
    filled = np.where(gaps & (step > first_missed[:, None]), 0.0, targets)
    filled = np.where(gaps & (step < last_reached[:, None]), 1.0, filled)
    return filled, int(contradicts.sum())

"""Probabilities with a given mean."""

import numpy as np
from numpy.typing import NDArray


def sigmoid(score: NDArray) -> NDArray:
    """Return the probabilities of log odds: ``1 / (1 + exp(-score))``, without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * score))


def rates_with_mean(score: NDArray, mean: float) -> NDArray:
    """Return the probabilities of scores that are shifted to give a wanted mean.

    Parameters
    ----------
    score : ndarray of shape (n,), float64
        Log odds up to a constant.
    mean : float
        The wanted mean, above 0 and below 1.

    Returns
    -------
    ndarray of shape (n,), float64
        ``sigmoid(score + b)`` with the `b` that gives the mean.
    """
    center = np.log(mean / (1.0 - mean))
    # With `low` no probability is above the wanted mean, with `high` none is below it.
    low, high = center - score.max(), center - score.min()
    while high - low > 1e-10:
        middle = 0.5 * (low + high)
        if sigmoid(score + middle).mean() < mean:
            low = middle
        else:
            high = middle
    return sigmoid(score + 0.5 * (low + high))

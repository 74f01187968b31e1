"""Probabilities with a given mean."""

from __future__ import annotations

import numpy as np


def sigmoid(score: np.ndarray) -> np.ndarray:
    """Map scores to probabilities.

    Parameters
    ----------
    score : ndarray of float64
        Log odds.

    Returns
    -------
    ndarray of float64
        ``1 / (1 + exp(-score))``, computed without overflow.
    """
    return 0.5 * (1.0 + np.tanh(0.5 * score))


def rates_with_mean(score: np.ndarray, mean: float) -> np.ndarray:
    """Shift scores so that their probabilities have a given mean.

    Parameters
    ----------
    score : ndarray of shape (n,), float64
        Log odds up to a constant.
    mean : float
        Wanted mean, strictly between 0 and 1.

    Returns
    -------
    ndarray of shape (n,), float64
        ``sigmoid(score + b)`` with the `b` that gives the mean.
    """
    centre = np.log(mean / (1.0 - mean))
    # At the ends all probabilities are below, or above, the wanted mean.
    low, high = centre - score.max(), centre - score.min()
    while high - low > 1e-10:
        middle = 0.5 * (low + high)
        if sigmoid(score + middle).mean() < mean:
            low = middle
        else:
            high = middle
    return sigmoid(score + 0.5 * (low + high))

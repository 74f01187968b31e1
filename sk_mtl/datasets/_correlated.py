"""Two regression tasks with a chosen correlation."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sk_mtl._checks import check_count, check_number
from sk_mtl.datasets._random import RandomState, as_generator


def make_correlated_tasks(
    n_samples: int = 1000,
    n_features: int = 100,
    *,
    task_correlation: float = 0.5,
    n_sines: int = 10,
    scale: float = 1.0,
    noise: float = 0.1,
    alphas: ArrayLike | None = None,
    betas: ArrayLike | None = None,
    return_coef: bool = False,
    random_state: RandomState = None,
) -> tuple[NDArray, ...]:
    r"""Generate two regression tasks; one number sets how related they are.

    This is the generator of the MMoE paper [1]_. With orthogonal unit vectors :math:`u_1, u_2`
    the tasks' weights are :math:`w_1 = c u_1` and :math:`w_2 = c (p u_1 + \sqrt{1 - p^2} u_2)`;
    the inputs are standard normal, and

    .. math:: y_k = w_k^T x + \sum_i \sin(\alpha_i w_k^T x + \beta_i) + \epsilon_k

    with normal noise. Both tasks share the constants :math:`\alpha_i, \beta_i`.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of rows.
    n_features : int, default=100
        Number of inputs, at least 2.
    task_correlation : float, default=0.5
        Cosine p of the angle between the two weight vectors, in [-1, 1]. The targets' Pearson
        correlation grows with p, and equals p without sines and noise.
    n_sines : int, default=10
        Number of sine terms; 0: linear tasks. Ignored if `alphas` or `betas` is given.
    scale : float, default=1.0
        Length c of the weight vectors, above 0.
    noise : float, default=0.1
        Standard deviation of the noise (a variance of 0.01, as in the paper).
    alphas, betas : array-like of shape (n_sines,) or None, default=None
        Frequencies and phases of the sines; None to draw them from a standard normal
        distribution, as in the PLE paper [2]_.
    return_coef : bool, default=False
        Whether to return the weight vectors too.
    random_state : int, RandomState, Generator or None, default=None
        Determines the numbers drawn. Frequencies, phases and weights are drawn too: split the
        rows of one call into training and test data rather than calling twice.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features), float64
        Inputs.
    Y : ndarray of shape (n_samples, 2), float64
        Targets.
    coef : ndarray of shape (n_features, 2), float64
        Weight vectors as columns. Only if `return_coef` is True.

    Raises
    ------
    ValueError
        If a number has the wrong type or is out of range (the error is a TypeError as well), or
        if `alphas` and `betas` are not finite one-dimensional arrays of the same length.

    References
    ----------
    .. [1] J. Ma, Z. Zhao, X. Yi, J. Chen, L. Hong and E. H. Chi, "Modeling Task Relationships in
       Multi-task Learning with Multi-gate Mixture-of-Experts", KDD 2018, section 3.3.
    .. [2] H. Tang, J. Liu, M. Zhao and X. Gong, "Progressive Layered Extraction (PLE): A Novel
       Multi-Task Learning (MTL) Model for Personalized Recommendations", RecSys 2020.

    Examples
    --------
    >>> from sk_mtl.datasets import make_correlated_tasks
    >>> X, Y = make_correlated_tasks(500, 20, task_correlation=0.9, random_state=0)
    >>> X.shape, Y.shape
    ((500, 20), (500, 2))
    """
    check_count("n_samples", n_samples)
    check_count("n_features", n_features, 2)
    check_count("n_sines", n_sines, 0)
    check_number("task_correlation", task_correlation, -1, 1)
    check_number("scale", scale, 0, above=True)
    check_number("noise", noise, 0)
    rng = as_generator(random_state)
    frequencies, phases = _sines(alphas, betas, n_sines, rng)

    orthonormal, _ = np.linalg.qr(rng.standard_normal((n_features, 2)))
    p = task_correlation
    coef = scale * orthonormal @ np.array([[1.0, p], [0.0, np.sqrt(1.0 - p * p)]])
    X = rng.standard_normal((n_samples, n_features))
    linear = X @ coef
    Y = linear + noise * rng.standard_normal(linear.shape)
    for frequency, phase in zip(frequencies, phases, strict=True):
        Y += np.sin(frequency * linear + phase)
    return (X, Y, coef) if return_coef else (X, Y)


def _sines(
    alphas: ArrayLike | None, betas: ArrayLike | None, n_sines: int, rng: np.random.Generator
) -> tuple[NDArray, NDArray]:
    """Return the frequencies and phases that are given, and draw those that are not."""
    given = [None if a is None else np.asarray(a, dtype=np.float64) for a in (alphas, betas)]
    for name, array in zip(("alphas", "betas"), given, strict=True):
        if array is not None and (array.ndim != 1 or not np.isfinite(array).all()):
            raise ValueError(
                f"`{name}` must be a one-dimensional array of finite numbers, got {array!r}."
            )
    lengths = [len(array) for array in given if array is not None] or [n_sines]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"`alphas` and `betas` must have the same length, got {lengths[0]} and {lengths[1]}."
        )
    size = lengths[0]
    frequencies, phases = (rng.standard_normal(size) if a is None else a for a in given)
    return frequencies, phases

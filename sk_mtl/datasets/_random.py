"""Random numbers for the generators, never drawn from numpy's global state."""

from __future__ import annotations

import numpy as np

RandomState = int | np.random.RandomState | np.random.Generator | None


def as_generator(random_state: RandomState) -> np.random.Generator:
    """Turn what scikit-learn calls a random state into a numpy generator.

    Parameters
    ----------
    random_state : int, numpy.random.RandomState, numpy.random.Generator or None
        An int gives the same numbers at every call. A RandomState or Generator is advanced. None
        gives different numbers at every call.

    Returns
    -------
    numpy.random.Generator
        The generator.

    Raises
    ------
    TypeError
        If `random_state` is none of these.
    ValueError
        If it is a negative int.
    """
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(0, 2**32, size=4, dtype=np.uint32))
    if random_state is None or isinstance(random_state, int | np.integer | np.random.Generator):
        return np.random.default_rng(random_state)
    raise TypeError(
        "random_state must be an int, a numpy RandomState or Generator, or None; got "
        f"{random_state!r}."
    )

"""Random numbers for the generators; numpy's global state is never touched."""

import numpy as np

from sk_mtl._checks import ParameterError

RandomState = int | np.random.RandomState | np.random.Generator | None


def as_generator(random_state: RandomState) -> np.random.Generator:
    """Return a numpy generator for what scikit-learn calls a random state.

    Parameters
    ----------
    random_state : int, numpy.random.RandomState, numpy.random.Generator or None
        An int gives the same numbers at every call. A RandomState or Generator moves on. None
        gives different numbers at every call.

    Raises
    ------
    ParameterError
        If `random_state` is none of these, or a negative int.
    """
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(0, 2**32, size=4, dtype=np.uint32))
    is_seed = isinstance(random_state, int | np.integer) and random_state >= 0
    if random_state is None or is_seed or isinstance(random_state, np.random.Generator):
        return np.random.default_rng(random_state)
    raise ParameterError(
        "`random_state` must be a non-negative int, a numpy RandomState or Generator, or None, "
        f"got {random_state!r}."
    )

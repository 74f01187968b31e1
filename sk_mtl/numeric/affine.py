"""Numbers as they are, or standardized."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from sk_mtl.numeric.base import Affine


class Standardize(Affine):
    """Subtract the mean, divide by the standard deviation; a missing number takes the mean.

    `partial_fit` updates mean and deviation by its rows. A sparse X stays sparse.

    Examples
    --------
    >>> from sk_mtl.numeric import Standardize
    >>> Standardize()
    Standardize()
    """

    name: ClassVar[str] = "standardize"

    def scales(self, means: NDArray, variances: NDArray, constant: NDArray) -> dict[str, NDArray]:
        """Return what the block takes; see `Affine.scales`.

        Parameters
        ----------
        means, variances, constant : ndarray of shape (F,)
            As there.
        """
        scale = np.sqrt(np.nan_to_num(variances))
        return {
            "mean": np.nan_to_num(means),
            "scale": np.where(constant, np.nan, scale),
            "fill": np.zeros(len(means)),
        }


class Passthrough(Affine):
    """Leave numbers as they are; a missing number takes the mean.

    A sparse X stays sparse.

    Examples
    --------
    >>> from sk_mtl.numeric import Passthrough
    >>> Passthrough()
    Passthrough()
    """

    name: ClassVar[str] = "passthrough"

    def scales(self, means: NDArray, variances: NDArray, constant: NDArray) -> dict[str, NDArray]:
        """Return what the block takes; see `Affine.scales`.

        Parameters
        ----------
        means, variances, constant : ndarray of shape (F,)
            As there.
        """
        n = len(means)
        return {
            "mean": np.zeros(n),
            "scale": np.where(constant, np.nan, np.ones(n)),
            "fill": np.nan_to_num(means),
        }

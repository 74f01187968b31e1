"""Numbers as waves of learned frequencies."""

from typing import Any, ClassVar

from numpy.typing import NDArray

from sk_mtl.numeric.base import Encoding
from sk_mtl.numeric.learned import common, read_columns
from sk_mtl.numeric.under import NUMBERS, fit_number


class Periodic(Encoding):
    """Embed numbers by cosines of learned frequencies and phases, with the number beside them.

    It is "PBLD" of RealMLP: cos(2 pi w z + b), a linear layer, and z itself. A missing number
    takes the median.

    Parameters
    ----------
    n_frequencies : int, default=16
        Frequencies per column.
    sigma : float, default=0.1
        Standard deviation of the initial frequencies. With a greater one (up to 100) the network
        tells closer values apart.
    embedding_dim : int, default=4
        Width of a column's vector, the number itself included; at least 2.
    number : {"robust", "quantile", "standardize"}, default="robust"
        The number z, as `RobustClip`, `QuantileNormal` or `Standardize` make it.

    References
    ----------
    D. Holzmüller, L. Grinsztajn, I. Steinwart, "Better by default: Strong pre-tuned MLPs and
    boosted trees on tabular data", NeurIPS 2024. Y. Gorishniy, I. Rubachev, A. Babenko, "On
    embeddings for numerical features in tabular deep learning", NeurIPS 2022.

    Examples
    --------
    >>> from sk_mtl.numeric import Periodic
    >>> Periodic(sigma=1.0)
    Periodic(sigma=1.0)
    """

    name: ClassVar[str] = "periodic"
    kind: ClassVar[str] = "periodic"
    exact: ClassVar[bool] = False

    def __init__(
        self,
        n_frequencies: int = 16,
        sigma: float = 0.1,
        embedding_dim: int = 4,
        number: str = "robust",
    ) -> None:
        self.n_frequencies = n_frequencies
        self.sigma = sigma
        self.embedding_dim = embedding_dim
        self.number = number

    def check(self) -> None:
        """Check the options."""
        self._count("n_frequencies")
        self._number("sigma", 0, above=True)
        self._count("embedding_dim", 2)
        self._choice("number", NUMBERS)

    def fit(self, values: NDArray, weight: NDArray | None = None) -> dict[str, Any]:
        """Learn the scale of the numbers.

        Parameters
        ----------
        values : ndarray of shape (n, F), float64
            The columns, NaN where missing.
        weight : ndarray of shape (n,), optional
            Weights of the rows.
        """
        return {
            "number": fit_number(self.number, values, weight),
            "n_frequencies": int(self.n_frequencies),
            "sigma": float(self.sigma),
            "embedding_dim": int(self.embedding_dim),
            **common(read_columns(values, weight)),
        }

"""Interactions of columns, between the embedding and the bottom."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sk_mtl.nn.tokens import ColumnTokens

FM_WIDTH = 8
N_CROSS_LAYERS = 2
MAX_CROSS = 5000
"""Numbers of a row up to which cross layers are built: each has as many weights as their square."""


class CrossNetwork(nn.Module):
    r"""Cross layers of DCN-v2: products of all numbers of a row, of bounded degree.

    .. math:: x_{l+1} = x_0 \odot (W_l x_l + b_l) + x_l

    Parameters
    ----------
    in_features : int
        Width D. Each layer has D x D weights.
    n_layers : int, default=2
        Number of layers; the products have one factor more at most.
    generator : torch.Generator, optional
        Source of the initial weights: Glorot uniform, biases zero.

    Attributes
    ----------
    out_features : int
        D.

    Notes
    -----
    Shape: (..., D) -> (..., D)

    References
    ----------
    R. Wang et al., "DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale
    Learning to Rank Systems", WWW 2021, equation 1, stacked before the network (section 3.4).

    Examples
    --------
    >>> import torch
    >>> from sk_mtl.nn import CrossNetwork
    >>> CrossNetwork(5)(torch.zeros(7, 5)).shape
    torch.Size([7, 5])
    """

    def __init__(
        self,
        in_features: int,
        n_layers: int = N_CROSS_LAYERS,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.out_features = in_features
        self.weight = nn.Parameter(torch.empty(n_layers, in_features, in_features))
        self.bias = nn.Parameter(torch.zeros(n_layers, in_features))
        bound = math.sqrt(3.0 / max(in_features, 1))
        with torch.no_grad():
            self.weight.uniform_(-bound, bound, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Return the numbers with their products."""
        first = x
        for weight, bias in zip(self.weight.unbind(), self.bias.unbind(), strict=True):
            x = torch.addcmul(x, first, nn.functional.linear(x, weight, bias))
        return x


class FMInteraction(nn.Module):
    r"""The second-order term of a factorization machine, set behind the input.

    With a vector :math:`v_j` of each of F columns,

    .. math::
        \sum_{i < j} v_i \odot v_j
        = \tfrac12 \Big[\Big(\sum_j v_j\Big)^2 - \sum_j v_j^2\Big]

    A column's vector is a linear map of its own, without a bias, of its numbers in the input: of
    a number :math:`x_j` it is :math:`x_j a_j`, as in the paper, and embeddings of any width come
    to one. So no column is left out. NOTE[DIFF]: the paper sums the term to a number; here the
    network gets all of its entries.

    Parameters
    ----------
    in_features : int
        Width D.
    columns : sequence of sequences of int
        The places of each column in the input, see `ColumnTokens`.
    width : int, default=8
        Width e of the columns' vectors.
    generator : torch.Generator, optional
        Source of the initial weights.

    Attributes
    ----------
    out_features : int
        D + e.

    Raises
    ------
    ValueError
        If there are fewer than two columns.

    Notes
    -----
    Shape: (..., D) -> (..., D + e). The places of columns stay what they are.

    References
    ----------
    S. Rendle, "Factorization Machines", ICDM 2010, equation 1 and lemma 3.1.

    Examples
    --------
    >>> import torch
    >>> from sk_mtl.nn import FMInteraction
    >>> FMInteraction(5, [[0], [1, 2], [3, 4]])(torch.zeros(7, 5)).shape
    torch.Size([7, 13])
    """

    def __init__(
        self,
        in_features: int,
        columns: Sequence[Sequence[int]],
        width: int = FM_WIDTH,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.vectors = ColumnTokens(in_features, columns, width, bias=False, generator=generator)
        if self.vectors.n_tokens < 2:
            raise ValueError(
                f"interaction='fm' multiplies columns, and X has {self.vectors.n_tokens}; pass "
                "interaction=None."
            )
        self.out_features = in_features + width

    def forward(self, x: Tensor) -> Tensor:
        """Return the input with the columns' products behind it."""
        vectors = self.vectors(x.flatten(0, -2)).squeeze(1)  # (rows, F, e)
        products = 0.5 * (vectors.sum(1).square() - vectors.square().sum(1))
        return torch.cat([x, products.unflatten(0, x.shape[:-1])], dim=-1)


def build_interaction(
    kind: str | None,
    in_features: int,
    columns: Sequence[Sequence[int]],
    generator: torch.Generator | None = None,
) -> CrossNetwork | FMInteraction | None:
    """Return the interaction that an estimator's parameter names: "fm", "cross" or None.

    Parameters
    ----------
    kind : {"fm", "cross"} or None
        The name.
    in_features, columns, generator
        As in `FMInteraction`.

    Raises
    ------
    ValueError
        If there are fewer than two columns to multiply, or more numbers than cross layers take.
    """
    if kind is None:
        return None
    if kind == "cross":
        if in_features > MAX_CROSS:
            raise ValueError(
                f"interaction='cross' has the square of a row's numbers as weights, and rows have "
                f"{in_features} numbers; at most {MAX_CROSS} are taken. Pass 'fm' or None."
            )
        return CrossNetwork(in_features, generator=generator)
    return FMInteraction(in_features, columns, generator=generator)

"""One vector of equal width for each column, and blocks of attention over them."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from sk_mtl.nn.stacked import Dropout, StackedLinear, StackedMLP


class ColumnTokens(nn.Module):
    r"""A token of equal width for each column, by a linear layer of the column's own.

    A column that is a plain number becomes :math:`x_j a_j + b_j`.

    Parameters
    ----------
    in_features : int
        Width D of the input.
    columns : sequence of sequences of int
        The places of each column in the input. Places of no column make one more token together.
    width : int
        Width e of the tokens.
    bias : bool, default=True
        Whether the layers add a bias.
    n_members : int, default=1
        Number M of members that have layers of their own.
    generator : torch.Generator, optional
        Source of the initial weights; the biases are drawn too.

    Attributes
    ----------
    n_tokens : int
        Number F of tokens: of columns with a place, and of the rest if there is any.

    Notes
    -----
    Shape: (B, D) -> (B, M, F, e). Columns of as many places run as one: their tokens stand side by
    side, the fewest places first.

    Biases do not start from zero: a normalization would leave nothing but the sign of
    :math:`x_j a_j`.
    """

    def __init__(
        self,
        in_features: int,
        columns: Sequence[Sequence[int]],
        width: int,
        *,
        bias: bool = True,
        n_members: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.n_members, self.width = n_members, width
        known = {place for column in columns for place in column}
        rest = [place for place in range(in_features) if place not in known]
        by_size: dict[int, list[list[int]]] = {}
        for column in [*columns, rest]:
            if len(column):
                by_size.setdefault(len(column), []).append(list(column))
        self.columns = [by_size[size] for size in sorted(by_size)]
        self.n_tokens = sum(map(len, self.columns))
        self.layers = nn.ModuleList()
        for index, alike in enumerate(self.columns):
            layer = StackedLinear(
                len(alike) * n_members, len(alike[0]), width, bias=bias, generator=generator
            )
            if layer.bias is not None:
                bound = 1.0 / math.sqrt(width)
                with torch.no_grad():
                    layer.bias.uniform_(-bound, bound, generator=generator)
            self.layers.append(layer)
            self.register_buffer(f"places_{index}", torch.tensor(alike).flatten(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the columns' tokens, (B, M, F, e)."""
        parts = []
        for index, alike in enumerate(self.columns):
            own = x.index_select(1, self.get_buffer(f"places_{index}"))
            own = own.unflatten(1, (len(alike), -1)).repeat(1, self.n_members, 1)
            parts.append(self.layers[index](own).unflatten(1, (self.n_members, -1)))
        if not parts:
            return x.new_empty(x.shape[0], self.n_members, 0, self.width)
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


class TaskTokens(nn.Module):
    """A learned token for each task, the same in every row.

    Parameters
    ----------
    n_tasks, width : int
        Number K of tasks, and width e of the tokens.
    n_members : int, default=1
        Number M of members that have tokens of their own.
    generator : torch.Generator, optional
        Source of the initial tokens.

    Notes
    -----
    Shape: number of rows B -> (B, M, K, e)
    """

    def __init__(
        self,
        n_tasks: int,
        width: int,
        *,
        n_members: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.n_members = n_members
        self.tokens = nn.Parameter(torch.empty(n_members * n_tasks, width))
        bound = 1.0 / math.sqrt(width)
        with torch.no_grad():
            self.tokens.uniform_(-bound, bound, generator=generator)

    def forward(self, n_rows: int) -> Tensor:
        """Return the tokens once per row, (B, M, K, e)."""
        return self.tokens.unflatten(0, (self.n_members, -1)).expand(n_rows, -1, -1, -1)

    def mask(self, n_tokens: int) -> Tensor:
        """Return what keeps each task from the others, (T, T), where tasks come first: 0, -inf."""
        n_tasks = len(self.tokens) // self.n_members
        mask = torch.zeros(n_tokens, n_tokens)
        mask[:n_tasks, :n_tasks].fill_(-torch.inf).fill_diagonal_(0.0)
        return mask

    def undecayed_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what weight decay leaves alone: the tokens, as it does embeddings."""
        yield self.tokens


class StackedLayerNorm(nn.LayerNorm):
    """Layer normalization with scales and shifts of each member: (..., M, e) -> (..., M, e)."""

    def __init__(self, n: int, width: int) -> None:
        super().__init__(width, elementwise_affine=False)
        self.weight = nn.Parameter(torch.ones(n, width))
        self.bias = nn.Parameter(torch.zeros(n, width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize each vector, then scale and shift it."""
        plain = nn.functional.layer_norm(x, self.normalized_shape, None, None, self.eps)
        return torch.addcmul(self.bias, plain, self.weight)


class EncoderBlock(nn.Module):
    r"""Attention over tokens and a network for each, with the normalizations before them.

    .. math::
        t' = t + \mathrm{attention}(\mathrm{norm}(t)), \qquad
        t'' = t' + \mathrm{MLP}(\mathrm{norm}'(t'))

    Parameters
    ----------
    width : int
        Width e of the tokens, a multiple of `n_heads`.
    n_heads : int
        Number of heads.
    hidden_width : int
        Width of the network's hidden layer.
    activation, dropout, batch_norm, n_members, generator
        As in `StackedMLP`; dropout is also on what is added to the tokens.

    Notes
    -----
    Shape: tokens (B, T, M, e), mask (Q, T) -> (B, Q, M, e). The mask is added to the scores of
    the first Q tokens, which alone attend and come back. Queries, keys and values have no bias.
    """

    def __init__(
        self,
        width: int,
        n_heads: int,
        hidden_width: int,
        *,
        activation: str = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
        n_members: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.n_heads, n = n_heads, n_members
        self.attention_norm, self.mlp_norm = StackedLayerNorm(n, width), StackedLayerNorm(n, width)
        self.query = StackedLinear(n, width, width, bias=False, generator=generator)
        self.key = StackedLinear(n, width, width, bias=False, generator=generator)
        self.value = StackedLinear(n, width, width, bias=False, generator=generator)
        self.joined = StackedLinear(n, width, width, generator=generator)
        self.mlp = StackedMLP(
            1,
            width,
            (hidden_width,),
            activation=activation,
            dropout=dropout,
            batch_norm=batch_norm,
            n_members=n_members,
            generator=generator,
        )
        self.output = StackedLinear(n, hidden_width, width, generator=generator)
        self.drop = Dropout(dropout)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return the first tokens after attention and network."""
        n_queries = len(mask)
        normal = self.attention_norm(tokens)
        query = self._heads(self.query, normal[:, :n_queries])  # (B, M, heads, Q, e / heads)
        key, value = self._heads(self.key, normal), self._heads(self.value, normal)
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        mixed = (scores + mask).softmax(-1) @ value
        by_token = mixed.permute(0, 3, 1, 2, 4).flatten(3)  # (B, Q, M, e)
        tokens = tokens[:, :n_queries] + self.drop(_each(self.joined, by_token))
        hidden = self.mlp(self.mlp_norm(tokens).flatten(0, 1))
        return tokens + self.drop(self.output(hidden).view(tokens.shape))

    def _heads(self, layer: nn.Module, tokens: Tensor) -> Tensor:
        """(B, T, M, e) -> (B, M, heads, T, e / heads)."""
        return _each(layer, tokens).unflatten(3, (self.n_heads, -1)).permute(0, 2, 3, 1, 4)


def _each(layer: nn.Module, tokens: Tensor) -> Tensor:
    """Apply a layer to every token: (B, T, M, in) -> (B, T, M, out)."""
    return layer(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])

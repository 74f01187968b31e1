"""MultiTab-Net: a token of each task attends to the columns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from sk_mtl.base import AT_LEAST_ONE, Interval, MultiTaskEstimator, StrOptions, Tasks, parameter
from sk_mtl.nn import ACTIVATIONS, ColumnTokens, EncoderBlock, TaskTokens

MAX_COLUMNS = 1000


class MultiTabNetBottom(nn.Module):
    """Tokens of tasks and of columns, and encoder blocks over them.

    Parameters
    ----------
    in_features, n_tasks : int
        Width D of the input, and number of tasks K.
    columns : sequence of sequences of int
        The places of each column in the input.
    token_width, n_blocks : int
        Width e of the tokens, and number of blocks.
    n_members, generator, **block
        As in `sk_mtl.nn.EncoderBlock`.

    Notes
    -----
    Shape: (B, D) -> (B, M * K, e)
    """

    mask: Tensor

    def __init__(
        self,
        in_features: int,
        n_tasks: int,
        *,
        columns: Sequence[Sequence[int]],
        token_width: int,
        n_blocks: int,
        n_members: int = 1,
        generator: torch.Generator | None = None,
        **block: Any,
    ) -> None:
        super().__init__()
        shared: dict[str, Any] = {"n_members": n_members, "generator": generator}
        self.n_tasks, self.out_features = n_tasks, token_width
        self.columns = ColumnTokens(in_features, columns, token_width, **shared)
        self.tasks = TaskTokens(n_tasks, token_width, **shared)
        self.blocks = nn.ModuleList(
            EncoderBlock(token_width, **block, **shared) for _ in range(n_blocks)
        )
        mask = self.tasks.mask(n_tasks + self.columns.n_tokens)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tasks' tokens after the last block, in which they alone attend."""
        tokens = torch.cat([self.tasks(x.shape[0]), self.columns(x)], dim=2).transpose(1, 2)
        for index, block in enumerate(self.blocks, 1):
            last = index == len(self.blocks)
            tokens = block(tokens, self.mask[: self.n_tasks] if last else self.mask)
        return tokens.transpose(1, 2).flatten(1, 2)

    def own_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what a single task moves: its token, unless columns attend to it before."""
        if len(self.blocks) == 1:
            yield from self.tasks.parameters()


@dataclass(kw_only=True, eq=False, repr=False)
class MultiTabNet(MultiTaskEstimator):
    r"""MultiTab-Net without attention over rows: each task attends to the columns.

    Every column is a token, and so is every task. Blocks of attention let a task look at columns,
    and columns at one another. At most 1,000 columns: with two blocks cost grows by their square.

    Parameters
    ----------
    token_width : int, default=16
        Width of the tokens, a multiple of `n_heads`.
    n_blocks : int, default=1
        Number of encoder blocks. With one, columns do not attend to each other.
    n_heads : int, default=4
        Number of heads of attention.
    hidden_width : int, default=256
        Width of the hidden layer in each block.
    activation : str, default="gelu"
        Activation of hidden layers, those of the towers too: a key of `sk_mtl.nn.ACTIVATIONS`.
    {common_parameters}

    Attributes
    ----------
    {common_attributes}

    Notes
    -----
    With a task's token :math:`q_k`, and a linear layer of its own for each column, a number
    :math:`x_j` becoming :math:`x_j a_j + b_j`:

    .. math:: h_k = \mathrm{blocks}([q_1, \dots, q_K, c_1(x), \dots, c_F(x)])_k

    A task's token attends to itself and to all columns, not to other tasks; columns attend to all
    tokens. So with several blocks tasks meet in the columns, with one they do not.

    NOTE[DIFF]: attention over the rows of a batch is left out, for predictions must not depend on
    the batch. Embeddings of categories pass a linear layer too. There is no normalization after
    the last block, and dropout is where `sk_mtl.nn.EncoderBlock` has it.

    References
    ----------
    "MultiTab-Net", AAAI 2026; its authors' code is github.com/Armanfard-Lab/MultiTab.

    Examples
    --------
    >>> from sk_mtl import MultiTabNet
    >>> from sk_mtl.datasets import make_census_like
    >>> X, Y = make_census_like(500, random_state=0)
    >>> MultiTabNet(max_epochs=2, random_state=0).fit(X, Y).predict(X).shape
    (500, 3)
    """

    token_width: int = parameter(16, Interval(Integral, 2, None, closed="left"), search=[8, 16, 32])
    n_blocks: int = parameter(1, AT_LEAST_ONE, search=[1, 2])
    n_heads: int = parameter(4, AT_LEAST_ONE)
    hidden_width: int = parameter(256, AT_LEAST_ONE, search=[64, 128, 256])
    activation: str = parameter("gelu", StrOptions(set(ACTIVATIONS)), search=["gelu", "relu"])

    def _check_architecture(self) -> None:
        if self.token_width % self.n_heads:
            raise ValueError(
                f"`token_width`={self.token_width} is no multiple of `n_heads`={self.n_heads}."
            )

    def _describe(self, tasks: Tasks, columns: dict[Any, list[int]]) -> dict[str, Any]:
        if len(columns) > MAX_COLUMNS:
            raise ValueError(
                f"X has {len(columns)} columns and MultiTabNet takes {MAX_COLUMNS}; pass fewer."
            )
        return {"columns": list(columns.values())}

    def _build_bottom(self, in_features: int, n_tasks: int, **network: Any) -> nn.Module:
        for name in ("token_width", "n_blocks", "n_heads", "hidden_width"):
            network[name] = getattr(self, name)
        return MultiTabNetBottom(in_features, n_tasks, **network)

"""Many small networks of the same shape as one product per layer."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sk_mtl.nn.chain import Layer, linear, relu_chain, spread

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "leaky_relu": nn.LeakyReLU,
    "sigmoid": nn.Sigmoid,
}
"""The activations that estimators accept by name."""


class StackedLinear(nn.Module):
    """``n`` linear layers of one shape, held in one weight.

    Each slice starts like a layer of its own: Glorot uniform over its own fan-in and fan-out,
    biases zero.

    Parameters
    ----------
    n : int
        Number of layers.
    in_features, out_features : int
        Width of the input and of the output of each layer.
    bias : bool, default=True
        Whether the layers add a bias.
    generator : torch.Generator, optional
        Source of the initial weights; torch's global one if None.

    Notes
    -----
    Shape: (B, in) -> (B, n, out), one input shared by all layers, or
    (B, g, in) -> (B, n, out), g inputs, each shared by n / g successive layers.

    Examples
    --------
    >>> import torch
    >>> StackedLinear(3, 5, 2)(torch.zeros(7, 5)).shape
    torch.Size([7, 3, 2])
    >>> StackedLinear(3, 5, 2)(torch.zeros(7, 3, 5)).shape
    torch.Size([7, 3, 2])
    """

    def __init__(
        self,
        n: int,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.n, self.in_features, self.out_features = n, in_features, out_features
        self.weight = nn.Parameter(torch.empty(n, out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(n, out_features)) if bias else None
        bound = math.sqrt(6.0 / (in_features + out_features))
        with torch.no_grad():
            self.weight.uniform_(-bound, bound, generator=generator)

    @classmethod
    def from_linears(cls, linears: Sequence[nn.Linear]) -> "StackedLinear":
        """Stack given linear layers of one shape, weights copied."""
        first = linears[0]
        stacked = cls(
            len(linears), first.in_features, first.out_features, bias=first.bias is not None
        )
        stacked = stacked.to(first.weight.dtype)
        with torch.no_grad():
            stacked.weight.copy_(torch.stack([linear.weight for linear in linears]))
            if stacked.bias is not None:
                stacked.bias.copy_(torch.stack([linear.bias for linear in linears]))
        return stacked

    def forward(self, x: Tensor) -> Tensor:
        """Apply every layer: (B, in) or (B, g, in) -> (B, n, out)."""
        return linear(spread(x, self.n), self.weight, self.bias).transpose(0, 1)

    @property
    def layer(self) -> Layer:
        """The parameters, as `relu_chain` takes them."""
        return self.weight, self.bias

    def extra_repr(self) -> str:
        """Sizes, for the printed module."""
        return f"{self.n}, {self.in_features}, {self.out_features}, bias={self.bias is not None}"


class Dropout(nn.Module):
    """Inverted dropout that can draw from a generator of its own, and draws fast.

    ``torch.nn.functional.dropout`` only knows torch's global generator, which a ``fit`` must
    neither read nor move.

    Parameters
    ----------
    p : float
        Probability of zeroing an element while training, taken as a multiple of 2**-16.

    Attributes
    ----------
    generator : torch.Generator or None
        Source of the masks, set for the time of a training run; torch's global one if None.
    """

    generator: torch.Generator | None

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.generator = None

    def forward(self, x: Tensor) -> Tensor:
        """Zero elements with probability ``p`` in training, identity otherwise."""
        if not self.training or self.p == 0.0:
            return x
        if self.p == 1.0:
            return torch.zeros_like(x)
        like = torch.empty_like(x, dtype=torch.int16)
        # Four elements of each draw: on a CPU torch's `bernoulli_` takes four times as long.
        draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64, device=x.device)
        draws.random_(-(2**63), None, generator=self.generator)
        level = min(max(round((1.0 - self.p) * 2**16), 1), 2**16 - 1)
        kept = draws.view(torch.int16).as_strided(like.shape, like.stride()) < level - 2**15
        return x * kept.to(x.dtype).mul_(2**16 / level)

    def extra_repr(self) -> str:
        """Probability, for the printed module."""
        return f"p={self.p}"


class StackedBatchNorm(nn.Module):
    """Batch normalization of each feature of each of ``n`` stacked layers: (B, n, H)."""

    def __init__(self, n: int, features: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(n * features)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize each (layer, feature) over the batch."""
        return self.norm(x.flatten(1)).reshape(x.shape)


class StackedMLP(nn.Module):
    """``n`` multi-layer perceptrons of one shape: linear, batch norm, activation, dropout.

    Parameters
    ----------
    n : int
        Number of networks.
    in_features : int
        Width of the input.
    units : sequence of int
        Width of each hidden layer; empty: the input is passed on as it is.
    activation : str, default="relu"
        A key of `ACTIVATIONS`.
    dropout : float, default=0.0
        Probability of dropping a hidden unit in training.
    batch_norm : bool, default=False
        Whether to normalize before the activation.
    n_members : int, default=1
        Number M of members that have `n` networks each, member after member.
    generator : torch.Generator, optional
        Source of the initial weights.

    Attributes
    ----------
    out_features : int
        Width of the output.

    Notes
    -----
    Shape: (B, in) or (B, g, in) with g dividing M * n -> (B, M * n, units[-1]). Each of g inputs
    is read by as many successive networks.
    """

    def __init__(
        self,
        n: int,
        in_features: int,
        units: Sequence[int],
        *,
        activation: str = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
        n_members: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        n = n * n_members
        layers: list[nn.Module] = []
        width = in_features
        for unit in units:
            layers.append(StackedLinear(n, width, unit, generator=generator))
            if batch_norm:
                layers.append(StackedBatchNorm(n, unit))
            layers.append(ACTIVATIONS[activation]())
            if dropout:
                layers.append(Dropout(dropout))
            width = unit
        self.layers = nn.Sequential(*layers)
        self.out_features = width
        self.plain = activation == "relu" and not batch_norm and not dropout
        self.linears: tuple[Any, ...] = tuple(layers[::2]) if self.plain else ()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers: (B, in) or (B, g, in) -> (B, n, out)."""
        return self.then(x, None, "relu")

    def then(self, x: Tensor, output: StackedLinear | None, last: str) -> Tensor:
        """Apply the layers and a last one.

        Parameters
        ----------
        x : Tensor of shape (B, in) or (B, g, in)
            The input.
        output : StackedLinear or None
            The last layer; None: the own last layer is the last.
        last : {"relu", "linear", "softmax"}
            What follows the last layer.

        Returns
        -------
        Tensor of shape (B, n, out)
        """
        if self.plain and not torch.compiler.is_compiling():
            layers = [linear.layer for linear in self.linears]
            if output is not None:
                layers.append(output.layer)
            if last == "softmax" and not torch.is_grad_enabled():
                # The chain's is the faster one, but its last bit depends on a row's position.
                return relu_chain(x, layers, "linear").softmax(-1)
            return relu_chain(x, layers, last) if layers else x
        x = self.layers(x)
        if output is not None:
            x = output(x)
        return x.softmax(-1) if last == "softmax" else x


class _Undrawn(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        return func(*args, **(kwargs or {}))


def undrawn() -> Any:
    """Leave initial weights undrawn while the block runs, in this thread.

    For modules whose weights are filled in afterwards: the memory is not even touched.
    """
    return _Undrawn()

"""Gates whose factors scale a vector number by number."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sk_mtl.nn.stacked import StackedLinear, StackedMLP


class FactorGates(nn.Module):
    r"""``n_gates`` gates of ``n_factors`` factors each, all of them 1 at first.

    PEPNet's GateNU (KDD 2023), :math:`\gamma\, \sigma(W' \phi(W a + b) + b')`, with
    :math:`\gamma = 2` and a last layer that starts from zero.

    Parameters
    ----------
    n_gates : int
        Number of gates.
    in_features : int
        Width of the gates' input a.
    n_factors : int
        Number of factors of each gate, the width of what it scales.
    units : sequence of int
        Widths of the hidden layers; the paper has one.
    streams : sequence of (int or str), optional
        What each gate belongs to: the position of a task, or the name of a stream that is no
        task's own. Default: the tasks in order.
    activation : str, default="relu"
        The hidden layers' :math:`\phi`.
    n_members : int, default=1
        Number M of members that have `n_gates` gates each, member after member.
    generator : torch.Generator, optional
        Source of the hidden layers' initial weights.

    Notes
    -----
    Shape: (B, D) or (B, g, D) with g dividing M * n_gates -> (B, M * n_gates, n_factors), between
    0 and 2. A row's factors depend on that row only: there is no dropout and no batch norm.
    NOTE[DIFF]: the sources do not say how the last layer starts.

    Examples
    --------
    >>> import torch
    >>> from sk_mtl.nn import FactorGates
    >>> FactorGates(3, 5, 2, (4,))(torch.randn(7, 5)).unique()
    tensor([1.], grad_fn=<Unique2Backward0>)
    """

    scale = 2.0

    def __init__(
        self,
        n_gates: int,
        in_features: int,
        n_factors: int,
        units: Sequence[int],
        *,
        streams: Sequence[int | str] | None = None,
        activation: str = "relu",
        n_members: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.streams = tuple(range(n_gates) if streams is None else streams)
        n_gates = n_gates * n_members
        self.hidden = StackedMLP(
            n_gates, in_features, units, activation=activation, generator=generator
        )
        self.scores = StackedLinear(
            n_gates, self.hidden.out_features, n_factors, generator=generator
        )
        with torch.no_grad():
            self.scores.weight.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Return the factors, (B, M * n_gates, n_factors)."""
        return self.scale * self.hidden.then(x, self.scores, "linear").sigmoid()


class SteeredMLP(nn.Module):
    r"""Networks whose hidden layers are scaled by gates on what steers them: PPNet of PEPNet.

    .. math:: h_{k,l} = \mathrm{gate}_{k,l}(s) \odot f(W_{k,l} h_{k,l-1} + b_{k,l})

    Parameters
    ----------
    n : int
        Number K of networks.
    in_features, steering_features : int
        Width D of the input, and width S of what steers.
    units : sequence of int
        Widths of the hidden layers; at least one.
    gate_units : sequence of int
        Widths of the gates' hidden layers.
    activation, dropout, batch_norm, n_members, generator
        As in `StackedMLP`. Gates have neither dropout nor batch norm.

    Notes
    -----
    Shape: (B, g, D), (B, g, S) -> (B, M * K, units[-1]), with g = 1 or M.
    """

    def __init__(
        self,
        n: int,
        in_features: int,
        steering_features: int,
        *,
        units: Sequence[int],
        gate_units: Sequence[int],
        activation: str = "relu",
        dropout: float = 0.0,
        batch_norm: bool = False,
        n_members: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.layers, self.gates = nn.ModuleList(), nn.ModuleList()
        width = in_features
        for unit in units:
            layer = StackedMLP(
                n,
                width,
                (unit,),
                activation=activation,
                dropout=dropout,
                batch_norm=batch_norm,
                n_members=n_members,
                generator=generator,
            )
            gates = FactorGates(
                n,
                steering_features,
                unit,
                gate_units,
                activation=activation,
                n_members=n_members,
                generator=generator,
            )
            self.layers.append(layer)
            self.gates.append(gates)
            width = unit
        self.out_features = width

    def forward(self, x: Tensor, steering: Tensor) -> Tensor:
        """Return the last layers, scaled."""
        for layer, gates in zip(self.layers, self.gates, strict=True):
            x = layer(x) * gates(steering)
        return x

"""DSelect-k gates: they choose a few experts by binary codes, smoothly, and drop the others."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sk_mtl._checks import Options, ParameterError, check_count, check_number
from sk_mtl.nn.gating import BatchPenalty, ExpertBalance, Gates, which_experts
from sk_mtl.nn.stacked import StackedLinear, StackedMLP

EPSILON = 1e-6


class DSelectK(Options):
    """Options of DSelect-k gates, for the parameter `gate` of `MMoE`, `CGC` and `PLE`.

    Parameters
    ----------
    n_selectors : int, default=2
        The k of the name: how many experts a gate mixes at most, once its selectors have settled.
    conditioned : bool, default=True
        Whether a gate reads the row ("per-example gating"). If not, its weights are the same for
        all rows.
    gamma : float, default=1.0
        Width of the smooth step. A selector's bit is settled, and learns no more, where its score
        is beyond ``gamma / 2``.
    entropy : float, default=0.0
        Weight of the penalty on the entropy of each selector, which makes selectors settle
        sooner.

    See Also
    --------
    DSelectGates : The gates, and what they compute.

    Examples
    --------
    >>> from sk_mtl import MMoE
    >>> from sk_mtl.datasets import make_census_like
    >>> from sk_mtl.nn import DSelectK
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = MMoE(gate=DSelectK(n_selectors=1), n_experts=4, max_epochs=2, random_state=0)
    >>> model.set_params(gate__gamma=0.5).fit(X, Y).predict(X).shape
    (500, 3)
    """

    def __init__(
        self,
        n_selectors: int = 2,
        conditioned: bool = True,
        gamma: float = 1.0,
        entropy: float = 0.0,
    ) -> None:
        self.n_selectors, self.conditioned = n_selectors, conditioned
        self.gamma, self.entropy = gamma, entropy


def check_gate(gate: str | DSelectK, units: Sequence[int]) -> None:
    """Check the options of a kind of gate, and that it has a use for hidden layers.

    Parameters
    ----------
    gate : str or DSelectK
        The parameter `gate` of an estimator.
    units : sequence of int
        Its parameter `gate_units`.

    Raises
    ------
    ParameterError
        If an option has a wrong value, or a gate that reads no input shall have hidden layers.
    """
    if isinstance(gate, str):
        return
    check_count("gate__n_selectors", gate.n_selectors)
    check_number("gate__gamma", gate.gamma, 0, above=True)
    check_number("gate__entropy", gate.entropy, 0)
    if not isinstance(gate.conditioned, bool):
        raise ParameterError(
            f"`gate__conditioned` must be True or False, got {gate.conditioned!r}."
        )
    if len(units) and not gate.conditioned:
        raise ParameterError(
            f"`gate_units` is {units!r} and `gate__conditioned` is False: such a gate reads no "
            "input that hidden layers could read. Pass `gate_units=()`, or conditioned=True."
        )


def make_gates(
    gate: str | DSelectK, n_gates: int, in_features: int, n_experts: int, **network: Any
) -> "Gates | DSelectGates":
    """Return gates of a kind.

    Parameters
    ----------
    gate : "softmax", "dselect_k" or DSelectK
        The kind: `Gates`, or `DSelectGates` with the default options or those given.
    n_gates, in_features, n_experts
        As in `Gates`.
    **network
        Further parameters of both.

    Returns
    -------
    Gates or DSelectGates
    """
    if gate == "softmax":
        return Gates(n_gates, in_features, n_experts, **network)
    network |= (gate if isinstance(gate, DSelectK) else DSelectK()).get_params()
    return DSelectGates(n_gates, in_features, n_experts, **network)


class DSelectGates(nn.Module):
    r"""``n_gates`` DSelect-k gates over ``n_experts`` experts each.

    A gate has k selectors. The selector j holds a score for each of the
    :math:`m = \lceil \log_2 E \rceil` bits of an expert's number; with the smooth step S its
    weights are one-hot once all scores are beyond :math:`\pm\gamma/2`, and the gate mixes its
    selectors by a softmax of k further scores.

    .. math::
        S(t) &= -\frac{2}{\gamma^3} t^3 + \frac{3}{2\gamma} t + \frac12
        \quad (|t| \le \gamma/2), \qquad 0 \text{ below}, \quad 1 \text{ above} \\
        r_j(i) &= \prod_{b=1}^{m} S(z_{jb}) \text{ where bit } b \text{ of } i \text{ is 1, else }
        1 - S(z_{jb}) \\
        g_i &= \sum_j \mathrm{softmax}(w)_j\, r_j(i)

    Bits count from the most significant one. z and w are an affine function of the input, or of
    hidden layers over it; without `conditioned` they are parameters. All scores start near zero,
    so that the weights are nearly even at first.

    In training mode there are two penalties, for each selector and on the mean over rows: its
    entropy, :math:`-\sum_i r_j(i) \log(r_j(i) + 10^{-6})`, times `entropy`; and, unless the number
    of experts is a power of two, :math:`1 / \sum_{i<E} r_j(i)`, since a selector may then point to
    a number that no expert has. Its weights sum to less than one as far as it does; they are not
    normalized.

    Parameters
    ----------
    n_gates, in_features, n_experts, units, streams
        As in `Gates`.
    experts, balance, activation, n_members, generator
        As in `Gates`.
    n_selectors, conditioned, gamma, entropy
        As in `DSelectK`.

    Notes
    -----
    Shape: (B, D) or (B, g, D) with g dividing M * n_gates -> (B, M * n_gates, n_experts),
    non-negative. A row's gate depends on that row only, or on none. One expert has the weight one.

    NOTE[DIFF]: the authors' code sums a conditioned gate's penalties over the rows of a batch;
    here they are means, as the losses are. There the entropy's weight may follow a schedule; here
    it is constant. The sum in the second penalty's denominator is at least 1e-6 here, so that a
    step that leaps to a number without an expert does not end in an infinite loss. Weight decay
    leaves scores that are parameters alone, as it does biases.

    References
    ----------
    H. Hazimeh et al., "DSelect-k: Differentiable Selection in the Mixture of Experts with
    Applications to Multi-Task Learning", NeurIPS 2021, and the authors' code.

    Examples
    --------
    >>> import torch
    >>> from sk_mtl.nn import DSelectGates
    >>> gates = DSelectGates(3, 5, 8, n_selectors=1)
    >>> weights = gates(torch.randn(7, 5))
    >>> weights.shape
    torch.Size([7, 3, 8])
    """

    def __init__(
        self,
        n_gates: int,
        in_features: int,
        n_experts: int,
        units: Sequence[int] = (),
        *,
        n_selectors: int = 2,
        conditioned: bool = True,
        gamma: float = 1.0,
        entropy: float = 0.0,
        streams: Sequence[int | str] | None = None,
        experts: Sequence[Sequence[int]] | None = None,
        balance: float = 0.0,
        activation: str = "relu",
        n_members: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.streams = tuple(range(n_gates) if streams is None else streams)
        self.experts = which_experts(n_gates, n_experts, experts)
        self.n_experts, self.n_selectors, self.gamma = n_experts, n_selectors, gamma
        self.n_gates = n_gates * n_members
        self.n_bits = (n_experts - 1).bit_length()
        self.sizes = [n_selectors * self.n_bits, n_selectors]  # of z and of w
        self.balance, self.selection = None, None
        if n_experts == 1:
            return
        if balance:
            self.balance = ExpertBalance(self.experts, balance, n_members)
        selection = SelectorPenalty(entropy, n_experts, n_members)
        if selection.counts:
            self.selection = selection
        if conditioned:
            self.hidden = StackedMLP(
                self.n_gates, in_features, units, activation=activation, generator=generator
            )
            self.scores = StackedLinear(
                self.n_gates, self.hidden.out_features, sum(self.sizes), generator=generator
            )
            assert self.scores.bias is not None
            self._start(self.scores.weight, 1, generator)
            self._start(self.scores.bias, 1, generator)
        else:
            # The scores of a gate that reads zeros.
            self.bias = nn.Parameter(torch.empty(self.n_gates, sum(self.sizes)))
            self._start(self.bias, 1, generator)

    def _start(self, scores: Tensor, dim: int, generator: torch.Generator | None) -> None:
        """Draw initial weights: z and w each have their range, the same for kernel and bias."""
        with torch.no_grad():
            z, w = scores.split(self.sizes, dim)
            z.uniform_(-self.gamma / 100, self.gamma / 100, generator=generator)
            w.uniform_(-0.05, 0.05, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gates' weights, (B, M * n_gates, n_experts)."""
        if self.n_experts == 1:
            return x.new_ones(x.shape[0], self.n_gates, 1)
        if hasattr(self, "scores"):
            scores = self.hidden.then(x, self.scores, "linear")
        else:
            scores = self.bias.unsqueeze(0)
        z, w = scores.split(self.sizes, 2)
        # Rows last in memory: operations over two or three numbers at a time would be slow.
        z = z.permute(2, 1, 0).contiguous()  # (k * m, M * n_gates, B or 1)
        bits = smooth_step(z / self.gamma).unflatten(0, (self.n_selectors, self.n_bits))
        selectors = codes(bits)[:, : self.n_experts]  # (k, E, M * n_gates, B or 1)
        shares = w.softmax(2).permute(2, 1, 0).unsqueeze(1)
        weights = (shares * selectors).sum(0).permute(2, 1, 0)
        if self.training:
            if self.selection is not None:
                self.selection(selectors)
            if self.balance is not None:
                self.balance(weights)
        return weights.expand(x.shape[0], -1, -1)


class SelectorPenalty(BatchPenalty):
    """What DSelect-k pays for selectors that are undecided, or point to no expert.

    Parameters
    ----------
    entropy : float
        Weight of the selectors' entropy.
    n_experts : int
        Number of experts.
    n_members : int, default=1
        Number M of members; the penalty is their mean.

    Attributes
    ----------
    counts : bool
        Whether there is anything to pay for.

    Notes
    -----
    Shape: (k, n_experts, M * n_gates, B), the selectors' weights -> None
    """

    def __init__(self, entropy: float, n_experts: int, n_members: int = 1) -> None:
        super().__init__()
        self.entropy, self.n_members = entropy, n_members
        self.reaches_too_far = n_experts & (n_experts - 1) != 0
        self.counts = bool(entropy) or self.reaches_too_far

    def measure(self, selectors: Tensor, /) -> Tensor:
        """Return the penalty: a sum over gates and selectors, a mean over rows and members."""
        each = selectors.new_zeros(())
        if self.entropy:
            each = -self.entropy * (selectors * (selectors + EPSILON).log()).sum(1)
        if self.reaches_too_far:
            each = each + selectors.sum(1).clamp_min(EPSILON).reciprocal()
        return each.mean(2).sum() / self.n_members


def smooth_step(t: Tensor) -> Tensor:
    """Return 0 up to -1/2, 1 from 1/2 on, and between them a cubic without a kink."""
    t = t.clamp(-0.5, 0.5)
    return t * (1.5 - 2 * t.square()) + 0.5


def codes(bits: Tensor) -> Tensor:
    """Return for each number the product of what its bits contribute.

    Parameters
    ----------
    bits : Tensor of shape (k, m, ...)
        What a bit that is one contributes; one that is zero contributes the rest to one.

    Returns
    -------
    Tensor of shape (k, 2**m, ...)
        By number; the first bit is the most significant.
    """
    first, *others = bits.unsqueeze(1).unbind(2)
    products = torch.cat([1 - first, first], dim=1)
    for bit in others:
        products = torch.stack([products * (1 - bit), products * bit], dim=2).flatten(1, 2)
    return products

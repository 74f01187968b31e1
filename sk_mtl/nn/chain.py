"""Stacked layers in a row as one step of autograd: the same products, fewer passes over memory."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Layer = tuple[Tensor, Tensor | None]
"""Weight (n, out, in) and bias (n, out), or no bias."""


def relu_chain(x: Tensor, layers: Sequence[Layer], last: str = "relu") -> Tensor:
    """Apply stacked linear layers with a ReLU after each.

    What autograd would do with an operation each, with activations in place, no copy between
    layouts but where a product needs it, and one node in the graph.

    Parameters
    ----------
    x : Tensor of shape (B, in) or (B, g, in)
        One input for all of n networks, or g inputs, each for n / g successive networks.
    layers : sequence of (weight, bias)
        At least one.
    last : {"relu", "linear", "softmax"}, default="relu"
        What follows the last layer; "softmax" goes over its outputs.

    Returns
    -------
    Tensor of shape (B, n, out)
        A view: in memory the networks come first, and with "softmax" the rows last.
    """
    parameters = [part for layer in layers for part in layer]
    return _ReluChain.apply(x, last, *parameters)


class _ReluChain(torch.autograd.Function):
    """Network-major inside: (n, B, width); only a first layer that all share has one matrix."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, last: str, *parameters: Tensor | None) -> Tensor:
        weights, biases = parameters[::2], parameters[1::2]
        first: Tensor = weights[0]  # type: ignore[assignment]
        n = first.shape[0]
        a = spread(x, n)
        shared = a.ndim == 2
        inputs, end = [], len(weights) - 1
        for index, (w, b) in enumerate(zip(weights, biases, strict=True)):
            assert w is not None
            inputs.append(a)
            softmax = index == end and last == "softmax"
            if softmax and b is None and a.ndim == 3:
                # Rows last: a softmax over a middle dimension runs over whole vectors of rows.
                a = torch.bmm(w, a.transpose(1, 2)).softmax(1)  # (n, out, B)
                break
            a = linear(a, w, b)
            if softmax:
                a = a.transpose(1, 2).contiguous().softmax(1)
            elif index != end or last == "relu":
                a.relu_()
            if n == 1 and index != end:
                a = a[0]  # a single network: plain matrices all the way
        ctx.last, ctx.shared, ctx.shape = last, shared, x.shape
        ctx.with_bias = [b is not None for b in biases]
        ctx.save_for_backward(a, *inputs, *weights)
        return a.permute(2, 0, 1) if last == "softmax" else a.transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        out, *saved = ctx.saved_tensors
        n_layers = len(ctx.with_bias)
        inputs, weights = saved[:n_layers], saved[n_layers:]
        gradients: list[Tensor | None] = [None] * (2 * n_layers)
        g: Tensor = grad.transpose(0, 1)  # (n, B, out)
        for index in range(n_layers - 1, -1, -1):
            a, w = inputs[index], weights[index]
            kind = ctx.last if index == n_layers - 1 else "relu"
            flat = a.ndim == 2
            g = _through(kind, g, out, flat)
            if ctx.with_bias[index]:
                gradients[2 * index + 1] = g.sum(1)
            wanted = index > 0 or ctx.needs_input_grad[0]
            if flat:
                rows = g.transpose(0, 1).flatten(1)  # (B, n * out), a view
                gradients[2 * index] = torch.mm(rows.t(), a).view_as(w)
                g = torch.mm(rows, w.flatten(0, 1)) if wanted else g
                if index > 0:
                    g, a = g.unsqueeze(0), a.unsqueeze(0)
            else:
                gradients[2 * index] = torch.bmm(g.transpose(1, 2), a)
                g = torch.bmm(g, w) if wanted else g
            out = a
        if not ctx.needs_input_grad[0]:
            return None, None, *gradients
        return _gather(g, ctx.shape, ctx.shared), None, *gradients


def linear(a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    """(B, in) or (n, B, in) -> (n, B, out)."""
    if a.ndim == 2:
        flat = w.flatten(0, 1).t()
        out = torch.mm(a, flat) if b is None else torch.addmm(b.flatten(), a, flat)
        return out.unflatten(1, w.shape[:2]).transpose(0, 1)
    if b is None:
        return torch.bmm(a, w.transpose(1, 2))
    return torch.baddbmm(b.unsqueeze(1), a, w.transpose(1, 2))


def _through(kind: str, g: Tensor, out: Tensor, flat: bool) -> Tensor:
    """Bring a gradient before the activation, in the layout that the layer's products want."""
    n, rows, width = g.shape
    into = g.new_empty(rows, n, width).transpose(0, 1) if flat else g.new_empty(g.shape)
    if kind == "relu":
        return torch.ops.aten.threshold_backward.grad_input(g, out, 0, grad_input=into)
    if kind == "linear":
        return into.copy_(g)
    g = g.transpose(1, 2)  # (n, out, B), like `out`
    inner = (g * out).sum(1, keepdim=True)
    return into.copy_(((g - inner).mul_(out)).transpose(1, 2))


def spread(x: Tensor, n: int) -> Tensor:
    """(B, g, in) -> (n, B, in), each input once per network that reads it; of one input (B, in)."""
    if x.ndim == 2 or x.shape[1] == 1:
        return x.flatten(1)
    groups = x.shape[1]
    by_group = x.transpose(0, 1)
    if groups == n:
        return by_group
    return by_group.unsqueeze(1).expand(-1, n // groups, -1, -1).flatten(0, 1)


def _gather(g: Tensor, shape: torch.Size, shared: bool) -> Tensor:
    """Undo `spread` for a gradient."""
    if shared:
        return (g if g.ndim == 2 else g.sum(0)).view(shape)
    groups = shape[1]
    if g.shape[0] != groups:
        g = g.unflatten(0, (groups, -1)).sum(1)
    return g.transpose(0, 1)

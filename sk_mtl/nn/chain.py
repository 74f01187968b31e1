"""Stacked layers in a row as one step of autograd: the same products, fewer passes over memory."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

aten = torch.ops.aten
into_threshold = aten.threshold_backward.grad_input

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
    if torch.is_grad_enabled():
        return _ReluChain.apply(x, last, *parameters)
    return _rows_first(_run(x, last, parameters)[0])


class _ReluChain(torch.autograd.Function):
    """`_run` with its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, last: str, *parameters: Tensor | None) -> Tensor:
        a, inputs, matrices = _run(x, last, parameters)
        ctx.last, ctx.shape = last, x.shape
        ctx.with_bias = [b is not None for b in parameters[1::2]]
        ctx.save_for_backward(a, *inputs, *matrices)
        return _rows_first(a)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        out, *saved = ctx.saved_tensors
        n_layers, n = len(ctx.with_bias), grad.shape[1]
        first_flat = saved[0].ndim == 2 and n > 1
        inputs, matrices = saved[:n_layers], saved[n_layers:]
        gradients: list[Tensor | None] = [None] * (2 * n_layers)
        g = grad[:, 0].t() if n == 1 else grad.permute(1, 2, 0)  # (n, out, B), like `out`
        if ctx.last == "relu":
            g = aten.threshold_backward(g, out, 0)
        elif ctx.last == "softmax":
            g = aten._softmax_backward_data(g, out, -2, g.dtype)
        for index in range(n_layers - 1, -1, -1):
            a, w = inputs[index], matrices[index]
            width = g.shape[-2]
            if ctx.with_bias[index]:
                gradients[2 * index + 1] = g.sum(-1).view(n, width)
            if index == 0 and first_flat:
                g = g.flatten(0, 1)
            product = torch.mm if g.ndim == 2 else torch.bmm
            gradients[2 * index] = product(g, a.transpose(-1, -2)).view(n, width, a.shape[-2])
            if index > 0:
                g = product(w.transpose(-1, -2), g)
                into_threshold(g, a, 0, grad_input=g)
        if not ctx.needs_input_grad[0]:
            return None, None, *gradients
        g = product(g.transpose(-1, -2), w)  # (B, in) or (n, B, in)
        return _gather(g, ctx.shape), None, *gradients


def _run(
    x: Tensor, last: str, parameters: Sequence[Tensor | None]
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Return the output, and each layer's input and weight, all with the rows last.

    (n, width, B): so all but the outermost steps run over contiguous memory. In memory only what
    leaves the chain has its rows first, unless it is a softmax, which goes over whole vectors of
    rows. A single network has plain matrices, (width, B), and the first layer of networks that
    all read one input has one matrix.
    """
    weights, biases = parameters[::2], parameters[1::2]
    first: Tensor = weights[0]  # type: ignore[assignment]
    n, end = len(first), len(weights) - 1
    a = spread(x, n).transpose(-1, -2)
    inputs, matrices = [], []
    for index, (w, b) in enumerate(zip(weights, biases, strict=True)):
        assert w is not None
        if a.ndim == 2:
            w = w.flatten(0, 1)
            b = None if b is None else b.flatten()
        inputs.append(a)
        matrices.append(w)
        if index == end and last != "softmax":
            a = affine(a.transpose(-1, -2), w.transpose(-1, -2), b, -2).transpose(-1, -2)
        else:
            a = affine(w, a, b, -1)
        if n > 1 and a.ndim == 2:
            a = a.view(n, len(a) // n, a.shape[1])
        if index != end or last == "relu":
            a.relu_()
    return a.softmax(-2) if last == "softmax" else a, inputs, matrices


def _rows_first(a: Tensor) -> Tensor:
    """(n, width, B) or (width, B) -> (B, n, width)."""
    return a.t().unsqueeze(1) if a.ndim == 2 else a.permute(2, 0, 1)


def affine(a: Tensor, w: Tensor, b: Tensor | None, dim: int) -> Tensor:
    """Product of matrices or of stacks of them, and a bias that is repeated along `dim`."""
    if a.ndim == 2:
        return torch.mm(a, w) if b is None else torch.addmm(b.unsqueeze(dim), a, w)
    return torch.bmm(a, w) if b is None else torch.baddbmm(b.unsqueeze(dim), a, w)


def linear(a: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    """(B, in) or (n, B, in) -> (n, B, out)."""
    if a.ndim == 3:
        return affine(a, w.transpose(1, 2), b, -2)
    out = affine(a, w.flatten(0, 1).t(), None if b is None else b.flatten(), -2)
    return out.view(a.shape[0], *w.shape[:2]).transpose(0, 1)


def spread(x: Tensor, n: int) -> Tensor:
    """(B, g, in) -> (n, B, in), each input once per network that reads it; of one input (B, in)."""
    if x.ndim == 2 or x.shape[1] == 1:
        return x.flatten(1)
    groups = x.shape[1]
    by_group = x.transpose(0, 1)
    if groups == n:
        return by_group
    return by_group.unsqueeze(1).expand(-1, n // groups, -1, -1).flatten(0, 1)


def _gather(g: Tensor, shape: torch.Size) -> Tensor:
    """Undo `spread` for a gradient."""
    if g.ndim == 2:
        return g.view(shape)
    groups = shape[1]
    if g.shape[0] != groups:
        g = g.unflatten(0, (groups, -1)).sum(1)
    return g.transpose(0, 1)

"""What all architectures are made of."""

import torch

import reference.dselect


def linear(x, layer):
    matrix, bias = layer
    return matrix @ x + bias


def mlp(x, layers, activation):
    for layer in layers:
        x = activation(linear(x, layer))
    return x


def gate(x, weights, activation):
    """Softmax of W applied to x, or to its hidden layers' output; or DSelect-k, a dict."""
    if isinstance(weights, dict):
        return reference.dselect.gate(mlp(x, weights["hidden"], activation), weights)
    hidden, matrix = weights
    scores = matrix @ mlp(x, hidden, activation)
    exponentials = [torch.exp(score) for score in scores]
    total = sum(exponentials)
    return [e / total for e in exponentials]


def mixture(weights, vectors):
    """Sum of vectors, each times its weight."""
    assert len(weights) == len(vectors)
    total = torch.zeros_like(vectors[0])
    for weight, vector in zip(weights, vectors, strict=True):
        total = total + weight * vector
    return total


def tower(h, weights, activation):
    """Logits of one task from its representation."""
    hidden, output = weights
    return linear(mlp(h, hidden, activation), output)


def towers(rows, weights, activation):
    """Flat logits of each row, [[vector of each task] of each row] -> [vector of each row]."""
    logits = []
    for row in rows:
        of_row = []
        for h, of_task in zip(row, weights, strict=True):
            of_row.extend(tower(h, of_task, activation))
        logits.append(torch.stack(of_row))
    return logits

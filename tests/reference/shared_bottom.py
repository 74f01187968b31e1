"""Shared-Bottom, Caruana 1997: y_k = tower_k(f(x))."""

from modules import layers_of

from reference.parts import mlp


def bottom(bottom, rows, activation):
    (shared,) = layers_of(bottom.mlp)
    out = []
    for x in rows:
        h = mlp(x, shared, activation)
        out.append([h for _ in range(bottom.n_tasks)])
    return out


def by_task(bottom, n_tasks):
    return [[] for _ in range(n_tasks)], list(bottom.mlp.parameters())

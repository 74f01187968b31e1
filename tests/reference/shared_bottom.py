"""Shared-Bottom, Caruana 1997: y_k = tower_k(f(x))."""

from reference.parts import mlp


def bottom(rows, shared, n_tasks, activation):
    out = []
    for x in rows:
        h = mlp(x, shared, activation)
        out.append([h for _ in range(n_tasks)])
    return out

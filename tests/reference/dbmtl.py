"""DBMTL as EasyRec and TorchEasyRec have it: hidden features travel along the edges.

r_t = MLP'_t([u_t, r_p of every parent p]), or u_t itself without such a network.
"""

import torch
from modules import layers_of, share_out

from reference.parts import mlp

OPTIONS = {"task_units": (24,), "relation_units": (25,)}
VARIANTS = [
    {"relation_units": ()},
    {"parents": {"task_1": ["task_0"], "task_2": ["task_0", "task_1"]}},
    {"parents": {"task_0": ["task_2"], "task_1": ["task_2"]}, "relation_units": (6, 5)},
]


def networks_of(graph):
    """Return the task's own network and the joining one of each task."""
    found = {}
    for tasks, own, joining in zip(graph.groups, graph.task_mlps, graph.relation_mlps, strict=True):
        joins = layers_of(joining)
        for i, k in enumerate(tasks):
            found[k] = layers_of(own)[i], [] if joins is None else joins[i]
    return found


def bottom(bottom, rows, activation):
    (shared,) = layers_of(bottom.mlp)
    networks, parents = networks_of(bottom.graph), bottom.graph.parents
    out = []
    for x in rows:
        h = mlp(x, shared, activation)
        r = {}

        def read(k, h=h, r=r):
            if k not in r:
                own, joining = networks[k]
                u = mlp(h, own, activation)
                r[k] = mlp(torch.cat([u, *(read(p) for p in parents[k])]), joining, activation)
            return r[k]

        out.append([read(k) for k in range(len(networks))])
    return out


def by_task(bottom, n_tasks):
    return share_out(list(bottom.graph.parameters()), n_tasks), list(bottom.mlp.parameters())

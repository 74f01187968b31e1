"""CGC, Tang et al., RecSys 2020: a single level, which all tasks enter with x."""

from modules import level_of, levels_by_task

from reference.extraction import run
from sk_mtl.nn import DSelectK


def bottom(bottom, rows, activation):
    return run(rows, [level_of(bottom.level)], activation)


def by_task(bottom, n_tasks):
    return levels_by_task([bottom.level], n_tasks)


VARIANTS = [
    *({"n_task_experts": m, "n_shared_experts": s} for m, s in ((0, 6), (4, 0), (4, 1), (1, 6))),
    {"gate": DSelectK(gamma=12.0), "n_shared_experts": 1},
    {"gate": DSelectK(conditioned=False, gamma=2.0), "gate_units": ()},
    {"gate": "dselect_k", "n_task_experts": 1, "n_shared_experts": 0},
]

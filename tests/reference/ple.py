"""PLE, Tang et al., RecSys 2020: level upon level; all streams enter the first one with x."""

from modules import level_of, levels_by_task

from reference.extraction import run
from sk_mtl.nn import DSelectK


def bottom(bottom, rows, activation):
    return run(rows, [level_of(level) for level in bottom.levels], activation)


def by_task(bottom, n_tasks):
    return levels_by_task(bottom.levels, n_tasks)


VARIANTS = [
    *({"n_task_experts": m, "n_shared_experts": s} for m, s in ((0, 6), (4, 0), (4, 1), (1, 6))),
    {"n_levels": 1},
    {"gate": DSelectK(gamma=8.0, n_selectors=3)},
    {"gate": DSelectK(conditioned=False, gamma=2.0), "gate_units": (), "n_shared_experts": 0},
]

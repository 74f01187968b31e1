"""Measures all balancers: their gain over single-task models, and what a step with each costs.

The gain is Delta_MTL, the mean over tasks of the signed relative change against the same estimator
fitted on each task alone, with the same rows, seed and epochs (`sk_mtl.metrics.relative_gain`; AUC
for classes, R² for values; 1 % is one percent better on average). Balancers have their defaults;
*fixed* and *schedule* would be *equal* with theirs, so they have others, which are named below.
"""

from benchmarks.balancing.study import add_arguments, run

RUNS, QUICK_RUNS = 5, 1

__all__ = ["QUICK_RUNS", "RUNS", "add_arguments", "run"]

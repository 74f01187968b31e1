"""Measures all architectures at one size: each task's metric, the gain over SingleTask, the cost.

The gain is Delta_MTL, the mean over tasks of the signed relative change of the metric against
SingleTask with the same rows and seed, in percent (`sk_mtl.metrics.relative_gain`). The metric of
two classes is AUC, of more the mean AUC of one class versus the rest, of values the RMSE in units
of the test rows' standard deviation (lower is better). Every network has about as many parameters
in bottom and towers as the others on that set, and trains the same number of steps; the learning
rate is chosen on a share of one seed's training rows. Ordered funnels take only labels of which
each implies the one before, so they run on clicks and conversions alone.

Online Shoppers (Sakar and Kastro 2018), Seoul Bike Sharing Demand (2020) and Student Performance
(Cortez 2014) are UCI sets under CC BY 4.0.
"""

from benchmarks.architectures.study import add_arguments, run

RUNS, QUICK_RUNS = 5, 1

__all__ = ["QUICK_RUNS", "RUNS", "add_arguments", "run"]

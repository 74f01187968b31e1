"""Measures the time and memory of training and prediction, beside peers and bare products.

Every measurement is a process of its own; contenders take turns, so that all of them see the same
machine. *loop* is a training loop in plain torch of the same network, *limit* the matrix products
of that network alone, with one read and one write of the embedding rows it touches.
"""

from typing import Any

RUNS, QUICK_RUNS = 3, 1


def run(runs: int, quick: bool, **chosen: Any) -> Any:
    # Processes that measure import this package too, and their memory is theirs alone.
    from benchmarks.speed.study import run as study

    return study(runs, quick, **chosen)


def add_arguments(parser: Any) -> None:
    from benchmarks.speed.study import add_arguments as add

    add(parser)

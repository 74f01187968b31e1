"""Fits and their scores, two at a time, and how often the tasks' gradients conflict."""

import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from joblib import Parallel, delayed, parallel_config
from sklearn.base import clone
from torch import Tensor

from benchmarks.balancing.problems import PROBLEMS, Split
from sk_mtl.balancing import GradientBalancer
from sk_mtl.metrics import task_scorer

JOBS = 2
SINGLE, SINGLE_LOG, CONFLICT = "single", "single log", "conflict"
"""What a fit may have in place of a balancer: each task alone, with "equal" or with "log", which
balances nothing there; or a count of conflicts."""


class Amount(NamedTuple):
    """How much is trained and tested."""

    n_train: int
    n_test: int
    epochs: int


class Fit(NamedTuple):
    """What is fitted."""

    problem: str
    model: str
    balancer: str
    seed: int


class Conflicts(GradientBalancer):
    """Equal weights that count the steps in which the gradients point apart.

    Compared at the shared parameters, whichever the architecture.
    """

    def setup(self, *args: Any, **kwargs: Any) -> None:
        super().setup(*args, **kwargs)
        self.steps, self.conflicts = 0, 0

    def combine(self, rows: Sequence[Tensor], present: Sequence[int]) -> Sequence[Tensor]:
        self.steps += 1
        self.conflicts += int(sum(float(g[0] @ g[1]) for g in rows) < 0)
        return [g.sum(0) for g in rows]


def measured(fits: Iterable[Fit], amount: Amount) -> dict[Fit, dict[str, float] | str]:
    """Return the scores of each fit by task, or its error in words."""
    fits = list(fits)
    with parallel_config(backend="loky", n_jobs=JOBS, inner_max_num_threads=1):
        found = Parallel(batch_size=1)(delayed(attempt)(fit, amount) for fit in fits)
    return dict(zip(fits, found, strict=True))


def attempt(fit: Fit, amount: Amount) -> dict[str, float] | str:
    """Return a fit's scores; that it failed is a result too."""
    try:
        return scores(fit, amount)
    except Exception as error:
        print(fit, repr(error), file=sys.stderr, flush=True)
        return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def scores(fit: Fit, amount: Amount) -> dict[str, float]:
    """Return the test scores by task, or of CONFLICT the share of steps with one."""
    problem, rows = PROBLEMS[fit.problem], split(fit.problem, fit.seed, amount)
    model = clone(problem.models()[fit.model])
    model.set_params(random_state=fit.seed, max_epochs=amount.epochs)
    if fit.balancer in (SINGLE, SINGLE_LOG):
        model.set_params(balancer="equal" if fit.balancer == SINGLE else "log")
        found = {}
        for task in rows.Y_train:
            model.fit(rows.X_train, rows.Y_train[task])
            found[task] = task_scorer(problem.metric, task)(model, rows.X_test, rows.Y_test[task])
        return found
    model.set_params(loss_weights=problem.loss_weights)
    if fit.balancer == CONFLICT:
        balancer = model.set_params(balancer=Conflicts()).fit(*rows[:2]).net_.criterion_.balancer
        return {"conflicts": balancer.conflicts / balancer.steps}
    model.set_params(balancer=problem.balancer(fit.balancer)).fit(*rows[:2])
    return {task: task_scorer(problem.metric, task)(model, *rows[2:]) for task in rows.Y_test}


@lru_cache(maxsize=len(PROBLEMS))
def split(problem: str, seed: int, amount: Amount) -> Split:
    """Return a problem's rows, drawn once in a process."""
    return PROBLEMS[problem].draw(seed, amount.n_train, amount.n_test)

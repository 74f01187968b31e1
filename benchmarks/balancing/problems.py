"""What the balancers are tried on: four problems of two tasks, and networks for each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.shared import PLAIN
from sk_mtl import PLE, MMoE, SharedBottom
from sk_mtl.balancing import BALANCERS, FixedBalancer, LossBalancer, ScheduleBalancer
from sk_mtl.datasets import fetch_adult, fetch_census_income, make_correlated_tasks

GAMMA = (1.0, 0.9)


class Split(NamedTuple):
    """Rows and labels to train on and to test with."""

    X_train: Any
    Y_train: pd.DataFrame
    X_test: Any
    Y_test: pd.DataFrame


@dataclass(frozen=True)
class Problem:
    """Two tasks, where their rows come from, and how networks are trained on them.

    Parameters
    ----------
    said : str
        The problem in words.
    draw : callable (seed, n_train, n_test) -> Split
        Draws rows; other seeds, other rows.
    width, n_experts, towers : int
        Units of the bottom; experts of MMoE, half of them each task's and half shared in PLE;
        units of the towers.
    expert_width : int
        Units of each expert.
    lr : float
        Learning rate.
    task_types : str
        The kind of both tasks.
    fixed : tuple of float
        Weights of the balancer "fixed".
    loss_weights : tuple of float, optional
        Weights of the losses under all balancers.
    """

    said: str
    draw: Callable[[int, int, int], Split]
    width: int
    n_experts: int
    expert_width: int
    towers: int
    lr: float
    task_types: str = "classification"
    fixed: tuple[float, float] = (2.0, 1.0)
    loss_weights: tuple[float, float] | None = None

    @property
    def metric(self) -> str:
        return "r2" if self.task_types == "regression" else "roc_auc"

    def models(self) -> dict[str, Any]:
        """Return the three architectures in the problem's sizes."""
        common = PLAIN | {
            "tower_units": (self.towers,),
            "lr": self.lr,
            "task_types": self.task_types,
        }
        gated = common | {"expert_units": (self.expert_width,)}
        half = {"n_task_experts": self.n_experts // 2, "n_shared_experts": self.n_experts // 2}
        return {
            "SharedBottom": SharedBottom(bottom_units=(self.width,), **common),
            "MMoE": MMoE(n_experts=self.n_experts, **gated),
            "PLE": PLE(n_levels=2, **half, **gated),
        }

    def balancer(self, name: str) -> LossBalancer:
        """Return a new balancer, with parameters where the defaults would be "equal"."""
        if name == "fixed":
            return FixedBalancer(list(self.fixed))
        if name == "schedule":
            return ScheduleBalancer(gamma=list(GAMMA))
        return BALANCERS[name]()


def adult(seed: int, n_train: int, n_test: int) -> Split:
    X, Y = fetch_adult(subset="all", return_X_y=True)
    return sample(X, Y, 32_561, seed, n_train, n_test)


def census(seed: int, n_train: int, n_test: int) -> Split:
    """Draw rows of the test file, cut as in the study "census"."""
    X, Y = fetch_census_income(subset="test", tasks="income-marital", return_X_y=True)
    return sample(X, Y, int(0.7 * len(X)), seed, n_train, n_test)


def sample(
    X: pd.DataFrame, Y: pd.DataFrame, cut: int, seed: int, n_train: int, n_test: int
) -> Split:
    """Draw rows to train on before the cut and rows to test with after it."""
    rng = np.random.default_rng(seed)
    train = rng.permutation(cut)[:n_train]
    test = cut + rng.permutation(len(X) - cut)[:n_test]
    return Split(X.iloc[train], Y.iloc[train], X.iloc[test], Y.iloc[test])


def synthetic(**settings: Any) -> Callable[[int, int, int], Split]:
    """Return a drawer of `make_correlated_tasks`, whose tasks are named first and second."""

    def draw(seed: int, n_train: int, n_test: int) -> Split:
        arrays = make_correlated_tasks(n_train + n_test, 20, random_state=seed, **settings)
        X, Y = arrays[0], named(arrays[1])
        return Split(X[:n_train], Y[:n_train], X[n_train:], Y[n_train:])

    return draw


def named(Y: NDArray) -> pd.DataFrame:
    return pd.DataFrame(Y, columns=["first", "second"])


PROBLEMS = {
    "adult": Problem(
        "Adult: income above 50K, never married.",
        adult, width=32, n_experts=4, expert_width=16, towers=16, lr=3e-3,
    ),
    "census": Problem(
        "Census-Income, the income-marital group: income above 50K, never married.",
        census, width=32, n_experts=4, expert_width=16, towers=16, lr=3e-3,
    ),
    "mixed scale": Problem(
        "make_correlated_tasks(20 features, p = 0, one sine of frequency 1), the second task's "
        "loss times 100 by loss_weights=[1, 100]: targets are standardized in fit, so their own "
        "scale would not matter. *fixed* undoes the scale, with weights 1 and 0.01.",
        synthetic(task_correlation=0.0, alphas=[1.0], betas=[0.0]),
        width=32, n_experts=2, expert_width=32, towers=8, lr=1e-2, task_types="regression",
        fixed=(1.0, 0.01), loss_weights=(1.0, 100.0),
    ),
    "conflicting gradients": Problem(
        "make_correlated_tasks(20 features, p = -0.9, one sine of frequency 2): the tasks read "
        "nearly opposite directions of the input, through a bottom or experts of 4 units.",
        synthetic(task_correlation=-0.9, alphas=[2.0], betas=[0.5]),
        width=4, n_experts=2, expert_width=4, towers=8, lr=1e-2, task_types="regression",
    ),
}  # fmt: skip
"""The problems by name."""

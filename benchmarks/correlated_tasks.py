"""Measures the MMoE paper's study: loss against the correlation of two synthetic tasks.

Shared-Bottom, a mixture whose tasks share one gate (OMoE), and MMoE, with about as many parameters
each. The paper averaged 200 runs of each; best runs are alike.
"""

from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from torch import Tensor, nn

from benchmarks.shared import PLAIN, RESULTS, Report, table
from sk_mtl import MMoE, SharedBottom
from sk_mtl.architectures import MMoEBottom
from sk_mtl.datasets import make_correlated_tasks

RUNS = 20
CORRELATIONS = (0.2, 0.5, 0.8, 1.0)
RATES = (1e-4, 1e-3, 1e-2)
N_TRAIN, N_TEST = 10_000, 5_000
SETTINGS = (
    f"make_correlated_tasks, d = 100, {N_TRAIN:,} rows to train and {N_TEST:,} to test; bottom 113 "
    "or 8 experts of 16, towers 8; Adam, batch 256, 10 epochs; learning rate of each model chosen "
    "from 1e-4, 1e-3, 1e-2 by the mean loss of 2 other data sets at p = 0.5. The test loss is the "
    "mean squared error in units of the target's variance, mean of both tasks."
)


class OneGateBottom(nn.Module):
    """A mixture that all tasks share: a new architecture is this and the class below."""

    def __init__(self, in_features: int, n_tasks: int, **mixture: Any) -> None:
        super().__init__()
        self.n_tasks = n_tasks
        self.mixture = MMoEBottom(in_features, 1, **mixture)
        self.out_features = self.mixture.out_features

    def forward(self, x: Tensor) -> Tensor:
        return self.mixture(x).expand(-1, self.n_tasks, -1)


@dataclass(kw_only=True, eq=False, repr=False)
class OMoE(MMoE):
    """One-gate mixture of experts."""

    def _build_bottom(self, in_features: int, n_tasks: int, **network: Any) -> nn.Module:
        return OneGateBottom(
            in_features,
            n_tasks,
            n_experts=self.n_experts,
            expert_units=self.expert_units,
            gate_units=self.gate_units,
            **network,
        )


def models() -> list:
    common = PLAIN | {"tower_units": (8,), "max_epochs": 10, "task_types": "regression"}
    gated = common | {"n_experts": 8, "expert_units": (16,)}
    return [SharedBottom(bottom_units=(113,), **common), OMoE(**gated), MMoE(**gated)]


def loss(model: Any, correlation: float, seed: int, n_train: int) -> float:
    X, Y = make_correlated_tasks(n_train + N_TEST, task_correlation=correlation, random_state=seed)
    model.set_params(random_state=seed).fit(X[:n_train], Y[:n_train])
    error = (model.predict(X[n_train:]) - Y[n_train:]) ** 2
    return float((error.mean(axis=0) / Y[:n_train].var(axis=0)).mean())


def run(runs: int, quick: bool) -> Report:
    n_train = 2_000 if quick else N_TRAIN
    report, losses, lines = Report(SETTINGS), {}, []
    for model in models():
        name = type(model).__name__
        trials = {
            lr: np.mean([loss(model.set_params(lr=lr), 0.5, 1000 + s, n_train) for s in range(2)])
            for lr in RATES
        }
        model.set_params(lr=min(trials, key=lambda lr: trials[lr]))
        losses[name] = np.array(
            [[loss(model, p, seed, n_train) for seed in range(runs)] for p in CORRELATIONS]
        )
        n_parameters = sum(p.numel() for p in model.module_.parameters())
        cells = [f"{v.mean():.4f} ± {standard_error(v):.4f}" for v in losses[name]]
        lines.append([name, f"{n_parameters:,}", f"{model.lr:g}", *cells])
    header = ["model", "parameters", "lr", *(f"p = {p}" for p in CORRELATIONS)]
    report.sections.append(table(header, lines))
    report.sections.append(
        f"Test loss, mean ± standard error of {runs} runs; every run has a data set of its own, "
        "the same for all models.\n\n![loss against correlation](correlated_tasks.png)"
    )
    for name in ("OMoE", "MMoE"):
        paired = losses[name] - losses["SharedBottom"]
        parts = "; ".join(
            f"p = {p}: {d.mean():+.4f} ± {standard_error(d):.4f}"
            for p, d in zip(CORRELATIONS, paired, strict=True)
        )
        report.findings.append(f"{name} less Shared-Bottom, run by run, ± standard error: {parts}.")
    for name, values in losses.items():
        fall = values[0] - values[-1]
        report.findings.append(
            f"{name}: loss at p = {CORRELATIONS[0]} less loss at p = {CORRELATIONS[-1]}: "
            f"{fall.mean():+.4f} ± {standard_error(fall):.4f}."
        )
    if not quick:
        draw(losses)
    return report


def standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def draw(losses: dict[str, np.ndarray]) -> None:
    figure, ax = plt.subplots(layout="constrained")
    for name, values in losses.items():
        errors = [standard_error(v) for v in values]
        ax.errorbar(CORRELATIONS, values.mean(axis=1), errors, marker="o", capsize=3, label=name)
    ax.set_xlabel("task correlation p")
    ax.set_ylabel("test loss")
    ax.legend()
    RESULTS.mkdir(parents=True, exist_ok=True)
    figure.savefig(RESULTS / "correlated_tasks.png", dpi=90)

"""Measures nothing: what the studies share, from fits over seeds to the Markdown file."""

import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

RESULTS = Path(__file__).parents[1] / "docs" / "results"
PLAIN: dict[str, Any] = {
    "n_members": 1,
    "numeric_features": "standardize",
    "embedding_dim": "auto",
    "dropout": 0.0,
    "lr": 1e-3,
    "lr_schedule": "constant",
    "batch_size": 256,
    "max_epochs": 20,
    "early_stopping": False,
}
"""What published comparisons say of every estimator first, so that defaults may change."""

PACKAGES = ("torch", "scikit-learn", "skorch", "numpy", "sk_mtl")


@dataclass
class Report:
    """What a study hands back: its settings, Markdown sections and one sentence per finding."""

    settings: str
    sections: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


def aucs(model: Any, X: Any, Y: Any) -> list[float]:
    """Return the AUC of each binary task, in the order of Y's columns."""
    blocks = model.predict_task_proba(X)
    return [roc_auc_score(Y[task], blocks[task][:, 1]) for task in Y]


def fit_over_seeds(
    models: Callable[[int], dict[str, Any]], train: tuple, test: tuple, runs: int
) -> dict[str, np.ndarray]:
    """Return each model's AUC per run and task, (runs, tasks), for seeds 0, 1, ..."""
    scores: dict[str, list] = {}
    for seed in range(runs):
        for name, model in models(seed).items():
            score = aucs(model.fit(*train), *test)
            scores.setdefault(name, []).append(score)
            print(name, seed, *(f"{s:.4f}" for s in score), file=sys.stderr, flush=True)
    return {name: np.array(values) for name, values in scores.items()}


def spread(values: Iterable[float]) -> float:
    """Return the standard deviation over runs, 0 for a single one."""
    values = np.asarray(values)
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def mean_std(values: Iterable[float], digits: int = 4) -> str:
    return f"{np.mean(values):.{digits}f} ± {spread(values):.{digits}f}"


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def compared(values: Iterable[float], reference: float, digits: int = 4) -> str:
    """Say how a mean over runs stands to a single number."""
    difference, std = float(np.mean(values)) - reference, spread(values)
    where = "above" if difference >= 0 else "below"
    distance = f"{abs(difference):.{digits}f} {where} {reference:.{digits}f}"
    return f"{distance}{', within the spread' if abs(difference) <= std else ''}"


def write(
    name: str, doc: str, runs: int, report: Report, seconds: float, only_print: bool = False
) -> None:
    """Print the report and, unless told otherwise, write it to docs/results."""
    threads = os.environ.get("OMP_NUM_THREADS")
    command = f"python -m benchmarks {shlex.join(sys.argv[1:])}"
    command = f"OMP_NUM_THREADS={threads} {command}" if threads else command
    versions = [f"python {platform.python_version()}", *(f"{p} {version(p)}" for p in PACKAGES)]
    lines = [
        f"# {name}\n\n{doc.strip()}\n",
        f"- Date: {date.today()}; {seconds / 60:.1f} minutes",
        f"- Command: `{command}`",
        f"- Versions: {', '.join(versions)}",
        f"- Machine: {_cpu()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads used",
        f"- Settings: {report.settings}\n",
        *(f"{section}\n" for section in report.sections),
        "## Findings\n",
        *(f"- {finding}" for finding in report.findings),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if not only_print:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{name}.md").write_text(text)


def _cpu() -> str:
    """Return the processor's name, which `platform` does not know under Linux."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())

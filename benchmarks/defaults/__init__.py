"""Measures default sk_mtl beside one default booster per task, and what each default buys.

Raw frames, no tuning; AUC of two classes (of more: one versus the rest, the mean), R² of values.
Defaults were chosen on the choosing sets and confirmed on the held-out ones, which played no part
(Census income was looked at once, while members were a prototype).
"""

import argparse
import sys
from typing import Any

import numpy as np

from benchmarks.defaults.sets import SETS
from benchmarks.defaults.study import ARCHITECTURES, TREES, Score, contestants, ours
from benchmarks.shared import PLAIN, Report, table
from sk_mtl import SharedBottom

RUNS = 1
QUICK_RUNS = 1
WITHOUT: dict[str, dict[str, Any]] = {
    "as they are": {},
    "one member": {"n_members": 1},
    "four members": {"n_members": 4},
    "numbers standardized only": {"numeric_features": "standardize"},
    "constant learning rate 1e-3": {"lr_schedule": "constant", "lr": 1e-3},
    "no dropout": {"dropout": 0.0},
    "batches of 256": {"batch_size": 256},
    "embeddings by number of categories": {"embedding_dim": "auto"},
    "no early stopping": {"early_stopping": False},
    "bottom of (128, 64)": {"bottom_units": (128, 64)},
    "20 epochs": {"max_epochs": 20},
    "all of these (sk_mtl 0.1)": {**PLAIN, "bottom_units": (128, 64)},
}
"""One default at a time set back to what it was."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sets", nargs="*", choices=list(SETS), help="default: all that are here")
    parser.add_argument("--no-ablation", action="store_true", help="leave out what each one buys")
    parser.add_argument("--without", nargs="*", default=[], help="models to leave out")


def run(
    runs: int,
    quick: bool,
    sets: list[str] | None = None,
    no_ablation: bool = False,
    without: tuple[str, ...] = (),
) -> Report:
    names = sets or (["Student", "Diabetes"] if quick else list(SETS))
    scores: dict[str, dict[str, list[Score]]] = {}
    for name in names:
        for index in range(1 if quick else SETS[name].splits * runs):
            try:
                split = SETS[name].load(index)
            except (FileNotFoundError, OSError) as error:
                print(f"{name}: left out, {error}", file=sys.stderr, flush=True)
                break
            for who, fit in contestants(name, index):
                if who in without:
                    continue
                score = fit(split)
                scores.setdefault(name, {}).setdefault(who, []).append(score)
                print(name, index, who, score, file=sys.stderr, flush=True)
    report = Report("defaults throughout; seeds and splits 0, 1, ...")
    report.sections = [_totals(scores), _by_set(scores), _by_task(scores)]
    if not no_ablation:
        report.sections.append(_ablation([n for n in scores if SETS[n].choosing], quick))
    report.findings = _findings(scores)
    if not quick:
        from benchmarks.defaults.picture import PICTURE, draw  # which is a program too

        draw(_by_set(scores))
        report.sections.insert(2, f"![gain of each model, set by set]({PICTURE})")
    return report


def gap(by_who: dict[str, list[Score]], who: str) -> float:
    """Return the mean difference to the trees over the splits that both had."""
    pairs = zip(by_who[who], by_who[TREES], strict=False)
    return float(np.mean([ours.mean - trees.mean for ours, trees in pairs]))


def _who(scores: dict[str, dict[str, list[Score]]]) -> list[str]:
    """Return all who took part, in their order."""
    return list(dict.fromkeys(who for by_who in scores.values() for who in by_who))


def _totals(scores: dict[str, dict[str, list[Score]]]) -> str:
    lines = []
    for who in _who(scores):
        row = [who]
        for choosing in (True, False):
            gaps = [
                gap(s, who)
                for name, s in scores.items()
                if SETS[name].choosing == choosing and who in s
            ]
            if gaps:
                found = (np.mean(gaps), np.median(gaps), min(gaps))
                row += [f"{value:+.4f}" for value in found]
                row.append(f"{sum(g > 0 for g in gaps)} of {len(gaps)}")
            else:
                row += [""] * 4
        lines.append(row)
    header = [
        "model",
        *(
            f"{w}, {p}"
            for p in ("choosing", "held out")
            for w in ("mean", "median", "worst", "wins")
        ),
    ]
    return "Difference to HistGradientBoosting, mean metric of a set's tasks.\n\n" + table(
        header, lines
    )


def _by_set(scores: dict[str, dict[str, list[Score]]]) -> str:
    who = _who(scores)
    lines = []
    for name, by_who in scores.items():
        kind = "choosing" if SETS[name].choosing else "held out"
        cells = []
        for one in who:
            if one not in by_who:
                cells.append("")
                continue
            seconds = np.mean([score.seconds for score in by_who[one]])
            mean = np.mean([score.mean for score in by_who[one]])
            cells.append(f"{mean:.4f} ({seconds:.1f} s)")
        lines.append([f"{name}, {kind}", *cells])
    return "Mean metric, and seconds of the fits.\n\n" + table(["set", *who], lines)


def _by_task(scores: dict[str, dict[str, list[Score]]]) -> str:
    who = _who(scores)
    lines = []
    for name, by_who in scores.items():
        for task in by_who[TREES][0].tasks:
            cells = [
                f"{np.mean([score.tasks[task] for score in by_who[one]]):.4f}"
                if one in by_who
                else ""
                for one in who
            ]
            lines.append([name, task, *cells])
    return table(["set", "task", *who], lines)


def _ablation(names: list[str], quick: bool) -> str:
    """Return what SharedBottom loses on the choosing sets without each of its defaults."""
    found: dict[str, list[float]] = {}
    for name in names:
        for label, parameters in WITHOUT.items():
            splits = range(1 if quick else min(SETS[name].splits, 2))
            scores = [ours(SharedBottom, SETS[name].load(k), k, **parameters) for k in splits]
            found.setdefault(label, []).append(float(np.mean([s.mean for s in scores])))
            print(name, label, found[label][-1], file=sys.stderr, flush=True)
    full = np.array(found["as they are"])
    lines = []
    for label, values in found.items():
        change = np.array(values) - full
        lines.append([label, f"{change.mean():+.4f}", *(f"{c:+.4f}" for c in change)])
    return "What SharedBottom's mean metric becomes with one default set back.\n\n" + table(
        ["setting", "mean", *names], lines
    )


def _findings(scores: dict[str, dict[str, list[Score]]]) -> list[str]:
    gaps = {who: [gap(s, who) for s in scores.values()] for who in ARCHITECTURES}
    best = max(gaps, key=lambda who: np.mean(gaps[who]))
    worst = min(scores, key=lambda name: gap(scores[name], best))
    findings = [
        f"Best on average over all sets: {best}, {np.mean(gaps[best]):+.4f} to the trees "
        f"(asked for: +0.006); its worst set is {worst}, {gap(scores[worst], best):+.4f} "
        "(asked for: -0.003)."
    ]
    others = ", ".join(
        f"{who} {np.mean(values):+.4f} and {np.median(values):+.4f}" for who, values in gaps.items()
    )
    findings.append(f"Means and medians of the four: {others} (asked for: means above 0).")
    slow = []
    for name, by_who in scores.items():
        own, trees = (np.mean([s.seconds for s in by_who[who]]) for who in (best, TREES))
        slow.append(f"{name} {own:.1f} s and {own / trees:.1f} x")
    findings.append(f"Seconds of {best}, and beside the trees': {'; '.join(slow)}.")
    return findings

"""Runs the fits seed by seed, then the measurement of cost, and writes the report."""

import argparse
import sys
import time

import torch

from benchmarks.balancing import cost
from benchmarks.balancing.fits import CONFLICT, JOBS, SINGLE, SINGLE_LOG, Amount, Fit, measured
from benchmarks.balancing.problems import GAMMA, PROBLEMS
from benchmarks.balancing.results import (
    Results,
    cost_findings,
    cost_table,
    failures,
    gain_findings,
    gain_table,
    held_findings,
    held_table,
    reference_table,
)
from benchmarks.shared import Report
from sk_mtl.balancing import BALANCERS

AMOUNT, QUICK_AMOUNT = Amount(5_000, 8_000, 10), Amount(512, 500, 1)
QUICK_BALANCERS = ("equal", "fixed", "uncertainty", "pcgrad")
MINUTES = 25.0
MODELS = ("SharedBottom", "MMoE", "PLE")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help="no seed begins that would end later"
    )


def run(runs: int, quick: bool, minutes: float = MINUTES) -> Report:
    amount = QUICK_AMOUNT if quick else AMOUNT
    names = QUICK_BALANCERS if quick else tuple(BALANCERS)
    results = Results(names, run_seeds(runs, names, amount, minutes * 60))
    torch.set_num_threads(1)  # as in the processes of the fits
    rounds = 3 if quick else cost.ROUNDS
    costs = cost.costs(rounds)

    report = Report(settings(amount))
    wanted = f"{runs} seeds; " if len(results.seeds) < runs else ""
    report.sections.append(
        f"Delta_MTL in percent, mean ± standard error of {len(results.seeds)} seeds "
        f"({wanted}a seed draws rows and initial weights). *mean*: over the three models, seed by "
        "seed; *less equal*: that mean less the one of equal, paired by seed. *alone, log*: the "
        "gain of a task alone with the balancer log: what it gains there is no matter of balance."
    )
    for problem in PROBLEMS:
        report.sections.append(
            f"## {problem}\n\n{PROBLEMS[problem].said}\n\n{reference_table(results, problem)}"
        )
        report.sections.append(gain_table(results, problem))
        report.findings.append(gain_findings(results, problem))
    report.sections.append(f"## The small task held\n\n{held_table(results)}")
    report.sections.append(f"## Cost of a step\n\n{cost.said(rounds)}\n\n{cost_table(costs)}")
    report.findings += held_findings(results)
    report.findings += cost_findings(costs)
    report.findings += failures(results)
    return report


def run_seeds(
    runs: int, names: tuple[str, ...], amount: Amount, limit: float
) -> dict[Fit, dict[str, float] | str]:
    """Return the scores of whole seeds, as many as there is time for, one at the least."""
    found: dict[Fit, dict[str, float] | str] = {}
    begin = time.perf_counter()
    for seed in range(runs):
        start = time.perf_counter()
        fits = [
            Fit(problem, model, balancer, seed)
            for problem in PROBLEMS
            for balancer in (SINGLE, SINGLE_LOG, CONFLICT, *names)
            for model in MODELS
        ]
        found |= measured(fits, amount)
        now = time.perf_counter()
        print(f"seed {seed}: {now - start:.0f} s", file=sys.stderr, flush=True)
        if now - begin + (now - start) > limit:
            break
    return found


def settings(amount: Amount) -> str:
    sizes = "; ".join(
        f"{name}: bottom {p.width}, MMoE {p.n_experts} experts of {p.expert_width}, PLE "
        f"{p.n_experts // 2} + {p.n_experts // 2} in 2 levels, towers {p.towers}, lr {p.lr:g}"
        for name, p in PROBLEMS.items()
    )
    return (
        f"{amount.n_train:,} rows to train, {amount.n_test:,} to test, {amount.epochs} epochs of "
        f"batches of 256, Adam, all else at the estimators' defaults; {sizes}; {JOBS} processes of "
        f"1 thread. fixed has weights 2 and 1 where nothing else is said, schedule weights 1 and "
        f"{GAMMA[1]:g} to the power of the epoch, metabalance's target is the first task."
    )

"""Measures fit of AdaTT, AITM, STEM and ESCM2 at W1's sizes beside plain torch loops.

Adult's training file in batches of 256, embeddings of width 16 (see `benchmarks speed`). The loop
of each model is written by hand in plain torch, `benchmarks/speed/plain.py`: experts in a list, one
table with offsets, fused Adam. Both sides take turns, each measurement a process of its own.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.shared import Report, table
from benchmarks.speed.processes import ATTEMPTS, DISTURBED, measured
from benchmarks.speed.workloads import QUICK_ROWS, WORKLOADS

RUNS, QUICK_RUNS = 5, 1
MODELS = ("adatt", "aitm", "stem", "escm2")
SECONDS, QUICK_SECONDS, BOUND = 4.0, 0.2, 0.9
OURS, THEIRS = "sk_mtl", "plain"

Numbers = list[dict[str, Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", nargs="*", choices=MODELS, default=MODELS)
    parser.add_argument("--seconds", type=float, help="of each measurement")


def run(
    runs: int, quick: bool, models: tuple[str, ...] = MODELS, seconds: float | None = None
) -> Report:
    found: dict[tuple[str, str], Numbers] = {}
    with tempfile.TemporaryDirectory() as folder:
        w1 = WORKLOADS["w1"]
        w1.make(QUICK_ROWS["w1"] if quick else w1.rows).save(Path(folder))
        for turn in range(runs):
            for model in models:
                for contender in (OURS, THEIRS):
                    numbers = measured(
                        "benchmarks.speed.plain", model, contender, "--data", folder,
                        "--seconds", seconds or (QUICK_SECONDS if quick else SECONDS),
                        threads=torch.get_num_threads(), attempts=1 if quick else ATTEMPTS,
                    )  # fmt: skip
                    found.setdefault((model, contender), []).append(numbers)
                    print(turn, model, contender, numbers, file=sys.stderr, flush=True)
    return report(found)


def report(found: dict[tuple[str, str], Numbers]) -> Report:
    """Return the numbers of each model's two contenders, their ratio, and whether it is enough."""
    written, lines = Report(settings(found)), []
    for model in dict.fromkeys(model for model, _ in found):
        sides = {side: good(found[model, side]) for side in (OURS, THEIRS)}
        for side, numbers in sides.items():
            lines.append([model, side, *cells(numbers, found[model, side])])
        if all(sides.values()):
            written.findings.append(finding(model, sides[OURS], sides[THEIRS]))
    header = ["model", "contender", "fit, rows/s", "first step, s", "peak memory, MiB"]
    written.sections.append(table([*header, "parameters of bottom and towers"], lines))
    shares = [n["others"] for numbers in found.values() for n in numbers]
    disturbed = sum(share > DISTURBED for share in shares)
    if disturbed:
        written.findings.append(
            f"{disturbed} of {len(shares)} measurements shared the CPUs with other processes: "
            "findings that rest on them do not hold."
        )
    return written


def good(numbers: Numbers) -> Numbers:
    return [n for n in numbers if "error" not in n]


def cells(numbers: Numbers, every: Numbers) -> list[str]:
    """Return a line's cells: medians with their range, or the error."""
    if not numbers:
        return [str(every[0]["error"]), "", "", ""]
    rates = [n["fit"] for n in numbers]
    return [
        f"{median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})",
        f"{median(n['first'] for n in numbers):.2f}",
        f"{median(n['memory'] for n in numbers):,.0f}",
        f"{numbers[0]['parameters']:,}",
    ]


def finding(model: str, ours: Numbers, theirs: Numbers) -> str:
    """Say whether a model's rate is BOUND of the loop's, if both train the same network."""
    sizes = {n["parameters"] for n in [*ours, *theirs]}
    if len(sizes) > 1:
        return f"{model}: the two networks have {sorted(sizes)} parameters and do not compare."
    ratio = median(n["fit"] for n in ours) / median(n["fit"] for n in theirs)
    answer = "met" if ratio >= BOUND else "missed"
    return f"{model}: fit over the loop {ratio:.2f}, asked for {BOUND}: {answer}."


def settings(found: dict[tuple[str, str], Numbers]) -> str:
    from benchmarks.speed.plain import SIZES

    sizes = "; ".join(
        f"{SIZES[m][0]} " + ", ".join(f"{name} {value}" for name, value in SIZES[m][1].items())
        for m in dict.fromkeys(model for model, _ in found)
    )
    return (
        "Adam 1e-3, no weight decay, no dropout, float32; medians over the runs (smallest to "
        "largest). fit: rows per second after a warm-up of one epoch or half the measurement, "
        "whichever is shorter; first step: from the call of fit to the end of the first optimizer "
        "step. Of sk_mtl the first step includes reading and encoding the frame, of the loop "
        f"nothing. AITM and ESCM2 train the click and the product of both labels. Sizes: {sizes}."
    )

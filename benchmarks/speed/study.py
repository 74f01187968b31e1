"""Runs the measurements in turn and writes the report."""

import argparse
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.shared import Report
from benchmarks.speed import curves
from benchmarks.speed.contenders import CONTENDERS, DISTRIBUTIONS
from benchmarks.speed.processes import ATTEMPTS, DISTURBED, measured
from benchmarks.speed.results import COLUMNS, Results, absolute, ratios
from benchmarks.speed.scaling import OVERHEAD, QUICK_VALUES, VALUES
from benchmarks.speed.targets import target_table, targets
from benchmarks.speed.workloads import QUICK_ROWS, WORKLOADS, described

SECONDS = {"w1": 4.0, "w1-4096": 4.0, "w2": 4.0, "w3": 10.0, "w4": 10.0}
"""How long each measurement lasts after its warm-up, by workload."""

QUICK_SECONDS, SCALING_SECONDS = 0.2, 4.0
QUICK = {"workloads": ("w1", "w3"), "models": ("mmoe",), "contenders": ("sk_mtl", "loop", "limit")}
SETTINGS = (
    "Adam, no weight decay, no dropout, float32, the same batches and sizes for all; numbers are "
    "medians over the runs (smallest to largest), each run a process of its own, the contenders "
    "taking turns. *fit*: after a warm-up of one epoch or half the time of the measurement, "
    "whichever is shorter. *first step*: from the call of fit, the model's construction included, "
    "to the end of the first optimizer step. *predict*: up to 65,536 rows in batches of 8,192. "
    "*one row*: sk_mtl's from a data frame or an array, encoding included; torch-rechub's through "
    "its data loader; deepctr's predict_on_batch, which is quicker than its predict. *peak "
    "memory*: VmHWM at the end of fit, imports and data included. What differs: torch-rechub has "
    "batch normalization in every layer, gates without hidden layers; CGC is "
    "each peer's PLE with one level; deepctr-torch's PLE builds as many shared as task experts "
    "per level, and a shared gate on the last; sk_mtl encodes ids and its table holds those that "
    "stand in the rows, where all others hold the whole vocabulary; MLPClassifier takes one-hot "
    "columns, has no embeddings and no towers (their widths are two more shared layers)."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for name, known in (
        ("workloads", WORKLOADS),
        ("models", {model for w in WORKLOADS.values() for model in w.models}),
        ("contenders", CONTENDERS),
    ):
        parser.add_argument(
            f"--{name}",
            type=lambda text, known=known: chosen(text, known),
            help=f"comma-separated, of {', '.join(sorted(known))}",
        )
    parser.add_argument("--seconds", type=float, help="of each measurement; default: by workload")
    parser.add_argument("--no-scaling", action="store_true", help="leave out the scaling part")


def chosen(text: str, known: Any) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(sorted(known))}")
    return names


def run(
    runs: int,
    quick: bool,
    workloads: tuple[str, ...] | None = None,
    models: tuple[str, ...] | None = None,
    contenders: tuple[str, ...] | None = None,
    seconds: float | None = None,
    no_scaling: bool = False,
) -> Report:
    names = workloads or (QUICK["workloads"] if quick else tuple(WORKLOADS))
    models = models or (QUICK["models"] if quick else None)
    contenders = contenders or (QUICK["contenders"] if quick else tuple(CONTENDERS))
    results = compare(runs, quick, names, models, contenders, seconds)
    points = {} if no_scaling else scale(quick, seconds)
    if points and not quick:
        curves.draw(points)
    return report(results, points)


def compare(
    runs: int,
    quick: bool,
    names: tuple[str, ...],
    models: tuple[str, ...] | None,
    contenders: tuple[str, ...],
    seconds: float | None,
) -> Results:
    """Measure every contender on every model of the workloads."""
    results = Results()
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        save(names, quick, Path(folder))
        cells = [(name, model) for name in names for model in WORKLOADS[name].models
                 if models is None or model in models]  # fmt: skip
        for turn in range(runs):
            for name, model in cells:
                for contender in contenders:
                    time = seconds or (QUICK_SECONDS if quick else SECONDS[name])
                    numbers = measured(
                        "benchmarks.speed.measure", name, model, contender,
                        "--data", Path(folder) / name, "--seconds", time, threads=threads,
                        attempts=1 if quick else ATTEMPTS,
                    )  # fmt: skip
                    results.add(name, model, contender, numbers)
                    print(turn, name, model, contender, numbers, file=sys.stderr, flush=True)
    return results


def save(names: tuple[str, ...], quick: bool, folder: Path) -> None:
    """Write the workloads' tables, each of which all contenders then read."""
    for name in names:
        workload = WORKLOADS[name]
        workload.make(QUICK_ROWS[name] if quick else workload.rows).save(folder / name)


def scale(quick: bool, seconds: float | None) -> dict[str, dict[str, Any]]:
    """Measure the points of all scaling curves, the overhead and the import."""
    values = QUICK_VALUES if quick else VALUES
    names = [(part, value) for part, sizes in values.items() for value in sizes]
    names += [("overhead", name) for name in OVERHEAD[: 1 if quick else None]]
    time = ["--seconds", seconds or (QUICK_SECONDS if quick else SCALING_SECONDS)]
    if quick:
        time += ["--rows", QUICK_ROWS["w1"]]
    points = {}
    for part, value in [*names, ("import", None)]:
        arguments = [part] if value is None else [part, value]
        name = " ".join(map(str, arguments))
        points[name] = measured(
            "benchmarks.speed.scaling",
            *arguments,
            *time,
            threads=torch.get_num_threads(),
            attempts=1 if quick else ATTEMPTS,
        )
        print(name, points[name], file=sys.stderr, flush=True)
    return points


def report(results: Results, points: dict[str, dict[str, Any]]) -> Report:
    sizes = "; ".join(
        f"{name} (batch {WORKLOADS[name].batch}, lr {WORKLOADS[name].lr:g}, "
        f"embedding {WORKLOADS[name].embedding_dim}) "
        + ", ".join(described(m, WORKLOADS[name].models[m]) for m in results.models(name))
        for name in results.workloads()
    )
    shares = disturbances(results, points)
    written = Report(f"{SETTINGS} Sizes: {sizes}. {disturbance(shares)} {versions(results)}")
    found = targets(results, points)
    written.sections.append(f"## Targets\n\n{target_table(found)}")
    for name in results.workloads():
        written.sections.append(f"## {name}\n\n{absolute(results, name)}")
        for part in ("fit", "bulk"):
            title = f"sk_mtl's {COLUMNS[part][0]} over each contender's"
            written.sections.append(f"{title}:\n\n{ratios(results, name, part)}")
    if points:
        written.sections.append(scaling_section(points))
    disturbed = sum(share > DISTURBED for share in shares)
    if disturbed:
        written.findings.append(
            f"{disturbed} of {len(shares)} measurements shared the CPUs with other processes "
            "(see Settings): findings that rest on them do not hold."
        )
    for target in found:
        if target.met is not None:
            answer = "met" if target.met else "missed"
            written.findings.append(f"{target.text} {target.row()[1]}: {answer}.")
    written.findings += results.part_errors()
    return written


def scaling_section(points: dict[str, dict[str, Any]]) -> str:
    errors = [f"{name}: {point['error']}" for name, point in points.items() if "error" in point]
    parts = [f"## Scaling\n\n{curves.curve_table(points)}", curves.slopes(points), *errors]
    for name, point in points.items():
        if name.startswith("overhead") and "step" in point:
            parts.append(
                f"{name.split()[1]} mmoe at batch 1024: a step of {point['step']:.2f} ms, of which "
                f"{point['inside']:.2f} ms forward, loss, backward and optimizer."
            )
    if "added" in points.get("import", {}):
        own, added = points["import"]["own"], points["import"]["added"]
        parts.append(f"Import: {added:.3f} s beyond torch and scikit-learn, {own:.3f} s beyond "
                     "pandas and skorch too.")  # fmt: skip
    parts.append(f"![step against size]({curves.PLOT})")
    return "\n\n".join(parts)


def disturbances(results: Results, points: dict[str, dict[str, Any]]) -> list[float]:
    """Return the share of the CPUs that others took during each measurement."""
    runs = [numbers for runs in results.runs.values() for numbers in runs]
    return [numbers["others"] for numbers in [*runs, *points.values()]]


def disturbance(shares: list[float]) -> str:
    """Say how much of the machine other processes took."""
    return (
        f"Other processes took {median(shares):.0%} of the CPUs during a measurement in the "
        f"median, {max(shares):.0%} at most; one with over {DISTURBED:.0%} was repeated, up to "
        f"{ATTEMPTS} times (never with --quick), and the least disturbed counts."
    )


def versions(results: Results) -> str:
    """Return the versions of the peers that took part."""
    found = []
    for contender in results.contenders():
        for name in DISTRIBUTIONS.get(contender, ()):
            try:
                found.append(f"{name} {version(name)}")
            except PackageNotFoundError:
                found.append(f"{name} not installed")
    return f"Peers: {', '.join(found) or 'none'}."

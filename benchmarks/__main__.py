"""Measures one study and writes docs/results/NAME.md: ``python -m benchmarks NAME``."""

import argparse
import time
from importlib import import_module

from benchmarks.shared import write

STUDIES = (
    "adult",
    "architectures",
    "architectures_speed",
    "balancing",
    "census",
    "click_conversion",
    "correlated_tasks",
    "defaults",
    "growth",
    "members",
    "memory",
    "parallel_search",
    "parquet",
    "ranks",
    "search",
    "serving",
    "speed",
    "stream",
    "tables",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=STUDIES)
    parser.add_argument("--runs", type=int, help="runs (seeds) of each model; default: the study's")
    parser.add_argument("--quick", action="store_true", help="small and only printed, not written")
    args, rest = parser.parse_known_args()
    study = import_module(f"benchmarks.{args.name}")
    own = argparse.ArgumentParser(prog=f"python -m benchmarks {args.name}")
    if hasattr(study, "add_arguments"):
        study.add_arguments(own)
    options = vars(own.parse_args(rest))
    runs = args.runs or (getattr(study, "QUICK_RUNS", 2) if args.quick else study.RUNS)
    start = time.perf_counter()
    report = study.run(runs, args.quick, **options)
    write(args.name, study.__doc__, runs, report, time.perf_counter() - start, args.quick)


main()

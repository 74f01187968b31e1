"""Runs the fits, two at a time, keeps what is done in a file, and writes the report."""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from joblib import Parallel, delayed, parallel_config

from benchmarks.architectures.contestants import N_EXPERTS, TOWER, contestants
from benchmarks.architectures.findings import findings
from benchmarks.architectures.fits import QUICK_RATES, RATES, VALIDATION, Entry, extend, signature
from benchmarks.architectures.results import (
    PICTURE,
    Results,
    conversion_table,
    draw,
    gain_table,
    set_table,
)
from benchmarks.architectures.sets import SETS, budget, drawn
from benchmarks.shared import Report

JOBS = 2
QUICK_SETS = ("Student", "p = 0.9", "clicks 0.9, 0.2")
CACHE = Path(tempfile.gettempdir()) / "sk_mtl_benchmarks" / "architectures.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", nargs="*", choices=list(contestants()), help="default: all")
    parser.add_argument("--sets", nargs="*", choices=list(SETS), help="default: all that are here")
    parser.add_argument("--seeds", type=int, help="the same as --runs")
    parser.add_argument(
        "--cache", type=Path, default=CACHE,
        help="file of the fits that are done, to go on from; default: %(default)s",
    )  # fmt: skip
    parser.add_argument("--fresh", action="store_true", help="fit again what the file holds")
    parser.add_argument("--jobs", type=int, default=JOBS, help="processes; default: %(default)s")


def run(
    runs: int,
    quick: bool,
    models: list[str] | None = None,
    sets: list[str] | None = None,
    seeds: int | None = None,
    cache: Path = CACHE,
    fresh: bool = False,
    jobs: int = JOBS,
) -> Report:
    runs = seeds or runs
    names = sets or (list(QUICK_SETS) if quick else list(SETS))
    wanted = pairs(names, models, quick)
    results = Results(measured(wanted, runs, quick, Store(cache, fresh), jobs))

    report = Report(settings(names, quick, jobs))
    report.sections.append(
        f"Delta_MTL over {results.reference}, %, mean ± standard deviation over {runs} seeds; each "
        f"draws rows and initial weights and is paired with {results.reference}'s.\n\n"
        + gain_table(results)
    )
    if not quick:
        draw(results)
        report.sections.append(f"![gain by architecture and set]({PICTURE})")
    for name in results.entries:
        report.sections.append(f"## {name}\n\n{set_table(results, name)}")
        conversion = conversion_table(results, name)
        if conversion:
            report.sections.append(
                "pCVR of every test row, clicked or not, beside its true rate; AUC is that of the "
                f"latent conversion.\n\n{conversion}"
            )
    report.findings = findings(results)
    return report


def pairs(names: list[str], models: list[str] | None, quick: bool) -> list[tuple[str, str]]:
    """Return which architecture is fitted to which set; a set that is not here is left out."""
    found = []
    for name in names:
        try:
            (_, Y, *_), _ = drawn(name, 0, quick)
        except OSError as error:
            print(f"{name}: left out, {error}", file=sys.stderr, flush=True)
            continue
        found += [
            (name, label)
            for label, contestant in contestants().items()
            if (models is None or label in models) and contestant.takes(SETS[name], pd.DataFrame(Y))
        ]
    return found


class Store:
    """The entries that are done, in a JSON file that is written after each one.

    Parameters
    ----------
    path : Path
        The file.
    fresh : bool
        Whether to take none from it. Entries of others stay in it all the same.
    """

    def __init__(self, path: Path, fresh: bool) -> None:
        self.path, self.fresh = path, fresh
        self.held: dict[str, Entry] = json.loads(path.read_text()) if path.exists() else {}

    def get(self, key: str) -> Entry | None:
        entry = None if self.fresh else self.held.get(key)
        return None if entry is None or "error" in entry else entry

    def put(self, key: str, entry: Entry) -> None:
        self.held[key] = entry
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".tmp")
        beside.write_text(json.dumps(self.held))
        beside.replace(self.path)


def measured(
    wanted: list[tuple[str, str]], runs: int, quick: bool, store: Store, jobs: int
) -> dict[str, dict[str, Entry]]:
    """Return the entries by set and architecture; what the store has is not fitted again."""
    keys = {
        (name, label): f"{name}|{label}|{signature(name, contestants()[label], quick)}"
        for name, label in wanted
    }
    known = {pair: store.get(key) for pair, key in keys.items()}
    todo = [pair for pair in wanted if len((known[pair] or {}).get("runs", [])) < runs]
    begin = time.perf_counter()
    with parallel_config(backend="loky", n_jobs=jobs, inner_max_num_threads=1):
        done = Parallel(batch_size=1, pre_dispatch=jobs, return_as="generator_unordered")(
            delayed(one)(pair, known[pair], runs, quick) for pair in todo
        )
        for count, (pair, entry) in enumerate(done, 1):
            known[pair] = entry
            store.put(keys[pair], entry)
            spent = time.perf_counter() - begin
            print(f"{count} of {len(todo)} done, {spent:.0f} s", file=sys.stderr, flush=True)
    entries: dict[str, dict[str, Entry]] = {}
    for name, label in wanted:
        entry = known[name, label] or {}
        entries.setdefault(name, {})[label] = entry | {"runs": entry.get("runs", [])[:runs]}
    return entries


def one(
    pair: tuple[str, str], known: Entry | None, runs: int, quick: bool
) -> tuple[tuple[str, str], Entry]:
    """Return a pair with its entry, for results that come in any order."""
    return pair, extend(*pair, known, runs, quick)


def settings(names: list[str], quick: bool, jobs: int) -> str:
    budgets = "; ".join(
        f"{name}: at most {b.n_train:,} rows to train and {b.n_test:,} to test, {b.epochs} epochs "
        f"of batches of {b.batch}, about {b.parameters:,} parameters"
        for name, b in ((name, budget(name, quick)) for name in names)
    )
    rates = ", ".join(f"{rate:g}" for rate in (QUICK_RATES if quick else RATES))
    return (
        "one member, numbers standardized, embeddings of width 8, no dropout, Adam at a constant "
        "rate, no early stopping, equal loss weights, the last weights; bottoms two hidden layers "
        f"deep (where there are levels, two of one layer), {N_EXPERTS} experts in all, towers "
        f"{TOWER} unless the architecture has none; one width for each architecture and set, such "
        "that bottom and towers have the wanted size (embeddings, of which some architectures have "
        "several, not counted); learning rate of "
        f"{rates} by the mean of AUC and R² on {VALIDATION:.0%} of the training rows of seed 0; "
        f"seconds are of fit, {jobs} processes of one thread side by side. {budgets}. clicks c, r: "
        "make_click_conversion of confounding c, click rate r; p: make_correlated_tasks; Census: "
        "the published test file, 70 % to train on, split by the seed; Seoul bikes: whole days are "
        "held out. ESMM, ESCM2 and NISE have no bottom unless one is named, and all their layers "
        "in the towers. DBMTL: the first task is the parent of all others; PEPNet's prior columns: "
        + "; ".join(f"{name} {', '.join(SETS[name].prior)}" for name in names)
        + "."
    )

"""The numbers of all measurements: medians over runs, ratios, and tables of them."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

from benchmarks.shared import table
from benchmarks.speed.contenders import CONTENDERS

TORCH_PEERS = ("deepctr_torch", "torch_rechub")
PEERS = (*TORCH_PEERS, "deepctr", "scikit_learn")
OURS = "sk_mtl"

COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "fit": ("fit, rows/s", lambda x: f"{x:,.0f}"),
    "first": ("first step, s", lambda x: f"{x:.2f}"),
    "bulk": ("predict, rows/s", lambda x: f"{x:,.0f}"),
    "single": ("one row, ms", lambda x: f"{x:.2f}"),
    "memory": ("peak memory, MiB", lambda x: f"{x:,.0f}"),
}


class Results:
    """Numbers of each (workload, model, contender), one set per run."""

    def __init__(self) -> None:
        self.runs: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)

    def add(self, workload: str, model: str, contender: str, numbers: dict[str, Any]) -> None:
        self.runs[workload, model, contender].append(numbers)

    def values(self, workload: str, model: str, contender: str, part: str) -> list[float]:
        runs = self.runs.get((workload, model, contender), [])
        return [run[part] for run in runs if part in run]

    def median(self, workload: str, model: str, contender: str, part: str) -> float | None:
        """Return the median over runs, None where nothing was measured."""
        values = self.values(workload, model, contender, part)
        return median(values) if values else None

    def models(self, workload: str) -> list[str]:
        return list(dict.fromkeys(m for w, m, _ in self.runs if w == workload))

    def workloads(self) -> list[str]:
        return list(dict.fromkeys(w for w, _, _ in self.runs))

    def contenders(self) -> list[str]:
        found = {contender for _, _, contender in self.runs}
        return [name for name in CONTENDERS if name in found]

    def ratio(self, workload: str, model: str, others: Iterable[str], part: str) -> float | None:
        """Return sk_mtl's median over the best of others', rates both."""
        ours = self.median(workload, model, OURS, part)
        theirs = [self.median(workload, model, other, part) for other in others]
        known = [value for value in theirs if value is not None]
        return None if ours is None or not known else ours / max(known)

    def error(self, workload: str, model: str, contender: str) -> str | None:
        """Return why there are no numbers, None where there are."""
        runs = self.runs.get((workload, model, contender), [])
        return next((run["error"] for run in runs if "error" in run), None)

    def part_errors(self) -> list[str]:
        """Return a sentence per contender and part of a measurement that failed."""
        found = {}
        for (_, model, contender), runs in self.runs.items():
            for run in runs:
                for key, text in run.items():
                    if key.endswith("_error") and not text.startswith("NoSuchModel"):
                        found.setdefault((contender, model, COLUMNS[key[:-6]][0], text))
        return [f"{c}, {m}: no {part} ({text})." for c, m, part, text in found]


def absolute(results: Results, workload: str) -> str:
    """Return a table of medians, with the smallest and largest of the runs for fit."""
    rows = []
    for model in results.models(workload):
        for contender in results.contenders():
            if (workload, model, contender) not in results.runs:
                continue
            error = results.error(workload, model, contender)
            if error:
                rows.append([model, contender, error, *[""] * (len(COLUMNS) - 1)])
                continue
            cells = [cell(results, workload, model, contender, part) for part in COLUMNS]
            rows.append([model, contender, *cells])
    return table(["model", "contender", *(title for title, _ in COLUMNS.values())], rows)


def cell(results: Results, workload: str, model: str, contender: str, part: str) -> str:
    values = results.values(workload, model, contender, part)
    write = COLUMNS[part][1]
    # The limit's first step holds the search for the quickest products.
    if not values or (contender == "limit" and part == "first"):
        return "–"  # noqa: RUF001
    span = f" ({write(min(values))} to {write(max(values))})" if len(values) > 1 else ""
    return f"{write(median(values))}{span}"


def ratios(results: Results, workload: str, part: str) -> str:
    """Return a table of sk_mtl's rate over each contender's."""
    others = [name for name in results.contenders() if name != OURS]
    rows = []
    for model in results.models(workload):
        cells = []
        for other in others:
            ratio = results.ratio(workload, model, [other], part)
            share = ratio is not None and other == "limit"
            cells.append("–" if ratio is None else f"{ratio:.0%}" if share else f"{ratio:.2f}")  # noqa: RUF001
        rows.append([model, *cells])
    return table(["model", *others], rows)

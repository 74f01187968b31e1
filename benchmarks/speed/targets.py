"""What was asked for, and whether it was met."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from benchmarks.shared import table
from benchmarks.speed.results import PEERS, TORCH_PEERS, Results


class Target(NamedTuple):
    """A bound on values by name: from below, or from above."""

    text: str
    at_least: bool
    bound: float
    values: dict[str, float]
    form: str = ".2f"

    @property
    def met(self) -> bool | None:
        """Whether every value keeps the bound; None if there is no value."""
        if not self.values:
            return None
        return all(
            value >= self.bound if self.at_least else value <= self.bound
            for value in self.values.values()
        )

    def row(self) -> list[str]:
        sign = "≥" if self.at_least else "≤"
        values = "; ".join(f"{name} {value:{self.form}}" for name, value in self.values.items())
        answer = {True: "yes", False: "no", None: "not measured"}[self.met]
        return [self.text, f"{sign} {self.bound:{self.form}}", values, answer]


FIT: list[tuple[str, tuple[str, ...], Iterable[str], float, str]] = [
    ("fit over the fastest torch peer", ("w1", "w2"), TORCH_PEERS, 5.0, ".2f"),
    ("fit over deepctr", ("w1",), ["deepctr"], 3.0, ".2f"),
    ("fit over deepctr", ("w2",), ["deepctr"], 2.5, ".2f"),
    ("fit over the fastest torch peer", ("w3",), TORCH_PEERS, 3.0, ".2f"),
    ("fit over deepctr", ("w3",), ["deepctr"], 2.0, ".2f"),
    ("fit over the fastest torch peer", ("w4",), TORCH_PEERS, 20.0, ".2f"),
    ("fit over the loop", ("w1", "w1-4096", "w2", "w3", "w4"), ["loop"], 0.9, ".2f"),
    ("fit, share of the limit", ("w3",), ["limit"], 0.65, ".0%"),
    ("fit, share of the limit", ("w1-4096",), ["limit"], 0.45, ".0%"),
]


def targets(results: Results, points: dict[str, dict[str, Any]]) -> list[Target]:
    """Return all targets with what was measured; `points` are the scaling parts'."""
    found = [
        Target(
            f"{', '.join(workloads)}: {text}",
            True,
            bound,
            by_model(results, workloads, others, "fit"),
            form,
        )
        for text, workloads, others, bound, form in FIT
    ]
    every = tuple(results.workloads())
    for peer in PEERS:
        values = by_model(results, every, [peer], "bulk")
        found.append(Target(f"predict in bulk over {peer}", True, 5.0, values))
    for contender, rows in (("sk_mtl", "data frame"), ("sk_mtl_array", "array")):
        values = {}
        for w in every:
            for model in results.models(w):
                value = results.median(w, model, contender, "single")
                if value is not None:
                    values[f"{w} {model}"] = value
        found.append(Target(f"one row, {rows}, ms", False, 1.0, values))
    shares = {
        name.removeprefix("overhead "): 1 - point["inside"] / point["step"]
        for name, point in points.items()
        if name.startswith("overhead") and "step" in point
    }
    found.append(Target("skorch's share of a step at batch 1024", False, 0.1, shares, ".0%"))
    steps = [p["step"] for n, p in points.items() if n.startswith("vocabulary") and "step" in p]
    spread = {"largest over smallest": max(steps) / min(steps)} if steps else {}
    found.append(Target("step from the smallest to the largest table", False, 1.1, spread))
    found.append(Target("encoding over one epoch, w3", False, 0.1, encoding(results), ".1%"))
    added = points.get("import", {})
    values = {"import": added["added"]} if "added" in added else {}
    found.append(Target("import beyond torch and scikit-learn, s", False, 0.3, values))
    return found


def by_model(
    results: Results, workloads: Iterable[str], others: Iterable[str], part: str
) -> dict[str, float]:
    """Return sk_mtl's ratio to the best of others for every model measured."""
    found = {}
    for workload in workloads:
        for model in results.models(workload):
            ratio = results.ratio(workload, model, others, part)
            if ratio is not None:
                found[f"{workload} {model}"] = ratio
    return found


def encoding(results: Results) -> dict[str, float]:
    """Return the time of fit before the second step over an epoch's, for a million rows."""
    found = {}
    for model in results.models("w3"):
        rate, first = (results.median("w3", model, "sk_mtl", part) for part in ("fit", "first"))
        if rate and first:
            found[model] = first * rate / 1_000_000
    return found


def target_table(found: list[Target]) -> str:
    return table(["target", "bound", "measured", "met"], [target.row() for target in found])

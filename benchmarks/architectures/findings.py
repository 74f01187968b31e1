"""Whether what was to be reached is reached, told from the numbers alone."""

from collections.abc import Iterable

import numpy as np

from benchmarks.architectures.results import Results
from benchmarks.architectures.sets import CORRELATIONS, WORLDS, world_name
from benchmarks.click_conversion import MEASURES
from benchmarks.shared import spread

GATED = ("MMoE", "CGC", "PLE", "AdaTT", "STEM", "MLMMoE")
PAIRS = (("ESCM2-IPS", "ESMM"), ("ESCM2-IPS on MMoE", "ESMM on MMoE"))
TOLERANCE = 0.1
ASKED = ("AUC", "error of the mean", "calibration error")
PUBLISHED = {
    "AdaTT": (0.8766, 0.9202, 0.9783),
    "MLMMoE": (0.8729, 0.9178, 0.9731),
    "PLE": (0.8683, 0.9164, 0.9697),
}
"""AUC on the full files, mean of 100 runs; which task is which was not clear to us."""


UNTOLD = "one seed, no spread"


def verdict(values: np.ndarray, bigger_is_better: bool = True) -> str:
    """Return "better", "worse" or "within the spread" of differences, which pair seeds."""
    if len(values) < 2:
        return UNTOLD
    mean = float(np.mean(values)) if bigger_is_better else -float(np.mean(values))
    if abs(mean) <= spread(values):
        return "within the spread"
    return "better" if mean > 0 else "worse"


def told(values: np.ndarray, bigger_is_better: bool = True, digits: int = 2) -> str:
    """Return a mean difference, its spread, its verdict and how many seeds it is better in."""
    better = int(np.sum(values > 0 if bigger_is_better else values < 0))
    return (
        f"{np.mean(values):+.{digits}f} ± {spread(values):.{digits}f} "
        f"({verdict(values, bigger_is_better)}; better in {better} of {len(values)})"
    )


def findings(results: Results) -> list[str]:
    return [
        *correlated_findings(results),
        *(said for pair in PAIRS for said in conversion_findings(results, *pair)),
        *census_findings(results),
        *size_findings(results),
        *results.errors(),
    ]


def size_findings(results: Results) -> list[str]:
    """Say which networks are not of the wanted size, since they do not compare."""
    found = []
    for name, by_label in results.entries.items():
        for label, entry in by_label.items():
            runs = results.runs(name, label)
            if runs and abs(runs[0]["body"] / entry["wanted"] - 1) > TOLERANCE:
                found.append(f"{name} {label} ({runs[0]['body']:,} of {entry['wanted']:,})")
    return [f"Not within {TOLERANCE:.0%} of the size wanted: {'; '.join(found)}."] if found else []


def correlated_findings(results: Results) -> list[str]:
    """Say whether gated models lose nothing at p = 0, SharedBottom does, and all gain at 0.9."""
    found = []
    for p in CORRELATIONS:
        gains = {
            label: values
            for label in ("SharedBottom", *GATED)
            if len(values := results.gains(f"p = {p:g}", label)) and label != results.reference
        }
        if gains:
            parts = "; ".join(f"{label} {told(values)}" for label, values in gains.items())
            found.append(f"p = {p:g}, Delta_MTL over {results.reference}, %: {parts}.")
        if p == 0:
            found += reached(
                "At p = 0 the gated models lose nothing",
                {k: v for k, v in gains.items() if k in GATED},
                ("better", "within the spread"),
            )
            bottom = {k: v for k, v in gains.items() if k == "SharedBottom"}
            found += reached("At p = 0 SharedBottom loses", bottom, ("worse",))
        if p == max(CORRELATIONS):
            found += reached(f"At p = {p:g} all gain", gains, ("better",))
    return found


def reached(
    claim: str, values: dict[str, np.ndarray], verdicts: Iterable[str], bigger: bool = True
) -> list[str]:
    """Say whether a claim holds of all that were measured, and of which it does not."""
    if not values:
        return []
    answers = {label: verdict(v, bigger) for label, v in values.items()}
    if UNTOLD in answers.values():
        return [f"{claim}: not told by one seed."]
    others = [f"{label} {a}" for label, a in answers.items() if a not in verdicts]
    said = f"not reached ({', '.join(others)})" if others else f"reached ({', '.join(answers)})"
    return [f"{claim}: {said}."]


def conversion_findings(results: Results, ips: str, esmm: str) -> list[str]:
    """Say where ESCM2 with inverse propensities ranks and calibrates pCVR better than ESMM."""
    found: list[str] = []
    answers: dict[str, list[str]] = {measured: [] for measured in ASKED}
    for world in WORLDS:
        ours, theirs = (results.conversion(world_name(*world), one) for one in (ips, esmm))
        n = min(len(ours), len(theirs))
        if not n:
            continue
        parts = []
        for measured in ASKED:
            m, bigger = list(MEASURES).index(measured), MEASURES[measured] is max
            difference = ours[:n, m] - theirs[:n, m]
            parts.append(f"{measured} {told(difference, bigger, 4)}")
            answers[measured].append(verdict(difference, bigger))
        found.append(
            f"Confounding {world[0]}, click rate {world[1]}, pCVR of {ips} less {esmm}: "
            f"{'; '.join(parts)}."
        )
    for measured, verdicts in answers.items():
        if verdicts and UNTOLD not in verdicts:
            n = verdicts.count("better")
            said = "reached" if n == len(verdicts) else "not reached"
            found.append(
                f"{ips} better than {esmm} by {measured} in all confounded worlds: {said} (better "
                f"in {n} of {len(verdicts)}, worse in {verdicts.count('worse')}, the others "
                "within the spread)."
            )
    return found


def census_findings(results: Results) -> list[str]:
    """Say how AdaTT stands to MLMMoE and PLE on Census-Income's three tasks."""
    name = "Census three"
    here = [label for label in PUBLISHED if results.runs(name, label)]
    if "AdaTT" not in here or len(here) < 2:
        return []
    means = {
        label: np.array([np.mean(list(r["scores"].values())) for r in results.runs(name, label)])
        for label in here
    }
    order = sorted(here, key=lambda label: -means[label].mean())
    numbers = ", ".join(f"{label} {means[label].mean():.4f}" for label in order)
    published = ", ".join(f"{k} {np.mean(v):.4f}" for k, v in PUBLISHED.items())
    found = [f"{name}, mean AUC: {numbers}; published on the full files: {published}."]
    for other in (label for label in here if label != "AdaTT"):
        parts = []
        for task in results.runs(name, other)[0]["scores"]:
            ours, theirs = (results.scores(name, label, task) for label in ("AdaTT", other))
            n = min(len(ours), len(theirs))
            parts.append(f"{task} {told(ours[:n] - theirs[:n], digits=4)}")
        n = min(len(means["AdaTT"]), len(means[other]))
        answer = verdict(means["AdaTT"][:n] - means[other][:n])
        order_holds = {"better": "reached", "worse": "not reached"}.get(answer, answer)
        found.append(f"{name}, AdaTT less {other}: {'; '.join(parts)}.")
        found.append(f"{name}, AdaTT above {other} in the mean of the tasks: {order_holds}.")
    return found

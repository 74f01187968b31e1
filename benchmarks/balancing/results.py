"""Tables and findings of what was measured."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from benchmarks.balancing.cost import Cost, target
from benchmarks.balancing.fits import CONFLICT, SINGLE, SINGLE_LOG, Fit
from benchmarks.shared import table
from sk_mtl.metrics import relative_gain

HELD = -0.01
"""The least relative change at which the small task counts as held."""

SCALED, SMALL, LARGE = "mixed scale", "first", "second"


class Results(NamedTuple):
    """The scores of all fits, and the balancers that took part."""

    balancers: Sequence[str]
    scores: dict[Fit, dict[str, float] | str]

    @property
    def seeds(self) -> list[int]:
        return sorted({fit.seed for fit in self.scores})

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(fit.model for fit in self.scores))

    def values(self, problem: str, model: str, balancer: str) -> dict[str, NDArray]:
        """Return each task's scores over seeds, NaN where the fit failed."""
        found = [self.scores[Fit(problem, model, balancer, seed)] for seed in self.seeds]
        names = next((list(f) for f in found if isinstance(f, dict)), [])
        return {
            name: np.array([f[name] if isinstance(f, dict) else np.nan for f in found])
            for name in names
        }

    def gains(self, problem: str, balancer: str) -> NDArray:
        """Return Delta_MTL of each seed and model, (seeds, models)."""
        return np.array(
            [
                [self._gain(Fit(problem, model, balancer, seed)) for model in self.models]
                for seed in self.seeds
            ]
        )

    def _gain(self, fit: Fit) -> float:
        own, single = self.scores[fit], self.scores[fit._replace(balancer=SINGLE)]
        if isinstance(own, str) or isinstance(single, str):
            return np.nan
        return relative_gain(own, single)

    def less_equal(self, problem: str, balancer: str) -> NDArray:
        """Return each seed's mean gain over models less that of "equal", (seeds,)."""
        return (self.gains(problem, balancer) - self.gains(problem, "equal")).mean(1)

    def changes(self, model: str, balancer: str, task: str = SMALL) -> NDArray:
        """Return the relative change of a task of the mixed scale, (seeds,)."""
        own = self.values(SCALED, model, balancer).get(task, np.array([np.nan]))
        single = self.values(SCALED, model, SINGLE)[task]
        return (own - single) / abs(single)


def percent(values: NDArray) -> str:
    """Say a mean and its standard error in percent."""
    error = f" ± {100 * standard_error(values):.2f}" if len(values) > 1 else ""
    return f"{100 * values.mean():+.2f}{error}"


def standard_error(values: NDArray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def distinct(values: NDArray) -> bool:
    """Return whether zero is outside the 95 % confidence interval of a mean (Student's t)."""
    n = len(values)
    return n > 1 and abs(values.mean()) > t.ppf(0.975, n - 1) * standard_error(values)


def reference_table(results: Results, problem: str) -> str:
    """Tabulate the tasks' scores alone and with "equal", and how often gradients conflict."""
    rows = []
    for model in results.models:
        alone = results.values(problem, model, SINGLE)
        equal = results.values(problem, model, "equal")
        conflicts = results.values(problem, model, CONFLICT)["conflicts"].mean()
        cells = [f"{v.mean():.4f}" for task in alone for v in (alone[task], equal[task])]
        log = percent(results.gains(problem, SINGLE_LOG)[:, results.models.index(model)])
        rows.append([model, *cells, log, f"{conflicts:.0%}"])
    header = [f"{task}, {part}" for task in alone for part in ("alone", "equal")]
    return table(["model", *header, "alone, log", "steps in conflict"], rows)


def gain_table(results: Results, problem: str) -> str:
    rows = []
    for name in results.balancers:
        gains = results.gains(problem, name)
        less = "" if name == "equal" else percent(results.less_equal(problem, name))
        rows.append([name, *map(percent, gains.T), percent(gains.mean(1)), less])
    return table(["balancer", *results.models, "mean", "less equal"], rows)


def gain_findings(results: Results, problem: str) -> str:
    """Say which balancers gain the most and the least, and which differ from "equal"."""
    means = {name: results.gains(problem, name).mean() for name in results.balancers}
    means = {name: mean for name, mean in means.items() if not np.isnan(mean)}
    best, worst = max(means, key=lambda n: means[n]), min(means, key=lambda n: means[n])
    others = {name: results.less_equal(problem, name) for name in means if name != "equal"}
    apart = {name: values.mean() for name, values in others.items() if distinct(values)}
    above = [name for name, value in apart.items() if value > 0]
    below = [name for name, value in apart.items() if value < 0]
    log = percent(results.gains(problem, SINGLE_LOG).mean(1))
    return (
        f"{problem}: equal gains {percent(results.gains(problem, 'equal').mean(1))} %; the most is "
        f"{best}'s {100 * means[best]:+.2f} %, the least {worst}'s {100 * means[worst]:+.2f} %. "
        f"Above equal at 95 %: {listed(above)}; below: {listed(below)} (of {len(others)} "
        f"compared, {0.05 * len(others):.1g} expected by chance). "
        f"A task alone gains {log} % by log."
    )


def listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def held_table(results: Results) -> str:
    rows = []
    for name in results.balancers:
        changes = [results.changes(model, name) for model in results.models]
        held = [change.mean() >= HELD for change in changes]
        large = [results.changes(model, name, LARGE) for model in results.models]
        cells = map(percent, [*changes, *large])
        rows.append([name, *cells, f"{sum(held)} of {len(held)}"])
    said = (
        f"Relative change in percent of the two tasks of the problem {SCALED}, the large one's "
        "loss being the one that is scaled; the small one is held where its mean is "
        f"{100 * HELD:g} % or more."
    )
    header = [f"{task}, {model}" for task in ("small", "large") for model in results.models]
    return f"{table(['balancer', *header, 'held'], rows)}\n\n{said}"


def held_findings(results: Results) -> list[str]:
    """Say which balancers hold the small task, and with which models the others do not."""
    lost = {
        name: [
            f"{model} {100 * change:+.1f} %"
            for model in results.models
            if not (change := results.changes(model, name).mean()) >= HELD
        ]
        for name in results.balancers
    }
    met = [name for name, models in lost.items() if not models]
    dear = [
        f"{name} ({worst:+.1f} %)"
        for name in met
        if (worst := 100 * min(results.changes(m, name, LARGE).mean() for m in results.models))
        < 100 * HELD
    ]
    missed = [f"{name} ({', '.join(models)})" for name, models in lost.items() if models]
    return [
        f"{SCALED}, small task within 1 % of its single-task score in all models: {listed(met)}.",
        f"{SCALED}, of these at the cost of the large task, beyond 1 %: {listed(dear)}.",
        f"{SCALED}, not so: {'; '.join(missed) or 'none'}.",
    ]


def cost_table(costs: dict[str, Cost]) -> str:
    rows = [
        [name, f"{c.milliseconds:.1f}", f"{c.ratio:.2f} ({quartile(c, 25):.2f} to "
         f"{quartile(c, 75):.2f})", f"{target(name):g}", "yes" if c.ratio <= target(name) else "no"]
        for name, c in costs.items()
    ]  # fmt: skip
    header = ["balancer", "ms per step", "ratio to equal, median (quartiles)", "target", "met"]
    return table(header, rows)


def quartile(cost: Cost, q: float) -> float:
    return float(np.percentile(cost.ratios, q))


def cost_findings(costs: dict[str, Cost]) -> list[str]:
    """Say for both kinds of balancers whether a step stays within its target."""
    lines = []
    for limit in sorted({target(name) for name in costs}):
        kind = {name: c.ratio for name, c in costs.items() if target(name) == limit}
        missed = [f"{name} {ratio:.2f}" for name, ratio in kind.items() if ratio > limit]
        lines.append(
            f"Cost of a step, target {limit:g} times equal: met by {len(kind) - len(missed)} of "
            f"{len(kind)}; missed by {listed(missed)}. Equal beside itself: "
            f"{costs['equal'].ratio:.2f}."
        )
    return lines


def failures(results: Results) -> list[str]:
    """Name the fits that failed, one finding for each error."""
    found: dict[str, list[Fit]] = {}
    for fit, value in results.scores.items():
        if isinstance(value, str):
            found.setdefault(f"{fit.problem}, {fit.balancer}: {value}", []).append(fit)
    lines = [f"{len(fits)} fits failed: {error}" for error, fits in found.items()]
    return lines or ["No fit failed."]

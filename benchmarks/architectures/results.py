"""All entries: gains over SingleTask, tables and the picture."""

from typing import Any

import numpy as np

from benchmarks.architectures.contestants import SINGLE
from benchmarks.architectures.fits import Entry
from benchmarks.click_conversion import MEASURES
from benchmarks.shared import RESULTS, mean_std, spread, table
from sk_mtl.metrics import relative_gain

FALLBACK = "SharedBottom"
PICTURE = "architectures.png"


class Results:
    """The entries by set and by architecture.

    Parameters
    ----------
    entries : dict of set to dict of architecture to entry
        What was fitted; an entry with an error has fewer seeds, or none.
    """

    def __init__(self, entries: dict[str, dict[str, Entry]]) -> None:
        self.entries = entries
        self.labels = list(dict.fromkeys(label for one in entries.values() for label in one))
        self.reference = SINGLE if SINGLE in self.labels else FALLBACK

    def runs(self, name: str, label: str) -> list[Entry]:
        return self.entries.get(name, {}).get(label, {}).get("runs", [])

    def gains(self, name: str, label: str) -> np.ndarray:
        """Return Delta_MTL in percent seed by seed; empty where one of the two was not fitted."""
        pairs = zip(self.runs(name, label), self.runs(name, self.reference), strict=False)
        return np.array([100 * gain(ours, single) for ours, single in pairs])

    def scores(self, name: str, label: str, task: str) -> np.ndarray:
        return np.array([run["scores"][task] for run in self.runs(name, label)])

    def conversion(self, name: str, label: str) -> np.ndarray:
        """Return the measures of pCVR, (seeds, measures); empty where it predicts none."""
        return np.array([r["conversion"] for r in self.runs(name, label) if r["conversion"]])

    def errors(self) -> list[str]:
        return [
            f"{name}, {label} failed: {entry['error']}"
            for name, by_label in self.entries.items()
            for label, entry in by_label.items()
            if "error" in entry
        ]


def gain(ours: Entry, single: Entry) -> float:
    greater = {task: not is_value for task, is_value in ours["is_value"].items()}
    return relative_gain(ours["scores"], single["scores"], greater_is_better=greater)


def gain_table(results: Results) -> str:
    """Return all gains, one line for each architecture, one column for each set."""
    lines = []
    for label in results.labels:
        if label == results.reference:
            continue
        gains = [results.gains(name, label) for name in results.entries]
        means = [g.mean() for g in gains if len(g)]
        mean = f"{np.mean(means):+.2f} of {len(means)}" if means else ""
        lines.append([label, mean, *(signed(g) for g in gains)])
    return table(["model", "mean, of how many sets", *results.entries], lines)


def signed(values: np.ndarray) -> str:
    """Return mean ± standard deviation with a sign, or nothing."""
    return f"{values.mean():+.2f} ± {spread(values):.2f}" if len(values) else ""


def set_table(results: Results, name: str) -> str:
    """Return the metrics of a set's tasks, the gain and the cost of every architecture."""
    lines, tasks = [], []
    for label, entry in results.entries[name].items():
        runs = results.runs(name, label)
        if not runs:
            continue
        tasks = [f"{t}, {'RMSE' if v else 'AUC'}" for t, v in runs[0]["is_value"].items()]
        gains = results.gains(name, label)
        lines.append(
            [
                label,
                *(mean_std(results.scores(name, label, task)) for task in runs[0]["scores"]),
                signed(gains) if label != results.reference else "",
                f"{runs[0]['body']:,}",
                f"{runs[0]['parameters']:,}",
                entry["width"],
                f"{entry['rate']:g}",
                mean_std([run["seconds"] for run in runs], 1),
            ]
        )
    header = ["model", *tasks, "Delta_MTL, %", "bottom and towers", "parameters", "width", "lr"]
    return table([*header, "seconds"], lines)


def conversion_table(results: Results, name: str) -> str | None:
    """Return how each architecture's pCVR stands to the true rates, or None if none has one."""
    lines = []
    for label in results.labels:
        values = results.conversion(name, label)
        if len(values):
            lines.append([label, *(mean_std(column) for column in values.T)])
    return table(["model", *MEASURES], lines) if lines else None


def draw(results: Results) -> None:
    """Plot every gain, one row for each architecture, one column for each set."""
    import matplotlib.pyplot as plt
    from matplotlib.colors import SymLogNorm

    labels = [label for label in results.labels if label != results.reference]
    names = list(results.entries)
    gains = [[results.gains(name, label) for name in names] for label in labels]
    means = np.array([[g.mean() if len(g) else np.nan for g in row] for row in gains])
    most = max(1.0, float(np.nanmax(np.abs(means)))) if np.isfinite(means).any() else 1.0
    figure, ax = plt.subplots(
        figsize=(1.5 + 0.75 * len(names), 1.5 + 0.36 * len(labels)), layout="constrained"
    )
    norm: Any = SymLogNorm(linthresh=0.5, vmin=-most, vmax=most)
    image = ax.imshow(means, cmap="RdBu", norm=norm, aspect="auto")
    for i, row in enumerate(gains):
        for j, values in enumerate(row):
            if len(values):
                weight = "bold" if abs(values.mean()) > spread(values) else "normal"
                color = "white" if abs(norm(values.mean()) - 0.5) > 0.35 else "black"
                said = f"{values.mean():+.1f}".replace("-0.0", "+0.0")
                ax.text(j, i, said, ha="center", va="center", size=7, weight=weight, color=color)
    ax.set_xticks(range(len(names)), names, rotation=40, ha="right")
    ax.set_yticks(range(len(labels)), labels)
    ax.set_title(f"Delta_MTL over {results.reference}, %; bold: beyond the spread", size=9)
    figure.colorbar(image, ax=ax, shrink=0.8, format="%g")
    RESULTS.mkdir(parents=True, exist_ok=True)
    figure.savefig(RESULTS / PICTURE, dpi=110)
    plt.close(figure)

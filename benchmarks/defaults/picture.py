"""Draws the gain of default estimators over default trees.

``python -m benchmarks.defaults.picture`` reads docs/results/defaults.md, so that the picture can be
drawn anew without the study.
"""

import re

from benchmarks.shared import RESULTS

PICTURE = "defaults.png"
REFERENCE = "HistGradientBoosting"
SHOWN = {"LightGBM": ("o", "#000000"), "SharedBottom": ("s", "#0072B2"), "MMoE": ("D", "#D55E00")}
"""Marker and color of each model that is drawn, in the order of the legend."""


def means(section: str) -> dict[str, dict[str, float]]:
    """Return the mean metric of each set and model, from the table of sets by models."""
    lines = section.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| set | Hist"))
    models = _cells(lines[start])[1:]
    found = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        name, *cells = _cells(line)
        scores = (re.match(r"-?[\d.]+", cell) for cell in cells)
        found[name] = {m: float(s[0]) for m, s in zip(models, scores, strict=True) if s}
    return found


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def draw(section: str) -> None:
    """Plot the differences to the trees, a row for each set, the largest gain on top."""
    import matplotlib.pyplot as plt

    by_set = means(section)
    gains = {
        name: {model: scores[model] - scores[REFERENCE] for model in SHOWN if model in scores}
        for name, scores in by_set.items()
    }
    order = sorted(gains, key=lambda name: gains[name].get("MMoE", 0.0))
    figure, ax = plt.subplots(figsize=(8, 0.5 + 0.27 * len(order)), layout="constrained")
    for model, (marker, color) in SHOWN.items():
        here = [(gains[name][model], y) for y, name in enumerate(order) if model in gains[name]]
        ax.scatter(
            *zip(*here, strict=True), marker=marker, color=color, s=28, label=model, zorder=3
        )
    ax.axvline(0, color="0.4", linewidth=1)
    held_out = ", held out"
    names = [n.replace(held_out, " *").removesuffix(", choosing") for n in order]
    ax.set_yticks(range(len(order)), names)
    ax.set_xscale("symlog", linthresh=0.01)
    ticks = [-0.03, -0.01, 0, 0.01, 0.03, 0.1]
    ax.set_xticks(ticks, [f"{tick:+g}" if tick else "0" for tick in ticks])
    ax.minorticks_off()
    ax.set_xlim(right=0.2)
    ax.grid(axis="both", color="0.9")
    ax.set_xlabel("gain in AUC or R² over one default HistGradientBoosting per task")
    ax.legend(loc="lower right", framealpha=1)
    RESULTS.mkdir(parents=True, exist_ok=True)
    figure.savefig(RESULTS / PICTURE, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    draw((RESULTS / "defaults.md").read_text(encoding="utf-8"))

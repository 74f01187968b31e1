"""A step's cost against the size of what is trained: tables, slopes and a plot."""

from itertools import groupby
from typing import Any

import numpy as np

from benchmarks.shared import RESULTS, table

PLOT = "speed_scaling.png"
AXES = {
    "vocabulary": "rows of the embedding table",
    "rows": "rows of the data",
    "tasks": "tasks",
    "experts": "experts",
}


def by_part(points: dict[str, dict[str, Any]]) -> dict[str, list[tuple[int, dict[str, Any]]]]:
    """Return the points of each curve, in order; those that failed are left out."""
    named = [(name.split(" "), point) for name, point in points.items() if " " in name]
    good = [(part, int(value), point) for (part, value), point in named
            if part in AXES and "step" in point]  # fmt: skip
    return {
        part: [(value, point) for _, value, point in members]
        for part, members in groupby(good, key=lambda item: item[0])
    }


def slope(curve: list[tuple[int, dict[str, Any]]]) -> float:
    """Return the exponent b of step = a * size ** b, by least squares of the logarithms."""
    sizes = np.log([value for value, _ in curve])
    steps = np.log([point["step"] for _, point in curve])
    return float(np.polyfit(sizes, steps, 1)[0])


def curve_table(points: dict[str, dict[str, Any]]) -> str:
    rows = [
        [part, f"{value:,}", f"{point['step']:.2f}", f"{point['first']:.2f}",
         f"{point['memory']:,.0f}"]
        for part, curve in by_part(points).items()
        for value, point in curve
    ]  # fmt: skip
    return table(["of what", "size", "step, ms", "first step, s", "peak memory, MiB"], rows)


def slopes(points: dict[str, dict[str, Any]]) -> str:
    """Return the fitted exponents in a sentence."""
    curves = {part: curve for part, curve in by_part(points).items() if len(curve) > 1}
    said = ", ".join(f"{part} {slope(curve):+.2f}" for part, curve in curves.items())
    return f"A step's time grows with the size to the power of: {said}."


def draw(points: dict[str, dict[str, Any]]) -> None:
    """Plot every curve on logarithmic axes, with memory beside the table's."""
    import matplotlib.pyplot as plt

    curves = by_part(points)
    figure, axes = plt.subplots(
        1, len(curves), figsize=(4 * len(curves), 3.4), layout="constrained"
    )
    for ax, (part, curve) in zip(np.atleast_1d(axes), curves.items(), strict=True):
        sizes = [value for value, _ in curve]
        ax.loglog(sizes, [point["step"] for _, point in curve], marker="o", label="step, ms")
        if part == "vocabulary":
            memory = [point["memory"] / 1024 for _, point in curve]
            ax.loglog(sizes, memory, marker="s", label="peak memory, GiB")
            ax.legend()
        ax.set_xlabel(AXES[part])
        ax.set_ylim(bottom=0.3, top=1.5 * max(point["step"] for _, point in curve))
        ax.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=30)
        ax.minorticks_off()
        ax.set_ylabel("one step, ms")
    RESULTS.mkdir(parents=True, exist_ok=True)
    figure.savefig(RESULTS / PLOT, dpi=90)

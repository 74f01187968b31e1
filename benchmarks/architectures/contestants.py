"""Who takes part where: estimators found by what they take, and their sizes.

Nothing here names a class that must exist: one that is missing, or a parameter that it lacks, is
left out.
"""

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.architectures.sets import DataSet, kinds
from benchmarks.defaults.study import is_real
from benchmarks.shared import PLAIN
from sk_mtl import architectures
from sk_mtl._chains import ChainEstimator
from sk_mtl._params import UnitsRule
from sk_mtl.base import MultiTaskEstimator

SINGLE = "SingleTask"
FUNNELS = ("AITM", "ResFlow")
"""Architectures for ordered steps, which some of them do not say by their class."""

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "SingleTask, shared embedding": (SINGLE, {"shared_embedding": True}),
    "MMoE, DSelect-k": ("MMoE", {"gate": "dselect_k"}),
    "AdaTT-sp": ("AdaTT", {"n_shared_experts": 0}),
    "ESMM on MMoE": ("ESMM", {"bottom": "MMoE"}),
    "ESCM2-IPS on MMoE": ("ESCM2", {"bottom": "MMoE"}),
    "ESCM2-DR": ("ESCM2", {"method": "dr"}),
}
"""Further settings of a class, by the name in the tables: a class and its parameters.

A bottom is named by its class and gets the contestant's width.
"""

LABELS = {"ESCM2": "ESCM2-IPS"}
ORDER = ("SingleTask", "SharedBottom", "OMoE", "MMoE", "MLMMoE", "CGC", "PLE", "CrossStitch",
         "AdaTT", "STEM", "PEPNet", "DBMTL", "MultiTabNet", "ESMM", "AITM", "ResFlow", "ESCM2",
         "NISE")  # fmt: skip
N_EXPERTS, TOWER, DEPTH, LEVELS, MOST = 6, 16, 2, 2, 4096
NARROWEST = 64
OVERRIDES: dict[str, dict[str, Any]] = {"STEM": {"n_levels": 1, "gate_units": ()}}
"""What a class has other than the others: STEM's isolation holds in a single level only."""

LAYERS = {"AdaTT": LEVELS, "STEM": DEPTH, "DBMTL": 1}
"""Widths in each parameter: of AdaTT one for each level, of DBMTL one in each of its parts."""

SIZES = (N_EXPERTS, TOWER, DEPTH, LEVELS, OVERRIDES, LAYERS)


@dataclass(frozen=True)
class Contestant:
    """A row of the tables: a class with some parameters of its own."""

    label: str
    cls: Any
    own: tuple[tuple[str, Any], ...] = ()

    @property
    def ordered(self) -> bool:
        """Whether its tasks are steps, each implying the one before."""
        return issubclass(self.cls, ChainEstimator) or self.cls.__name__ in FUNNELS

    def takes(self, data: DataSet, Y: pd.DataFrame) -> bool:
        """Whether it can be fitted to these tasks."""
        least, most = getattr(self.cls, "n_tasks", (1, None))
        many_enough = least <= Y.shape[1] and (most is None or Y.shape[1] <= most)
        allowed = getattr(self.cls, "takes", (object,))
        if not many_enough or not all(issubclass(kind, allowed) for kind in kinds(Y)):
            return False
        return data.nested or not self.ordered

    def parameters(self, data: DataSet, Y: pd.DataFrame, width: int) -> dict[str, Any]:
        """Return all that is set beside the learning rate and the seed."""
        defaults, n_tasks = parameters_of(self.cls), Y.shape[1]
        n_own = 2 if n_tasks == 2 else 1
        sizes: dict[str, Any] = {
            "n_experts": N_EXPERTS,
            "n_task_experts": n_own,
            "n_shared_experts": max(N_EXPERTS - n_tasks * n_own, 1),
            "n_levels": LEVELS,
            "prior_features": list(data.prior),
            "parents": {task: [Y.columns[0]] for task in Y.columns[1:]},
            "bottom": None,
            **OVERRIDES.get(self.cls.__name__, {}),
        }
        # Without shared experts their share goes to the tasks'.
        if dict(self.own).get("n_shared_experts") == 0:
            sizes["n_task_experts"] = max(N_EXPERTS // n_tasks, 1)
        given = {name: value for name, value in sizes.items() if name in defaults}
        common = PLAIN | {
            "embedding_dim": 8,
            "batch_size": data.batch,
            "max_epochs": data.epochs,
            "task_types": {task: "regression" for task in Y if is_real(Y[task])} or "auto",
        }
        if defaults["tower_units"]:
            common["tower_units"] = (TOWER,)
        own = dict(self.own)
        if "bottom" in own:
            inner = getattr(architectures, own["bottom"])
            own["bottom"] = inner(n_experts=N_EXPERTS, **widths(inner, width))
            return common | given | own
        return common | given | widths(self.cls, width) | own


def widths(cls: Any, width: int) -> dict[str, Any]:
    """Return the parameters that set a network's width, two layers deep.

    An estimator with levels has one layer in each of two levels; one without a bottom of its own
    has its layers in the towers.
    """
    names, defaults = width_names(cls), parameters_of(cls)
    if not names:
        return {"tower_units": (width,) * DEPTH + (TOWER,)}
    layers = LAYERS.get(cls.__name__, DEPTH // LEVELS if "n_levels" in defaults else DEPTH)
    return {name: width if isinstance(defaults[name], int) else (width,) * layers for name in names}


def width_names(cls: Any) -> list[str]:
    """Return the names of parameters that hold widths of hidden layers.

    Those of softmax gates are left out. Widths are tuples, or numbers that are too large to count
    experts, heads or levels.
    """
    found = []
    common = MultiTaskEstimator.__dataclass_fields__
    for one in fields(cls):
        if one.name in common or one.name == "gate_units":
            continue
        rules = one.metadata.get("constraints", [None])
        units = isinstance(rules[0], UnitsRule) and one.default
        number = type(one.default) is int and one.default >= NARROWEST
        if units or number:
            found.append(one.name)
    return found


def parameters_of(cls: Any) -> dict[str, Any]:
    """Return the defaults of a class; None for a parameter that must be given."""
    return {f.name: None if f.default is MISSING else f.default for f in fields(cls)}


@cache
def contestants() -> dict[str, Contestant]:
    """Return all that are here, in the tables' order."""
    classes = {
        name: cls
        for name in architectures.__all__
        if isinstance(cls := getattr(architectures, name), type)
        and issubclass(cls, MultiTaskEstimator)
    }
    ordered = [name for name in ORDER if name in classes]
    ordered += [name for name in classes if name not in ORDER]
    found: dict[str, Contestant] = {}
    for name in ordered:
        label = LABELS.get(name, name)
        found[label] = Contestant(label, classes[name])
        for variant, (owner, own) in VARIANTS.items():
            if owner == name and set(own) <= set(parameters_of(classes[name])):
                found[variant] = Contestant(variant, classes[name], tuple(own.items()))
    return found


def fitting_width(size: Callable[[int], int], wanted: int) -> int:
    """Return the width whose number of parameters is the nearest to the one wanted.

    Parameters
    ----------
    size : callable
        The number of parameters of a width; it grows with it.
    wanted : int
        The number wanted.
    """
    high = 8
    while high < MOST and size(high) < wanted:
        high *= 2
    low = 1 if high == 8 else high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < wanted else (low, middle)
    return min((low, high), key=lambda width: abs(size(width) - wanted))


def few_rows(X: pd.DataFrame, Y: pd.DataFrame) -> np.ndarray:
    """Return the places of a few rows that show every class of every task."""
    rows = [np.arange(min(200, len(X)))]
    for task in Y:
        if not is_real(Y[task]):
            rows += [np.flatnonzero(Y[task] == label)[:3] for label in Y[task].dropna().unique()]
    return np.unique(np.concatenate(rows))

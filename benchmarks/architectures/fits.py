"""The fits of one architecture on one set: its width, its learning rate, and then its seeds."""

import hashlib
import inspect
import json
import sys
import time
import warnings
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.architectures.contestants import (
    SIZES,
    Contestant,
    contestants,
    few_rows,
    fitting_width,
    parameters_of,
)
from benchmarks.architectures.sets import budget, drawn
from benchmarks.click_conversion import measure
from benchmarks.defaults.study import metric

RATES, QUICK_RATES = (1e-3, 3e-3, 1e-2), (3e-3,)
VALIDATION = 0.2

Entry = dict[str, Any]
"""Of one architecture on one set: `width`, `rate`, `trials`, and under `runs` one dict a seed."""


def signature(name: str, contestant: Contestant, quick: bool) -> str:
    """Return what tells fits apart that must not be taken for one another.

    It covers the set's budget, the sizes, the parameters and the source of the architecture's file,
    and not the rest of the package.
    """
    data = asdict(budget(name, quick)) | {"draw": None}
    source = inspect.getsource(sys.modules[contestant.cls.__module__])
    rates = QUICK_RATES if quick else RATES
    said = [data, SIZES, parameters_of(contestant.cls), contestant.own, rates]
    text = json.dumps([*said, source], default=repr, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def extend(name: str, label: str, entry: Entry | None, runs: int, quick: bool) -> Entry:
    """Return an architecture's entry with all its seeds; that one failed is a result too."""
    entry = dict(entry or {})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            contestant, data = contestants()[label], budget(name, quick)
            if "rate" not in entry:
                entry |= chosen(name, contestant, quick)
            done = entry.setdefault("runs", [])
            for seed in range(len(done), runs):
                done.append(fitted(name, contestant, entry, seed, quick))
    except Exception as error:
        print(name, label, repr(error), file=sys.stderr, flush=True)
        entry["error"] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
    return entry | {"wanted": data.parameters}


def chosen(name: str, contestant: Contestant, quick: bool) -> Entry:
    """Return the width of the wanted size, and the learning rate that is best on held-out rows."""
    data, ((X, Y, *_), _) = budget(name, quick), drawn(name, 0, quick)
    rows = few_rows(X, Y)
    sizes: dict[int, int] = {}

    def size(width: int) -> int:
        if width not in sizes:
            settings = contestant.parameters(data, Y, width) | {"max_epochs": 1}
            model = contestant.cls(random_state=0, **settings)
            sizes[width] = n_parameters(model.fit(X.iloc[rows], Y.iloc[rows]))[0]
        return sizes[width]

    width = fitting_width(size, data.parameters)
    settings = contestant.parameters(data, Y, width)
    rates = QUICK_RATES if quick else RATES
    trials = dict.fromkeys(rates, -np.inf)
    cut = int((1 - VALIDATION) * len(X))
    for rate in rates if len(rates) > 1 else ():
        model = contestant.cls(random_state=1_000, **settings | {"lr": rate})
        try:
            model.fit(X[:cut], Y[:cut])
            found = scores(model, X[cut:], Y[cut:])
        except ValueError as error:  # a rate may be too high for finite losses
            print(name, contestant.label, rate, repr(error), file=sys.stderr, flush=True)
            continue
        trials[rate] = float(np.mean([quality(*value) for value in found.values()]))
    best = max(rates, key=lambda rate: trials[rate])
    return {"width": width, "rate": best, "trials": list(trials.items())}


def fitted(name: str, contestant: Contestant, entry: Entry, seed: int, quick: bool) -> Entry:
    """Return the numbers of one seed, which draws the rows and the initial weights."""
    data, ((X, Y, X_test, Y_test), world) = budget(name, quick), drawn(name, seed, quick)
    settings = contestant.parameters(data, Y, entry["width"]) | {"lr": entry["rate"]}
    model = contestant.cls(random_state=seed, **settings)
    start = time.perf_counter()
    model.fit(X, Y)
    seconds = time.perf_counter() - start
    found = scores(model, X_test, Y_test)
    body, everything = n_parameters(model)
    conversion = None
    if world is not None and hasattr(model, "predict_conversion_rate"):
        test = np.arange(len(X), len(X) + len(X_test))
        conversion = measure(model.predict_conversion_rate(X_test), world, test)
    print(name, contestant.label, seed, f"{seconds:.1f} s", found, file=sys.stderr, flush=True)
    return {
        "scores": {task: value for task, (value, _) in found.items()},
        "is_value": {task: value for task, (_, value) in found.items()},
        "seconds": seconds,
        "body": body,
        "parameters": everything,
        "conversion": None if conversion is None else [float(value) for value in conversion],
    }


def scores(model: Any, X: Any, Y: Any) -> dict[str, tuple[float, bool]]:
    """Return each task's metric, and whether the task has values: then it is an error."""
    values, blocks = model.predict(X), {}
    if any(task.classes_ is not None for task in model.tasks_):
        blocks = model.predict_task_proba(X)
    found = {}
    for k, task in enumerate(model.tasks_):
        if task.classes_ is None:
            r2 = metric(Y[task.name], np.asarray(values[:, k], float), None)
            found[task.name] = (float(np.sqrt(1 - r2)), True)
        else:
            auc = metric(Y[task.name], blocks[task.name], task.classes_)
            found[task.name] = (auc, False)
    return found


def quality(value: float, is_value: bool) -> float:
    """Return what is higher the better: AUC, or R² of values."""
    return 1 - value**2 if is_value else value


def n_parameters(model: Any) -> tuple[int, int]:
    """Return the number of parameters in bottom, towers and head, and in all."""
    named = list(model.module_.named_parameters())
    everything = sum(p.numel() for _, p in named)
    body = sum(p.numel() for name, p in named if not name.startswith("embedding."))
    return body, everything

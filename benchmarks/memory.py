"""Measures what is held beside the rows: by `fit`, `predict_proba` and `load`; and encoding.

Each measure has a process of its own, and is the resident memory beside what the process held when
it began, after a small fit and prediction.
"""

import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.preprocessing import OrdinalEncoder
from skorch.callbacks import Callback

from benchmarks.shared import Report, table
from benchmarks.speed.clock import apart, held
from sk_mtl import SharedBottom, load
from sk_mtl.data import CategoryEncoder, FeatureEncoder, NumberEncoder
from sk_mtl.data.frames import as_table

RUNS = 3
QUICK_RUNS = 1
KINDS = ("numbers", "whole numbers", "numbers and categories")
N_COLUMNS, N_TASKS = 26, 4
SETTINGS = (
    f"{N_COLUMNS} columns, {N_TASKS} binary tasks, SharedBottom's defaults but one epoch. Encoded "
    "rows are four bytes a number and two a category. The most of the runs; seconds: the least."
)


class Peak:
    """The most MiB that the process holds, looked at every 2 ms, until `stop`."""

    def __init__(self) -> None:
        self.most, self.ends = held(), False
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        while not self.ends:
            self.most = max(self.most, held())
            time.sleep(0.002)

    def stop(self) -> float:
        self.ends = True
        self.thread.join()
        return self.most


class WhileTraining(Callback):
    """The most MiB held while a fit trains."""

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        self.peak_ = Peak()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.most_ = self.peak_.stop()
        del self.peak_


def rows(kind: str, n: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return rows of a kind, and labels."""
    rng = np.random.default_rng(0)
    numbers = {f"n{j}": rng.normal(size=n) for j in range(N_COLUMNS)}
    if kind == "whole numbers":
        numbers = {name: rng.integers(0, 50, n) for name in numbers}
    elif kind == "numbers and categories":
        names = pd.Index([f"value {k}" for k in range(1000)])
        for name in list(numbers)[: N_COLUMNS // 2]:
            numbers[name] = pd.Categorical.from_codes(rng.integers(0, 1000, n), names)
    labels = {f"task {k}": rng.integers(0, 2, n, dtype=np.int8) for k in range(N_TASKS)}
    return pd.DataFrame(numbers), pd.DataFrame(labels)


def measure_fit(kind: str, n: int) -> tuple[float, float, float, float]:
    """Return MiB: encoded rows, held in training, by the whole fit, and by a prediction."""
    X, Y = rows(kind, n)
    SharedBottom(max_epochs=1, random_state=0).fit(X[:5000], Y[:5000]).predict_proba(X[:5000])
    watch = WhileTraining()
    model = SharedBottom(max_epochs=1, random_state=0, callbacks=[watch])
    before, peak = held(), Peak()
    model.fit(X, Y)
    whole, training = peak.stop() - before, watch.most_ - before
    before, peak = held(), Peak()
    found = model.predict_proba(X)
    beside = peak.stop() - before - found.nbytes / 2**20
    n_numbers = sum(dtype.kind in "fi" for dtype in X.dtypes if isinstance(dtype, np.dtype))
    encoded = n * (4 * n_numbers + 2 * (N_COLUMNS - n_numbers)) / 2**20
    return encoded, training, whole, beside


def measure_matrix(n: int) -> float:
    """Return MiB that a fit of a wide CSR matrix holds."""
    X = sparse.random(n, 8000, density=0.002, format="csr", random_state=0)
    y = np.random.default_rng(0).integers(0, 2, n)
    SharedBottom(max_epochs=1, random_state=0).fit(X[:200], y[:200])
    before, peak = held(), Peak()
    SharedBottom(max_epochs=1, random_state=0).fit(X, y)
    return peak.stop() - before


def measure_load(n: int, form: str) -> tuple[float, float]:
    """Return MiB of a file, and what loading it holds."""
    X, y = pd.DataFrame({"id": np.arange(n)}), np.arange(n) % 2
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        apart(_save, X, y, str(path), form)
        SharedBottom(max_epochs=1).fit(X[:3000], y[:3000])
        before, peak = held(), Peak()
        model = load(path) if form == "save" else joblib.load(path)
        most = peak.stop() - before
        del model
        return os.path.getsize(path) / 2**20, most


def _save(X: pd.DataFrame, y: np.ndarray, path: str, form: str) -> None:
    model = SharedBottom(
        categorical_features=["id"], embedding_dim=32, batch_size=65536, max_epochs=1,
        early_stopping=False, random_state=0,
    ).fit(X, y)  # fmt: skip
    if form == "save":
        model.save(path)
    else:
        joblib.dump(model, path)


def measure_strings(n: int) -> tuple[float, float]:
    """Return seconds to encode eight columns of strings: ours, and scikit-learn's."""
    rng = np.random.default_rng(0)
    columns = {}
    for j in range(8):
        names = np.array([f"value {k}" for k in range(10 ** (1 + j % 4))], dtype=object)
        columns[f"c{j}"] = pd.Series(names[rng.integers(0, len(names), n)], dtype=str)
    X = pd.DataFrame(columns)
    ours = FeatureEncoder([NumberEncoder(), CategoryEncoder("from_dtype", 4)]).fit(as_table(X))
    theirs = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1).fit(X)
    seconds = []
    for encode in (lambda: ours.encode(as_table(X)), lambda: theirs.transform(X)):
        start = time.perf_counter()
        encode()
        seconds.append(time.perf_counter() - start)
    return seconds[0], seconds[1]


def repeated(runs: int, function: Any, *args: Any) -> np.ndarray:
    """Return what the runs of a measure gave, each in a process of its own."""
    found = []
    for _ in range(runs):
        found.append(apart(function, *args))
        print(function.__name__, *args, found[-1], file=sys.stderr, flush=True)
    return np.array(found)


def run(runs: int, quick: bool) -> Report:
    report, n = Report(SETTINGS), 100_000 if quick else 1_000_000
    lines, ratios = [], []
    for kind in KINDS:
        encoded, training, whole, beside = repeated(runs, measure_fit, kind, n).max(axis=0)
        ratios.append(training / encoded)
        lines.append(
            [kind, f"{encoded:.0f}", f"{training:.0f} ({training / encoded:.2f})",
             f"{whole:.0f} ({whole / encoded:.2f})", f"{beside:.0f}"]
        )  # fmt: skip
    header = [f"{n:,} rows of", "encoded, MiB", "held while training", "by the whole fit",
              "predict_proba, beside its result"]  # fmt: skip
    report.sections.append(table(header, lines))
    matrix = repeated(runs, measure_matrix, 20_000).max()
    lines = [["fit of 20,000 x 8,000 CSR at density 0.002", f"{matrix:.0f}"]]
    for form in ("save", "joblib"):
        size, most = repeated(runs, measure_load, 2 * n, form).max(axis=0)
        lines.append([f"load of a file of {size:.0f} MiB by {form}", f"{most:.0f}"])
        ratios.append(most / size)
    report.sections.append(table(["what", "holds, MiB"], lines))
    ours, theirs = repeated(runs, measure_strings, n).min(axis=0)
    report.sections.append(
        table(
            [f"encoding {n:,} rows x 8 columns of strings", "seconds"],
            [["sk_mtl", f"{ours:.2f}"], ["OrdinalEncoder", f"{theirs:.2f}"]],
        )
    )
    report.findings += [
        f"While it trains a fit holds {min(ratios[:3]):.1f} to {max(ratios[:3]):.1f} times the "
        "encoded rows.",
        f"Loading holds {max(ratios[3:]):.1f} times the file.",
        f"Strings are encoded in {ours / theirs:.1f} times OrdinalEncoder's time.",
    ]
    return report

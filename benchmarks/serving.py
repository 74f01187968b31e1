"""Measures how long predictions take where they are served, and how many rows go through a second.

Four ways with the same columns: `predict_proba` of a DataFrame with strings; `predict_proba` of an
array of numbers, categories as whole numbers; the torch module on rows that are encoded already,
which gives logits; and ONNX Runtime on the raw columns as tensors, encoder and links included. Each
as one caller with one thread, as one caller with two threads, and as two callers at once with one
thread each, which share the estimator.
"""

import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from benchmarks.shared import Report, table
from sk_mtl import MMoE, SharedBottom
from sk_mtl.datasets import make_census_like

RUNS = 3
QUICK_RUNS = 1
N_TRAIN, QUICK_TRAIN = 20_000, 2_000
SIZES = (1, 100, 10_000)
SECONDS, QUICK_SECONDS = 2.0, 0.1
WARM_UP = 3
MODELS = {
    "MMoE, one member": lambda: MMoE(n_members=1, max_epochs=2, random_state=0),
    "SharedBottom, default": lambda: SharedBottom(max_epochs=2, random_state=0),
}
MODES = {"one thread": (1, 1), "two threads": (2, 1), "two callers": (1, 2)}
"""Threads of a call, and callers."""

DATAFRAME, ARRAY = "DataFrame", "array"
MODULE, ONNX = "module, encoded", "ONNX Runtime"

Call = Callable[[], Any]


class Found(NamedTuple):
    """Milliseconds of a call, the median and the 95th percentile, and rows per second."""

    median: float
    high: float
    rate: float


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch compute on some threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def as_numbers(X: pd.DataFrame) -> tuple[NDArray, list[int]]:
    """Return X as an array of numbers, and the positions of its categories."""
    chosen = [j for j, dtype in enumerate(X.dtypes) if not pd.api.types.is_numeric_dtype(dtype)]
    columns = [
        np.where(column.isna(), np.nan, column.cat.codes) if j in chosen else column
        for j, (_, column) in enumerate(X.items())
    ]
    return np.column_stack(columns), chosen


class Ways:
    """A model fitted for each way, and the calls that serve some rows."""

    def __init__(self, make: Callable[[], Any], n_train: int, folder: Path) -> None:
        X, Y = make_census_like(n_train, random_state=0)
        self.rows, _ = make_census_like(max(SIZES), random_state=1)
        self.frame_model = make().fit(X, Y)
        array, chosen = as_numbers(X)
        self.array_model = make().set_params(categorical_features=chosen).fit(array, Y)
        self.path, self.sessions, self.missing = folder / "model.onnx", {}, ""
        try:
            import onnxruntime
            from onnxruntime import SessionOptions

            from sk_mtl import to_onnx

            to_onnx(self.frame_model, self.path)
        except ImportError as error:
            self.missing = f"ONNX is left out: {error}"
            return
        for n_threads in {threads for threads, _ in MODES.values()}:
            options = SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = n_threads, 1
            self.sessions[n_threads] = onnxruntime.InferenceSession(str(self.path), options)

    def calls(self, n_rows: int, n_threads: int) -> dict[str, Call]:
        """Return a call of each way that predicts some rows."""
        X = self.rows[:n_rows].copy()
        array, _ = as_numbers(X)
        parts = self.frame_model.encoder_.transform(X)
        tensors = {name: torch.from_numpy(part) for name, part in parts.items()}
        module = self.frame_model.module_

        def run_module() -> Any:
            with torch.inference_mode():
                return module(**tensors)

        calls: dict[str, Call] = {
            DATAFRAME: lambda: self.frame_model.predict_proba(X),
            ARRAY: lambda: self.array_model.predict_proba(array),
            MODULE: run_module,
        }
        if self.sessions:
            from sk_mtl.export import onnx_inputs

            session = self.sessions[n_threads]
            inputs = onnx_inputs(session, X)
            calls[ONNX] = lambda: session.run(None, inputs)
        return calls

    def difference(self) -> float:
        """Return by how much ONNX Runtime's probabilities differ at most."""
        calls = self.calls(max(SIZES), 1)
        names = [out.name for out in self.sessions[1].get_outputs()]
        found, expected = dict(zip(names, calls[ONNX](), strict=True)), self.frame_model
        proba = expected.predict_task_proba(self.rows)
        return max(float(np.abs(found[task] - block).max()) for task, block in proba.items())


def measure(call: Call, n_rows: int, n_callers: int, seconds: float) -> Found:
    """Return what some callers see who call again and again."""
    for _ in range(WARM_UP):
        call()
    times: list[list[float]] = [[] for _ in range(n_callers)]
    begin = threading.Barrier(n_callers)

    def caller(own: list[float]) -> None:
        begin.wait()
        now = time.perf_counter()
        end = now + seconds
        while now < end or len(own) < 5:
            call()
            last, now = now, time.perf_counter()
            own.append(now - last)

    threads = [threading.Thread(target=caller, args=(own,)) for own in times]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = sum(len(own) * n_rows / sum(own) for own in times)
    every = 1e3 * np.concatenate(times)
    return Found(float(np.median(every)), float(np.percentile(every, 95)), rate)


def best(found: list[Found]) -> Found:
    """Return the run with the least median: what disturbs the machine only ever adds."""
    return min(found, key=lambda one: one.median)


def number(value: float) -> str:
    """Return a number with three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def run(runs: int, quick: bool) -> Report:
    seconds, n_train = (QUICK_SECONDS, QUICK_TRAIN) if quick else (SECONDS, N_TRAIN)
    report = Report(
        f"census-like rows of 12 columns, 3 tasks, {n_train:,} rows to fit on; each cell is "
        f"measured {runs} times for {seconds:g} s, and the run of the least median is shown. "
        "Milliseconds: the median, in brackets the 95th percentile."
    )
    for name, make in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            ways = Ways(make, n_train, Path(folder))
            results: dict[tuple[int, str, str], Found] = {}
            for n_rows in SIZES:
                for mode, (n_threads, n_callers) in MODES.items():
                    with torch_threads(n_threads):
                        for way, call in ways.calls(n_rows, n_threads).items():
                            found = best(
                                [measure(call, n_rows, n_callers, seconds) for _ in range(runs)]
                            )
                            results[n_rows, way, mode] = found
                            print(name, n_rows, way, mode, found, file=sys.stderr, flush=True)
            report.sections += describe(name, results)
            report.findings += conclude(name, results)
            if ways.missing:
                report.findings.append(f"{name}: {ways.missing}")
            else:
                report.findings.append(
                    f"{name}: ONNX Runtime's probabilities differ from `predict_proba` by "
                    f"{ways.difference():.1e} at most."
                )
    return report


def describe(name: str, results: dict[tuple[int, str, str], Found]) -> list[str]:
    """Return the two tables of a model."""
    cells = list(dict.fromkeys((n_rows, way) for n_rows, way, _ in results))
    sections = []
    for what, show in {
        "milliseconds of a call": lambda one: f"{number(one.median)} ({number(one.high)})",
        "thousand rows per second": lambda one: number(one.rate / 1e3),
    }.items():
        lines = [
            [f"{n_rows:,}", way, *(show(results[n_rows, way, mode]) for mode in MODES)]
            for n_rows, way in cells
        ]
        sections += [f"## {name}: {what}", table(["rows", "way", *MODES], lines)]
    return sections


def conclude(name: str, results: dict[tuple[int, str, str], Found]) -> list[str]:
    """Return what the tables say, in sentences."""
    few, many = min(SIZES), max(SIZES)
    one = {way: results[few, way, "one thread"].median for n, way, _ in results if n == few}
    findings = [
        f"{name}: one row takes {number(one[DATAFRAME])} ms from a DataFrame, "
        f"{number(one[ARRAY])} ms from an array, of which the network itself is "
        f"{number(one[MODULE])} ms"
        + (f"; ONNX Runtime takes {number(one[ONNX])} ms." if ONNX in one else ".")
    ]
    for mode in ("two threads", "two callers"):
        gains = [
            f"{way} {results[many, way, mode].rate / results[many, way, 'one thread'].rate:.2f}"
            for way in one
        ]
        findings.append(
            f"{name}: {mode} give so many times one thread's rows per second, at {many:,} rows "
            f"a call: {', '.join(gains)}."
        )
    return findings

"""Measures training from Parquet: its memory, its speed beside `fit` in memory, and bare reading.

The rows are those of W3: 26 columns of ids, with up to a million of them, 13 numbers and two
labels; bare reading is shown for 8 ids, 6 numbers and two labels too. Memory is the most that the
process holds, less what the model holds: weights, the optimizer's moments, counts of slots, and
the known categories. Each measure has a process of its own.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from skorch.callbacks import Callback

from benchmarks.memory import Peak
from benchmarks.shared import PLAIN, Report, table
from benchmarks.speed.clock import apart, held
from benchmarks.speed.workloads import WORKLOADS, random_table
from sk_mtl import MMoE, SharedBottom
from sk_mtl.data import ParquetSource

RUNS = 2
QUICK_RUNS = 1
GROUP_ROWS = 65_536
LIMIT, RATE, SHARE = 1.2, 1_500_000, 0.7
W3 = WORKLOADS["w3"]
SIZES = W3.models["mmoe"]
LABELS = ["click", "buy"]
WIDE, NARROW = (26, 13), (8, 6)
"""Columns of ids, and of numbers: those of W3, and those of a table of an ordinary width."""
SETTINGS = (
    f"batch {W3.batch}, row groups of {GROUP_ROWS:,} rows, zstd, files in the page cache as far as "
    "it holds them; speed: MMoE of W3's sizes, two epochs, the second one counts; memory: "
    "SharedBottom of (64,) with embeddings of 4, one epoch, 262,144 rows in a window."
)


def add_arguments(parser: Any) -> None:
    parser.add_argument("--gigabytes", type=float, default=4.0, help="bytes on disk, in 10**9")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the measure of speed")


def write_rows(
    folder: Path,
    n: int,
    gigabytes: float | None = None,
    shape: tuple[int, int] = WIDE,
    n_files: int = 8,
) -> int:
    """Write rows to some files, until they are n, or of a size; return their number."""
    n_ids, n_numbers = shape
    sizes = np.logspace(1, 6 if shape == WIDE else 4, n_ids).astype(int)
    folder.mkdir(exist_ok=True)
    done, file = 0, 0
    while done < n if gigabytes is None else on_disk(folder) < gigabytes * 1e9:
        size = min(-(-n // n_files), n - done) if gigabytes is None else 2**20
        rows = random_table(size, sizes, n_numbers, seed=file)
        columns = {f"c{j}": own.astype(np.int32) for j, own in enumerate(rows.categorical.T)}
        columns |= {f"x{j}": own.astype(np.float32) for j, own in enumerate(rows.numeric.T)}
        columns |= dict(zip(LABELS, rows.labels.T.astype(np.int8), strict=True))
        path = folder / f"part-{file:04}.parquet"
        pq.write_table(pa.table(columns), path, row_group_size=GROUP_ROWS, compression="zstd")
        done, file = done + size, file + 1
    return done


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.parquet"))


def settings(names: Iterable[str]) -> dict[str, Any]:
    return PLAIN | {
        "categorical_features": [name for name in names if name.startswith("c")],
        "batch_size": W3.batch,
        "random_state": 0,
    }


def mmoe(names: Iterable[str]) -> Any:
    return MMoE(
        n_experts=SIZES.n_experts,
        expert_units=SIZES.experts,
        tower_units=SIZES.towers,
        **settings(names) | {"embedding_dim": W3.embedding_dim, "max_epochs": 2},
    )


def speed(folder: str, way: str, window_rows: int) -> tuple[float, float]:
    """Return the rows per second of the second epoch, and the seconds before the first one."""
    source = ParquetSource(folder, targets=LABELS, window_rows=window_rows)
    view, start = source.open(), time.perf_counter()
    model = mmoe(view.names)
    if way == "memory":
        frame = pd.read_parquet(folder)
        model.fit(frame.drop(columns=LABELS), frame[LABELS])
    else:
        model.fit(source)
    seconds = time.perf_counter() - start
    durations = model.history_["dur"].tolist()
    return view.n_rows / durations[1], seconds - sum(durations)


class Bare(Callback):
    """Takes the batches of three passes, without the network, and ends the fit."""

    def on_train_begin(self, net: Any, X: Any = None, **kwargs: Any) -> None:
        batches = net.get_iterator(X, training=True)
        self.rates_ = []
        for _ in range(3):
            start = time.perf_counter()
            n = sum(batch.n_rows for batch in batches)
            self.rates_.append(n / (time.perf_counter() - start))
        net.stop = True


def reading(folder: str, decoded_only: bool) -> float:
    """Return the rows per second of a pass that decodes, or encodes and permutes too."""
    view = ParquetSource(folder, targets=LABELS).open()
    if decoded_only:
        start = time.perf_counter()
        for _, some in view.stream():
            view.rows(some)
        return view.n_rows / (time.perf_counter() - start)
    window = min(262_144, view.n_rows - 1)
    source = ParquetSource(folder, targets=LABELS, window_rows=window)
    params = settings(view.names) | {"callbacks": [Bare()], "max_epochs": 1, "embedding_dim": 1}
    model = SharedBottom(bottom_units=(1,), tower_units=(), **params).fit(source)
    return max(model.net_.callbacks[0].rates_)


def memory(folder: str) -> tuple[float, float, float, float]:
    """Return the MiB at the begin, the most, those of the model, and the rows per second."""
    begin, peak = held(), Peak()
    source = ParquetSource(folder, targets=LABELS)
    view, start = source.open(), time.perf_counter()
    params = settings(view.names) | {"embedding_dim": 4, "max_epochs": 1}
    model = SharedBottom(bottom_units=(64,), **params).fit(source)
    seconds, most = time.perf_counter() - start, peak.stop()
    tensors = list(model.module_.state_dict().values())
    for state in model.net_.optimizer_.state.values():
        tensors += [entry for entry in state.values() if hasattr(entry, "nbytes")]
    counts = sum(b.nbytes for name, b in model.module_.named_buffers() if "counts" in name)
    known = sum(index.nbytes for index in model._fitted_.encoder.encoders[1].categories_)
    own = (sum(tensor.nbytes for tensor in tensors) + counts + known) / 2**20
    return begin, most, own, view.n_rows / seconds


def run(runs: int, quick: bool, gigabytes: float, rows: int) -> Report:
    if quick:
        gigabytes, rows = min(gigabytes, 0.05), min(rows, 60_000)
    report = Report(SETTINGS)
    home = Path(tempfile.mkdtemp(prefix="sk_mtl_parquet_", dir=os.environ.get("TMPDIR")))
    try:
        small, narrow, large = home / "small", home / "narrow", home / "large"
        n = write_rows(small, rows)
        write_rows(narrow, 4 * rows, shape=NARROW)
        window = min(262_144, n // 2)
        rates: dict[str, list[Any]] = {}
        for _ in range(runs):
            for way in ("memory", "parquet"):
                rates.setdefault(way, []).append(apart(speed, str(small), way, window))
            for folder in (small, narrow):
                for only in (True, False):
                    rate = apart(reading, str(folder), only)
                    rates.setdefault(f"{folder.name} {only}", []).append((rate, 0.0))
            print(rates, file=sys.stderr, flush=True)
        best = {way: max(found) for way, found in rates.items()}
        share = best["parquet"][0] / best["memory"][0]
        said = {
            "memory": "`fit` in memory",
            "parquet": "`fit` of a source",
            "small True": "decoding, to frames of pandas, on one thread",
            "small False": "batches without a network: decoded, encoded, shuffled",
            "narrow True": "16 columns: decoding, to frames of pandas, on one thread",
            "narrow False": "16 columns: batches without a network",
        }
        lines = [
            (said[way], f"{rate:,.0f}", f"{before:.1f}" if before else "")
            for way, (rate, before) in best.items()
        ]
        header = [f"{n:,} rows, {on_disk(small) / 1e6:,.0f} MB", "rows/s", "seconds before"]
        report.sections.append("## Speed\n\n" + table(header, lines))
        n = write_rows(large, 0, gigabytes=gigabytes)
        begin, most, own, rate = apart(memory, str(large))
        beyond = (most - own) / 1024
        header = ["on disk", "rows", "begin", "at most", "of the model", "beyond it", "rows/s"]
        line = [
            f"{on_disk(large) / 1e9:.2f} GB", f"{n:,}", f"{begin:,.0f} MiB", f"{most:,.0f} MiB",
            f"{own:,.0f} MiB", f"{beyond:.2f} GiB", f"{rate:,.0f}",
        ]  # fmt: skip
        report.sections.append(
            "## Memory\n\n" + table(header, [line]) + "\n\n"
            "Rows per second count everything: two looks at the labels, one at all columns, and "
            "the epoch."
        )
        report.findings = [
            f"From Parquet training takes {share:.2f} of the rows per second in memory (asked for: "
            f"{SHARE}).",
            f"Bare reading as batches: {best['narrow False'][0]:,.0f} rows/s of 16 columns, "
            f"{best['small False'][0]:,.0f} of W3's 41 (asked for: {RATE:,}).",
            f"{on_disk(large) / 1e9:.1f} GB are trained on inside {beyond:.2f} GiB beyond the "
            f"model (asked for: {LIMIT} GB).",
        ]
    finally:
        shutil.rmtree(home)
    return report

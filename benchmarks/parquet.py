"""Measures training from Parquet: its memory, its speed beside `fit` in memory, and bare reading.

The rows are those of W3: 26 columns of ids, with up to a million of them, and 13 numbers. Memory is
the most that the process holds, less what the model holds: weights, the optimizer's moments,
counts of slots, and the known categories. Each measure has a process of its own.
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

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
SETTINGS = (
    f"batch {W3.batch}, row groups of {GROUP_ROWS:,} rows, zstd, files in the page cache as far as "
    "it holds them; speed: MMoE of W3's sizes, two epochs, the second one counts; memory: "
    "SharedBottom of (64,) with embeddings of 4, one epoch, 262,144 rows in a window."
)


def add_arguments(parser: Any) -> None:
    parser.add_argument("--gigabytes", type=float, default=4.0, help="bytes on disk, in 10**9")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the measure of speed")


def write_rows(folder: Path, n: int, n_files: int = 8, gigabytes: float | None = None) -> int:
    """Write rows to some files, until they are n, or of a size; return their number."""
    sizes = np.logspace(1, 6, 26).astype(int)
    done, file = 0, 0
    while done < n if gigabytes is None else on_disk(folder) < gigabytes * 1e9:
        size = min(-(-n // n_files), n - done) if gigabytes is None else 2**20
        rows = random_table(size, sizes, 13, seed=file)
        columns = {f"c{j}": own.astype(np.int32) for j, own in enumerate(rows.categorical.T)}
        columns |= {f"x{j}": own.astype(np.float32) for j, own in enumerate(rows.numeric.T)}
        columns |= dict(zip(LABELS, rows.labels.T.astype(np.int8), strict=True))
        path = folder / f"part-{file:04}.parquet"
        pq.write_table(pa.table(columns), path, row_group_size=GROUP_ROWS, compression="zstd")
        done, file = done + size, file + 1
    return done


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.parquet"))


def settings() -> dict[str, Any]:
    return PLAIN | {
        "categorical_features": [f"c{j}" for j in range(26)],
        "batch_size": W3.batch,
        "random_state": 0,
    }


def mmoe() -> Any:
    return MMoE(
        n_experts=SIZES.n_experts,
        expert_units=SIZES.experts,
        tower_units=SIZES.towers,
        **settings() | {"embedding_dim": W3.embedding_dim, "max_epochs": 2},
    )


def speed(folder: str, way: str, window_rows: int) -> tuple[float, float]:
    """Return the rows per second of the second epoch, and the seconds before the first one."""
    source = ParquetSource(folder, targets=LABELS, window_rows=window_rows)
    n, start = source.open().n_rows, time.perf_counter()
    if way == "memory":
        frame = pd.read_parquet(folder)
        model = mmoe().fit(frame.drop(columns=LABELS), frame[LABELS])
    else:
        model = mmoe().fit(source)
    seconds = time.perf_counter() - start
    durations = model.history_["dur"].tolist()
    return n / durations[1], seconds - sum(durations)


def reading(folder: str, decoded_only: bool) -> float:
    """Return the rows per second of a pass that decodes, or encodes and permutes too."""
    source = ParquetSource(folder, targets=LABELS)
    view = source.open()
    if decoded_only:
        start = time.perf_counter()
        for _ in view.stream():
            pass
        return view.n_rows / (time.perf_counter() - start)
    from skorch.callbacks import Callback

    class Bare(Callback):
        """Takes the batches of an epoch without a network."""

        def on_train_begin(self, net: Any, X: Any = None, **kwargs: Any) -> None:
            batches = net.get_iterator(X, training=True)
            start = time.perf_counter()
            for _ in batches:
                pass
            self.rate = view.n_rows / (time.perf_counter() - start)
            raise KeyboardInterrupt

    bare = Bare()
    model = SharedBottom(**settings() | {"callbacks": [bare], "max_epochs": 1, "embedding_dim": 1})
    model.set_params(bottom_units=(1,), tower_units=()).fit(
        ParquetSource(folder, targets=LABELS, window_rows=min(262_144, view.n_rows - 1))
    )
    return bare.rate


def memory(folder: str) -> tuple[float, float, float, float]:
    """Return the MiB at the begin, the most, those of the model, and the rows per second."""
    begin, peak = held(), Peak()
    source = ParquetSource(folder, targets=LABELS)
    n, start = source.open().n_rows, time.perf_counter()
    params = settings() | {"embedding_dim": 4, "max_epochs": 1}
    model = SharedBottom(bottom_units=(64,), **params).fit(source)
    seconds, most = time.perf_counter() - start, peak.stop()
    tensors = list(model.module_.state_dict().values())
    for state in model.net_.optimizer_.state.values():
        tensors += [entry for entry in state.values() if hasattr(entry, "nbytes")]
    counts = sum(b.nbytes for name, b in model.module_.named_buffers() if "counts" in name)
    known = sum(index.nbytes for index in model._fitted_.encoder.encoders[1].categories_)
    own = (sum(tensor.nbytes for tensor in tensors) + counts + known) / 2**20
    return begin, most, own, n / seconds


def run(runs: int, quick: bool, gigabytes: float, rows: int) -> Report:
    if quick:
        gigabytes, rows = min(gigabytes, 0.05), min(rows, 60_000)
    report = Report(SETTINGS)
    home = Path(tempfile.mkdtemp(prefix="sk_mtl_parquet_", dir=os.environ.get("TMPDIR")))
    try:
        small, large = home / "small", home / "large"
        small.mkdir()
        large.mkdir()
        n = write_rows(small, rows)
        window = min(262_144, n // 2)
        rates: dict[str, list[Any]] = {}
        for _ in range(runs):
            for way in ("memory", "parquet"):
                rates.setdefault(way, []).append(apart(speed, str(small), way, window))
            rates.setdefault("decoding", []).append((apart(reading, str(small), True), 0.0))
            rates.setdefault("batches", []).append((apart(reading, str(small), False), 0.0))
            print(rates, file=sys.stderr, flush=True)
        best = {way: max(found) for way, found in rates.items()}
        share = best["parquet"][0] / best["memory"][0]
        said = {
            "memory": "`fit` in memory",
            "parquet": "`fit` of a source",
            "decoding": "decoding alone",
            "batches": "batches without a network: decoded, encoded, shuffled",
        }
        lines = [
            (said[way], f"{rate:,.0f}", f"{before:.1f}" if before else "")
            for way, (rate, before) in best.items()
        ]
        header = [f"{n:,} rows, {on_disk(small) / 1e6:,.0f} MB", "rows/s", "seconds before training"]
        report.sections.append("## Speed\n\n" + table(header, lines))
        n = write_rows(large, 0, gigabytes=gigabytes)
        found = [apart(memory, str(large)) for _ in range(1)]
        begin, most, own, rate = found[0]
        beyond = (most - own) / 1024
        header = ["on disk", "rows", "at the begin", "at most", "of the model", "beyond it", "rows/s"]
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
            f"Bare reading: {best['batches'][0]:,.0f} rows/s as batches, "
            f"{best['decoding'][0]:,.0f} decoded (asked for: {RATE:,}).",
            f"{on_disk(large) / 1e9:.1f} GB are trained on inside {beyond:.2f} GiB beyond the "
            f"model (asked for: {LIMIT} GB).",
        ]
    finally:
        shutil.rmtree(home)
    return report

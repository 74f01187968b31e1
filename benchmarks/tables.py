"""Measures large embedding tables under Adam and row-wise Adagrad: memory, step, AUC.

Memory is the most that a fit holds, beside what the process held after a small fit; each fit has a
process of its own. *Arithmetic* is the formula of docs/guide/engines.md. A step is the optimizer's
alone: a table's gradient of one batch. Ids are generated: labels of two tasks read factors of
users and items and their product.
"""

import sys
import time
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.memory import Peak
from benchmarks.shared import Report, aucs, mean_std, table
from benchmarks.speed.clock import apart, held
from sk_mtl import SharedBottom
from sk_mtl._training.callbacks import KEPT_BYTES
from sk_mtl._training.optimizers import OPTIMIZERS
from sk_mtl.categorical import Hashed
from sk_mtl.datasets import fetch_adult

RUNS = 5
QUICK_RUNS = 1
NAMES = ("adam", "rowwise_adagrad")
FITS = ((1_000_000, 16), (1_000_000, 64), (10_000_000, 16))
BATCH, STEPS = 4096, 200
N_USERS, N_ITEMS = 8_000, 4_000
SETTINGS = (
    f"memory: SharedBottom of (64,), one hashed column, 100,000 rows, two epochs, batch {BATCH}; "
    f"step: {BATCH} random slots of 1,000,000, the median of {STEPS}; AUC: SharedBottom's "
    "defaults, sparse_embeddings=True, early stopping by the validation loss; ids: (64,), "
    f"embeddings of 16, {N_USERS:,} users and {N_ITEMS:,} items in 200,000 rows."
)


def run(runs: int, quick: bool) -> Report:
    report = Report(SETTINGS)
    lines, ratios = [], []
    for slots, width in FITS[: 1 if quick else None]:
        for stops in (False, True):
            for name in NAMES:
                found = apart(measure_fit, name, slots, width, stops)
                expected = arithmetic(name, slots, width, stops)
                ratios.append(found / expected)
                best = "yes" if stops else "no"
                lines.append((f"{slots:,}", width, name, best, f"{found:.0f}", f"{expected:.0f}"))
                print(*lines[-1], file=sys.stderr, flush=True)
    header = ["slots", "width", "optimizer", "best epoch kept", "MiB", "arithmetic, MiB"]
    report.sections.append(table(header, lines))
    widths = (16, 64)
    steps = [(name, *(f"{measure_step(name, w):.2f}" for w in widths)) for name in NAMES]
    report.sections.append(table(["optimizer", *(f"step, ms, width {w}" for w in widths)], steps))
    header = ["data", "optimizer", "AUC, first task", "AUC, second task", "best validation loss"]
    scores = []
    for data, params, train, test in (adult(quick), ids(quick)):
        for name in NAMES:
            found = [score(name, params, train, test, seed) for seed in range(runs)]
            scores.append((data, name, *(mean_std(column) for column in np.array(found).T)))
            print(*scores[-1], file=sys.stderr, flush=True)
    report.sections.append(table(header, scores))
    report.findings = [
        f"A fit holds {min(ratios):.2f} to {max(ratios):.2f} times what arithmetic says.",
        "Validation losses and AUC of both optimizers are those of one learning rate, the default.",
    ]
    return report


def measure_fit(name: str, slots: int, width: int, stops: bool) -> float:
    """Return the MiB that a fit with a hashed table holds."""
    found = np.random.default_rng(0).integers(0, 10**9, 100_000)
    X, y = pd.DataFrame({"id": found}), (found * 7919 % 13 < 5).astype(int)
    params = {"embedding_dim": width, "batch_size": BATCH, "max_epochs": 2, "bottom_units": (64,)}

    def fit(n_slots: int, n: int) -> Any:
        model = SharedBottom(optimizer=name, early_stopping=stops, random_state=0, **params)
        model.set_params(categorical_features={"id": Hashed(n_slots=n_slots)})
        return model.fit(X[:n], y[:n])

    fit(1000, 5000)
    before, peak = held(), Peak()
    kept = fit(slots, len(X))
    most = peak.stop() - before
    assert kept.n_iter_ == 2
    return most


def arithmetic(name: str, slots: int, width: int, stops: bool) -> float:
    """Return what docs/guide/engines.md says of it."""
    state = 12 * width if name == "adam" else 4 * width + 4
    state += 1  # a hashed slot has a mark of whether training showed it
    copies = stops + (state * slots <= KEPT_BYTES)
    return slots * (state * (1 + copies) + 8) / 2**20


def measure_step(name: str, width: int) -> float:
    """Return the milliseconds of a step of the optimizer on a table of a million slots."""
    generator = torch.Generator().manual_seed(0)
    p = torch.nn.Parameter(torch.randn(1_000_000, width, generator=generator))
    kind, options = OPTIMIZERS[name]
    optimizer, times = kind([p], lr=1e-3, **options), []  # type: ignore[call-arg]
    for _ in range(STEPS):
        slots = torch.randint(0, len(p), (1, BATCH), generator=generator)
        values = torch.randn(BATCH, width, generator=generator)
        p.grad = torch.sparse_coo_tensor(slots, values, p.shape, check_invariants=False)
        start = time.perf_counter()
        optimizer.step()
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def adult(quick: bool) -> tuple[str, dict[str, Any], tuple, tuple]:
    X, Y = fetch_adult(subset="all", return_X_y=True)
    n = 32_561
    rows = slice(0, 3_000 if quick else n)
    return "Adult", {}, (X[rows], Y[rows]), (X[n:], Y[n:])


def ids(quick: bool) -> tuple[str, dict[str, Any], tuple, tuple]:
    params = {"categorical_features": ["user", "item"], "embedding_dim": 16, "bottom_units": (64,)}
    n = 20_000 if quick else 200_000
    return "ids", params, make_ids(n, 0), make_ids(60_000, 1)


def make_ids(n: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return rows of users and items, and labels of two tasks."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(99)
    users, items = fixed.normal(size=(N_USERS, 7)), fixed.normal(size=(N_ITEMS, 7))
    tastes = fixed.normal(size=(2, 6))
    u, i = (
        rng.choice(size, n, p=(p := 1 / np.arange(1, size + 1) ** power) / p.sum())
        for size, power in ((N_USERS, 0.6), (N_ITEMS, 0.9))
    )
    z = rng.normal(size=(n, 2))
    score = 0.5 * (users[u, :6] * items[i, :6]) @ tastes.T + 0.5 * z
    score += 0.7 * (users[u, 6:] + items[i, 6:])
    labels = rng.random((n, 2)) < 1 / (1 + np.exp(-score))
    X = pd.DataFrame({"user": u, "item": i, "z0": z[:, 0], "z1": z[:, 1]})
    return X, pd.DataFrame(labels.astype(int), columns=["first", "second"])


def score(name: str, params: dict[str, Any], train: tuple, test: tuple, seed: int) -> list[float]:
    """Return the AUC of both tasks, and the least validation loss."""
    model = SharedBottom(
        optimizer=name, sparse_embeddings=True, early_stopping=True, random_state=seed, **params
    ).fit(*train)
    return [*aucs(model, *test), float(model.history_["valid_loss"].min())]

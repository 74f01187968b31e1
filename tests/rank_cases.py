"""Fits that test_distributed runs in one process and in several: ``rank_cases.py FOLDER CASE...``.

Every rank writes what its fits came to. With ``--group`` the script sets up the process group.
"""

import json
import os
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback, EpochScoring

from sk_mtl import AITM, ESMM, NISE, PLE, STEM, MMoE, RankError, SharedBottom
from sk_mtl.balancing import BALANCERS
from sk_mtl.data import ParquetSource
from sk_mtl.datasets import make_census_like, make_click_conversion
from sk_mtl.metrics import task_scorer
from sk_mtl.nn import DSelectK

RANK = int(os.environ.get("RANK", 0))
PLAIN = {
    "dropout": 0.0, "max_epochs": 2, "batch_size": 32, "n_members": 1, "random_state": 0,
    "early_stopping": False, "dtype": "float64",
}  # fmt: skip


def table(n=131):
    """Rows with three tasks, some labels missing: an odd number of them, the last batch small."""
    X, Y = make_census_like(n, random_state=0)
    last = Y.columns[2]
    Y[last] = Y[last].where(np.arange(n) % 5 > 0)
    if n > 64:
        Y.iloc[3:60, 1] = np.nan
    return X, Y


def outcome(model, X):
    """Return what a fit came to, as plain numbers."""
    history = model.history_.drop(columns=["dur"], errors="ignore")
    weights = [p.detach().double().sum().item() for p in model.module_.parameters()]
    return {
        "history": history.to_numpy(float).tolist(),
        "proba": model.predict_proba(X[:40]).tolist(),
        "weights": weights,
        "epochs": model.n_iter_,
    }


def fit(cls, data=None, fit_params=None, **params):
    X, Y = data or table()
    model = cls(**{**PLAIN, **params})
    return outcome(model.fit(X, Y, **(fit_params or {})), X)


# Equal in one process and in several -------------------------------------------------------------


def balancer(name, cls):
    """Every balancer, where tasks share one representation and where they do not."""
    sparse = cls is MMoE  # its tables then have sparse gradients, whose Jacobian is joined
    return lambda: fit(cls, balancer=name, sparse_embeddings=sparse)


def weighted():
    X, Y = table()
    weights = np.random.default_rng(0).integers(0, 4, Y.shape).astype(float)
    return fit(PLE, (X, Y), {"sample_weight": weights}, loss_weights=[1.0, 2.0, 0.5])


def chain(cls, **params):
    world = make_click_conversion(150, random_state=0)
    return lambda: fit(cls, (world.data, world.target), **params)


def few_rows():
    """More processes than rows in a batch: somebody's share is empty."""
    return fit(MMoE, table(21), batch_size=2, max_epochs=1, sparse_embeddings=True)


def stops_early():
    X, Y = table(400)
    return fit(
        SharedBottom, (X, Y), early_stopping=True, max_epochs=8, n_iter_no_change=2, lr=0.02
    )  # fmt: skip


def monitored():
    X, Y = table(400)
    return fit(
        SharedBottom, (X, Y), early_stopping=True, max_epochs=6, n_iter_no_change=2, lr=0.02,
        monitor=task_scorer("roc_auc", Y.columns[0]),
    )  # fmt: skip


def given_validation():
    X, Y = table(200)
    return fit(MMoE, (X[:131], Y[:131]), {"X_val": X[131:], "y_val": Y[131:]})


def streamed():
    X, Y = table(200)
    model = SharedBottom(**{**PLAIN, "sparse_embeddings": True})
    for start in (0, 67, 134):
        here = slice(start, start + 67)
        model.partial_fit(X[here], Y[here], classes=None)
    return outcome(model, X)


def warm():
    X, Y = table()
    model = SharedBottom(**PLAIN, warm_start=True).fit(X, Y)
    return outcome(model.fit(X, Y), X)


def scored_by_batches():
    """skorch's own scoring collects the predictions of validation batches."""
    X, Y = table(200)
    scoring = EpochScoring("accuracy", lower_is_better=False, name="accuracy")
    y = Y.iloc[:, 0]
    return fit(
        SharedBottom, (X, y), {"X_val": X[150:], "y_val": y[150:]}, callbacks=[scoring]
    )  # fmt: skip


def searched():
    X, Y = table()
    y = Y.iloc[:, 0]
    search = GridSearchCV(SharedBottom(**PLAIN), {"lr": [1e-3, 1e-2]}, cv=2)
    search.fit(X, y)
    return {"scores": search.cv_results_["mean_test_score"].tolist()}


EQUAL = {
    **{
        f"{name}-{cls.__name__}": balancer(name, cls)
        for name in BALANCERS
        for cls in (SharedBottom, MMoE)
    },
    "weighted": weighted,
    "esmm": chain(ESMM),
    "aitm": chain(AITM, batch_size=30),
    "stem": lambda: fit(STEM, sparse_embeddings=True),
    "stem-pcgrad": lambda: fit(STEM, sparse_embeddings=True, balancer="pcgrad"),
    "penalty": lambda: fit(MMoE, gate=DSelectK(entropy=0.1), n_experts=3),
    "penalty-pcgrad": lambda: fit(MMoE, gate=DSelectK(entropy=0.1), n_experts=3, balancer="pcgrad"),
    "members": lambda: fit(MMoE, n_members=2),
    "clipped": lambda: fit(MMoE, clip_norm=0.1, optimizer="sgd", lr=0.1, sparse_embeddings=True),
    "one-cycle": lambda: fit(SharedBottom, lr_schedule="one-cycle", optimizer="adamw"),
    "float32": lambda: fit(MMoE, dtype="float32"),
    "few_rows": few_rows,
    "stops_early": stops_early,
    "monitored": monitored,
    "given_validation": given_validation,
    "streamed": streamed,
    "warm": warm,
    "scored_by_batches": scored_by_batches,
    "searched": searched,
}
"""Cases whose outcome does not depend on the number of processes."""


# The same on all ranks ---------------------------------------------------------------------------


def drops_out():
    """With dropout each rank draws masks of its own; without a seed rank 0's counts."""
    return fit(MMoE, dropout=0.3, random_state=None)


def nise():
    """A loss that is not a sum over rows."""
    return chain(NISE)()


def balanced():
    """A penalty that is not linear in the rows."""
    return fit(MMoE, expert_balance=0.1, n_experts=3)


class On(Callback):
    """Do something on one rank, in the second epoch."""

    def __init__(self, rank, do, method="on_batch_end"):
        self.rank, self.do, self.method = rank, do, method

    def _maybe(self, method, net):
        if method == self.method and self.rank == RANK and len(net.history) == 2:
            self.do(net)

    def on_batch_end(self, net, training=True, **kwargs):
        self._maybe("on_batch_end", net)

    def on_epoch_end(self, net, **kwargs):
        self._maybe("on_epoch_end", net)


def end(net):
    raise KeyboardInterrupt


def ends_in_an_epoch():
    """skorch's way to end training at once, on one rank: no rank counts the epoch."""
    return fit(SharedBottom, max_epochs=4, callbacks=[On(1, end)])


def ends_after_an_epoch():
    return fit(SharedBottom, max_epochs=4, callbacks=[On(1, end, "on_epoch_end")])


def waits():
    """A rank that is slow, but alive, is waited for."""
    slow = On(0, lambda net: time.sleep(2.5), "on_epoch_end")
    return fit(SharedBottom, callbacks=[slow])


ALIKE = {
    function.__name__: function
    for function in (drops_out, nise, balanced, ends_in_an_epoch, ends_after_an_epoch, waits)
}
"""Cases in which the ranks agree with each other."""


# Errors: all ranks end, and can go on ------------------------------------------------------------


def failure(fitting):
    """Return the error of a fit, and whether a fit after it is as ever."""
    model = SharedBottom(**PLAIN)
    try:
        fitting(model)
    except Exception as error:
        after = outcome(SharedBottom(**PLAIN).fit(*table()), table()[0])
        fitted = hasattr(model, "tasks_")
        return {
            "error": type(error).__name__, "text": str(error), "fitted": fitted, "after": after,
            "rank_error": isinstance(error, RankError),
        }  # fmt: skip
    return {"error": None}


def fail(net):
    raise LookupError("no such callback")


def raises():
    return failure(lambda model: model.set_params(callbacks=[On(1, fail)]).fit(*table()))


def raises_first():
    return failure(lambda model: model.set_params(callbacks=[On(0, fail)]).fit(*table()))


def bad_input():
    """One rank's rows cannot be read."""

    def fitting(model):
        X, Y = table()
        model.fit(X, Y[:-1] if RANK == 1 else Y)

    return failure(fitting)


def fewer_rows():
    def fitting(model):
        X, Y = table()
        n = len(X) - 9 * RANK
        model.fit(X[:n], Y[:n])

    return failure(fitting)


def other_values():
    """As many rows, with the same columns and labels, but others."""

    def fitting(model):
        X, Y = table()
        model.fit(X.iloc[:: 1 - 2 * RANK].reset_index(drop=True), Y)

    return failure(fitting)


def other_parameters():
    return failure(lambda model: model.set_params(lr=0.1 * (1 + RANK)).fit(*table()))


def one_checkpoint():
    """One rank keeps checkpoints: the others would not know what it sends them."""
    folder = "not made" if RANK == 0 else None
    return failure(lambda model: model.set_params(checkpoint=folder).fit(*table()))


def other_method():
    """One rank fits, the other one streams."""
    return failure(lambda model: (model.fit if RANK == 0 else model.partial_fit)(*table()))


def other_place():
    """One rank reads files, the other one has the rows in memory."""

    def fitting(model):
        X, Y = table()
        if RANK == 1:
            model.fit(X, Y)
        with tempfile.TemporaryDirectory() as folder:
            X.join(Y).to_parquet(f"{folder}/rows.parquet")
            model.fit(ParquetSource(f"{folder}/rows.parquet", list(Y), window_rows=64))

    return failure(fitting)


def batch_norm():
    return failure(lambda model: model.set_params(batch_norm=True).fit(*table()))


def infinite():
    """What all ranks see, all raise themselves."""
    return failure(lambda model: model.set_params(lr=1e30, optimizer="sgd").fit(*table()))


ERRORS = {
    function.__name__: function
    for function in (
        raises, raises_first, bad_input, fewer_rows, other_values, other_parameters,
        one_checkpoint, other_method, other_place, batch_norm, infinite,
    )
}  # fmt: skip


def killed():
    """No rank can go on after this one."""
    model = SharedBottom(**PLAIN, callbacks=[On(1, lambda net: os.kill(os.getpid(), KILL))])
    start = time.monotonic()
    try:
        model.fit(*table())
    except RankError as error:
        return {"text": str(error), "seconds": time.monotonic() - start}


def interrupted():
    """A Ctrl-C on one rank, in the midst of its wait for the other one."""
    callbacks = [On(0, lambda net: time.sleep(4))]
    if RANK == 1:
        callbacks = [On(1, lambda net: signal.setitimer(signal.ITIMER_REAL, 1.0))]
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        SharedBottom(**PLAIN, callbacks=callbacks).fit(*table())
    except (RankError, KeyboardInterrupt) as error:
        signal.setitimer(signal.ITIMER_REAL, 0)
        return {"error": type(error).__name__, "text": str(error)}


KILL = 9
CASES = {**EQUAL, **ALIKE, **ERRORS, "killed": killed, "interrupted": interrupted}


def main(folder, *names):
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    group = "--group" in names
    if group:
        torch.distributed.init_process_group("gloo")
    done = {name: CASES[name]() for name in names if not name.startswith("--")}
    (Path(folder) / f"{RANK}.json").write_text(json.dumps(done))
    if group:
        if "killed" not in done:
            ones = torch.ones(1)
            torch.distributed.all_reduce(ones)  # the script's own group still works
            assert ones.item() == torch.distributed.get_world_size()
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])

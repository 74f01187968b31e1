"""Kill and resume: a fit that is cut off anywhere and run again ends with the same bits."""

import multiprocessing
import multiprocessing.forkserver
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import assert_equal_state, everywhere, make_table, small
from scipy import sparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback, EpochScoring

from sk_mtl import CheckpointError, MMoE, SharedBottom, _checkpoints, _files, load
from sk_mtl._training import checkpoint as run_state
from sk_mtl._training.optimizers import OPTIMIZERS
from sk_mtl._training.snapshot import optimizer_state
from sk_mtl.balancing import BALANCERS, EqualBalancer
from sk_mtl.categorical import Bag, Hashed
from sk_mtl.data import ParquetSource, Rows
from sk_mtl.data.windows import StreamedRows
from sk_mtl.tasks import BinaryTask

pytest.importorskip("safetensors", reason="an extra that checkpoints need")

TABLE = make_table(120)
X, Y = TABLE.X, TABLE.Y


class Cut(Exception):
    """Stands for a kill."""


class CutAt(Callback):
    """Cut a fit off at the begin of a step, counted over all epochs, or at the end of an epoch."""

    def __init__(self, step=None, epoch=None):
        self.step, self.epoch, self.steps = step, epoch, 0

    def on_batch_begin(self, net, training, **kwargs):
        if training:
            if self.steps == self.step:
                raise Cut
            self.steps += 1

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise Cut


def cut_off(model, *data, X=X, **at):
    """Fit a clone of an estimator until it is cut off."""
    cut = clone(model).set_params(callbacks=[CutAt(**at)])
    with pytest.raises(Cut):
        cut.fit(X, *data)
    assert not hasattr(cut, "tasks_")


def states(net):
    """Return all that moves in training, beside the weights."""
    moments = {
        f"{name}_{key}": entry if isinstance(entry, torch.Tensor) else torch.tensor(entry)
        for name, state in optimizer_state(net).items()
        for key, entry in state.items()
    }
    own = dict(net.criterion_.named_parameters())
    return {**moments, **own, "generator": net.iterator_train__generator.get_state()}


def assert_same(found, expected, X=X):
    """Check that two fitted estimators hold the same bits."""
    assert_equal_state(found.module_.state_dict(), expected.module_.state_dict())
    assert_equal_state(states(found.net_), states(expected.net_))
    methods = ["predict"]
    if any(task.classes_ is not None for task in expected.tasks_):
        methods.append("predict_proba")
    for method in methods:
        assert np.array_equal(getattr(found, method)(X), getattr(expected, method)(X))
    pd.testing.assert_frame_equal(
        found.history_.drop(columns="dur"), expected.history_.drop(columns="dur"), check_exact=True
    )
    assert found.n_iter_ == expected.n_iter_
    tallies = [model.module_.embedding.tallies() for model in (found, expected)]
    for name, tensors in tallies[1].items():
        assert_equal_state(tallies[0][name], tensors)


def check_resumes(folder, model, y, cuts=({"step": 5}, {"epoch": 3}), X=X):
    """Check that a fit cut off here and there ends as one that was not."""
    expected = clone(model).fit(X, y)
    resumed = clone(model).set_params(checkpoint=folder, resume=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`callbacks` begin anew")  # those that cut it off
        for at in cuts:
            cut_off(resumed, y, X=X, **at)
    assert checkpoints(folder)  # something to go on from
    resumed.fit(X, y)
    assert_same(resumed, expected, X)
    assert len(checkpoints(folder)) == 2
    ended = clone(resumed).fit(X, y)  # the run has ended: there is nothing left to train
    assert ended.history_["dur"].equals(resumed.history_["dur"])
    assert_same(ended, expected, X)
    return resumed


def checkpoints(folder):
    """Return the names of the checkpoints in a folder."""
    return sorted(file.name for file in folder.glob("checkpoint-*"))


# What is the same after it ------------------------------------------------------------------------


@everywhere
def test_architectures(cls, tmp_path):
    model = small(cls, max_epochs=5, dropout=0.2, lr_schedule="cosine")
    check_resumes(tmp_path, model, TABLE.targets(cls))


@pytest.mark.parametrize("name", BALANCERS)
def test_balancers(name, tmp_path):
    # Labels are missing: what a balancer remembers differs between the sets of tasks of batches.
    model = small(MMoE, max_epochs=5, batch_size=8, balancer=name)
    y = Y[["income", "married"]].where(np.random.default_rng(0).random((len(X), 2)) < 0.4)
    check_resumes(tmp_path, model, y, ({"step": 20}, {"step": 8}))


class SlowStart(torch.optim.SGD):
    """An optimizer of one's own, whose learning rate is in its groups."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, lr=lr, momentum=0.9)

    def step(self, closure=None):
        loss = super().step(closure)
        for group in self.param_groups:
            group["lr"] *= 0.9
        return loss


CLASSES = [torch.optim.RAdam, torch.optim.NAdam, torch.optim.Rprop, SlowStart]


@pytest.mark.parametrize(
    ("optimizer", "is_sparse"),
    # Optimizers given as classes take no sparse gradients.
    [*product(OPTIMIZERS, (False, True)), *product(CLASSES, (False,))],
)
@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # of torch's Adagrad
def test_optimizers(optimizer, is_sparse, tmp_path):
    decays = optimizer is not SlowStart and optimizer is not torch.optim.Rprop
    decay = {"weight_decay": 0.01} if decays else {}
    model = small(
        MMoE, max_epochs=5, optimizer=optimizer, sparse_embeddings=is_sparse, clip_norm=1.0, **decay
    )
    check_resumes(tmp_path, model, Y)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle", "plateau"])
@pytest.mark.parametrize("stops", [False, True])
def test_schedules_and_early_stopping(schedule, stops, tmp_path):
    model = small(
        MMoE, max_epochs=12, lr_schedule=schedule, lr=0.2, early_stopping=stops,
        n_iter_no_change=3, validation_fraction=0.3,
    )  # fmt: skip
    resumed = check_resumes(tmp_path, model, Y, ({"epoch": 2}, {"step": 11}, {"epoch": 5}))
    if stops:
        # It stopped by itself, and the best epoch came before two cuts at least.
        assert resumed.n_iter_ < 12
        assert resumed.history_["valid_loss"].argmin() < resumed.n_iter_ - 3


def test_early_stopping_by_a_scorer(tmp_path):
    from sk_mtl.metrics import task_scorer

    monitor = task_scorer("roc_auc", "income")
    model = small(
        MMoE, max_epochs=8, early_stopping=True, monitor=monitor, n_iter_no_change=2, lr=0.1
    )
    check_resumes(tmp_path, model, Y)


WIDE = X.assign(
    ids=np.arange(len(X)) % 37,
    tags=[["a", "b"][: i % 3] for i in range(len(X))],
)


@pytest.mark.parametrize(
    "given",
    [
        {"n_members": 3, "dropout": 0.3},
        {"batch_norm": True},
        {"dtype": "float64"},
        {"interaction": "fm", "expert_balance": 0.1},
        {"numeric_features": ["standardize", "piecewise", "values"]},
        {"task_types": {"income": BinaryTask(negative_fraction=0.5)}},
        {"loss_weights": {"income": 2.0}, "balancer": "uncertainty"},
        {"categorical_features": {"ids": Hashed(n_slots=64), "tags": Bag()}},
        {"batch_size": None},
    ],
    ids=lambda given: ",".join(given),
)
def test_networks_and_features(given, tmp_path):
    data = WIDE if "categorical_features" in given else X
    model = small(MMoE, max_epochs=4, **given)
    cuts = ({"epoch": 2}, {"epoch": 3}) if "batch_size" in given else ({"step": 5}, {"epoch": 3})
    check_resumes(tmp_path, model, Y, cuts, X=data)


def test_rows_to_validate_on_and_weights(tmp_path):
    weight = np.random.default_rng(0).random(len(X))
    model = small(MMoE, max_epochs=4, early_stopping=True, lr_schedule="plateau")

    def fit(model):
        return model.fit(X, Y, weight, X_val=X[:30], y_val=Y[:30])

    expected = fit(clone(model))
    cut = clone(model).set_params(checkpoint=tmp_path, callbacks=[CutAt(epoch=3)])
    with pytest.raises(Cut):
        fit(cut)
    assert_same(fit(clone(model).set_params(checkpoint=tmp_path, resume=True)), expected)


def test_a_sparse_matrix(tmp_path):
    rows = sparse.random_array((120, 30), density=0.2, format="csr", rng=np.random.default_rng(0))
    model = small(MMoE, max_epochs=4, dropout=0.2)
    resumed = check_resumes(tmp_path, model, Y, X=rows)
    other = rows.copy()
    other.data[7] += 1.0
    with pytest.raises(CheckpointError, match="what is trained on"):
        clone(resumed).fit(other, Y)


@pytest.mark.parametrize("state", [None, "instance"])
def test_a_seed_that_was_drawn_is_used_again(state, tmp_path):
    draw = (lambda: np.random.RandomState(7)) if state else (lambda: None)
    model = small(
        MMoE, max_epochs=3, checkpoint=tmp_path, resume=True,
        task_types={"income": BinaryTask(negative_fraction=0.5)}, validation_fraction=0.2,
    )  # fmt: skip
    cut_off(model.set_params(random_state=draw()), Y, epoch=2)
    resumed = clone(model).set_params(random_state=draw()).fit(X, Y)
    seed = resumed._fitted_.seed
    whole = clone(model).set_params(checkpoint=None, resume=False, random_state=Fixed(seed))
    whole.fit(X, Y)
    assert_same(resumed, whole)


class Fixed(np.random.RandomState):
    """Draws one number only."""

    def __init__(self, value=0):
        super().__init__(0)
        self.value = value

    def __reduce__(self):
        return Fixed, (self.value,)

    def randint(self, *args, **kwargs):
        return self.value


def test_training_goes_on_after_it_as_after_any_fit(tmp_path):
    models = [small(MMoE, max_epochs=3, warm_start=True, balancer="dwa") for _ in range(2)]
    models[1].set_params(checkpoint=tmp_path, resume=True)
    cut_off(models[1], Y, epoch=2)
    for model in models:
        model.fit(X, Y).set_params(checkpoint=None, resume=False).fit(X, Y).partial_fit(X, Y)
    assert_same(models[1], models[0])


def test_checkpoints_change_nothing(tmp_path):
    model = small(MMoE, max_epochs=3, random_state=1).fit(X, Y)
    assert_same(clone(model).set_params(checkpoint=str(tmp_path)).fit(X, Y), model)


# Which files there are, and which one counts ------------------------------------------------------


def test_the_last_two_stay(tmp_path):
    model = small(MMoE, max_epochs=4, checkpoint=tmp_path / "made" / "here")
    seen = []

    class Look(Callback):
        def on_epoch_begin(self, net, **kwargs):
            seen.append(checkpoints(tmp_path / "made" / "here"))

    model.set_params(callbacks=[Look()]).fit(X, Y)
    names = [f"checkpoint-{k:06d}.safetensors" for k in range(1, 6)]
    assert seen == [names[:0], names[:1], names[:2], names[1:3]]
    assert checkpoints(model.checkpoint) == names[3:]  # the last epoch, and the end


def test_without_resume_a_fit_begins_anew_and_replaces_the_files(tmp_path):
    model = small(MMoE, max_epochs=2, checkpoint=tmp_path)
    model.fit(X, Y)
    before = checkpoints(tmp_path)
    cut_off(clone(model).set_params(lr=0.5), Y, step=2)  # before its first checkpoint
    assert checkpoints(tmp_path) == before
    cut_off(clone(model).set_params(lr=0.5), Y, step=5)
    (name,) = checkpoints(tmp_path)
    assert name not in before
    with pytest.raises(CheckpointError, match=r"`lr` was 0\.5 and is 0\.01"):
        clone(model).set_params(resume=True).fit(X, Y)


def test_a_file_that_a_kill_has_left_over_is_removed(tmp_path):
    model = small(MMoE, max_epochs=3, checkpoint=tmp_path, resume=True).fit(X, Y)
    kept = checkpoints(tmp_path)
    (tmp_path / "checkpoint-000001.safetensors").write_bytes((tmp_path / kept[0]).read_bytes())
    model.fit(X, Y)
    assert checkpoints(tmp_path) == kept


def test_an_empty_folder_and_a_leftover_file(tmp_path):
    leftover = tmp_path / "checkpoint-000009.safetensors.tmp"
    leftover.write_bytes(b"half of a checkpo")
    model = small(MMoE, max_epochs=2, checkpoint=tmp_path, resume=True).fit(X, Y)
    assert not leftover.exists()
    assert model.n_iter_ == 2


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "foreign", "format"])
def test_a_broken_file(damage, tmp_path, monkeypatch):
    model = small(MMoE, max_epochs=5, dropout=0.3)
    expected = clone(model).fit(X, Y)
    model.set_params(checkpoint=tmp_path, resume=True)
    with monkeypatch.context() as patch:
        if damage == "format":
            patch.setattr(_checkpoints, "FORMAT", 99)
            cut_off(model, Y, epoch=2)
            patch.undo()
        else:
            cut_off(model, Y, epoch=4)
    before, last = checkpoints(tmp_path) if damage != "format" else (*checkpoints(tmp_path), None)
    if damage == "format":
        with pytest.raises(CheckpointError, match=r"checkpoint-000001.*format 99"):
            clone(model).fit(X, Y)
        return
    spoil(tmp_path / last, damage)
    again = clone(model)
    with pytest.warns(UserWarning, match=rf"{last}.*truncated or altered.*{before}"):
        again.fit(X, Y)
    assert_same(again, expected)
    assert last not in checkpoints(tmp_path)
    for name in checkpoints(tmp_path):
        spoil(tmp_path / name, damage)
    with pytest.raises(CheckpointError, match=r"each is truncated or altered.*resume=False") as e:
        clone(model).fit(X, Y)
    assert all(name in str(e.value) for name in checkpoints(tmp_path))
    anew = clone(model).set_params(resume=False).fit(X, Y)
    assert_same(anew, expected)


def spoil(path, damage):
    """Damage a file."""
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "flip":
        content[-100] ^= 1
    elif damage == "empty":
        content = b""
    elif damage == "foreign":
        content = b"PK\x03\x04 no checkpoint at all"
    path.write_bytes(content)


def test_other_data_and_parameters_are_named(tmp_path):
    model = small(MMoE, max_epochs=3, checkpoint=tmp_path, resume=True)
    cut_off(model, Y, epoch=2)
    before = checkpoints(tmp_path)
    altered = X.copy()
    altered.loc[5, "age"] += 1e-3
    relabeled = Y.copy()
    relabeled.loc[5, "wage"] += 1e-3

    def refused(match, X=X, Y=Y, cls=None, **params):
        other = clone(model).set_params(**params)
        if cls is not None:
            other = small(cls, max_epochs=3, checkpoint=tmp_path, resume=True)
        with pytest.raises(CheckpointError, match=match) as error:
            other.fit(X, Y)
        assert "resume=False" in str(error.value)
        assert str(tmp_path) in str(error.value)
        assert not hasattr(other, "tasks_")

    refused("what is trained on was 120 rows .* and is 119 rows", X[1:], Y[1:])
    refused("what is trained on was 120 rows .* and is 120 rows", altered)
    refused("what is trained on", X, relabeled)
    refused("the tasks was .*wage.* and is", Y=Y.rename(columns={"wage": "pay"}))
    refused("the columns was", X.rename(columns={"age": "years"}))
    refused("`lr` was 0.01 and is 0.02", lr=0.02)
    both = "`balancer` was 'equal' and is 'dwa'; `dropout` was 0.0 and is 0.5"
    refused(both, dropout=0.5, balancer="dwa")
    refused("`random_state` was 0 and is 1", random_state=1)
    refused("`random_state` was 0 and is None", random_state=None)
    refused("`optimizer` was 'adam' and is .*SlowStart", optimizer=SlowStart)
    refused("`balancer` was 'equal' and is .*EqualBalancer", balancer=EqualBalancer())
    refused("the class was MMoE and is SharedBottom", cls=SharedBottom)
    assert checkpoints(tmp_path) == before
    clone(model).set_params(verbose=1, device="cpu", checkpoint=str(tmp_path)).fit(X, Y)


def test_other_versions_are_named(tmp_path, monkeypatch):
    model = small(MMoE, checkpoint=tmp_path, resume=True)
    with monkeypatch.context() as patch:
        patch.setattr(_checkpoints, "__version__", "0.0.0")
        model.fit(X, Y)
    with pytest.raises(CheckpointError, match=r"the version of sk_mtl was 0\.0\.0 and is"):
        model.fit(X, Y)


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
@pytest.mark.parametrize("stops", [False, True])
def test_more_epochs(schedule, stops, tmp_path):
    model = small(
        MMoE, max_epochs=6, lr_schedule=schedule, early_stopping=stops, validation_fraction=0.3
    )
    expected = clone(model).fit(X, Y)
    model.set_params(checkpoint=tmp_path, resume=True)
    clone(model).set_params(max_epochs=3).fit(X, Y)
    assert_same(clone(model).fit(X, Y), expected)
    with pytest.raises(CheckpointError, match="`max_epochs` was 6 and is 3"):
        clone(model).set_params(max_epochs=3).fit(X, Y)


def test_more_epochs_under_a_schedule_that_hangs_on_their_number(tmp_path):
    model = small(MMoE, max_epochs=3, lr_schedule="cosine", checkpoint=tmp_path, resume=True)
    model.fit(X, Y)
    match = "`max_epochs` was 3 and is 6, and under lr_schedule='cosine'"
    with pytest.raises(CheckpointError, match=match):
        clone(model).set_params(max_epochs=6).fit(X, Y)


def test_more_epochs_need_the_checkpoint_before_the_end(tmp_path):
    model = small(MMoE, max_epochs=3, checkpoint=tmp_path, resume=True).fit(X, Y)
    (tmp_path / checkpoints(tmp_path)[0]).unlink()
    with pytest.raises(CheckpointError, match="for more epochs needs the one before"):
        clone(model).set_params(max_epochs=6).fit(X, Y)


def test_a_fit_that_stopped_early_has_ended_whatever_the_epochs(tmp_path):
    model = small(
        MMoE, max_epochs=12, lr=0.2, early_stopping=True, n_iter_no_change=2, checkpoint=tmp_path,
        resume=True,
    ).fit(X, Y)  # fmt: skip
    assert model.n_iter_ < 12
    again = clone(model).set_params(max_epochs=20).fit(X, Y)
    assert again.history_["dur"].equals(model.history_["dur"])


# Errors -------------------------------------------------------------------------------------------


def test_a_full_disk(tmp_path, monkeypatch):
    model = small(MMoE, max_epochs=4, dropout=0.3)
    expected = clone(model).fit(X, Y)
    model.set_params(checkpoint=tmp_path, resume=True)
    usual, calls = _files.write_tensors, []

    def write(path, text, tensors):
        calls.append(path)
        if len(calls) == 3:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device", str(path))
        usual(path, text, tensors)

    with monkeypatch.context() as patch:
        patch.setattr(_files, "write_tensors", write)
        full = clone(model)
        with pytest.raises(OSError, match=r"No space left on device.*resume=True") as error:
            full.fit(X, Y)
    assert error.value.errno == 28
    assert str(tmp_path) in str(error.value)
    assert not hasattr(full, "tasks_")
    names = [f"checkpoint-00000{k}.safetensors" for k in (1, 2)]
    assert sorted(file.name for file in tmp_path.iterdir()) == [".lock", *names]
    assert_same(clone(model).fit(X, Y), expected)


LIMITED = """
import resource, signal, sys
from test_checkpoints import X, Y, small, MMoE, checkpoints
from pathlib import Path
folder = Path(sys.argv[1])
model = small(MMoE, max_epochs=3, tower_units=(256, 256), checkpoint=folder, resume=True)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    model.fit(X, Y)
except OSError as error:
    assert not hasattr(model, "tasks_")
    print(type(error).__name__, error.errno, error)
print(sorted(file.name for file in folder.iterdir()))
"""


def python(code, *args, **kwargs):
    """Return the arguments of a process that runs a text beside the tests."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.path.dirname(__file__)}
    return {"args": [sys.executable, "-c", textwrap.dedent(code), *args], "env": env, **kwargs}


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="a limit that POSIX has")
def test_a_file_that_the_system_cuts_off(tmp_path):
    run = subprocess.run(
        **python(LIMITED, str(tmp_path), capture_output=True, text=True, timeout=120), check=True
    )
    assert "OSError 27" in run.stdout, run.stdout + run.stderr
    assert "File too large" in run.stdout
    assert run.stdout.strip().endswith("['.lock']")


def test_a_folder_that_cannot_be_one(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=r"No checkpoint could be written to .*file"):
        small(MMoE, checkpoint=tmp_path / "file").fit(X, Y)


def test_a_fit_that_fails_leaves_the_checkpoints(tmp_path):
    model = small(MMoE, max_epochs=3, checkpoint=tmp_path, resume=True)
    cut_off(model, Y, epoch=3)
    before = checkpoints(tmp_path)
    with pytest.raises(ValueError, match="n_experts"):
        clone(model).set_params(n_experts=0).fit(X, Y)
    assert checkpoints(tmp_path) == before


def test_a_ctrl_c_leaves_the_last_whole_epoch(tmp_path):
    model = small(MMoE, max_epochs=4, dropout=0.2, checkpoint=tmp_path, resume=True)
    expected = clone(model).set_params(checkpoint=None, resume=False).fit(X, Y)

    class Press(Callback):
        def on_batch_begin(self, net, training, **kwargs):
            if training and len(net.history) == 3:
                signal.raise_signal(signal.SIGINT)

    stopped = clone(model).set_params(callbacks=[Press()])
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(X, Y)
    assert stopped.n_iter_ == 2
    assert_same(clone(model).fit(X, Y), expected)


def test_what_has_no_checkpoints_says_so(tmp_path):
    model = small(MMoE, warm_start=True, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=r"partial_fit has no checkpoints.*checkpoint=None"):
        model.partial_fit(X, Y)
    model.fit(X, Y)
    before = model.predict_proba(X)
    for resume in (False, True):
        with pytest.raises(ValueError, match=r"warm_start.*has no checkpoints"):
            model.set_params(resume=resume).fit(X, Y)
        assert np.array_equal(model.predict_proba(X), before)
    with pytest.raises(ValueError, match=r"`resume` is True and `checkpoint` is None"):
        small(MMoE, resume=True).fit(X, Y)


def test_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ImportError, match=r"`checkpoint` needs .*sk_mtl\[save\]"):
        small(MMoE, checkpoint=tmp_path / "f").fit(X, Y)
    assert not (tmp_path / "f").exists()


class Remembering(EqualBalancer):
    """A balancer that remembers an object."""

    def begin(self, generator):
        self.memory = object()


class Counting(torch.optim.SGD):
    """An optimizer that counts outside its state."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, lr=lr)
        self.count = 0

    def step(self, closure=None):
        self.count += 1
        return super().step(closure)


class Holding(torch.optim.SGD):
    """An optimizer whose state holds an object."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, lr=lr)

    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            self.state[p]["held"] = object()
        return super().step(closure)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"balancer": Remembering()}, r"`balancer` is Remembering\(\).*object"),
        ({"optimizer": Counting}, "`optimizer` is Counting.*'count' outside"),
        ({"optimizer": Holding}, "`optimizer` is Holding.*object"),
    ],
    ids=["balancer", "counting", "holding"],
)
def test_what_cannot_be_written_is_refused_before_training(given, match, tmp_path):
    model = small(MMoE, checkpoint=tmp_path, callbacks=[CutAt(step=0)], **given)
    with pytest.raises(ValueError, match=match):
        model.fit(X, Y)
    with pytest.raises(Cut):  # without checkpoints it trains
        model.set_params(checkpoint=None).fit(X, Y)


def test_a_history_that_cannot_be_written(tmp_path):
    class Records(Callback):
        def on_epoch_end(self, net, **kwargs):
            net.history.record("thing", object())

    model = small(MMoE, checkpoint=tmp_path, callbacks=[Records()])
    with pytest.raises(CheckpointError, match=r"callback has recorded.*object"):
        model.fit(X, Y)


# Callbacks ----------------------------------------------------------------------------------------


def test_callbacks_begin_anew_and_are_told_of(tmp_path):
    def scoring():
        return EpochScoring(
            lambda net, X, y: -net.history[-1, "valid_loss"], name="acc", lower_is_better=False
        )

    model = small(MMoE, max_epochs=4, checkpoint=tmp_path, resume=True, validation_fraction=0.3)
    y = Y["income"]
    expected = (
        clone(model).set_params(checkpoint=None, resume=False, callbacks=[scoring()]).fit(X, y)
    )
    cut = clone(model).set_params(callbacks=[scoring(), CutAt(epoch=3)])
    with pytest.raises(Cut):
        cut.fit(X, y)
    resumed = clone(model).set_params(callbacks=[scoring()])
    with pytest.warns(UserWarning, match="`callbacks` begin anew") as seen:
        resumed.fit(X, y)
    assert len(seen) == 1
    assert np.array_equal(resumed.predict_proba(X), expected.predict_proba(X))
    # What a callback reads from the history is there: the best score up to now.
    for name in ("acc", "acc_best"):
        assert resumed.net_.history[:, name] == expected.net_.history[:, name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing begins in a fit that has ended
        clone(resumed).fit(X, y)


def test_callbacks_of_scikit_learn(tmp_path):
    pytest.importorskip("sklearn.callback", reason="callbacks came with scikit-learn 1.9")
    from sklearn.callback import ScoringMonitor

    model = small(MMoE, max_epochs=4, checkpoint=tmp_path, resume=True)
    y = pd.DataFrame({"income": Y["income"] == ">50K", "rich": Y["wage"] > 20})
    cut_off(model, y, epoch=3)
    plain = clone(model).set_params(checkpoint=None, resume=False).fit(X, y)
    for _ in range(2):  # what is left of it, and a fit that has ended
        watched = clone(model).set_callbacks(ScoringMonitor(scoring="roc_auc")).fit(X, y)
        assert_same(watched, plain)


def test_verbose(tmp_path, capsys):
    model = small(MMoE, max_epochs=3, checkpoint=tmp_path, resume=True, verbose=1)
    cut_off(model, Y, epoch=2)
    assert "Resumed" not in capsys.readouterr().out
    model.fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    expected = ["Resumed after epoch 1.", "epoch 2", "epoch 3"]
    assert [line.partition(":")[0] for line in lines] == expected


# Other fits in the folder -------------------------------------------------------------------------


def test_two_fits_in_one_folder(tmp_path):
    inside, leave = threading.Event(), threading.Event()

    class Wait(Callback):
        def on_epoch_begin(self, net, **kwargs):
            inside.set()
            assert leave.wait(60)

    first = small(MMoE, checkpoint=tmp_path, callbacks=[Wait()])
    thread = threading.Thread(target=first.fit, args=(X, Y))
    thread.start()
    assert inside.wait(60)
    try:
        with pytest.raises(CheckpointError, match=r"another fit is writing.*folder of its own"):
            small(MMoE, checkpoint=tmp_path).fit(X, Y)
        code = """
        import sys
        from test_checkpoints import X, Y, small, MMoE
        try:
            small(MMoE, checkpoint=sys.argv[1]).fit(X, Y)
        except ValueError as error:
            print(error)
        """
        run = subprocess.run(
            **python(code, str(tmp_path), capture_output=True, text=True, timeout=120), check=True
        )
        assert "another fit is writing" in run.stdout, run.stderr
    finally:
        leave.set()
        thread.join(60)
    assert first.n_iter_ == 2
    small(MMoE, checkpoint=tmp_path).fit(X, Y)  # it is free again


def test_a_search_does_not_mix_its_fits(tmp_path):
    model = small(MMoE, checkpoint=tmp_path, resume=True)
    search = GridSearchCV(model, {"lr": [0.01, 0.02]}, cv=2, error_score="raise")
    with pytest.raises(CheckpointError, match="are of another fit"):
        search.fit(X, Y["income"])
    # One after another, each beginning anew, they do not meet.
    search.set_params(estimator__resume=False).fit(X, Y["income"])


def test_a_saved_estimator_names_the_folder_and_nothing_more(tmp_path):
    model = small(MMoE, checkpoint=tmp_path / "c", resume=True).fit(X, Y)
    model.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert again.checkpoint == str(tmp_path / "c")
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))


# Within an epoch ----------------------------------------------------------------------------------


class InWindows(StreamedRows):
    """Rows that are in memory, read as if they were not."""

    def __init__(self, rows, window_rows=30, groups=6):
        n = len(rows)
        self.ends = [n * (k + 1) // groups for k in range(groups)]
        self.whole = rows
        sizes = np.diff([0, *self.ends]).tolist()
        super().__init__(sizes, self.cut, rows.labels, window_rows)

    def cut(self, order, skip, n):
        positions = np.concatenate(
            [np.arange(self.ends[k] - self.sizes[k], self.ends[k]) for k in order]
        )[skip : skip + n]
        batch = self.whole[torch.from_numpy(positions)]
        rows = Rows({})
        rows.parts, rows.target, rows.weight = batch.parts, batch.target, batch.weight
        yield rows


@pytest.fixture
def in_windows(monkeypatch):
    """Let fits read their rows in windows, with a checkpoint at the end of each."""
    usual = MMoE._make_ready

    def make_ready(self, tasks, fitted, rows, valid, *args, **kwargs):
        return usual(self, tasks, fitted, InWindows(rows), valid, *args, **kwargs)

    monkeypatch.setattr(MMoE, "_make_ready", make_ready)
    monkeypatch.setattr(run_state, "WINDOW_SECONDS", 0.0)
    monkeypatch.setattr(run_state, "WRITING_SHARE", 0.0)


@pytest.mark.parametrize("balancer", ["equal", "dwa", "gradnorm", "famo"])
@pytest.mark.parametrize("stops", [False, True])
@pytest.mark.usefixtures("in_windows")
def test_windows(balancer, stops, tmp_path):
    model = small(
        MMoE, max_epochs=4, batch_size=8, dropout=0.2, lr_schedule="cosine", balancer=balancer,
        early_stopping=stops, lr=0.05, expert_balance=0.1,
    )  # fmt: skip
    # Five windows of three steps: twice within the first epoch, then within others.
    cuts = ({"step": 6}, {"step": 5}, {"step": 9}, {"epoch": 3}, {"step": 10})
    check_resumes(tmp_path, model, Y, cuts)


@pytest.mark.usefixtures("in_windows")
def test_a_cut_in_a_window_goes_back_to_its_begin_only(tmp_path):
    model = small(MMoE, max_epochs=2, batch_size=8, checkpoint=tmp_path, resume=True)
    cut_off(model, Y, step=5)
    steps = CutAt()
    with pytest.warns(UserWarning, match="callbacks"):
        clone(model).set_params(callbacks=[steps]).fit(X, Y)
    whole = CutAt()
    clone(model).set_params(callbacks=[whole], resume=False).fit(X, Y)
    assert steps.steps == whole.steps - 3  # all but those of the first window


@pytest.mark.usefixtures("in_windows")
def test_a_ctrl_c_within_an_epoch_that_was_resumed(tmp_path):
    model = small(MMoE, max_epochs=3, batch_size=8, checkpoint=tmp_path, resume=True)
    one = clone(model).set_params(max_epochs=1, checkpoint=None, resume=False).fit(X, Y)
    cut_off(model, Y, step=22)

    class Press(Callback):
        def on_batch_begin(self, net, training, **kwargs):
            if training:
                signal.raise_signal(signal.SIGINT)

    stopped = clone(model).set_params(callbacks=[Press()])
    with (
        pytest.warns(UserWarning, match="callbacks"),
        pytest.raises(KeyboardInterrupt),
    ):
        stopped.fit(X, Y)
    assert stopped.n_iter_ == 1
    assert_equal_state(stopped.module_.state_dict(), one.module_.state_dict())


RANKS = """
import sys
import warnings
import numpy as np
import torch
from pathlib import Path
from sklearn.base import clone
from test_checkpoints import CutAt, X, Y, run_state, small, source_of, MMoE, checkpoints, states
from conftest import assert_equal_state

rank, folder = int(__import__("os").environ["RANK"]), Path(sys.argv[1])
run_state.WINDOW_SECONDS = run_state.WRITING_SHARE = 0.0
model = small(
    MMoE, max_epochs=4, batch_size=8, dropout=0.3, balancer="gradnorm", lr_schedule="cosine",
    early_stopping=True,
)
data = {"memory": (X, Y), "source": (source_of(folder / "files"),)}
for name, rows in data.items():
    whole = clone(model).fit(*rows)
    resumed = clone(model).set_params(checkpoint=folder / name, resume=True)
    for at in ({"epoch": 2}, {"step": 10}, {"epoch": 3}):
        cut = clone(resumed)
        if rank == 1:  # the other one fails with it
            cut.set_params(callbacks=[CutAt(**at)])
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "`callbacks` begin anew")
                cut.fit(*rows)
        except Exception as error:
            assert "Cut" in repr(error), error
        else:
            raise AssertionError("nothing was cut")
    assert len(checkpoints(folder / name)) == 2
    resumed.fit(*rows)
    assert_equal_state(resumed.module_.state_dict(), whole.module_.state_dict())
    assert_equal_state(states(resumed.net_), states(whole.net_))
    assert resumed.history_.drop(columns="dur").equals(whole.history_.drop(columns="dur"))
    again = clone(resumed).fit(*rows)
    assert_equal_state(again.module_.state_dict(), whole.module_.state_dict())
    if rank == 0:  # whose seconds the files hold
        assert again.history_["dur"].equals(resumed.history_["dur"]), "it was trained again"
    sys.stdout.write(f"the same {name}\\n")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun's store hangs there")
def test_several_processes(tmp_path):
    parquet_files(tmp_path / "files")
    (tmp_path / "script.py").write_text(RANKS)
    env = python("")["env"]
    command = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    run = subprocess.run(
        [sys.executable, *command, tmp_path / "script.py", tmp_path],
        env=env, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("the same memory") == run.stdout.count("the same source") == 2
    with pytest.raises(CheckpointError, match="the number of processes was 2 and is 1"):
        small(MMoE, checkpoint=tmp_path / "memory", resume=True).fit(X, Y)


def parquet_files(folder):
    """Write the table to two files of several row groups."""
    pytest.importorskip("pyarrow", reason="an extra that Parquet needs")
    folder.mkdir()
    table = pd.concat([X, Y], axis=1)
    for k, part in enumerate((table[:70], table[70:])):
        part.to_parquet(folder / f"part-{k}.parquet", row_group_size=20, index=False)
    return folder


def source_of(folder):
    return ParquetSource(folder, targets=list(Y), window_rows=30)


def test_a_source(tmp_path, monkeypatch):
    monkeypatch.setattr(run_state, "WINDOW_SECONDS", 0.0)
    monkeypatch.setattr(run_state, "WRITING_SHARE", 0.0)
    source = source_of(parquet_files(tmp_path / "files"))
    model = small(
        MMoE, max_epochs=4, batch_size=8, dropout=0.2, lr_schedule="cosine", early_stopping=True
    )
    expected = clone(model).fit(source)
    resumed = clone(model).set_params(checkpoint=tmp_path / "state", resume=True)
    for at in ({"step": 5}, {"step": 9}, {"epoch": 3}, {"step": 7}):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`callbacks` begin anew")
            cut_off(resumed, X=source, **at)
    other = source_of(parquet_files(tmp_path / "others"))
    with pytest.raises(CheckpointError, match="what is trained on was"):
        clone(resumed).fit(other)
    assert_same(resumed.fit(source), expected)
    again = clone(resumed).fit(source)
    assert again.history_["dur"].equals(resumed.history_["dur"])


def test_other_rows_in_files_of_the_same_names_and_sizes(tmp_path):
    pytest.importorskip("pyarrow", reason="an extra that Parquet needs")
    path = tmp_path / "rows.parquet"

    def write(age):
        table = pd.concat([X.assign(age=age), Y], axis=1)
        table.to_parquet(path, compression="none", use_dictionary=False, row_group_size=20)
        return path.stat().st_size

    size = write(X["age"])
    model = small(MMoE, max_epochs=3, checkpoint=tmp_path / "state", resume=True)
    cut_off(model, X=source_of(path), epoch=2)
    assert write(X["age"] + 1) == size
    with pytest.raises(CheckpointError, match="what the features have learned was"):
        clone(model).fit(source_of(path))


# Killed -------------------------------------------------------------------------------------------


def train(folder, out, files=None):
    """Fit with checkpoints in a folder, and write to a file what has come out."""
    torch.set_num_threads(1)
    run_state.WINDOW_SECONDS = run_state.WRITING_SHARE = 0.0
    data = (X, Y) if files is None else (source_of(files),)
    model = small(
        MMoE, max_epochs=20, batch_size=8, dropout=0.2, lr_schedule="cosine", balancer="gradnorm",
        early_stopping=True, n_iter_no_change=20, checkpoint=folder, resume=True,
    ).fit(*data)  # fmt: skip
    arrays = {name: tensor.numpy() for name, tensor in model.module_.state_dict().items()}
    history = model.history_.drop(columns="dur").to_numpy()
    np.savez(out, history=history, proba=model.predict_proba(X), **arrays)


def run(*args, delay=None):
    """Run `train` in a process of its own, killed after some seconds; return its exit code."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # each run begins with all imported
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))  # for what is preloaded
        multiprocessing.forkserver.ensure_running()
    process = context.Process(target=train, args=args)
    process.start()
    process.join(300 if delay is None else delay)
    process.kill()
    process.join()
    return process.exitcode


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("n_kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_and_run_again(n_kills, streamed, tmp_path):
    files = parquet_files(tmp_path / "files") if streamed else None
    run(tmp_path / "first", tmp_path / "first.npz", files)  # with what only a first run waits for
    start = time.monotonic()
    assert run(tmp_path / "whole", tmp_path / "whole.npz", files) == 0
    duration = time.monotonic() - start
    whole = dict(np.load(tmp_path / "whole.npz"))
    draw, kills, runs = random.Random(n_kills + streamed), 0, 0
    while kills < n_kills:
        runs += 1
        folder, out = tmp_path / f"{runs}", tmp_path / f"{runs}.npz"
        delay = duration * draw.random() if kills < n_kills else None
        while (code := run(folder, out, files, delay=delay)) != 0:
            assert code == -signal.SIGKILL
            kills += 1
            delay = duration * draw.random() if kills < n_kills else None
        killed = dict(np.load(out))
        assert whole.keys() == killed.keys()
        for name, array in whole.items():
            assert np.array_equal(array, killed[name], equal_nan=True), name
        left = sorted(file.name for file in folder.iterdir() if file.name != ".lock")
        assert left == checkpoints(folder)
        assert len(left) == 2

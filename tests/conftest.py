"""What the tests share: every public estimator, small ones of them, and a tiny table."""

import importlib
import importlib.util
import os
import pickle
import zlib
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

from sk_mtl import architectures
from sk_mtl._chains import ChainEstimator
from sk_mtl.base import MultiTaskEstimator
from sk_mtl.datasets._sources import SOURCES
from sk_mtl.tasks import KINDS, Column, make_tasks

if "PYTEST_XDIST_WORKER" in os.environ:
    # Busy processes with several threads each wait for one another at every barrier.
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"

SLOW_EVERY = 16
"""Of the tests marked slow one in so many runs, unless more or special ones are asked for."""


def pytest_addoption(parser):
    parser.addoption(
        "--slow",
        choices=("some", "all"),
        default="some",
        help=f"which tests marked slow run: one in {SLOW_EVERY} (some), or all",
    )


def pytest_collection_modifyitems(config, items):
    """Leave out most slow tests, the same ones everywhere, if none are asked for by name."""
    options = config.option
    if options.slow == "all" or options.markexpr or options.keyword:
        return
    if any("::" in argument for argument in config.args):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    left_out = [item for item in slow if zlib.crc32(item.nodeid.encode()) % SLOW_EVERY]
    config.hook.pytest_deselected(items=left_out)
    names = {item.nodeid for item in left_out}
    items[:] = [item for item in items if item.nodeid not in names]


ESTIMATORS = [
    cls
    for cls in map(vars(architectures).get, architectures.__all__)
    if issubclass(cls, MultiTaskEstimator)
]
"""Every public estimator, found by what it is: a new one is tested without being named."""


def kinds_taken(cls):
    """Return the names of the kinds of task that an estimator takes."""
    return [name for name, kind in KINDS.items() if issubclass(kind, cls.takes)]


def takes_tasks(cls, n_tasks):
    """Return whether an estimator takes a number of tasks."""
    least, most = cls.n_tasks
    return least <= n_tasks and (most is None or n_tasks <= most)


def takes_anything(cls):
    """Return whether an estimator takes any number of tasks of any kind."""
    return len(kinds_taken(cls)) == len(KINDS) and takes_tasks(cls, 1) and takes_tasks(cls, 99)


def is_chain(cls):
    """Return whether an estimator's tasks are the steps of a chain, which nest."""
    return issubclass(cls, ChainEstimator)


ANY_TASK = [cls for cls in ESTIMATORS if takes_anything(cls)]
"""Those that take any number of tasks of any kind."""

CHAINS = [cls for cls in ESTIMATORS if is_chain(cls)]
"""Those whose binary tasks are the steps of a chain."""

LONG_CHAINS = [cls for cls in CHAINS if takes_tasks(cls, 3)]
"""Those whose chains may have more than two steps."""

everywhere = pytest.mark.parametrize("cls", ESTIMATORS)
any_task = pytest.mark.parametrize("cls", ANY_TASK)
chains = pytest.mark.parametrize("cls", CHAINS)


def spread(values, classes, every=3):
    """Return the pairs of values and estimators, most of them marked slow.

    By default each value meets every third estimator, and each estimator every third value. Which
    ones is decided by position, so that a new estimator gets its share.
    """
    return [
        pytest.param(value, cls, marks=() if (i + j) % every == 0 else pytest.mark.slow)
        for j, value in enumerate(values)
        for i, cls in enumerate(classes)
    ]


def reference_name(cls):
    """Return the name of the module of an architecture's reference."""
    return f"reference.{cls.__module__.rsplit('.', 1)[-1]}"


def reference_of(cls):
    """Return the reference of an estimator, or of that which it derives from.

    `tests/reference/__init__.py` says what it holds. Without any it is empty, and
    `test_every_architecture_has_a_reference` fails.
    """
    for base in cls.__mro__:
        name = reference_name(base)
        if issubclass(base, MultiTaskEstimator) and importlib.util.find_spec(name):
            return importlib.import_module(name)
    return SimpleNamespace()


def said(cls, name, default=False):
    """Return what an estimator's reference says in capitals."""
    return getattr(reference_of(cls), name, default)


def is_ordered(cls):
    """Return whether the order of an estimator's tasks means something."""
    return is_chain(cls) or said(cls, "ORDERED")


def unordered():
    """Return the estimators whose order of tasks means nothing, and which take three."""
    return [cls for cls in ESTIMATORS if not is_ordered(cls) and takes_tasks(cls, 3)]


def per_row():
    """Return the estimators whose loss of a batch is a sum over its rows."""
    return [cls for cls in ESTIMATORS if not said(cls, "PER_BATCH")]


PLAIN = {
    "n_members": 1,
    "numeric_features": "standardize",
    "embedding_dim": "auto",
    "dropout": 0.0,
    "lr": 1e-3,
    "lr_schedule": "constant",
    "batch_size": 256,
    "max_epochs": 20,
    "early_stopping": False,
}
"""One network as the papers have it, trained as it is: what most tests are about."""

FEW_UNITS = {
    "bottom_units": (8,),
    "expert_units": (8,),
    "n_experts": 3,
    "n_task_experts": 2,
    "n_shared_experts": 1,
}


def need(key):
    """Return the folder of the real files, or skip the test where it lacks file `key`."""
    named = os.environ.get("SK_MTL_DATA")
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folders = [Path(named), default] if named else [default]
    home = next((folder for folder in folders if folder.is_dir()), None)
    source = SOURCES[key]
    if home is None:
        pytest.skip("no local data: SK_MTL_DATA is not set and ../shared/data does not exist")
    if not any(path.is_file() for path in (home / source.folder / source.name, home / source.name)):
        pytest.skip(f"the local data folder {home} has no {source.name}")
    return home


def known_to(cls, params):
    """Return those of some parameters that a class has."""
    known = cls().get_params(deep=False)
    return {name: value for name, value in params.items() if name in known}


def small(cls, **params):
    """Return an estimator that fits the tiny table in a few milliseconds."""
    common = {"tower_units": (4,), "max_epochs": 2, "batch_size": 32, "lr": 0.01, "random_state": 0}
    return cls(
        **{**PLAIN, **common, **known_to(cls, FEW_UNITS), **said(cls, "OPTIONS", {}), **params}
    )


def column(values, observed=None, name="t"):
    """Return a column of labels, all observed unless a mask says otherwise."""
    values = np.asarray(values)
    if observed is None:
        return Column(name, values, np.ones(len(values), dtype=bool))
    return Column(name, values[observed], observed)


def task_of(values, kind="auto", name="t", **kwargs):
    """Return a task fitted to some labels as an estimator does it."""
    return make_tasks([column(values, name=name)], kind, **kwargs)[0]


def by_pickle(model, folder=None):
    """Return a copy made by pickle. Other ways of copying a model need the folder."""
    return pickle.loads(pickle.dumps(model))


def assert_equal_state(found, expected):
    """Check that two dicts of tensors hold the same bits."""
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.equal(found[key], tensor), key


@contextmanager
def untouched_generators():
    """Check that a block neither moves nor seeds the global generators."""
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    yield
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


class Table(NamedTuple):
    """Rows and targets. `chain` is two nested binary tasks; `Y` has a task of each kind."""

    X: pd.DataFrame
    Y: pd.DataFrame
    chain: pd.DataFrame

    def targets(self, cls):
        """Return targets that suit an estimator: all kinds, or what every estimator takes."""
        return self.Y if takes_anything(cls) else self.chain


def make_table(n=120, seed=0):
    """Return a table whose targets can be learned, numbers and labels missing here and there."""
    rng = np.random.default_rng(seed)
    age, hours = rng.normal(40, 10, n), rng.integers(10, 60, n)
    city = rng.choice(["Bern", "Cluj", "Oslo", "Riga"], n)
    student = rng.random(n) < 0.3
    drive = (age - 40) / 10 + 0.5 * (city == "Bern") - 0.5 * student
    noise = rng.normal(0, 0.3, (n, 4))
    level = np.digitize(drive + noise[:, 2], [-0.6, 0.6])
    X = pd.DataFrame(
        {
            "age": np.where(rng.random(n) < 0.1, np.nan, age),
            "hours": hours,
            "city": pd.Series(city).where(rng.random(n) > 0.1),
            "student": student,
        }
    )
    Y = pd.DataFrame(
        {
            "income": np.where(drive + noise[:, 0] > 0, ">50K", "<=50K"),
            "married": np.where(rng.random(n) < 0.2, np.nan, drive + noise[:, 1] > 0),
            "level": np.array(["high", "low", "mid"])[np.array([1, 2, 0])[level]],
            "wage": 20 + 5 * drive + noise[:, 3],
        }
    )
    click = (drive + noise[:, 0] > -0.3).astype(int)
    conversion = click * (drive + noise[:, 1] > 0.2)
    return Table(X, Y, pd.DataFrame({"click": click, "conversion": conversion}))


@pytest.fixture
def table():
    """Return a tiny mixed table, a new copy for every test."""
    return make_table()


@pytest.fixture(autouse=True)
def _global_state():
    """Start each test with the same global generators, and let none change global settings.

    A test that draws from them must not pass or fail by what this process ran before.
    """
    settings = torch.get_num_threads(), torch.get_default_dtype()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    yield
    torch.set_rng_state(torch_state)
    np.random.set_state(numpy_state)  # noqa: NPY002
    assert (torch.get_num_threads(), torch.get_default_dtype()) == settings

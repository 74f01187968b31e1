"""Modules for tests: built as the estimators build them, and taken apart into plain lists."""

import conftest
import numpy as np
import torch
import torch.nn.functional as F

from sk_mtl._features import FeatureSpec
from sk_mtl._training import MultiTaskLoss, make_net
from sk_mtl.balancing import EqualBalancer
from sk_mtl.nn import ExtractionLevel, Gates, StackedLinear, StackedMLP
from sk_mtl.tasks import KINDS

ESTIMATORS = {cls.__name__: cls for cls in conftest.ESTIMATORS}

FUNCTIONS = {"relu": torch.relu, "tanh": torch.tanh, "silu": F.silu, "sigmoid": torch.sigmoid}

# Sizes are all different, so that no axis can be taken for another: rows 7, tasks up to 3, experts
# 5 or 4 and 6, widths 8 and more, features 26.
N_CATEGORIES = (3, 11, 6, 2)
SPEC = FeatureSpec(
    n_numeric=10,
    n_categories=list(N_CATEGORIES),
    embedding_dims=[5, 2, 5, 3],
    mean=np.linspace(-1.0, 2.0, 10),
    scale=np.linspace(0.5, 3.0, 10),
    fill=np.arange(-3.0, 7.0) / 16,
    missing_columns=[4],
)
STATISTICS = list(zip(*map(torch.tensor, (SPEC.mean, SPEC.scale, SPEC.fill)), strict=True))
"""(mean, scale, fill) of each numeric column."""
N_FEATURES = 10 + 1 + 5 + 2 + 5 + 3
N_CLASSES = 17
KIND_ORDER = ("binary", "multiclass", "regression")
TOWER_UNITS = (
    ((13,), (12, 14), ()),
    ((13,), (), (13,)),  # the first and the last run as one, around the other
)


def make_estimator(name, **given):
    """Return an estimator of pairwise different sizes; `given` overrides."""
    parameters = {
        "bottom_units": (9, 8),
        "n_experts": 5,
        "n_task_experts": 4,
        "n_shared_experts": 6,
        "n_levels": 2,
        "expert_units": (9, 8),
        "gate_units": (),
        "activation": "silu",
    } | given
    cls = ESTIMATORS[name]
    return cls(**conftest.known_to(cls, parameters))


def make_task(kind, name="task", n_classes=N_CLASSES):
    labels = {"binary": [0, 1], "multiclass": range(n_classes), "regression": [-1.0, 1.0]}
    return KINDS[kind](name).fit(np.array(labels[kind]), None, None)


def make_tasks(kinds, n_classes=N_CLASSES):
    return tuple(make_task(kind, f"task_{k}", n_classes) for k, kind in enumerate(kinds))


def make_criterion(kinds, *, cls=MultiTaskLoss, n_classes=N_CLASSES):
    """Return the loss of tasks that weigh the same; `cls` may be one that makes a mistake."""
    return cls(make_tasks(kinds, n_classes), EqualBalancer())


def kinds_for(name, n_tasks):
    """Kinds of task that an architecture takes, as mixed as it allows."""
    return ("binary",) * n_tasks if ESTIMATORS[name]._classes_only else KIND_ORDER[:n_tasks]


def randomize(module, seed=0, std=0.5):
    """Make a module float64, its parameters normal (biases start at zero and would hide)."""
    module.double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=std, generator=generator)
    return module


def build_module(name, kinds, *, seed=0, **given):
    """Return an architecture's whole module as its estimator builds it."""
    generator = torch.Generator().manual_seed(seed)
    return make_estimator(name, **given)._build_module(make_tasks(kinds), SPEC, generator)


def make_module(name, n_tasks=3, *, kinds=None, seed=0, towers=0, **given):
    """Return an architecture's whole module, float64 and random."""
    kinds = kinds_for(name, n_tasks) if kinds is None else kinds
    units = {"tower_units": list(TOWER_UNITS[towers][: len(kinds)])} | given
    return randomize(build_module(name, kinds, seed=seed, **units), seed)


def make_inputs(n_rows, seed=0):
    """Return numbers, some missing, and codes that include missing and unknown categories."""
    generator = torch.Generator().manual_seed(1000 + seed)
    numeric = torch.randn(n_rows, SPEC.n_numeric, dtype=torch.float64, generator=generator)
    numeric[torch.rand(numeric.shape, generator=generator) < 0.1] = torch.nan
    numeric[-1, 4] = torch.nan
    codes = [torch.randint(n + 2, (n_rows,), generator=generator) for n in N_CATEGORIES]
    return numeric, torch.stack(codes, dim=1)


def normal(*shape, seed=0):
    """Return float64 numbers from a generator of their own."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def randn(*shape, seed=0):
    """Return numbers that no parameter shares: `randomize` seeds its generator from 0 upwards."""
    return normal(*shape, seed=2000 + seed)


# Taken apart --------------------------------------------------------------------------------------
# Slices are views of the modules' parameters: gradients of a reference reach the parameters.


def layers_of(mlp: StackedMLP):
    """Return the layers [(W, b), ...] of each network of a stack."""
    linears = [layer for layer in mlp.layers if isinstance(layer, StackedLinear)]
    if not linears:
        return None
    return [[(linear.weight[i], linear.bias[i]) for linear in linears] for i in range(linears[0].n)]


def gates_of(gates: Gates):
    hidden = layers_of(gates.hidden)
    return [
        ([] if hidden is None else hidden[i], gates.scores.weight[i]) for i in range(gates.scores.n)
    ]


def towers_of(towers):
    """Return the tower of each task, in task order."""
    found = {}
    for members, (mlp, output) in zip(towers.members, towers.towers, strict=True):
        hidden = layers_of(mlp)
        for i, k in enumerate(members):
            found[k] = ([] if hidden is None else hidden[i], (output.weight[i], output.bias[i]))
    return [found[k] for k in range(len(found))]


def level_of(level: ExtractionLevel):
    """Return a level as `reference.extraction` takes it."""
    n_tasks, m = level.n_tasks, level.n_task_experts
    own = [] if level.task_experts is None else layers_of(level.task_experts)
    return {
        "task_experts": [own[k * m : (k + 1) * m] for k in range(n_tasks)],
        "shared_experts": [] if level.shared_experts is None else layers_of(level.shared_experts),
        "task_gates": gates_of(level.task_gates),
        "shared_gate": None if level.shared_gate is None else gates_of(level.shared_gate)[0],
    }


def tables_of(embedding):
    """Return each categorical column's table, and the order in which the columns stand.

    Columns of one width share a table, one below the other in column order.
    """
    tables, order = {}, []
    widths = list(dict.fromkeys(SPEC.embedding_dims))
    for width, table in zip(widths, embedding.tables, strict=True):
        start = 0
        for column, dim in enumerate(SPEC.embedding_dims):
            if dim == width:
                stop = start + N_CATEGORIES[column] + 2
                tables[column] = table[start:stop]
                order.append(column)
                start = stop
        assert start == len(table)
    return tables, order


def gradients(output, sources, functional):
    """Gradients of a random linear functional of an output, zero where none flows."""
    found = torch.autograd.grad(
        (output * functional).sum(), sources, allow_unused=True, retain_graph=True
    )
    return [torch.zeros_like(s) if g is None else g for s, g in zip(sources, found, strict=True)]


def make_trainer(module, kinds, *, loss_weights=None, n_classes=N_CLASSES, **given):
    """Return a module's net, float64, whose steps can be taken one by one."""
    options = {
        "optimizer": "adam",
        "lr": 0.01,
        "weight_decay": 0.0,
        "batch_size": None,
        "max_epochs": 1,
        "callbacks": [],
        "device": torch.device("cpu"),
        "dtype": torch.float64,
        "generator": torch.Generator().manual_seed(0),
        "verbose": 0,
    }
    criterion = MultiTaskLoss(make_tasks(kinds, n_classes), EqualBalancer(), loss_weights)
    return make_net(module, criterion, **{**options, **given})


def make_batch(inputs, target, weight=None):
    """Return a batch as the net takes it."""
    numeric, codes = inputs
    features = {"numeric": numeric, "categorical": codes}
    return (features if weight is None else {**features, "weight": weight}), target


def make_labels(kinds, n_rows, seed=0, n_classes=N_CLASSES):
    """Return encoded labels of some kinds of task, (n_rows, K)."""
    draws = randn(n_rows, len(kinds), seed=300 + seed)
    columns = {
        "binary": lambda z: (z > 0).double(),
        "multiclass": lambda z: (z.abs() * 1000).long().remainder(n_classes).double(),
        "regression": lambda z: z,
    }
    return torch.stack([columns[kind](draws[:, k]) for k, kind in enumerate(kinds)], dim=1)

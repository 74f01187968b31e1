"""Modules for tests: built as the estimators build them, and taken apart into plain lists.

An architecture is named by its estimator's class or by the name of an exported one.
"""

import conftest
import numpy as np
import torch
import torch.nn.functional as F

from sk_mtl._training import Criterion, Objective, Training, make_net
from sk_mtl.balancing import EqualBalancer
from sk_mtl.data import Batch, BlockSpec, Rows
from sk_mtl.nn import DSelectGates, ExtractionLevel, Gates, StackedLinear, StackedMLP
from sk_mtl.tasks import KINDS

ESTIMATORS = {cls.__name__: cls for cls in conftest.ESTIMATORS}

FUNCTIONS = {"relu": torch.relu, "tanh": torch.tanh, "silu": F.silu, "sigmoid": torch.sigmoid}

# Sizes are all different, so that no axis can be taken for another: rows 7, tasks up to 3, experts
# 5 or 4 and 6, widths 8 and more, features 26.
N_CATEGORIES = (3, 11, 6, 2)
EMBEDDING_DIMS = (5, 2, 5, 3)
N_NUMERIC, MISSING_COLUMNS = 10, (4,)
MEAN, SCALE = np.linspace(-1.0, 2.0, N_NUMERIC), np.linspace(0.5, 3.0, N_NUMERIC)
FILL = np.arange(-3.0, 7.0) / 16
STATISTICS = list(zip(*map(torch.tensor, (MEAN, SCALE, FILL)), strict=True))
"""(mean, scale, fill) of each numeric column."""
SPECS = {
    "numeric": BlockSpec(
        "numbers",
        {
            "n_columns": N_NUMERIC,
            "missing_columns": list(MISSING_COLUMNS),
            "mean": MEAN,
            "scale": SCALE,
            "fill": FILL,
        },
        "numeric",
    ),
    "categorical": BlockSpec(
        "tables",
        {"n_categories": list(N_CATEGORIES), "embedding_dims": list(EMBEDDING_DIMS)},
        "categorical",
    ),
}
"""What an encoder says of how to build the blocks."""
N_FEATURES = 10 + 1 + 5 + 2 + 5 + 3
N_CLASSES = 17
KIND_ORDER = ("binary", "multiclass", "regression")
TOWER_UNITS = (
    ((13,), (12, 14), ()),
    ((13,), (), (13,)),  # the first and the last run as one, around the other
)


def find(name):
    """Return an estimator's class, which may be given itself."""
    return name if isinstance(name, type) else ESTIMATORS[name]


def make_estimator(name, **given):
    """Return an estimator of pairwise different sizes; `given` overrides where it is known."""
    cls = find(name)
    sizes = {
        "bottom_units": (9, 8),
        "n_experts": 5,
        "n_task_experts": 4,
        "n_shared_experts": 6,
        "n_levels": 2,
        "expert_units": (9, 8),
        "gate_units": (),
        "activation": "silu",
    }
    parameters = conftest.PLAIN | sizes | conftest.said(cls, "OPTIONS", {}) | given
    return cls(**conftest.known_to(cls, parameters))


def make_task(kind, name="task", n_classes=N_CLASSES):
    labels = {
        "binary": [0, 1],
        "multiclass": range(n_classes),
        "ordinal": range(n_classes),
        "regression": [-1.0, 1.0],
    }
    return KINDS[kind](name).fit(np.array(labels[kind]), None, None)


def make_tasks(kinds, n_classes=N_CLASSES):
    return tuple(make_task(kind, f"task_{k}", n_classes) for k, kind in enumerate(kinds))


def make_objective(kinds, *, cls=Objective, n_classes=N_CLASSES):
    """Return the objective of some kinds of task; `cls` may be one that makes a mistake."""
    return cls(make_tasks(kinds, n_classes))


def make_criterion(kinds, *, cls=Criterion, loss_weights=None, n_classes=N_CLASSES):
    """Return the criterion of tasks that weigh the same; `cls` may be one that makes a mistake."""
    return cls(make_objective(kinds, n_classes=n_classes), EqualBalancer(), loss_weights)


def sums_of(objective, logits, target, weight=None):
    """Return the terms' sums of losses and of weights over a batch, its towers without a head."""
    return objective(logits, logits, target, weight)


def means_of(objective, logits, target, weight=None):
    """Return the terms' mean losses over a batch by its own weights, NaN without any label."""
    sums, weights = sums_of(objective, logits, target, weight)
    return sums / weights


def estimates_of(criterion, logits, target, weight=None):
    """Return a batch's estimates of the terms' means over all rows that the criterion counted."""
    sums, _ = sums_of(criterion, logits, target, weight)
    return criterion.estimate(sums, len(target))


def count_rows(criterion, target, weight=None):
    """Let a criterion take the mean weights over some rows to train on."""
    parts = {"numeric": np.zeros((len(target), 0))}
    weight = None if weight is None else weight.numpy()
    rows = Rows(parts, target.numpy(), weight, dtype=torch.float64)
    criterion.double().count(rows, torch.device("cpu"))
    return criterion


def count_for(name, n_tasks):
    """Return a number of tasks, or that which an architecture takes and is nearest to it."""
    counts = sorted(range(1, n_tasks + 2), key=lambda n: abs(n - n_tasks))
    return next(n for n in counts if conftest.takes_tasks(find(name), n))


def kinds_for(name, n_tasks):
    """Return kinds of task that an architecture takes, as mixed and nearly as many as it allows."""
    taken = conftest.kinds_taken(find(name))
    mixed = [kind for kind in (*KIND_ORDER, "ordinal") if kind in taken]
    kinds = conftest.said(find(name), "KINDS", mixed)
    return tuple(kinds[k % len(kinds)] for k in range(count_for(name, n_tasks)))


def binary_for(name, n_tasks):
    """Return the kinds of nearly as many binary tasks as an architecture allows."""
    return ("binary",) * count_for(name, n_tasks)


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
    estimator, n_members = make_estimator(name, **given), given.get("n_members", 1)
    return estimator._build_module(make_tasks(kinds), SPECS, generator, n_members)


def make_module(name, n_tasks=3, *, kinds=None, seed=0, towers=0, **given):
    """Return an architecture's whole module, float64 and random."""
    kinds = kinds_for(name, n_tasks) if kinds is None else kinds
    units = {"tower_units": list(TOWER_UNITS[towers][: len(kinds)])} | given
    return randomize(build_module(name, kinds, seed=seed, **units), seed)


def make_inputs(n_rows, seed=0):
    """Return numbers, some missing, and codes that include missing and unknown categories."""
    generator = torch.Generator().manual_seed(1000 + seed)
    numeric = torch.randn(n_rows, N_NUMERIC, dtype=torch.float64, generator=generator)
    numeric[torch.rand(numeric.shape, generator=generator) < 0.1] = torch.nan
    numeric[-1, 4] = torch.nan
    codes = [torch.randint(n + 2, (n_rows,), generator=generator) for n in N_CATEGORIES]
    return numeric, torch.stack(codes, dim=1)


def parts_of(inputs):
    """Return numbers and codes as the parts of rows."""
    numeric, codes = inputs
    return {"numeric": numeric, "categorical": codes}


def tables_in(module):
    """Return a module's embedding tables, one for each width: tasks' copies first."""
    embedding = module.embedding
    own = own_tables(embedding) if embedding.n_own else []
    shared = dict(embedding.blocks.items()).get("categorical")
    return [*own, *([] if shared is None else shared.tables)]


def normal(*shape, seed=0):
    """Return float64 numbers from a generator of their own; a shape as such or as sizes."""
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


def gates_of(gates: Gates | DSelectGates):
    """Return each gate as `reference.parts.gate` takes it."""
    if isinstance(gates, DSelectGates):
        return [dselect_of(gates, i) for i in range(gates.n_gates)]
    hidden = layers_of(gates.hidden)
    return [
        ([] if hidden is None else hidden[i], gates.scores.weight[i]) for i in range(gates.scores.n)
    ]


def dselect_of(gates: DSelectGates, i):
    """Return a DSelect-k gate: its hidden layers, and the affine functions of its scores."""
    given = {"n_experts": gates.n_experts, "gamma": gates.gamma}
    if gates.n_experts == 1:
        return given | {"hidden": [], "selectors": []}
    if hasattr(gates, "scores"):
        hidden = layers_of(gates.hidden)
        matrix, bias = gates.scores.weight[i], gates.scores.bias[i]
    else:
        hidden, matrix, bias = None, None, gates.bias[i]
    k, m = gates.n_selectors, gates.n_bits

    def score(row):
        return bias[row] if matrix is None else (matrix[row], bias[row])

    selectors = [([score(j * m + b) for b in range(m)], score(k * m + j)) for j in range(k)]
    return given | {"hidden": [] if hidden is None else hidden[i], "selectors": selectors}


def towers_of(towers):
    """Return the tower of each task, in task order."""
    found = {}
    for tasks, (mlp, output) in zip(towers.groups, towers.towers, strict=True):
        hidden = layers_of(mlp)
        for i, k in enumerate(tasks):
            found[k] = ([] if hidden is None else hidden[i], (output.weight[i], output.bias[i]))
    return [found[k] for k in range(len(found))]


def share_out(parameters, n_tasks, per_task=1):
    """Return each task's views of parameters whose first axis is the tasks' parts in order."""
    return [
        [parameter[k * per_task : (k + 1) * per_task] for parameter in parameters]
        for k in range(n_tasks)
    ]


def levels_by_task(levels, n_tasks):
    """Return each task's views of the parameters of extraction levels, and the rest."""
    of_task, rest = [[] for _ in range(n_tasks)], []

    def give(shares):
        for views, share in zip(of_task, shares, strict=True):
            views.extend(share)

    for level in levels:
        m = level.n_task_experts
        give(share_out(list(level.task_experts.parameters()), n_tasks, m))
        give(share_out(list(level.task_gates.parameters()), n_tasks))
        rest.extend(level.shared_experts.parameters())
        if level.shared_gate is not None:
            scores = level.shared_gate.scores.weight
            give(share_out([scores[0]], n_tasks, m))
            rest.append(scores[0, n_tasks * m :])
            rest.extend(level.shared_gate.hidden.parameters())
    return of_task, rest


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


def copies_of(embedding):
    """Return the copies of a row's vector, each as the views of its tables: tasks', then shared.

    An estimator without copies has one, the shared one.
    """
    copies = [
        [table.unflatten(1, (embedding.n_own, -1))[:, k] for table in own_tables(embedding)]
        for k in range(embedding.n_own)
    ]
    shared = dict(embedding.blocks.items()).get("categorical")
    return copies if shared is None else [*copies, list(shared.tables)]


def own_tables(embedding):
    """Return the tables whose slots hold the copies of all tasks side by side."""
    return embedding.own["categorical"].tables


def row_vectors(embedding, numeric, codes, embed):
    """Return rows as a reference takes them: `embed` of each, of copies (c, D)."""
    tables = [tables_of(copy) for copy in copies_of(embedding)]
    rows = []
    for numbers, of_row in zip(numeric, codes, strict=True):
        vectors = [embed(numbers, of_row, STATISTICS, MISSING_COLUMNS, *given) for given in tables]
        rows.append(torch.stack(vectors) if embedding.n_own else vectors[0])
    return rows


def tables_of(copy):
    """Return each categorical column's table, and the order in which the columns stand.

    Columns of one width share a table, one below the other in column order.
    """
    tables, order = {}, []
    widths = list(dict.fromkeys(EMBEDDING_DIMS))
    for width, table in zip(widths, copy, strict=True):
        start = 0
        for column, dim in enumerate(EMBEDDING_DIMS):
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
    training = Training(**{"lr": 0.01, "batch_size": None, "dtype": torch.float64, **given})
    criterion = make_criterion(kinds, loss_weights=loss_weights, n_classes=n_classes)
    return make_net(module, criterion, training, torch.Generator().manual_seed(0))


def make_batch(module, inputs, target, weight=None):
    """Return a batch as a module's net takes it."""
    return Batch(module.prepare(parts_of(inputs)), target, weight)


def make_labels(kinds, n_rows, seed=0, n_classes=N_CLASSES):
    """Return encoded labels of some kinds of task, (n_rows, K)."""
    draws = randn(n_rows, len(kinds), seed=300 + seed)
    columns = {
        "binary": lambda z: (z > 0).double(),
        "multiclass": lambda z: (z.abs() * 1000).long().remainder(n_classes).double(),
        "regression": lambda z: z,
    }
    columns["ordinal"] = columns["multiclass"]
    return torch.stack([columns[kind](draws[:, k]) for k, kind in enumerate(kinds)], dim=1)

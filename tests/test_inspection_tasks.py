"""Gradient conflict and task affinity, against loops over rows and tasks with autograd."""

import copy
import inspect

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import (
    ANY_TASK,
    ESTIMATORS,
    is_chain,
    make_table,
    said,
    small,
    spread,
    untouched_generators,
)
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state
from skorch.callbacks import Callback

from sk_mtl import ESMM, MMoE, SharedBottom
from sk_mtl.data.frames import as_table
from sk_mtl.inspection import (
    GradientConflictDisplay,
    TaskAffinityDisplay,
    _conflict,
    gradient_conflict,
    task_affinity,
)
from sk_mtl.inspection._labeled import labeled_rows
from sk_mtl.tasks import BinaryTask, QuantileTask

SHARING = [cls for cls in ESTIMATORS if not said(cls, "SHARES_NOTHING")]
"""Those that have parameters to compare the tasks at."""

PLAIN_LOSS = [cls for cls in SHARING if not said(cls, "OWN_LOSS")]
"""Those of them whose terms are each task's own loss."""

TABLE = make_table(60)
TASKS = list(TABLE.Y)
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def fitted(cls=MMoE, **params):
    params = {"dtype": "float64", "max_epochs": 1, **params}
    return small(cls, **params).fit(TABLE.X, TABLE.targets(cls))


def weights_of(y, seed=3):
    """Return weights of labels, a fifth of them zero."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(y.shape) < 0.2, 0.0, rng.uniform(0.5, 2.0, y.shape))


def encoded(model, y, sample_weight):
    """Return numbers, codes, labels and weights of all rows, encoded task by task."""
    parts = model._fitted_.encoder.transform(as_table(TABLE.X))
    numeric, categorical = parts["numeric"], parts["categorical"]
    target, weight = np.zeros(y.shape), np.array(sample_weight, dtype=float)
    for k, task in enumerate(model.tasks_):
        seen = y.iloc[:, k].notna().to_numpy()
        target[seen, k] = task.encode(y.iloc[:, k][seen].to_numpy())
        weight[~seen, k] = 0.0
    if is_chain(type(model)):
        imply(target, weight, sample_weight)
    return [torch.from_numpy(part) for part in (numeric, categorical.astype(int), target, weight)]


def imply(target, weight, sample_weight):
    """Fill in what a chain of two implies: no click, no conversion; a conversion had a click."""
    for row, (click, conversion) in enumerate(weight > 0):
        if click and not conversion and target[row, 0] == 0:
            target[row, 1], weight[row, 1] = 0.0, sample_weight[row, 1]
        if conversion and not click and target[row, 1] == 1:
            target[row, 0], weight[row, 0] = 1.0, sample_weight[row, 0]


def mean_loss(model, module, k, rows):
    """Return the mean loss of task k, row by row; None without a label."""
    logits = [task.n_logits for task in model.tasks_]
    where = slice(sum(logits[:k]), sum(logits[: k + 1]))
    losses, total = [], 0.0
    for numeric, codes, target, weight in zip(*rows, strict=True):
        if weight[k] > 0:
            out = module(numeric[None], codes[None])[:, where]
            loss = model.tasks_[k].loss(out.unflatten(1, (1, -1)), target[k].reshape(1, 1))
            losses.append(weight[k] * loss.squeeze())
            total += weight[k]
    return sum(losses) / total if losses else None


def shared_of(model, module):
    """Return the parameters before the towers with entries that two tasks or more reach."""
    rows = encoded(model, TABLE.targets(type(model)), np.ones((60, len(model.tasks_))))
    reached = {name: torch.zeros_like(p) for name, p in module.named_parameters()}
    for k in range(len(model.tasks_)):
        module.zero_grad()
        mean_loss(model, module, k, rows).backward()
        for name, p in module.named_parameters():
            reached[name] += 0 if p.grad is None else p.grad != 0
    return {
        name: p
        for name, p in module.named_parameters()
        if (reached[name] > 1).any() and not name.startswith("towers")
    }


def everything(model):
    """Return all that a fitted estimator holds, as bytes that can be compared."""
    net = model.net_
    tensors = [*model.module_.state_dict().values(), *net.criterion_.state_dict().values()]
    for state in net.optimizer_.state.values():
        tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
    generator = net.iterator_train__generator.get_state()
    return [t.detach().numpy().tobytes() for t in [*tensors, generator]], repr(model.history_)


@pytest.fixture
def unchanged():
    """Check that neither estimators nor the global generators change."""
    models, before = [], []

    def watch(model):
        models.append(model)
        before.append(everything(model))
        return model

    with untouched_generators():
        yield watch
    assert models
    for model, state in zip(models, before, strict=True):
        assert everything(model) == state
        assert all(p.grad is None for p in model.module_.parameters())
        assert not model.module_.training


def still(model):
    """Return a fitted estimator without the gradients of its last step."""
    model.module_.zero_grad(set_to_none=True)
    return model


# Conflict ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", PLAIN_LOSS)
def test_conflict_by_hand(cls, unchanged):
    model, y = unchanged(still(fitted(cls))), TABLE.targets(cls)
    sample_weight = weights_of(y)
    found = gradient_conflict(model, TABLE.X, y, sample_weight)
    module = copy.deepcopy(model.module_)
    rows, shared = encoded(model, y, sample_weight), shared_of(model, module)
    assert list(found.norms.index) == list(found.layers) == list(shared)
    gradients = [
        torch.autograd.grad(mean_loss(model, module, k, rows), list(shared.values()))
        for k in range(y.shape[1])
    ]
    for position, layer in enumerate(shared):
        vectors = np.array([task[position].numpy().ravel() for task in gradients])
        assert np.allclose(found.norms.loc[layer], np.linalg.norm(vectors, axis=1), **CLOSE)
        assert np.allclose(found.layers[layer], cosines(vectors), **CLOSE)
    whole = np.array([np.concatenate([g.numpy().ravel() for g in task]) for task in gradients])
    assert np.allclose(found.cosine, cosines(whole), **CLOSE)
    assert list(found.cosine.index) == list(found.cosine.columns) == list(y)


def cosines(vectors):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


def twin_towers(**kinds):
    """Return a model of two tasks whose towers are equal."""
    wage = TABLE.Y["wage"]
    y = pd.DataFrame({"a": wage, "b": wage})
    model = small(SharedBottom, dtype="float64", task_types=kinds or "regression", max_epochs=1)
    model.fit(TABLE.X, y)
    with torch.no_grad():
        for name, p in model.module_.named_parameters():
            if name.startswith("towers"):
                p[1] = p[0]
    return model, y


def test_equal_tasks_agree():
    model, y = twin_towers()
    found = gradient_conflict(model, TABLE.X, y)
    for cosine in (found.cosine, *found.layers.values()):
        assert np.allclose(cosine, 1.0, **CLOSE)
    affinity = task_affinity(model, TABLE.X, y, batch_size=20, random_state=0)
    assert np.ptp(affinity) < 1e-12
    assert (affinity > 0).all(axis=None)


def test_opposed_tasks_conflict():
    """One median lies above all predictions and the other below: slopes of one size."""
    model, y = twin_towers(a=QuantileTask(quantile=0.5), b=QuantileTask(quantile=0.5))
    far = y.assign(a=1e4, b=-1e4)
    found = gradient_conflict(model, TABLE.X, far)
    for cosine in (found.cosine, *found.layers.values()):
        assert np.allclose(cosine, [[1, -1], [-1, 1]], **CLOSE)
    affinity = task_affinity(model, TABLE.X, far, lr=1e-3, random_state=0).to_numpy()
    assert (np.sign(affinity) == [[1, -1], [-1, 1]]).all()


def test_a_step_of_the_loss_is_what_the_conflict_says():
    """To first order a step of i lowers L_j by lr times the inner product of the gradients."""
    model, lr = fitted(), 1e-6
    found = gradient_conflict(model, TABLE.X, TABLE.Y)
    length = np.sqrt((found.norms.to_numpy() ** 2).sum(0))
    fall = lr * np.outer(length, length) * found.cosine.to_numpy()
    affinity = task_affinity(model, TABLE.X, TABLE.Y, lr=lr, batch_size=None).to_numpy()
    rows = encoded(model, TABLE.Y, np.ones(TABLE.Y.shape))
    losses = [mean_loss(model, model.module_, k, rows).item() for k in range(len(TASKS))]
    assert np.allclose(affinity, fall / losses, rtol=1e-3, atol=1e-12)


@pytest.mark.parametrize("cls", SHARING)
def test_layers_add_up(cls):
    found = gradient_conflict(fitted(cls, dtype="float32"), TABLE.X, TABLE.targets(cls))
    products = sum(
        cosine.fillna(0).to_numpy() * np.outer(found.norms.loc[layer], found.norms.loc[layer])
        for layer, cosine in found.layers.items()
    )
    length = np.sqrt(np.diag(products))
    assert np.allclose(found.cosine, products / np.outer(length, length), rtol=1e-6)
    assert np.allclose(np.diag(found.cosine), 1.0)
    assert np.array_equal(found.cosine, found.cosine.T)


def test_batches_do_not_matter(monkeypatch):
    model = fitted()
    found = gradient_conflict(model, TABLE.X, TABLE.Y)
    monkeypatch.setattr(_conflict, "ROWS", 7)
    again = gradient_conflict(model, TABLE.X, TABLE.Y)
    assert np.allclose(again.cosine, found.cosine, **CLOSE)
    assert np.allclose(again.norms, found.norms, **CLOSE)


def test_neither_dropout_nor_balancer_nor_loss_weights_play_a_part(unchanged):
    model = fitted(dropout=0.5, batch_norm=True, balancer="uncertainty", loss_weights=[5, 1, 1, 1])
    plain = fitted(dropout=0.0, batch_norm=True)
    plain.module_.load_state_dict(model.module_.state_dict())
    unchanged(still(model))
    for function in (gradient_conflict, lambda *a: {"z": task_affinity(*a, random_state=0)}):
        found = [function(m, TABLE.X, TABLE.Y) for m in (model, model, plain)]
        for key in found[0]:
            if key != "layers":
                assert np.array_equal(found[0][key], found[1][key])
                assert np.allclose(found[0][key], found[2][key], **CLOSE)


def test_a_task_without_labels_is_not_known():
    model, y = fitted(), TABLE.Y.assign(level=None)
    found = gradient_conflict(model, TABLE.X, y)
    affinity = task_affinity(model, TABLE.X, y, batch_size=16, random_state=0)
    assert (found.norms["level"] == 0).all()
    for matrix in (found.cosine, affinity, *found.layers.values()):
        gone = matrix.isna().to_numpy()
        k = TASKS.index("level")
        assert gone[k].all()
        assert gone[:, k].all()
        assert gone.sum() == 2 * len(TASKS) - 1


def test_a_single_task():
    y = TABLE.Y["level"]
    model = small(MMoE, max_epochs=1).fit(TABLE.X, y)
    found = gradient_conflict(model, TABLE.X, y)
    assert found.cosine.to_numpy() == pytest.approx(1.0)
    assert found.cosine.columns.tolist() == ["level"]
    assert task_affinity(model, TABLE.X, y).shape == (1, 1)


# Affinity ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch_size", "cls"), spread([None, 25], PLAIN_LOSS, every=2))
def test_affinity_by_hand(batch_size, cls, unchanged):
    model, y = unchanged(still(fitted(cls))), TABLE.targets(cls).copy()
    y.iloc[3:, 0] = np.nan  # a batch may have none
    sample_weight = weights_of(y)
    given = {"lr": 0.05, "batch_size": batch_size, "random_state": 7}
    found = task_affinity(model, TABLE.X, y, sample_weight, **given)
    rows = encoded(model, y, sample_weight)
    kept = rows[3].sum(1) > 0  # a row without any weight is left out before the rows are shuffled
    rows = [part[kept] for part in rows]
    seed = check_random_state(7).randint(2**31 - 1)
    order = torch.randperm(len(rows[0]), generator=torch.Generator().manual_seed(int(seed)))
    starts = range(0, len(order), batch_size or len(order))
    batches = [order[s : s + (batch_size or len(order))] for s in starts]
    names = list(shared_of(model, copy.deepcopy(model.module_)))
    expected = [
        affinity_of_a_batch(model, [part[batch] for part in rows], names, 0.05) for batch in batches
    ]
    assert np.allclose(found, np.nanmean(expected, axis=0), **CLOSE)
    assert found.notna().all(axis=None)
    assert list(found.index) == list(found.columns) == list(y)


def affinity_of_a_batch(model, rows, names, lr):
    n_tasks = len(model.tasks_)
    z = np.full((n_tasks, n_tasks), np.nan)
    for i in range(n_tasks):
        before = copy.deepcopy(model.module_)
        after = copy.deepcopy(before)
        loss = mean_loss(model, after, i, rows)
        if loss is None:
            continue
        shared = [p for name, p in after.named_parameters() if name in names]
        optimizer = torch.optim.SGD(shared, lr=lr)
        loss.backward()
        optimizer.step()
        for j in range(n_tasks):
            old = mean_loss(model, before, j, rows)
            if old is not None:
                z[i, j] = 1 - (mean_loss(model, after, j, rows) / old).item()
    return z


def test_a_step_helps_its_own_task():
    affinity = task_affinity(fitted(), TABLE.X, TABLE.Y, lr=1e-3, random_state=0)
    assert (np.diag(affinity) > 0).all()
    assert not np.allclose(affinity, affinity.T, rtol=1e-2)


def test_default_step_is_the_estimators():
    model = fitted(lr=0.02)
    given = task_affinity(model, TABLE.X, TABLE.Y, lr=0.02, random_state=0)
    model.set_params(lr=1.0)  # after fit
    assert task_affinity(model, TABLE.X, TABLE.Y, random_state=0).equals(given)
    other = task_affinity(model, TABLE.X, TABLE.Y, lr=0.04, random_state=0)
    assert not np.allclose(other, given, rtol=1e-2)


def test_random_state_is_the_order_of_rows():
    model, X, y = fitted(), TABLE.X, TABLE.Y
    found = [
        task_affinity(model, X, y, batch_size=16, random_state=state)
        for state in (0, np.random.RandomState(0), 1)
    ]
    assert found[0].equals(found[1])
    assert not np.allclose(found[0], found[2], **CLOSE)


def test_small_steps_are_exact_in_float32():
    model = fitted(dtype="float32")
    small_step = task_affinity(model, TABLE.X, TABLE.Y, lr=1e-8, batch_size=None)
    step = task_affinity(model, TABLE.X, TABLE.Y, lr=1e-6, batch_size=None)
    assert np.allclose(100 * small_step, step, rtol=1e-3)


# Rows as fit trains on them ---------------------------------------------------------------------


class Seen(Callback):
    rows: list = []  # noqa: RUF012

    def on_train_begin(self, net, X, **kwargs):
        self.rows.append(X)


def test_labels_weigh_as_in_training():
    kinds = {"income": BinaryTask(class_weight={"<=50K": 1.0, ">50K": 3.0})}
    model = fitted(task_types=kinds, callbacks=[Seen()])
    rows = labeled_rows(model, TABLE.X, TABLE.Y, None, torch.float64, torch.device("cpu"))
    assert torch.equal(rows.weight, Seen.rows[-1].weight)
    assert torch.equal(rows.target.nan_to_num(), Seen.rows[-1].target.nan_to_num())
    for name, part in rows.parts.items():
        assert torch.equal(part.nan_to_num(), Seen.rows[-1].parts[name].nan_to_num())
    assert len(rows.parts) == 2
    assert len(rows.weight[:, 0].unique()) == 2
    assert np.isfinite(gradient_conflict(model, TABLE.X, TABLE.Y).cosine).all(axis=None)


def test_sampled_negatives_are_sampled():
    y = TABLE.Y[["income", "married"]]
    kinds = {"income": BinaryTask(negative_fraction=0.25)}
    model = small(MMoE, task_types=kinds, max_epochs=1).fit(TABLE.X, y)
    rows = labeled_rows(model, TABLE.X, y, None, torch.float32, torch.device("cpu"))
    trained = rows.weight[:, 0] > 0
    assert (rows.target[trained, 0] == 1).sum() == (y["income"] == ">50K").sum()
    assert 0 < (rows.target[trained, 0] == 0).sum() < 0.5 * (y["income"] == "<=50K").sum()
    found = [gradient_conflict(model, TABLE.X, y).cosine for _ in range(2)]
    assert found[0].equals(found[1])
    assert found[0].notna().all(axis=None)


# Large tables -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [MMoE, ESMM])
def test_sparse_tables(cls, monkeypatch, unchanged):
    y = TABLE.targets(cls)
    dense = fitted(cls)
    monkeypatch.setattr("sk_mtl.nn.blocks.tables.SPARSE_SLOTS", 0)
    sparse = fitted(cls)
    sparse.module_.load_state_dict(dense.module_.state_dict())
    unchanged(still(sparse))
    assert all(sparse.module_.embedding.blocks["categorical"].sparse)
    for name in ("to_dense", "densify"):
        monkeypatch.setattr(torch.Tensor, name, None, raising=False)
    monkeypatch.setattr(_conflict, "ROWS", 25)
    found, expected = (gradient_conflict(m, TABLE.X, y) for m in (sparse, dense))
    assert np.allclose(found.cosine, expected.cosine, **CLOSE)
    assert np.allclose(found.norms, expected.norms, **CLOSE)
    given = {"lr": 0.1, "batch_size": 25, "random_state": 0}
    affinity = [task_affinity(m, TABLE.X, y, **given) for m in (sparse, dense)]
    assert np.allclose(*affinity, **CLOSE)


def test_rows_not_looked_up_cost_nothing(monkeypatch):
    monkeypatch.setattr("sk_mtl.nn.blocks.tables.SPARSE_SLOTS", 0)
    model = fitted()
    X = TABLE.X[:6].assign(city="Bern", student=True)
    rows = labeled_rows(model, X, TABLE.Y[:6], None, torch.float64, torch.device("cpu"))
    table = model.module_.embedding.blocks["categorical"].tables[0]
    (part,) = _conflict._sum_gradients(model, rows, [table])
    assert part.rows.shape == (len(TASKS), 2 * table.shape[1])
    assert len(table) > 2


# Errors -----------------------------------------------------------------------------------------

FUNCTIONS = [
    gradient_conflict,
    task_affinity,
    GradientConflictDisplay.from_estimator,
    TaskAffinityDisplay.from_estimator,
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_cannot_be_compared(function):
    with pytest.raises(NotFittedError):
        function(small(MMoE), TABLE.X, TABLE.Y)
    model = fitted()
    with pytest.raises(ValueError, match=r"y has the tasks \['income', 'wage'\] and the estimator"):
        function(model, TABLE.X, TABLE.Y[["income", "wage"]])
    with pytest.raises(ValueError, match=r"'income'.*'much'"):
        function(model, TABLE.X, TABLE.Y.assign(income="much"))
    with pytest.raises(ValueError, match="feature names"):
        function(model, TABLE.X.rename(columns={"age": "years"}), TABLE.Y)
    with pytest.raises(ValueError, match=r"`sample_weight` has shape \(60, 2\)"):
        function(model, TABLE.X, TABLE.Y, np.ones((60, 2)))
    chain = small(ESMM).fit(TABLE.X[["age", "hours"]], TABLE.chain)
    with pytest.raises(ValueError, match="This ESMM has no parameters that several tasks train"):
        function(chain, TABLE.X[["age", "hours"]], TABLE.chain)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lr": 0}, r"`lr` must be a finite number above 0, got 0; None takes the estimator's"),
        ({"lr": np.inf}, r"`lr` must be a finite number above 0, got inf"),
        ({"lr": True}, r"`lr` must be a finite number above 0, got True"),
        ({"lr": "0.1"}, r"`lr` must be a finite number above 0, got '0.1'"),
        ({"batch_size": 0}, r"`batch_size` must be a whole number of at least 1, got 0; None"),
        ({"batch_size": 2.5}, r"`batch_size` must be a whole number of at least 1, got 2.5"),
    ],
)
def test_wrong_parameters(given, message):
    with pytest.raises(ValueError, match=message):
        task_affinity(fitted(), TABLE.X, TABLE.Y, **given)


# Displays ---------------------------------------------------------------------------------------


@pytest.fixture
def plt():
    mpl.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def squares(ax):
    """Return what stands in the squares, and the labels of rows and columns."""
    rows, columns = ax.get_yticklabels(), ax.get_xticklabels()
    names = [[label.get_text() for label in labels] for labels in (rows, columns)]
    return {text.get_position(): text.get_text() for text in ax.texts}, *names


@pytest.mark.parametrize("cls", [cls for cls in ANY_TASK if cls in SHARING])
def test_conflict_display(cls, plt):
    model = fitted(cls)
    display = GradientConflictDisplay.from_estimator(model, TABLE.X, TABLE.Y)
    found = gradient_conflict(model, TABLE.X, TABLE.Y)
    texts, rows, columns = squares(display.ax_)
    assert rows == columns == TASKS
    assert texts[0, 1] == f"{found.cosine.iloc[1, 0]:.2f}"
    assert len(texts) == len(TASKS) ** 2
    assert display.ax_.images[0].get_clim() == (-1, 1)
    assert display.figure_ is display.ax_.figure
    layer = list(found.layers)[-1]
    _, ax = plt.subplots()
    display = GradientConflictDisplay.from_estimator(model, TABLE.X, TABLE.Y, layer=layer, ax=ax)
    assert display.ax_ is ax
    assert layer in ax.get_title()
    assert display.cosine.equals(found.layers[layer])
    display.figure_.canvas.draw()
    with pytest.raises(ValueError, match=r"`layer` is 'roof'; pass None or one of \['embedding"):
        GradientConflictDisplay.from_estimator(model, TABLE.X, TABLE.Y, layer="roof")


def test_affinity_display(plt):
    model, y = fitted(), TABLE.Y.assign(level=None)
    given = {"lr": 0.01, "batch_size": 30, "random_state": 0}
    display = TaskAffinityDisplay.from_estimator(model, TABLE.X, y, **given)
    assert display.affinity.equals(task_affinity(model, TABLE.X, y, **given))
    texts, rows, columns = squares(display.ax_)
    assert rows == columns == TASKS
    assert texts[3, 0] == f"{display.affinity.loc['income', 'wage']:.2g}"
    assert len(texts) == (len(TASKS) - 1) ** 2
    between = display.affinity.abs().to_numpy(copy=True)
    np.fill_diagonal(between, 0.0)
    limit = np.nanmax(between)
    assert 0 < limit < display.affinity.abs().max(axis=None)
    assert display.ax_.images[0].get_clim() == (-limit, limit)
    assert (display.ax_.get_ylabel(), display.ax_.get_xlabel()) == ("step for", "loss of")
    display.figure_.canvas.draw()
    nothing = TaskAffinityDisplay(display.affinity * np.nan).plot()
    assert nothing.ax_.images[0].get_clim() == (-1, 1)
    alone = TaskAffinityDisplay(display.affinity.loc[["wage"], ["wage"]]).plot()
    assert alone.ax_.images[0].get_clim()[1] == display.affinity.loc["wage", "wage"]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_signatures_agree(function):
    names = list(inspect.signature(function).parameters)
    assert names[:4] == ["estimator", "X", "y", "sample_weight"]

"""What architectures may ask for beside a bottom: copies of embeddings, places, rates, kinds."""

from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import modules
import numpy as np
import pytest
import torch
from conftest import make_table, small
from torch.testing import assert_close

from sk_mtl import CGC, ESMM, MMoE, SharedBottom
from sk_mtl._training import Criterion, Objective
from sk_mtl.balancing import EqualBalancer
from sk_mtl.base import parameter
from sk_mtl.nn import CopiedBlock, FeatureEmbedding
from sk_mtl.tasks import BinaryTask, MulticlassTask

TABLE = make_table()
COLUMNS = {"fill": [0.5, 1.0], "held": [False, False], "columns": [1, 0], "missing_columns": [1]}
NUMBER = ("scaled", {"center": [0.0, 1.0], "scale": [1.0, 2.0], "fill": [0.5, 1.0], "held": [0, 0]})
LEARNED = {
    "periodic": {"number": NUMBER, **COLUMNS},
    "piecewise": {"edges": [[0.0, 1.0, 2.0], [0.0, 5.0]], "number": NUMBER, **COLUMNS},
    "values": {"values": [[0.0, 1.0], [2.0]], "embedding_dims": [3, 2], "columns": [1, 0]},
}
SPECS = {
    "numeric": ("scaled", {**NUMBER[1], "missing_columns": [0]}, "numeric"),
    **{f"numeric_{kind}": (kind, own, "numeric") for kind, own in LEARNED.items()},
    "categorical": ("tables", {"n_categories": [3, 4], "embedding_dims": [2, 5]}, "categorical"),
}


def make_parts(n=6):
    numeric = modules.normal(n, 2)
    numeric[1, 1] = torch.nan
    codes = torch.stack([torch.arange(n) % 5, torch.arange(n) % 6], dim=1)
    return {"numeric": numeric, "categorical": codes}


def build(*copies):
    embedding = FeatureEmbedding.from_specs(SPECS, torch.Generator().manual_seed(0), *copies)
    return modules.randomize(embedding)


# Copies of embeddings -----------------------------------------------------------------------------


@pytest.mark.parametrize("has_shared", [True, False])
def test_copies_are_embeddings_of_their_own(has_shared):
    """Each copy equals a plain embedding with that copy's weights."""
    embedding, parts = build(3, has_shared), make_parts()
    out = embedding(parts)
    assert out.shape == (6, 4 if has_shared else 3, embedding.out_features)
    for copy in range(3):
        plain = build()
        with torch.no_grad():
            for name, block in embedding.own.items():
                if isinstance(block, CopiedBlock):
                    plain.blocks[name].load_state_dict(block.copies[copy].state_dict())
                    continue
                tables = zip(plain.blocks[name].tables, block.tables, strict=True)
                for to, table in tables:
                    width = to.shape[1]
                    to.copy_(table[:, copy * width : (copy + 1) * width])
        assert_close(out[:, copy], plain(parts))
    if has_shared:
        plain = build()
        plain.blocks.load_state_dict(embedding.blocks.state_dict())
        assert_close(out[:, 3], plain(parts))


def test_copies_of_a_task_are_its_own():
    """What one copy's output gives no gradient to, belongs to another copy."""
    embedding = build(2, True)
    own = {id(p) for p in embedding.own_parameters()}
    shared = [p for p in embedding.parameters() if id(p) not in own]
    out = embedding(make_parts())
    for index in range(3):
        sources = list(embedding.parameters())
        found = torch.autograd.grad(
            out[:, index].sum(), sources, allow_unused=True, retain_graph=True
        )
        moved = {id(p) for p, g in zip(sources, found, strict=True) if g is not None and g.any()}
        assert moved.isdisjoint({id(p) for p in shared}) == (index < 2)
        assert moved.isdisjoint(own) == (index == 2)


def test_columns_without_weights_have_no_copies():
    embedding = FeatureEmbedding.from_specs({"numeric": SPECS["numeric"]}, None, 3, False)
    out = embedding(make_parts())
    assert_close(out, out[:, :1].expand(-1, 3, -1))
    assert not list(embedding.parameters())


def test_counts_of_copies_are_carried():
    first, second, parts = build(2, True), build(2, True), make_parts()
    first.count(parts)
    first.settle()
    second.load_state_dict(first.state_dict())
    second.set_tallies(first.tallies())
    for embedding in (first, second):
        embedding.begin(parts)
        embedding.count(parts)
        embedding.settle()
    assert_close(first(parts), second(parts))
    for block in first.values():
        block.choose_sparse(True)
    names = dict(first.named_parameters())
    touched = first.touched(parts)
    assert touched
    assert all(name.removeprefix("embedding.") in names for name in touched)


# Places of columns --------------------------------------------------------------------------------


@pytest.mark.parametrize("copies", [(0, True), (2, True)])
def test_places_are_where_a_column_stands(copies):
    """Another value in a column changes its places, and no other."""
    embedding, parts = build(*copies), make_parts()
    places = embedding.places()
    assert sorted(chain.from_iterable(places.values())) == list(range(embedding.out_features))
    before = embedding(parts)
    for (part, column), own in places.items():
        changed = {name: tensor.clone() for name, tensor in parts.items()}
        new = 2.0 if part == "numeric" else 1
        changed[part][:, column] = new
        changed[part][0, column] = torch.nan if part == "numeric" else 0
        moved = (embedding(changed) != before).flatten(0, -2).any(0)
        assert set(moved.nonzero().flatten().tolist()) == set(own)


@dataclass(kw_only=True, eq=False, repr=False)
class Nosy(SharedBottom):
    """Shared-Bottom that notes what it is told."""

    told: ClassVar[list[Any]] = []

    def _describe(self, tasks, columns):
        self.told.append(([task.name for task in tasks], columns))
        return {}


@pytest.mark.parametrize("named", [True, False])
def test_an_architecture_is_told_names(named):
    X = TABLE.X if named else np.random.default_rng(0).normal(size=(120, 3))
    model = small(Nosy).fit(X, TABLE.Y)
    tasks, columns = Nosy.told[-1]
    assert tasks == list(TABLE.Y)
    assert set(columns) == (set(TABLE.X) if named else {0, 1, 2})
    width = model.module_.embedding.out_features
    assert sorted(chain.from_iterable(columns.values())) == list(range(width))


# Kinds and numbers of tasks -----------------------------------------------------------------------


@dataclass(kw_only=True, eq=False, repr=False)
class Choosy(SharedBottom):
    """Shared-Bottom for one or two classes of two."""

    takes: ClassVar = (BinaryTask, MulticlassTask)
    n_tasks: ClassVar = (2, 2)


def test_kinds_that_do_not_suit_are_named():
    with pytest.raises(ValueError, match=r"Choosy takes binary and multiclass tasks only.*'wage'"):
        small(Choosy).fit(TABLE.X, TABLE.Y)
    with pytest.raises(ValueError, match="Choosy needs exactly two tasks; y has 3 columns"):
        small(Choosy).fit(TABLE.X, TABLE.Y[["income", "married", "level"]])
    with pytest.raises(ValueError, match="Choosy needs exactly two tasks; y has one column"):
        small(Choosy).fit(TABLE.X, TABLE.Y["level"])
    small(Choosy).fit(TABLE.X, TABLE.Y[["income", "level"]])


# Rates --------------------------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False, repr=False)
class Hasty(SharedBottom):
    """Shared-Bottom whose first bias learns at another rate."""

    factor: float = parameter(1.0, object)

    def _build_bottom(self, in_features, n_tasks, **network):
        bottom = super()._build_bottom(in_features, n_tasks, **network)
        bottom.rate_factors = lambda: {bottom.mlp.layers[0].bias: self.factor}
        return bottom


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle", "plateau"])
@pytest.mark.parametrize("weight_decay", [0.0, 1e-3])
def test_a_factor_multiplies_the_rate(schedule, weight_decay):
    """The last step's rates stand in the ratio of their factors, with every schedule."""
    params = {"lr_schedule": schedule, "weight_decay": weight_decay, "max_epochs": 3}
    rates = {}
    model = small(Hasty, factor=10.0, **params).fit(TABLE.X, TABLE.Y)
    fast = model.module_.bottom.mlp.layers[0].bias
    for group in model.net_.optimizer_.param_groups:
        rates[any(p is fast for p in group["params"])] = group["lr"]
    assert rates[True] == pytest.approx(10 * rates[False])


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "adagrad", "rowwise_adagrad"])
def test_a_factor_moves_its_parameter_further(optimizer):
    moves = {}
    for factor in (0.0, 1.0, 5.0):
        params = {"optimizer": optimizer, "batch_size": None, "max_epochs": 1, "lr": 1e-3}
        model = small(Hasty, factor=factor, dtype="float64", **params).fit(TABLE.X, TABLE.Y)
        moves[factor] = model.module_.bottom.mlp.layers[0].bias.detach()  # begins at zero
    assert not moves[0.0].any()
    assert moves[1.0].any()
    assert_close(moves[5.0], 5 * moves[1.0])


# Penalties of rows --------------------------------------------------------------------------------


class Capped(Objective):
    """The tasks' losses, and a price on the first logit of every row."""

    def row_penalty(self, tower_logits, logits):
        return 3.0 * logits[:, 0]


def make_capped(weight, n_members=1):
    tasks = modules.make_tasks(("binary", "binary"))
    criterion = Criterion(Capped(tasks), EqualBalancer()).double()
    criterion.n_members = n_members
    target = modules.make_labels(("binary", "binary"), 8)
    return modules.count_rows(criterion, target, weight)


def test_a_penalty_of_rows_is_a_weighted_mean():
    logits = modules.normal(8, 2)
    assert_close(make_capped(None).penalty(logits, logits, None), 3 * logits[:, 0].mean())
    weight = modules.normal(8, 2, seed=1).abs()
    weight[0] = 0.0  # a row that is not there
    weight[1, 0] = 0.0  # one without a label for a task
    of_row = weight.amax(1)
    expected = 3 * (of_row * logits[:, 0]).sum() / of_row.sum()
    assert_close(make_capped(weight).penalty(logits, logits, weight), expected)


def test_batches_estimate_the_penalty_of_all_rows():
    """Batches of other weights add up to the whole, so no batch size changes what is minimized."""
    logits, weight = modules.normal(8, 2), modules.normal(8, 2, seed=1).abs() ** 3
    criterion = make_capped(weight)
    parts = [criterion.penalty(logits[k::4], logits[k::4], weight[k::4]) for k in range(4)]
    assert_close(torch.stack(parts).mean(), criterion.penalty(logits, logits, weight))


def test_a_penalty_is_the_mean_over_members():
    logits, weight = modules.normal(8, 4), modules.normal(8, 2, seed=1).abs()
    both = make_capped(weight, n_members=2).penalty(logits, logits, weight)
    one = make_capped(weight)
    halves = [one.penalty(z, z, weight) for z in (logits[:, :2], logits[:, 2:])]
    assert_close(both, torch.stack(halves).mean())


@dataclass(kw_only=True, eq=False, repr=False)
class CappedBottom(SharedBottom):
    """Shared-Bottom with that price."""

    def _build_objective(self, tasks):
        return Capped(tasks)


def test_a_penalty_of_rows_counts_in_training_only():
    Y = TABLE.Y[["income", "married"]]
    params = {"max_epochs": 10, "validation_fraction": 0.2}
    plain, capped = (small(cls, **params).fit(TABLE.X, Y) for cls in (SharedBottom, CappedBottom))
    first = [model.decision_function(TABLE.X)[:, 0].mean() for model in (plain, capped)]
    assert first[1] < first[0] - 1
    assert "train_penalty" in capped.history_
    assert set(plain.history_) == set(capped.history_) - {"train_penalty"}


# The bottom of another architecture ---------------------------------------------------------------


@pytest.mark.parametrize("bottom", [MMoE(n_experts=3, expert_units=(8,)), CGC(expert_units=(8,))])
def test_a_chain_takes_a_bottom(bottom):
    model = small(ESMM, bottom=bottom).fit(TABLE.X, TABLE.chain)
    alone = bottom._build_bottom(5, 2)
    assert type(model.module_.bottom) is type(alone)
    assert model.get_params()["bottom__expert_units"] == (8,)
    rates = model.predict_conversion_rate(TABLE.X)
    clicks, both = model.predict_proba(TABLE.X)[:, [1, 3]].T
    np.testing.assert_allclose(clicks * rates, both, rtol=1e-5)


@pytest.mark.parametrize(
    ("bottom", "message"),
    [
        (ESMM(), "`bottom` is a ESMM, which has more than a bottom"),
        (MMoE(lr=0.1), "`bottom` has lr=0.1, which counts for nothing there; pass lr to ESMM"),
        (MMoE(n_experts=0), "'n_experts' parameter of MMoE"),
        (CGC(n_task_experts=0, n_shared_experts=0), "are both 0"),
        ("MMoE", "'bottom' parameter of ESMM"),
    ],
)
def test_a_bottom_that_does_not_suit(bottom, message):
    with pytest.raises(ValueError, match=message):
        small(ESMM, bottom=bottom).fit(TABLE.X, TABLE.chain)


def test_a_bottom_may_not_change_between_fits():
    model = small(ESMM, bottom=MMoE(n_experts=3), warm_start=True).fit(TABLE.X, TABLE.chain)
    model.set_params(bottom__n_experts=4)
    with pytest.raises(ValueError, match="`bottom` was MMoE"):
        model.fit(TABLE.X, TABLE.chain)


@pytest.mark.parametrize("balancer", ["equal", "uncertainty", "gradnorm", "pcgrad"])
def test_a_penalty_moves_as_much_with_any_balancer(balancer):
    """Some balancers take its gradient with the losses' own, some after it: the same sum."""
    Y = TABLE.Y[["income", "married"]]
    params = {"batch_size": None, "max_epochs": 1, "optimizer": "sgd", "lr": 1e-3}
    params |= {"dtype": "float64", "balancer": balancer}
    moved = []
    for cls in (SharedBottom, CappedBottom):
        model = small(cls, **params).fit(TABLE.X, Y)
        moved.append(torch.cat([p.detach().flatten() for p in model.module_.towers.parameters()]))
    found = moved[1] - moved[0]
    plain = small(SharedBottom, **params | {"balancer": "equal"}).fit(TABLE.X, Y)
    capped = small(CappedBottom, **params | {"balancer": "equal"}).fit(TABLE.X, Y)
    expected = torch.cat(
        [
            (q - p).detach().flatten()
            for p, q in zip(
                plain.module_.towers.parameters(), capped.module_.towers.parameters(), strict=True
            )
        ]
    )
    assert expected.abs().max() > 1e-5
    assert_close(found, expected, rtol=1e-6, atol=1e-12)

"""Balancers: what all of them keep, and those that weigh losses against the papers' equations."""

import copy
import itertools
import json
import pickle

import numpy as np
import pytest
import reference.balancing as reference
import torch
import torch.nn.functional as F
from conftest import small
from sklearn.base import clone
from torch import nn
from torch.testing import assert_close

from sk_mtl import MMoE, balancing, load
from sk_mtl._forms import from_json, to_json
from sk_mtl.balancing import (
    BALANCERS,
    DWABalancer,
    EqualBalancer,
    FAMOBalancer,
    FixedBalancer,
    GLSBalancer,
    GradientBalancer,
    GradNormBalancer,
    LogBalancer,
    LossBalancer,
    MetaBalanceBalancer,
    RLWBalancer,
    ScheduleBalancer,
    STCHBalancer,
    Step,
    TorchJDBalancer,
    UncertaintyBalancer,
)
from sk_mtl.balancing.aggregators import AGGREGATORS

NAMES = list(BALANCERS)
RANDOM = {"rlw", "pcgrad", "graddrop"}
LOSS_ONLY = [
    name for name in NAMES if not isinstance(BALANCERS[name](), GradientBalancer | GradNormBalancer)
]
SOLVERS = {"upgrad": "quadprog", "dualproj": "quadprog", "cagrad": "clarabel", "nash_mtl": "ecos"}
TASKS = ("click", "buy", "price", "rating")
EXACT = {"rtol": 1e-9, "atol": 1e-12}
SOLVED = {"rtol": 2e-3, "atol": 1e-6}  # the solvers' own precision


def close(name):
    return SOLVED if name in SOLVERS else EXACT


def need(name):
    """Skip where the packages of a balancer are not installed."""
    if name in AGGREGATORS:
        pytest.importorskip("torchjd", reason="an extra that ten of the balancers need")
    if name in SOLVERS:
        pytest.importorskip(SOLVERS[name], reason=f"a solver that {name} needs")


def ready(balancer, n_tasks=3, *, regression=None, seed=0, dtype=torch.float64):
    """Return a balancer, set up for some tasks."""
    real = [False] * n_tasks if regression is None else regression
    balancer.setup(TASKS[:n_tasks], real, torch.Generator().manual_seed(seed))
    return balancer.to(dtype)


def make(name, n_tasks=3, **given):
    need(name)
    return ready(BALANCERS[name](), n_tasks, **given)


class Toy:
    """An embedding table and a layer that all tasks share, and a head for each task.

    A task's loss is times its entry of `scale`; with zero the task has no label, and steps say so.
    """

    def __init__(self, n_tasks=3, *, alike=False, sparse=False, dtype=torch.float64, seed=0):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        self.sparse, self.scale = sparse, torch.ones(n_tasks, dtype=dtype)
        self.table, self.layer = nn.Parameter(draw(40, 3)), nn.Parameter(draw(3, 5))
        heads, targets = draw(5, n_tasks), draw(7, n_tasks)
        if alike:
            heads, targets = heads[:, :1].expand_as(heads), targets[:, :1].expand_as(targets)
        self.heads = [nn.Parameter(head.clone()) for head in heads.T]
        self.targets = targets.clone()
        self.codes = torch.randint(40, (7,), generator=generator)
        self.shared = [self.table, self.layer]

    @property
    def present(self):
        """Which tasks have a label, None for all."""
        found = self.scale != 0
        return None if found.all() else found

    def permute(self, order):
        self.heads = [self.heads[k] for k in order]
        self.targets = self.targets[:, order]
        return self

    def losses(self):
        return self.forward()[0]

    def forward(self):
        """Return the losses and the features."""
        rows = F.embedding(self.codes, self.table, sparse=self.sparse)
        one = torch.tanh(rows @ self.layer)
        features = one.unsqueeze(1).expand(-1, len(self.heads), -1)
        logits = torch.stack([features[:, k] @ h for k, h in enumerate(self.heads)], 1)
        return (logits - self.targets).square().mean(0) * self.scale, features

    def backward(self, balancer, on_features=False):
        """Return what a step reports; the gradients are in ``.grad``, and nowhere else."""
        for p in [*self.shared, *self.heads, *balancer.parameters()]:
            p.grad = None
        return self.add_backward(balancer, on_features)

    def add_backward(self, balancer, on_features=False):
        losses, features = self.forward()
        step = Step(self.shared, self.heads, features if on_features else None, self.present)
        return balancer.backward(losses, step)

    def train(self, balancer, steps=3, on_features=False, lr=0.05):
        """Take an epoch of steps, as the net does; return the weights of the last one."""
        means = []
        for _ in range(steps):
            self.backward(balancer, on_features)
            means.append(self.losses().detach())
            with torch.no_grad():
                for p in [*self.shared, *self.heads, *balancer.parameters()]:
                    if p.grad is not None:
                        p -= lr * p.grad.to_dense()
                if balancer.step_hook:
                    balancer.after_step(self.losses())
        mean = torch.stack(means).mean(0).double()
        balancer.end_epoch(torch.where(mean > 0, mean, torch.nan))
        return balancer.weights

    def gradient(self):
        """The gradient in the shared parameters, as one vector."""
        return torch.cat([p.grad.to_dense().flatten() for p in self.shared])

    def plain_gradient(self):
        found = torch.autograd.grad(self.losses().sum(), self.shared)
        return torch.cat([g.to_dense().flatten() for g in found])


# What every balancer keeps ----------------------------------------------------------------------


def test_every_balancer_is_listed():
    """The tests below are over BALANCERS: no class may be missing from it."""
    exported = {
        thing
        for thing in vars(balancing).values()
        if isinstance(thing, type) and issubclass(thing, LossBalancer)
    }
    assert exported - {LossBalancer, GradientBalancer} == {
        type(make()) for make in BALANCERS.values()
    }
    for cls in exported:
        assert cls.__name__ in balancing.__all__


@pytest.mark.parametrize("name", NAMES)
def test_one_task_has_the_gradient_of_its_loss(name):
    toy, balancer = Toy(1), make(name, 1)
    toy.backward(balancer)
    factor = 1 / toy.losses().item() if name in ("log", "stch") else 1.0
    assert_close(toy.gradient(), factor * toy.plain_gradient(), rtol=1e-7, atol=1e-12)
    assert_close(balancer.weights, torch.tensor([factor]).double(), rtol=1e-7, atol=0)


SUMS = {
    **dict.fromkeys(("equal", "fixed", "schedule", "uncertainty"), lambda n, loss, norm: n),
    **dict.fromkeys(("dwa", "gradnorm", "metabalance"), lambda n, loss, norm: n),
    **dict.fromkeys(("rlw", "gls", "famo"), lambda n, loss, norm: 1),
    **dict.fromkeys(("log", "stch"), lambda n, loss, norm: n / loss),
    **dict.fromkeys(("upgrad", "mgda", "aligned_mtl", "imtl_g", "dualproj"), lambda n, *_: 1),
    **dict.fromkeys(("pcgrad", "config", "graddrop"), lambda n, *_: n),
    "cagrad": lambda *_: 1.4,
    "nash_mtl": lambda n, loss, norm: 1 / norm,
}
"""What the weights of equal tasks sum to, from their number, loss and gradient norm."""


@pytest.mark.parametrize("name", NAMES)
def test_equal_tasks_move_along_their_mean_times_the_sum_of_weights(name):
    toy, balancer = Toy(3, alike=True), make(name)
    toy.backward(balancer)
    mean = toy.plain_gradient() / 3
    expected = float(SUMS[name](3, toy.losses()[0].item(), mean.norm().item()))
    assert_close(toy.gradient(), expected * mean, rtol=2e-3, atol=1e-6)
    assert balancer.weights.sum().item() == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("on_features", [False, True], ids=["parameters", "features"])
@pytest.mark.parametrize("name", sorted(set(NAMES) - RANDOM))
def test_order_of_tasks_does_not_matter(name, on_features):
    """Those that draw at random are left out: their draws follow the order."""
    order = [2, 0, 1]
    balancers, toys = (make(name), make(name)), (Toy(), Toy().permute(order))
    if name == "metabalance":
        balancers[1].position = order.index(0)
    for balancer, toy in zip(balancers, toys, strict=True):
        for _ in range(3):
            toy.train(balancer, on_features=on_features)
    assert_close(toys[0].layer, toys[1].layer, **close(name))
    assert_close(balancers[0].weights[order], balancers[1].weights, **close(name))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_extreme_losses(name, dtype):
    toy, balancer = Toy(dtype=dtype), make(name, dtype=dtype)
    for scale in itertools.product([0.0, 1e6, 1.0], repeat=3):
        toy.scale[:] = torch.tensor(scale)
        total = toy.backward(balancer, on_features=True)
        assert total.dtype == dtype
        assert not total.requires_grad
        assert total.isfinite()
        assert balancer.reduce(toy.losses(), toy.present).isfinite()
        for p in [*toy.shared, *toy.heads, *balancer.parameters()]:
            assert p.grad is None or p.grad.isfinite().all()
        if name != "equal":
            assert torch.equal(balancer.weights.isnan(), toy.scale == 0)
        if balancer.step_hook:
            balancer.after_step(toy.losses().detach())
        balancer.end_epoch(torch.where(toy.scale > 0, toy.scale.double(), torch.nan))


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"rlw"}))
def test_a_task_without_labels_is_as_if_it_were_not_there(name):
    """Random weights are left out: they are drawn for all tasks."""
    two, three = Toy(3), Toy(3)
    two.heads, two.targets, two.scale = two.heads[:2], two.targets[:, :2], two.scale[:2]
    three.scale[2] = 0.0
    balancers = make(name, 2), make(name, 3)
    total = two.backward(balancers[0])
    assert_close(three.backward(balancers[1]), total, **EXACT)
    assert_close(three.gradient(), two.gradient(), **close(name))
    assert_close(three.heads[0].grad, two.heads[0].grad, **EXACT)
    assert three.heads[2].grad is None or not three.heads[2].grad.any()
    for p in balancers[1].parameters():
        assert p.grad[2] == 0


STATEFUL = {"schedule", "uncertainty", "dwa", "famo", "stch", "gradnorm", "metabalance"}


@pytest.mark.parametrize("name", NAMES)
def test_state_moves_with_training(name):
    """Weights on the same batch before and after differ for those that remember, only for them."""
    balancer = ready(ScheduleBalancer(gamma=0.5)) if name == "schedule" else make(name)
    start = copy.deepcopy(balancer)
    other = Toy(seed=1)
    for _ in range(6):
        other.train(balancer)
    for fresh in (start, balancer):
        if hasattr(fresh, "generator"):
            fresh.generator.manual_seed(0)
        Toy().backward(fresh)
    moved = not torch.allclose(start.weights, balancer.weights, rtol=1e-6, atol=0)
    assert moved == (name in STATEFUL)


@pytest.mark.parametrize("way", [copy.deepcopy, lambda b: pickle.loads(pickle.dumps(b))])
@pytest.mark.parametrize("name", NAMES)
def test_a_copy_goes_on_as_the_original(name, way):
    toy, balancer = Toy(), make(name)
    for _ in range(3):
        toy.train(balancer)
    twin, other = way(balancer), copy.deepcopy(toy)
    for _ in range(3):
        weights = toy.train(balancer)
        assert_close(other.train(twin), weights, **close(name))
    assert_close(toy.layer, other.layer, **close(name))


@pytest.mark.parametrize("name", NAMES)
def test_global_random_numbers_are_neither_read_nor_moved(name):
    layers = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        toy = Toy()
        toy.train(make(name), steps=4)
        assert torch.equal(torch.get_rng_state(), before)
        layers.append(toy.layer)
    assert torch.equal(*layers)


@pytest.mark.parametrize("name", NAMES)
def test_generator_decides_on_the_draws(name):
    found = []
    for seed in (0, 0, 1):
        toy = Toy()
        toy.train(make(name, seed=seed), steps=4)
        found.append(toy.layer)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2]) == (name not in RANDOM)
    again = ready(BALANCERS[name]())
    assert repr(again) == repr(BALANCERS[name]())


@pytest.mark.parametrize("name", NAMES)
def test_setup_begins_anew(name):
    toy, balancer = Toy(), make(name)
    first = toy.train(balancer)
    toy.train(balancer)
    again = ready(balancer)
    assert_close(Toy().train(again), first, **close(name))


@pytest.mark.parametrize("scale", [[0.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
@pytest.mark.parametrize("name", NAMES)
def test_a_loss_of_zero_is_not_absence(name, scale):
    """A task that is present counts, whatever its loss: its weight is reported."""
    toy, balancer = Toy(), make(name)
    toy.scale[:] = torch.tensor(scale)
    losses, features = toy.forward()
    total = balancer.backward(losses, Step(toy.shared, toy.heads, features))
    assert total.isfinite()
    for p in [*toy.shared, *toy.heads, *balancer.parameters()]:
        assert p.grad is None or p.grad.isfinite().all()
    assert balancer.weights.isfinite().all()


def leaves(tree, path=()):
    """Yield the entries of nested dictionaries with the keys that lead to them."""
    if isinstance(tree, dict):
        for key, entry in tree.items():
            yield from leaves(entry, (*path, key))
    else:
        yield path, tree


def memory(state, only=None):
    """Return what a balancer's state holds, by its path: of one task if `only` says which.

    The weights that a step reports, and what FAMO notes of the batch at hand until the step is
    done, are no memory.
    """
    found = dict(leaves(state))
    for passing in ("weights", "before", "present"):
        found.pop(("plain", passing), None)
    if only is None:
        return found
    vectors = {
        path: value[..., only]
        for path, value in found.items()
        if isinstance(value, torch.Tensor) and value.ndim and value.shape[-1] == 3
    }
    whole = {path: value for path, value in found.items() if path[:2] == ("rules", (0, 1, 2))}
    return {**vectors, **whole}


def assert_same_memory(found, expected):
    """Check that two memories hold the same values, to the last bit."""
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        other = found[path]
        assert type(other) is type(value), path
        if hasattr(value, "dtype"):
            assert_close(
                torch.as_tensor(other), torch.as_tensor(value), rtol=0, atol=0, equal_nan=True
            )
        else:
            assert other == value, path


MEMORIES = {
    "dwa": {"last", "before_last"},
    "gradnorm": {"factors", "initial", "adam.mean", "adam.square", "adam.steps"},
    "famo": {"logits", "adam.mean", "adam.square", "adam.steps"},
    "stch": {"nadir"},
    "metabalance": {"magnitudes", "counts"},
    "uncertainty": set(),
    "nash_mtl": {"prvs_alpha", "step"},
}
"""What methods remember of each task, as their states name it."""


@pytest.mark.parametrize("epochs", [1, 6], ids=["in STCH's warm-up", "after it"])
@pytest.mark.parametrize("name", sorted({*STATEFUL, "nash_mtl"} - {"schedule"}))
def test_a_task_absent_from_a_batch_does_not_move_what_is_remembered_of_it(name, epochs):
    toy, balancer = Toy(), make(name)
    for _ in range(epochs):
        toy.train(balancer)
    before = memory(balancer.get_state(), only=2)
    assert MEMORIES[name] <= {path[-1] for path in before}
    toy.scale[2] = 0.0
    for _ in range(3):
        toy.train(balancer)
        for p in balancer.parameters():
            assert p.grad[2] == 0
    assert_same_memory(memory(balancer.get_state(), only=2), before)
    toy.scale[2] = 1.0
    toy.train(balancer)
    after = memory(balancer.get_state(), only=2)
    moved = any(not np.array_equal(after[path], before[path]) for path in before)
    # Uncertainty's memory is a parameter; STCH's is complete after the warm-up.
    assert moved == (name != "uncertainty" and (name != "stch" or epochs == 1))


@pytest.mark.parametrize("name", sorted(set(NAMES) - STATEFUL - RANDOM - set(AGGREGATORS)))
def test_what_remembers_nothing_has_a_state_that_stays(name):
    toy, balancer = Toy(), make(name)
    before = memory(balancer.get_state())
    for scale in (1.0, 0.0):
        toy.scale[2] = scale
        toy.train(balancer)
    assert_same_memory(memory(balancer.get_state()), before)


@pytest.mark.parametrize("name", NAMES)
def test_a_state_comes_back(name):
    """In the balancer that it is of, and in a new one, which then go on alike."""
    toy, balancer = Toy(), make(name)
    for absent in (False, True, False):
        toy.scale[2] = 0.0 if absent else 1.0
        toy.train(balancer)
    state, parameters = balancer.get_state(), copy.deepcopy(balancer.state_dict())
    saved = copy.deepcopy(state)
    twins = [toy, copy.deepcopy(toy), copy.deepcopy(toy)]
    expected = [toy.train(balancer) for _ in range(2)]
    for twin, other in zip(twins[1:], (balancer, make(name)), strict=True):
        with torch.no_grad():
            for key, parameter in other.named_parameters():
                parameter.copy_(parameters[key])
        other.set_state(state)
        assert_same_memory(dict(leaves(other.get_state())), dict(leaves(saved)))
        for weights in expected:
            assert_close(twin.train(other), weights, **close(name))
        # What was handed over are copies: neither balancer has moved them.
        assert_same_memory(dict(leaves(state)), dict(leaves(saved)))


def test_no_label_at_all_moves_nothing():
    for name in NAMES:
        toy, balancer = Toy(), make(name)
        toy.scale[:] = 0.0
        assert toy.backward(balancer) == 0
        for p in [*toy.shared, *toy.heads, *balancer.parameters()]:
            assert p.grad is None or not p.grad.to_dense().any()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", NAMES)
def test_a_loss_that_is_not_finite_shows(name, bad):
    toy, balancer = Toy(), make(name)
    toy.scale[1] = bad
    assert not toy.backward(balancer).isfinite()


def test_gradients_add_to_what_is_there():
    for name in NAMES:
        toy, balancer = Toy(), make(name)
        twin = copy.deepcopy(balancer)
        toy.backward(balancer)
        shared, head = toy.gradient(), toy.heads[1].grad.clone()
        toy.add_backward(twin)
        assert_close(toy.gradient(), 2 * shared, **close(name))
        assert_close(toy.heads[1].grad, 2 * head, **close(name))


# scikit-learn's protocol ------------------------------------------------------------------------


INSTANCES = [
    EqualBalancer(),
    FixedBalancer({"buy": 2.0}),
    ScheduleBalancer([1.0, 2.0, 3.0], gamma=0.9),
    UncertaintyBalancer(),
    DWABalancer(temperature=1.5),
    RLWBalancer(),
    GLSBalancer(),
    GradNormBalancer(0.5, lr=0.1, on="features"),
    FAMOBalancer(gamma=0.1, lr=0.2),
    STCHBalancer(mu=0.5, warmup=2),
    LogBalancer(),
    MetaBalanceBalancer("buy", relax=0.5, beta=0.8),
    TorchJDBalancer("cagrad", on="parameters", options={"c": 0.2}),
]


def test_instances_are_complete():
    assert {type(b) for b in INSTANCES} == {type(make()) for make in BALANCERS.values()}


@pytest.mark.parametrize("balancer", INSTANCES, ids=lambda b: type(b).__name__)
def test_parameters(balancer):
    params = balancer.get_params()
    twin = clone(balancer)
    assert twin is not balancer
    assert type(twin)(**params).get_params() == twin.get_params() == params
    assert repr(twin) == repr(balancer)
    assert eval(repr(balancer)).get_params() == params
    assert pickle.loads(pickle.dumps(balancer)).get_params() == params
    default = type(balancer)()
    assert default.set_params(**params) is default
    assert default.get_params() == params
    assert not list(balancer.buffers())
    assert not list(balancer.parameters())
    with pytest.raises(ValueError, match="has no parameter 'gama'; it has"):
        balancer.set_params(gama=1)


def test_parameters_through_an_estimator():
    given = DWABalancer()
    model = MMoE(balancer=given)
    assert model.get_params()["balancer__temperature"] == 2.0
    twin = clone(model).set_params(balancer__temperature=0.5)
    assert twin.balancer.temperature == 0.5
    assert given.temperature == 2.0
    assert "balancer=DWABalancer(temperature=0.5)" in repr(twin)


def test_an_aggregator_and_a_name_replace_each_other():
    aggregation = pytest.importorskip("torchjd.aggregation", reason="an extra")
    balancer = TorchJDBalancer(aggregation.MGDA())
    assert not list(balancer.children())
    assert isinstance(clone(balancer).aggregator, aggregation.MGDA)
    balancer.set_params(aggregator="pcgrad").set_params(aggregator=aggregation.PCGrad())
    assert repr(balancer) == "TorchJDBalancer(aggregator=PCGrad(), on='auto', options=None)"
    ready(balancer)
    assert isinstance(balancer.rule, aggregation.PCGrad)


@pytest.mark.parametrize(
    ("balancer", "message"),
    [
        (FixedBalancer([1.0, 2.0]), r"`balancer__task_weights` has 2 entries and y has 3 tasks"),
        (FixedBalancer({"like": 1.0}), r"`balancer__task_weights` names the task 'like', which y"),
        (FixedBalancer([1.0, -1.0, 1.0]), r"`balancer__task_weights` of task 'buy' must be a fin"),
        (FixedBalancer([1.0, torch.nan, 1.0]), r"of task 'buy' must be a finite number of at lea"),
        (FixedBalancer("1"), r"of task 'click' must be a finite number of at least 0, got '1'"),
        (FixedBalancer(0), r"`balancer__task_weights` are all zero; at least one task must count"),
        (ScheduleBalancer([0, 0, 0]), r"`balancer__task_weights` are all zero"),
        (
            ScheduleBalancer(gamma=0),
            r"`balancer__gamma` of task 'click' must be a finite number ab",
        ),
        (DWABalancer(0), r"`balancer__temperature` must be a finite number above 0, got 0"),
        (DWABalancer(True), r"`balancer__temperature` must be a finite number above 0, got True"),
        (FAMOBalancer(-1), r"`balancer__gamma` must be a finite number of at least 0, got -1"),
        (FAMOBalancer(lr=0), r"`balancer__lr` must be a finite number above 0, got 0"),
        (STCHBalancer(mu="a"), r"`balancer__mu` must be a finite number above 0, got 'a'"),
        (STCHBalancer(warmup=0), r"`balancer__warmup` must be a whole number of at least 1, got 0"),
        (STCHBalancer(warmup=1.0), r"`balancer__warmup` must be a whole number of at least 1"),
        (GradNormBalancer(-0.5), r"`balancer__alpha` must be a finite number of at least 0"),
        (GradNormBalancer(lr=torch.inf), r"`balancer__lr` must be a finite number above 0, got in"),
        (GradNormBalancer(on="heads"), r"`balancer__on` must be one of \['auto', 'features', 'par"),
        (MetaBalanceBalancer("like"), r"`balancer__target` is 'like', which is no task; pass one"),
        (MetaBalanceBalancer(3), r"`balancer__target` is 3, which is no task"),
        (MetaBalanceBalancer(True), r"`balancer__target` is True, which is no task"),
        (
            MetaBalanceBalancer(relax=1.1),
            r"`balancer__relax` must be a finite number of at least 0 and at most 1, got 1.1",
        ),
        (MetaBalanceBalancer(beta=1), r"of at least 0 and below 1, got 1"),
    ],
)
def test_invalid_parameters(balancer, message):
    with pytest.raises(ValueError, match=message):
        ready(balancer)


# Files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("balancer", INSTANCES, ids=lambda b: type(b).__name__)
def test_form_in_json(balancer):
    text = json.dumps(to_json(balancer))
    again = from_json(json.loads(text))
    assert type(again) is type(balancer)
    assert again.get_params() == balancer.get_params()


class Unlisted(EqualBalancer):
    pass


@pytest.mark.parametrize("balancer", [Unlisted(), TorchJDBalancer(options={"f": len})])
def test_no_form_in_json(balancer):
    with pytest.raises(TypeError, match="has no form in JSON"):
        to_json(balancer)


def test_saved_estimators_keep_their_balancer(table, tmp_path):
    pytest.importorskip("safetensors", reason="an extra that save and load need")
    model = small(MMoE, balancer=EqualBalancer(), max_epochs=1).fit(table.X, table.Y)
    model.save(tmp_path / "m")
    for again in (load(tmp_path / "m"), pickle.loads(pickle.dumps(model))):
        assert type(again.balancer) is EqualBalancer
        assert repr(again) == repr(model)
        assert again.partial_fit(table.X, table.Y).n_iter_ == 2


# Those that weigh losses, against the equations -------------------------------------------------

LOSSES = [[0.7, 2.0, 0.1], [0.5, 1.5, 0.2], [0.6, 1.0, None], [0.4, 1.2, 0.15], [None, 0.8, 0.1]]


def numbers(losses):
    return [0.0 if x is None else x for x in losses]


def as_tensor(losses):
    return torch.tensor(numbers(losses), dtype=torch.float64)


def present_in(losses):
    """Return which tasks have a loss, None for all."""
    found = torch.tensor([x is not None for x in losses])
    return None if found.all() else found


def weigh(balancer, losses):
    """Return what a balancer makes of a vector of losses: the reduced loss and the weights."""
    leaf = as_tensor(losses).requires_grad_()
    total = balancer.backward(leaf, Step([], [], present=present_in(losses)))
    factor = torch.where(balancer.weights.isnan(), 0.0, balancer.weights)
    assert_close(leaf.grad, factor, **EXACT)
    return total.item(), [None if w != w else w for w in balancer.weights.tolist()]


def assert_same(found, expected):
    assert [x is None for x in found] == [x is None for x in expected]
    pairs = [(x, y) for x, y in zip(found, expected, strict=True) if x is not None]
    assert [x for x, _ in pairs] == pytest.approx([y for _, y in pairs], rel=1e-9)


def end_epoch(balancer, losses):
    row = [torch.nan if x is None else x for x in losses]
    balancer.end_epoch(torch.tensor(row, dtype=torch.float64))


def test_uncertainty():
    regression, s = [False, True, True], [0.3, -0.5, 1.2]
    balancer = ready(UncertaintyBalancer(), regression=regression)
    with torch.no_grad():
        balancer.log_variance[:] = torch.tensor(s, dtype=torch.float64)
    for losses in LOSSES:
        balancer.zero_grad()
        total, weights = weigh(balancer, losses)
        expected, expected_weights, slopes = reference.uncertainty(losses, s, regression)
        assert total == pytest.approx(expected)
        assert_same(weights, expected_weights)
        assert_close(balancer.log_variance.grad, torch.tensor(slopes, dtype=torch.float64), **EXACT)


def test_uncertainty_is_at_rest_where_the_variance_explains_the_loss():
    balancer = ready(UncertaintyBalancer(), 2, regression=[False, True])
    with torch.no_grad():
        balancer.log_variance[:] = torch.tensor([2 * 0.7, 0.7]).log()
    weigh(balancer, [0.7, 0.7])
    assert_close(balancer.log_variance.grad, torch.zeros(2).double(), rtol=0, atol=1e-7)


def test_dwa():
    balancer, epochs = ready(DWABalancer(temperature=1.3)), []
    for losses in LOSSES:
        expected = reference.dwa(epochs or [[1.0] * 3], 1.3)
        assert_close(
            balancer.task_weights(), torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=0
        )
        _, weights = weigh(balancer, [1.0, 2.0, 3.0])
        assert_same(weights, expected)
        assert sum(weights) == pytest.approx(3)
        end_epoch(balancer, losses)
        epochs.append(losses)


def test_gls_and_log():
    for losses in LOSSES:
        total, weights = weigh(ready(GLSBalancer()), losses)
        expected, expected_weights = reference.gls(losses)
        assert total == pytest.approx(expected)
        assert_same(weights, expected_weights)
        total, weights = weigh(ready(LogBalancer()), losses)
        expected, expected_weights = reference.log(losses)
        assert total == pytest.approx(expected)
        assert_same(weights, expected_weights)


def test_stch():
    balancer = ready(STCHBalancer(mu=0.3, warmup=2))
    for losses in LOSSES[:2]:
        total, weights = weigh(balancer, losses)
        assert_same(weights, [1 / x for x in losses])
        end_epoch(balancer, losses)
    for losses in LOSSES:
        total, weights = weigh(balancer, losses)
        expected, expected_weights = reference.stch(losses, LOSSES[1], 0.3)
        assert total == pytest.approx(expected)
        assert_same(weights, expected_weights)
        end_epoch(balancer, losses)


def test_stch_without_a_label_in_the_warm_up():
    balancer = ready(STCHBalancer(warmup=1))
    end_epoch(balancer, LOSSES[2])
    weigh(balancer, [0.6, 1.0, None])
    total, weights = weigh(balancer, [0.3, 1.0, 0.4])  # its first loss is what it is compared to
    expected, expected_weights = reference.stch([0.3, 1.0, 0.4], [0.6, 1.0, 0.4], 1.0)
    assert total == pytest.approx(expected)
    assert_same(weights, expected_weights)
    _, weights = weigh(balancer, [0.3, 1.0, 0.1])
    assert_same(weights, reference.stch([0.3, 1.0, 0.1], [0.6, 1.0, 0.4], 1.0)[1])


def test_famo():
    pairs = [(row, [0.9 * x if x else 0.5 for x in row[::-1]]) for row in LOSSES * 2]
    pairs = [(before, [x * (1 + k) for k, x in enumerate(after)]) for before, after in pairs]
    balancer = ready(FAMOBalancer(gamma=0.01, lr=0.05))
    for (before, after), expected in zip(pairs, reference.famo(pairs, 0.01, 0.05), strict=True):
        _, weights = weigh(balancer, before)
        assert_same(weights, expected)
        assert sum(w for w in weights if w) == pytest.approx(1)
        balancer.after_step(as_tensor(after))


def test_rlw():
    balancer, seen = ready(RLWBalancer()), []
    for _ in range(200):
        _, weights = weigh(balancer, [1.0, 2.0, 3.0])
        assert sum(weights) == pytest.approx(1)
        assert min(weights) > 0
        seen.append(weights)
    draws = torch.tensor(seen).log()
    draws = draws - draws.mean(1, keepdim=True)  # normal with variance 1 - 1/K, K - 1 of them free
    assert draws.var(0).mean().item() == pytest.approx(2 / 3, abs=0.1)
    assert draws.mean(0).abs().max() < 0.2


@pytest.mark.parametrize(
    ("given", "expected"),
    [(2.0, [2.0] * 3), ([1, 0.0, 3], [1.0, 0.0, 3.0]), ({"buy": 5}, [1.0, 5.0, 1.0])],
)
def test_given_weights(given, expected):
    assert_same(weigh(ready(FixedBalancer(given)), LOSSES[0])[1], expected)
    balancer = ready(ScheduleBalancer(given, gamma={"price": 0.5}))
    for epoch in range(3):
        total, weights = weigh(balancer, LOSSES[0])
        now = [w * g**epoch for w, g in zip(expected, [1.0, 1.0, 0.5], strict=True)]
        assert_same(weights, now)
        assert total == pytest.approx(sum(w * x for w, x in zip(now, LOSSES[0], strict=True)))
        end_epoch(balancer, LOSSES[0])


def test_equal():
    toy, balancer = Toy(), make("equal")
    assert_close(toy.backward(balancer), toy.losses().sum().detach(), **EXACT)
    assert torch.equal(toy.gradient(), toy.plain_gradient())
    assert balancer.weights.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", LOSS_ONLY)
def test_scale_of_a_loss(name):
    """Times 100, a task's share of the step, weight times loss, grows; of the scale-free not."""
    shares = []
    for scale in (1.0, 100.0):
        balancer = make(name)
        for _ in range(8):
            losses = torch.tensor([0.7 * scale, 2.0, 0.1], dtype=torch.float64)
            weigh(balancer, losses.tolist())
            if balancer.step_hook:
                balancer.after_step(losses * torch.tensor([0.5, 0.9, 0.7]))
            balancer.end_epoch(losses)
        share = balancer.weights * losses
        shares.append(share / share.sum())
    free = torch.allclose(*shares, rtol=1e-6)
    assert free == (name in {"gls", "log", "stch", "famo"})


# The same methods of TorchJD --------------------------------------------------------------------


def test_values_of_torchjd_scalarizers():
    theirs = pytest.importorskip("torchjd.scalarization", reason="an extra")
    whole = [[abs(x or 0.3) for x in row] for row in LOSSES]
    uncertainty = ready(UncertaintyBalancer(), regression=[True] * 3)
    pairs = [(ready(GLSBalancer()), theirs.GeometricMean()), (uncertainty, theirs.UW(3).double())]
    for losses in whole:
        for ours, other in pairs:
            assert weigh(ours, losses)[0] == pytest.approx(other(as_tensor(losses)).item())


def test_values_of_torchjd_dwa_and_famo():
    theirs = pytest.importorskip("torchjd.scalarization", reason="an extra")
    famo, their_famo = ready(FAMOBalancer()), theirs.FAMO(3).double()
    dwa, their_dwa = ready(DWABalancer()), theirs.DWA()
    for losses in [[abs(x or 0.3) for x in row] for row in LOSSES]:
        now = as_tensor(losses)
        assert weigh(dwa, losses)[0] == pytest.approx(their_dwa(now).item())
        their_dwa.step()
        end_epoch(dwa, losses)
        assert weigh(famo, losses)[0] == pytest.approx(their_famo(now).item())
        after = now.flip(0)
        their_famo.update(after)
        famo.after_step(after)


def test_values_of_torchjd_stch():
    theirs = pytest.importorskip("torchjd.scalarization", reason="an extra")
    balancer = ready(STCHBalancer(mu=0.4, warmup=1))
    end_epoch(balancer, LOSSES[0])
    other = theirs.STCH(0.4, torch.ones(3).double())
    for losses in LOSSES[1:2] + LOSSES[3:4]:
        ratio = (as_tensor(losses) / as_tensor(LOSSES[0])).log()
        assert weigh(balancer, losses)[0] == pytest.approx(3 * other(ratio).item())

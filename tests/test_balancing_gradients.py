"""Balancers that read the tasks' gradients: values, sparse gradients, features, aggregators."""

import sys
import warnings

import pytest
import reference.balancing as reference
import torch
from test_balancing import (
    EXACT,
    LOSSES,
    NAMES,
    SOLVERS,
    Toy,
    close,
    make,
    need,
    numbers,
    present_in,
    ready,
)
from torch import nn
from torch.testing import assert_close

from sk_mtl.balancing import (
    BALANCERS,
    GradientBalancer,
    GradNormBalancer,
    MetaBalanceBalancer,
    Step,
    TorchJDBalancer,
)
from sk_mtl.balancing.aggregators import AGGREGATORS
from sk_mtl.balancing.gradients import TaskGradients, coefficients

COMBINING = [name for name in NAMES if isinstance(BALANCERS[name](), GradientBalancer)]


class Linear:
    """Losses of chosen values, whose gradients in one shared vector are the rows of a matrix."""

    def __init__(self, rows):
        self.rows = torch.tensor(rows, dtype=torch.float64)
        self.w = nn.Parameter(torch.zeros(self.rows.shape[1], dtype=torch.float64))
        self.heads = [nn.Parameter(torch.zeros(2, dtype=torch.float64)) for _ in rows]

    def backward(self, balancer, losses=None):
        """Return what a step reports; a loss of None is that of a task without a label."""
        losses = [1.0] * len(self.rows) if losses is None else losses
        present = present_in(losses)
        own = torch.stack([head.sum() for head in self.heads])
        self.w.grad = None
        moving = self.rows @ self.w + own + torch.tensor(numbers(losses)).double()
        if present is not None:
            moving = moving * present
        return balancer.backward(moving, Step([self.w], self.heads, present=present))


# GradNorm ---------------------------------------------------------------------------------------


def test_gradnorm():
    norms = [3.0, 0.5, 1.0]
    steps = [(losses, norms) for losses in LOSSES * 3]
    balancer = ready(GradNormBalancer(alpha=0.8, lr=0.1))
    world = Linear([[norm if i == k else 0.0 for i in range(3)] for k, norm in enumerate(norms)])
    expected = reference.gradnorm(steps, 0.8, 0.1)
    for (losses, _), weights in zip(steps, expected[:-1], strict=True):
        total = world.backward(balancer, losses)
        assert_close(balancer.factors.sum().item(), 3.0)
        seen = [w for w, x in zip(weights, losses, strict=True) if x is not None]
        assert balancer.weights[~balancer.weights.isnan()].tolist() == pytest.approx(seen)
        pairs = zip(weights, numbers(losses), strict=True)
        assert total.item() == pytest.approx(sum(w * x for w, x in pairs))
    assert balancer.factors.tolist() == pytest.approx(expected[-1])


@pytest.mark.parametrize("on_features", [False, True], ids=["parameters", "features"])
def test_gradnorm_brings_norms_together(on_features):
    """With alpha 0 all norms are to be equal; the network is held still."""
    toy, balancer = Toy(), ready(GradNormBalancer(alpha=0.0, lr=0.01))
    for _ in range(600):
        toy.backward(balancer, on_features)
    losses, features = toy.forward()
    where = features if on_features else toy.layer
    found = [torch.autograd.grad(loss, where, retain_graph=True)[0] for loss in losses]
    norms = [(g.sum(1) if on_features else g).norm() for g in found]
    sizes = balancer.factors * torch.stack(norms)
    assert_close(sizes, sizes.mean().expand(3), rtol=0.05, atol=0)


def test_gradnorm_reads_the_last_layer_and_no_table():
    shapes = [(50, 4), (2, 4, 6), (2, 6), (2, 6, 3), (2, 3)]  # table, then stacked weight and bias
    shared = [nn.Parameter(torch.ones(*shape)) for shape in shapes]
    balancer = ready(GradNormBalancer(), 2, dtype=torch.float32)
    weights = torch.tensor([[5.0, 1.0, 1.0, 1.0, 9.0], [1.0, 1.0, 1.0, 4.0, 1.0]])
    losses = torch.stack([(row * torch.stack([p.sum() for p in shared])).sum() for row in weights])
    balancer.backward(losses, Step(shared, []))
    # Norms 1 and 4 in the layer: the first task's weight rises, the other's falls.
    assert balancer.factors[0] > 1 > balancer.factors[1]


@pytest.mark.parametrize("sparse", [False, True])
def test_gradnorm_with_nothing_but_a_table(sparse):
    toy, balancer = Toy(sparse=sparse), ready(GradNormBalancer())
    for _ in range(3):
        balancer.backward(toy.losses(), Step([toy.table], [toy.layer, *toy.heads]))
    assert not torch.allclose(balancer.factors, torch.ones(3).double())
    frozen = Toy()
    for p in frozen.shared:
        p.requires_grad_(False)
    balancer = ready(GradNormBalancer())
    frozen.backward(balancer)
    assert balancer.factors.tolist() == [1.0, 1.0, 1.0]


# MetaBalance ------------------------------------------------------------------------------------

STEPS = [
    [[1.0, 2.0, 0.0], [5.0, -1.0, 4.0], [0.1, 0.0, 0.2]],
    [[2.0, 0.0, 1.0], None, [0.3, 0.1, 0.2]],
    [[0.5, 1.0, 1.0], [6.0, 1.0, 0.0], None],
    [None, [2.0, 2.0, 2.0], [0.1, 0.1, 0.0]],
]


@pytest.mark.parametrize("target", [0, 1, 2])
def test_metabalance(target):
    balancer = ready(MetaBalanceBalancer(target, relax=0.6, beta=0.7))
    expected = reference.metabalance(STEPS, target, 0.6, 0.7)
    for gradients, total in zip(STEPS, expected, strict=True):
        world = Linear([g or [0.0] * 3 for g in gradients])
        world.backward(balancer, [None if g is None else 1.0 for g in gradients])
        assert_close(world.w.grad, torch.tensor(total, dtype=torch.float64), **EXACT)


def test_metabalance_with_relax_one_ignores_the_scale_of_an_auxiliary_loss():
    found = []
    for scale in (1.0, 100.0):
        toy, balancer = Toy(), ready(MetaBalanceBalancer(0, relax=1.0))
        toy.scale[1] = scale
        toy.backward(balancer)
        found.append(toy.gradient())
    assert_close(*found, **EXACT)


def test_metabalance_balances_each_parameter_by_itself():
    toy, balancer = Toy(sparse=True), ready(MetaBalanceBalancer("buy", relax=1.0))
    toy.backward(balancer)
    table, layer = toy.table.grad.to_dense(), toy.layer.grad
    for p, gradient in ((toy.table, table), (toy.layer, layer)):
        parts = [torch.autograd.grad(x, p, retain_graph=True)[0].to_dense() for x in toy.losses()]
        expected = sum(g * (parts[1].norm() / g.norm()) for g in parts)
        assert_close(gradient, expected, **EXACT)


def test_metabalance_leaves_what_the_target_does_not_reach():
    w, v = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    balancer = ready(MetaBalanceBalancer("click", relax=1.0), dtype=torch.float32)
    losses = torch.stack([w.sum(), 9 * w[0] + v[0], 3 * v[1] + w[1]])
    balancer.backward(losses, Step([w, v], []))
    assert v.grad.tolist() == [1.0, 3.0]


# Aggregators ------------------------------------------------------------------------------------

ORTHOGONAL = {
    **dict.fromkeys(("upgrad", "mgda", "aligned_mtl", "imtl_g", "dualproj"), 1 / 3),
    **dict.fromkeys(("pcgrad", "config", "graddrop", "metabalance"), 1.0),
    "cagrad": 1.4 / 3,
    "nash_mtl": 3**-0.5 / 2,
}
"""The weight of each of three orthogonal gradients of length 2."""


@pytest.mark.parametrize("name", COMBINING)
def test_gradients_without_conflict(name):
    world, balancer = Linear([[2.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 2.0, 0]]), make(name)
    world.backward(balancer)
    expected = torch.full((3,), ORTHOGONAL[name]).double()
    assert_close(balancer.weights, expected, rtol=2e-3, atol=0)
    assert_close(world.w.grad, 2 * torch.tensor([*expected, 0.0]).double(), rtol=2e-3, atol=1e-9)
    for head in world.heads:  # no business of an aggregator
        assert head.grad.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("rows", [([1.0, 2.0], [-3.0, 0.5]), ([1.0, 0.0], [1.0, 1.0])])
def test_two_gradients_against_the_equations(rows):
    for name, equation in (("pcgrad", reference.pcgrad), ("mgda", reference.mgda)):
        world, balancer = Linear(rows), make(name, 2)
        world.backward(balancer)
        expected = torch.tensor(equation(*rows), dtype=torch.float64)
        assert_close(world.w.grad, expected, rtol=1e-6, atol=1e-9)
        assert_close(balancer.weights @ world.rows, expected, rtol=1e-6, atol=1e-9)


def test_direction_that_hurts_no_task():
    """UPGrad and the dual cone raise no task's loss, where the mean's direction would."""
    rows = [[1.0, 0.0], [-4.0, 1.0], [0.5, 0.5]]
    world = Linear(rows)
    assert (world.rows @ world.rows.mean(0)).min() < 0
    for name in ("upgrad", "dualproj"):
        world.backward(make(name))
        assert (world.rows @ world.w.grad).min() > -1e-2


@pytest.mark.parametrize("name", list(AGGREGATORS))
def test_scale_of_a_gradient(name):
    """The direction of some does not depend on the scale of one task's loss."""
    found = []
    for scale in (1.0, 100.0):
        world, balancer = Linear([[1.0, 0.5, 0], [-0.5, 1.0, 0.2], [0.3, 0, 1.0]]), make(name)
        world.rows[0] *= scale
        world.backward(balancer)
        found.append(world.w.grad / world.w.grad.norm())
    free = torch.allclose(*found, rtol=1e-2, atol=1e-3)
    assert free == (name in {"nash_mtl", "imtl_g", "config"})


@pytest.mark.parametrize("factor", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("name", [*sorted(set(AGGREGATORS) - {"nash_mtl"})])
def test_small_and_large_gradients_are_combined_alike(name, factor):
    """All but Nash-MTL scale with the gradients, down to where TorchJD itself would stop."""
    rows = torch.tensor([[1.0, 2.0, 0.0], [-3.0, 0.5, 0.1], [0.2, 0.1, 1.0]], dtype=torch.float64)
    world, small = Linear(rows.tolist()), Linear((rows * factor).tolist())
    for each in (world, small):
        each.backward(make(name))
    assert_close(small.w.grad / factor, world.w.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", list(AGGREGATORS))
def test_values_of_torchjd_autojac(name):
    """Without scaling by the norm the solvers' regularization differs a little."""
    need(name)
    import torchjd.aggregation
    from torchjd import autojac

    cls, options = AGGREGATORS[name]
    options = {**options, "n_tasks": 3} if name == "nash_mtl" else options
    rule = getattr(torchjd.aggregation, cls)(**options)
    toy, balancer = Toy(), make(name)
    jacobians = autojac.jac(list(toy.losses()), toy.shared)
    matrix = torch.cat([j.flatten(1) for j in jacobians], 1)
    balancer.generator.manual_seed(7)
    toy.backward(balancer)
    torch.manual_seed(7)  # the balancer's draws are those of torch's own generator
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are solving a parameterized problem")  # Nash-MTL's
        expected = rule(matrix)
    assert_close(toy.gradient(), expected, **close(name))


def test_values_of_torchjd_mtl_backward():
    pytest.importorskip("torchjd", reason="an extra")
    from torchjd import autojac
    from torchjd.aggregation import IMTLG

    toy, balancer = Toy(), make("imtl_g")
    losses, features = toy.forward()
    autojac.mtl_backward(
        list(losses),
        features=features,
        tasks_params=[[head] for head in toy.heads],
        shared_params=toy.shared,
        retain_graph=True,
    )
    autojac.jac_to_grad(toy.shared, IMTLG())
    theirs = toy.gradient(), [head.grad for head in toy.heads]
    toy.backward(balancer)
    assert_close(toy.gradient(), theirs[0], **EXACT)
    assert_close([head.grad for head in toy.heads], theirs[1], **EXACT)


@pytest.mark.parametrize("name", ["mgda", "imtl_g", "aligned_mtl"])
def test_features(name):
    """The aggregator sees the gradients at the features; one backward pass brings them further."""
    need(name)
    toy, balancer = Toy(), make(name)
    toy.backward(balancer, on_features=True)
    losses, features = toy.forward()
    rows = [torch.autograd.grad(x, features, retain_graph=True)[0].sum(1) for x in losses]
    matrix = torch.stack([row.flatten() for row in rows])
    combined = balancer.rule(matrix).view_as(rows[0])
    expected = torch.autograd.grad(features[:, 0], toy.shared, combined)
    assert_close([p.grad for p in toy.shared], list(expected), **EXACT)
    assert_close(balancer.weights @ matrix, combined.flatten(), **EXACT)
    other = Toy()
    other.backward(ready(TorchJDBalancer(name, on="parameters")), on_features=True)
    assert not torch.allclose(other.gradient(), toy.gradient())


@pytest.mark.parametrize(
    "balancer", [TorchJDBalancer("mgda", on="features"), GradNormBalancer(on="features")]
)
def test_features_where_there_are_none(balancer):
    need("mgda")
    with pytest.raises(ValueError, match=r"`balancer__on` is 'features', but this architecture"):
        Toy().backward(ready(balancer))


def test_features_without_anything_to_train_before_them():
    toy, balancer = Toy(), make("mgda")
    for p in toy.shared:
        p.requires_grad_(False)
    toy.backward(balancer, on_features=True)
    assert toy.layer.grad is None
    assert toy.heads[0].grad is not None
    assert (balancer.weights == 1).all()


# Sparse gradients -------------------------------------------------------------------------------


@pytest.mark.parametrize("on_features", [False, True], ids=["parameters", "features"])
@pytest.mark.parametrize("name", NAMES)
def test_sparse_gradients_equal_dense_ones(name, on_features):
    dense, sparse = Toy(), Toy(sparse=True)
    sparse.codes[3] = dense.codes[3] = dense.codes[0]  # a row that stands twice in the batch
    for toy in (dense, sparse):
        toy.scale[1] = 0.0 if name != "rlw" else 1.0
        toy.backward(make(name), on_features)
    assert sparse.table.grad.is_sparse
    assert not dense.table.grad.is_sparse
    assert set(sparse.table.grad.coalesce().indices()[0].tolist()) <= set(sparse.codes.tolist())
    if name == "graddrop" and not on_features:
        # It draws for each column, and there are fewer columns: only untouched rows can agree.
        untouched = sorted(set(range(40)) - set(sparse.codes.tolist()))
        assert not sparse.table.grad.to_dense()[untouched].any()
        return
    assert_close(sparse.gradient(), dense.gradient(), **close(name))


def test_jacobian_holds_touched_rows_only():
    indices = torch.tensor([[7, 2, 7]])
    table = nn.Parameter(torch.zeros(1000, 2))

    def gradient(*values, at=indices):
        return torch.sparse_coo_tensor(at, torch.tensor(values), (1000, 2), check_invariants=True)

    one = gradient([1.0, 2.0], [3.0, 4.0], [10.0, 20.0])
    two = gradient([0.0, 0.0], [1.0, 1.0], [0.0, 5.0])
    elsewhere = gradient([8.0, 9.0], at=torch.tensor([[5]]))
    same = TaskGradients.of([one, two], table)
    assert same.rows.tolist() == [[3.0, 4.0, 11.0, 22.0], [1.0, 1.0, 0.0, 5.0]]
    assert same.restore(same.rows[0]).to_dense().equal(one.to_dense())
    mixed = TaskGradients.of([one, None, elsewhere], table)
    assert mixed.indices.tolist() == [[2, 5, 7]]
    for k, g in enumerate((one, 0 * one, elsewhere)):
        assert mixed.restore(mixed.rows[k]).to_dense().equal(g.to_dense())


def test_parameters_that_tasks_reach_in_part():
    w, v, idle = (nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(3))
    for name in COMBINING:
        w.grad = v.grad = None
        balancer = make(name)
        losses = torch.stack([w.sum(), (w + v).sum(), 2 * v.sum()])
        balancer.backward(losses, Step([w, v, idle], []))
        assert w.grad.isfinite().all()
        assert v.grad.isfinite().all()
        assert idle.grad is None


# Options, instances, packages -------------------------------------------------------------------


def test_options_reach_the_aggregator():
    need("cagrad")
    world, balancer = Linear([[1.0, 0.0], [0.0, 1.0]]), TorchJDBalancer("cagrad", options={"c": 0})
    world.backward(ready(balancer, 2))
    assert_close(world.w.grad, torch.tensor([0.5, 0.5]).double(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("preferred", [{"buy": 5.0}, [1.0, 5.0, 1.0], (1, 5, 1)])
def test_options_per_task(preferred):
    need("upgrad")
    world = Linear([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])
    balancer = ready(TorchJDBalancer("upgrad", options={"pref_vector": preferred}))
    world.backward(balancer)
    assert_close(balancer.weights, torch.tensor([1.0, 5.0, 1.0]).double(), rtol=1e-3, atol=0)
    world.backward(balancer, [None, 1.0, 1.0])  # the first task has no label
    assert_close(world.w.grad, torch.tensor([0.0, 5.0, 1.0]).double(), rtol=1e-3, atol=0)
    world.backward(balancer)
    assert_close(world.w.grad, torch.tensor([1.0, 5.0, 1.0]).double(), rtol=1e-3, atol=0)


def test_instances_are_used_as_they_are():
    aggregation = pytest.importorskip("torchjd.aggregation", reason="an extra")
    toy, given = Toy(), aggregation.GradDrop(leak=torch.tensor([0.5, 0.0, 1.0]))
    balancer = ready(TorchJDBalancer(given))
    toy.scale[0] = 0.0
    toy.backward(balancer)
    assert given.leak.tolist() == [0.5, 0.0, 1.0]
    assert balancer.rules[1, 2].leak.tolist() == [0.0, 1.0]
    toy = Toy()
    toy.backward(
        ready(TorchJDBalancer(aggregation.Constant(torch.tensor([1.0, 2.0, 3.0]).double())))
    )
    first, second, third = (
        torch.cat([g.flatten() for g in torch.autograd.grad(x, toy.shared, retain_graph=True)])
        for x in toy.losses()
    )
    assert_close(toy.gradient(), first + 2 * second + 3 * third, **EXACT)


@pytest.mark.parametrize(
    ("balancer", "message"),
    [
        (lambda _: TorchJDBalancer("gradvac"), r"`balancer__aggregator` must be one of \['upgrad'"),
        (lambda _: TorchJDBalancer(3), r"`balancer__aggregator` is 3; pass one of \['upgrad', .*"),
        (lambda _: TorchJDBalancer("mgda", on="heads"), r"`balancer__on` must be one of \['auto'"),
        (lambda a: TorchJDBalancer(a.MGDA(), options={"c": 1}), r"is for aggregators given by na"),
        (lambda _: TorchJDBalancer("mgda", options={"c": 1}), r"`balancer__options` is \{'c': 1\}"),
        (lambda _: TorchJDBalancer("mgda", options={"epsilon": 0}), r"MGDA does not take: epsilon"),
        (
            lambda _: TorchJDBalancer("config", options={"pref_vector": {"like": 1.0}}),
            r"`balancer__options\['pref_vector'\]` names the task 'like', which y does not have",
        ),
        (
            lambda a: TorchJDBalancer(a.GradDrop(leak=torch.ones(2))),
            r"`balancer__aggregator` has a leak of 2 entries and y has 3 tasks",
        ),
    ],
)
def test_invalid_aggregators(balancer, message):
    aggregation = pytest.importorskip("torchjd.aggregation", reason="an extra")
    with pytest.raises(ValueError, match=message):
        ready(balancer(aggregation))


@pytest.mark.parametrize("name", list(AGGREGATORS))
def test_without_torchjd(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchjd", None)
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    balancer = BALANCERS[name]()
    with pytest.raises(ImportError, match=rf'{name}.* pip install "sk_mtl\[torchjd\]"'):
        balancer.setup(["a", "b"], [False, False])


@pytest.mark.parametrize("name", list(SOLVERS))
def test_without_a_solver(name, monkeypatch):
    need(name)
    monkeypatch.setitem(sys.modules, SOLVERS[name], None)
    with pytest.raises(ImportError, match=rf"'{name}' needs further packages\. .*pip install"):
        BALANCERS[name]().setup(["a", "b"], [False, False])


# Reported weights -------------------------------------------------------------------------------


def test_coefficients():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(3, 20, generator=generator) * torch.tensor([[1e-2], [1.0], [1e2]])
    expected = torch.tensor([2.0, -1.0, 0.5])
    found = coefficients([rows[:, :5], rows[:, 5:]], (expected @ rows).split([5, 15]))
    assert_close(found, expected.double(), rtol=1e-3, atol=0)
    twice = torch.stack([rows[1], rows[1], torch.zeros(20)])  # where several would do: the least
    assert_close(coefficients([twice], [3 * rows[1]]), torch.tensor([1.5, 1.5, 0.0]).double())


def test_cost_is_one_backward_pass_for_each_task():
    """Counted where all tasks' gradients come through: at the table."""
    for on_features, expected in ((False, 3), (True, 1)):
        passes, toy = [], Toy()
        rows = toy.table
        toy.table = rows * 1.0
        toy.table.register_hook(passes.append)
        toy.shared = [rows, toy.layer]
        losses, features = toy.forward()
        step = Step(toy.shared, toy.heads, features if on_features else None)
        make("mgda").backward(losses, step)
        assert len(passes) == expected

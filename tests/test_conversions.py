"""ESCM2 and NISE: what each of their losses is, and what it moves.

Objectives are taken as the estimators build them; `reference.escm2` and `reference.nise` are the
papers' loops. A loss term alone is had by a weight of zero for the other one.
"""

import itertools

import numpy as np
import pandas as pd
import pytest
import reference.escm2
import reference.nise
import torch
import torch.nn.functional as F
from conftest import make_table, small
from modules import binary_for, make_batch, make_inputs, make_module, make_tasks, randn
from torch.testing import assert_close

from sk_mtl import ESCM2, ESMM, NISE, MMoE, SharedBottom
from sk_mtl._training import Criterion, Training, make_net
from sk_mtl.balancing import BALANCERS, EqualBalancer, UncertaintyBalancer
from sk_mtl.inspection import gate_weights
from sk_mtl.nn import ProbabilityChain, binary_entropy, doubly_robust, inverse_propensity

EXACT = {"rtol": 1e-10, "atol": 1e-12}
TABLE = make_table()
TASKS = make_tasks(("binary", "binary"))
METHODS = pytest.mark.parametrize("method", ["ips", "dr"])
NAN = torch.nan


def objective_of(cls=ESCM2, **given):
    """Return an objective as an estimator builds it."""
    return cls(**given)._build_objective(TASKS)


def joint(towers):
    """Return what the head makes of the first two towers."""
    return ProbabilityChain()(towers[:, :2])


def terms(objective, towers, target, weight=None):
    """Return the two terms as means over their weights, with both taken from a batch."""
    sums, weights = objective(towers, joint(towers), target, weight)
    return sums / weights


def random_rows(n=9, outputs=3, seed=0, scale=1.0):
    """Return logits of towers, and nested labels of which each kind of row is there."""
    towers = (scale * randn(n, outputs, seed=seed)).requires_grad_()
    click = (torch.arange(n) % 3 > 0).double()
    return towers, torch.stack([click, click * (torch.arange(n) % 2)], dim=1)


def gaps(target, seed=5):
    """Return labels of which some are missing, and weights that are zero there."""
    weight = randn(*target.shape, seed=seed).abs() + 0.1
    weight[1, 0] = weight[2, 1] = weight[4, 0] = weight[4, 1] = 0.0
    return torch.where(weight > 0, target, NAN), weight


# ESCM2 against the equations ----------------------------------------------------------------------


@pytest.mark.parametrize("given", [{}, {"cvr_weight": 0.7, "ctcvr_weight": 0.3}], ids=["a", "b"])
@pytest.mark.parametrize("clip", [0.1, 0.45])
@pytest.mark.parametrize("weighted", [False, True])
@METHODS
def test_escm2_equals_the_loops(method, weighted, clip, given):
    outputs = 2 + (method == "dr")
    towers, target = random_rows(outputs=outputs)
    assert (towers[:, 0].sigmoid() < clip).any() or clip == 0.1
    target, weight = gaps(target) if weighted else (target, None)
    objective = objective_of(method=method, propensity_clip=clip, **given)
    assert objective.extra_outputs == outputs - 2
    assert objective.names == ("task_0", "task_1")
    actual = terms(objective, towers, target, weight)
    weights = torch.ones(9, 2) if weight is None else weight
    expected = torch.stack(
        reference.escm2.terms(
            list(towers), target.tolist(), weights.tolist(), method, clip=clip, **given
        )
    )
    assert_close(actual, expected, **EXACT)
    for k in (0, 1):
        found, wanted = (
            torch.autograd.grad(one[k], towers, retain_graph=True)[0] for one in (actual, expected)
        )
        assert_close(found, wanted, **EXACT)


@METHODS
def test_one_batch_of_many_estimates_the_same_loss(method):
    """The mean over batches of any size, weights and gaps and all, is that over all rows."""
    towers, target = random_rows(24)
    target, weight = gaps(target)
    criterion = Criterion(objective_of(method=method), EqualBalancer()).double()
    criterion.total_weight, criterion.n_rows = weight.double().sum(0), 24
    criterion.mean_weight = weight.mean(0)
    sums, _ = criterion(towers, joint(towers), target, weight)
    whole = criterion.estimate(sums, 24)
    parts = []
    for rows in torch.arange(24).split(6):
        sums, _ = criterion(towers[rows], joint(towers[rows]), target[rows], weight[rows])
        parts.append(criterion.estimate(sums, 6))
    assert_close(torch.stack(parts).mean(0), whole, **EXACT)


# What is not to move ------------------------------------------------------------------------------


@METHODS
def test_the_conversions_risk_leaves_the_click_alone(method):
    """Backpropagated alone, it gives the click's tower exact zeros."""
    towers, target = random_rows()
    objective = objective_of(method=method, cvr_weight=1.0, ctcvr_weight=0.0)
    (gradient,) = torch.autograd.grad(terms(objective, towers, target)[1], towers)
    assert torch.equal(gradient[:, 0], torch.zeros(9).double())
    assert (gradient[target[:, 0] == 1, 1] != 0).all()
    assert torch.equal(gradient[target[:, 0] == 0, 1], torch.zeros(3).double())
    # The product's loss does move the click: it is ESMM's.
    objective = objective_of(method=method, cvr_weight=0.0)
    (gradient,) = torch.autograd.grad(terms(objective, towers, target)[1], towers)
    assert (gradient[:, 0] != 0).all()


@METHODS
def test_the_conversions_risk_leaves_the_clicks_tower_alone(method):
    """Through the whole network: no weight of that tower gets anything."""
    kinds = binary_for(ESCM2, 2)
    module = make_module(ESCM2, kinds=kinds, method=method, tower_units=(5,))
    objective = objective_of(method=method, cvr_weight=1.0, ctcvr_weight=0.0)
    towers = module.tower_logits(*make_inputs(9))
    terms(objective, towers, random_rows()[1])[1].backward()
    (tower,) = module.towers.towers
    for parameter in tower.parameters():
        assert torch.equal(parameter.grad[0], torch.zeros_like(parameter[0]))
        assert (parameter.grad[1] != 0).any()


def test_the_imputations_loss_leaves_the_conversion_alone():
    """The estimate follows the loss, not the loss the estimate; and the error moves both."""
    rate, imputed = randn(5, seed=1).requires_grad_(), randn(5, seed=2).requires_grad_()
    click, inverse = torch.tensor([1.0, 1, 0, 1, 0]).double(), torch.full((5,), 4.0).double()
    delta = F.softplus(-rate)
    error, imputation = doubly_robust(delta, F.softplus(imputed), click, inverse)
    found = torch.autograd.grad(
        imputation.sum(), [rate, imputed], allow_unused=True, retain_graph=True
    )
    assert found[0] is None  # not even a path
    assert torch.equal(found[1] != 0, click > 0)
    found = torch.autograd.grad(error.sum(), [rate, imputed])
    assert torch.equal(found[0] != 0, click > 0)
    assert (found[1] != 0).all()


def test_propensities_have_no_gradient():
    z = randn(5).requires_grad_()
    assert not inverse_propensity(z, 0.1).requires_grad


class Undetached(type(objective_of())):
    """Lets the risk move the click, as some public code does."""

    def risk(self, tower_logits, target):
        inverse = 1 / tower_logits[:, 0].sigmoid().clamp(min=self.clip)
        delta = self.tasks[1].loss(tower_logits[:, 1:2], target[:, 1])
        return target[:, 0] * inverse * delta


class OverClicks(type(objective_of())):
    """Divides by the clicked rows in place of all (PaddleRec)."""

    def risk(self, tower_logits, target):
        return super().risk(tower_logits, target) * len(target) / target[:, 0].sum()


class OfProbability(type(objective_of())):
    """Weighs the predicted rate in place of its loss (ESCIM)."""

    def risk(self, tower_logits, target):
        inverse = inverse_propensity(tower_logits[:, 0], self.clip)
        return target[:, 0] * inverse * tower_logits[:, 1].sigmoid()


class Unclipped(type(objective_of())):
    """Clips at 15 (PaddleRec): only propensities under a fifteenth are told apart from ours."""

    def risk(self, tower_logits, target):
        delta = self.tasks[1].loss(tower_logits[:, 1:2], target[:, 1])
        return target[:, 0] * inverse_propensity(tower_logits[:, 0], 1 / 15) * delta


@pytest.mark.parametrize("wrong", [Undetached, OverClicks, OfProbability, Unclipped])
def test_mistakes_of_public_code_are_seen(wrong):
    towers, target = random_rows(scale=4.0)
    assert (towers[:, 0].sigmoid()[target[:, 0] == 1] < 1 / 15).any()
    expected = torch.stack(
        reference.escm2.terms(
            list(towers), target.tolist(), torch.ones(9, 2).tolist(), "ips", 1.0, 0.0
        )
    )
    values = terms(wrong(TASKS, "ips", 1.0, 0.0, 0.1), towers, target)
    found, wanted = (torch.autograd.grad(one[1], towers)[0] for one in (values, expected))
    same_value = torch.allclose(values[1], expected[1])
    assert same_value is (wrong is Undetached)
    assert not torch.allclose(found, wanted)
    if same_value:
        assert (found[:, 0] != 0).any()


# ESCM2's identities -------------------------------------------------------------------------------


@pytest.mark.parametrize("bottom", [None, MMoE(n_experts=2, expert_units=(6,))], ids=["x", "MMoE"])
def test_without_the_risk_it_is_esmm(bottom):
    given = {"bottom": bottom, "dtype": "float64", "max_epochs": 4}
    first = small(ESCM2, cvr_weight=0.0, **given).fit(TABLE.X, TABLE.chain)
    second = small(ESMM, **given).fit(TABLE.X, TABLE.chain)
    np.testing.assert_allclose(
        first.predict_proba(TABLE.X), second.predict_proba(TABLE.X), rtol=1e-12
    )
    third = small(ESCM2, **given).fit(TABLE.X, TABLE.chain)
    assert not np.allclose(third.predict_proba(TABLE.X), second.predict_proba(TABLE.X), rtol=1e-4)


def test_all_clicked_with_propensities_of_one_is_the_plain_cross_entropy():
    towers, target = random_rows(outputs=2)
    target[:, 0] = 1.0
    objective = objective_of(cvr_weight=1.0, ctcvr_weight=0.0, propensity_clip=1.0)
    expected = F.binary_cross_entropy_with_logits(towers[:, 1], target[:, 1])
    assert_close(terms(objective, towers, target)[1], expected, **EXACT)


def test_no_imputation_makes_the_error_the_ips_risk():
    delta, click = randn(6, seed=1).abs(), torch.tensor([1.0, 0, 1, 1, 0, 1]).double()
    inverse = inverse_propensity(randn(6, seed=2), 0.1)
    error, _ = doubly_robust(delta, torch.zeros(6).double(), click, inverse)
    assert_close(error, click * inverse * delta, **EXACT)


def test_a_perfect_imputation_has_no_loss_and_is_the_error():
    click = torch.tensor([1.0, 0, 1, 1, 0, 1]).double()
    delta, imputed = randn(6, seed=1).abs(), randn(6, seed=3).abs()
    imputed = torch.where(click == 1, delta, imputed)
    inverse = inverse_propensity(randn(6, seed=2), 0.1)
    error, imputation = doubly_robust(delta, imputed, click, inverse)
    assert torch.equal(imputation, torch.zeros(6).double())
    assert_close(error.mean(), imputed.mean(), **EXACT)


def over_all_clicks(propensity, function):
    """Return the mean of a function of the clicks, each pattern by its probability."""
    total = 0.0
    for pattern in itertools.product([0.0, 1.0], repeat=len(propensity)):
        click = torch.tensor(pattern).double()
        chance = torch.where(click == 1, propensity, 1 - propensity).prod()
        total = total + chance * function(click)
    return total


@pytest.mark.parametrize("seed", range(3))
@METHODS
def test_true_propensities_make_the_risk_unbiased(method, seed):
    """Over redraws of the clicks (all 64 patterns) it averages to the risk with every label seen.

    With DR for whatever was imputed. The loss of the imputation is no part of the estimate.
    """
    n, clip = 6, 0.1
    conversion = (randn(n, seed=seed) > 0).double()  # what each row would do if clicked
    logits, rate = 0.8 * randn(n, seed=seed + 10), randn(n, seed=seed + 20)
    assert (logits.sigmoid() > clip).all()
    imputed = randn(n, seed=seed + 30)
    full = F.binary_cross_entropy_with_logits(rate, conversion)
    towers = torch.stack([logits, rate, imputed], dim=1)
    objective = objective_of(method=method, cvr_weight=1.0, ctcvr_weight=0.0, propensity_clip=clip)

    def risk(click):
        target = torch.stack([click, click * conversion], dim=1)
        whole = terms(objective, towers, target)[1]
        if method == "ips":
            return whole
        delta = F.binary_cross_entropy_with_logits(rate, conversion, reduction="none")
        _, imputation = doubly_robust(
            delta, F.softplus(imputed), click, inverse_propensity(logits, clip)
        )
        return whole - imputation.mean()

    assert_close(over_all_clicks(logits.sigmoid(), risk), full, **EXACT)
    # Neither clicked rows alone nor propensities under the clip give it.
    wrong = logits.clone()
    wrong[0] += 1.0
    assert not torch.allclose(over_all_clicks(wrong.sigmoid(), risk), full, rtol=1e-4)


def test_the_risk_is_over_all_rows():
    """As many rows again that nobody clicked halve it; over the clicked ones it would stay."""
    towers, target = random_rows(outputs=2)
    more = torch.cat([towers, towers])
    objective = objective_of(cvr_weight=1.0, ctcvr_weight=0.0)
    once = terms(objective, towers, target)[1]
    twice = terms(objective, more, torch.cat([target, torch.zeros(9, 2).double()]))[1]
    assert_close(twice, once / 2, **EXACT)


def test_no_row_weighs_more_than_one_over_the_clip():
    z = torch.tensor([-1000.0, -5.0, 0.0, 1000.0])
    assert_close(inverse_propensity(z, 0.05), torch.tensor([20.0, 20.0, 2.0, 1.0]))


@METHODS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_logits_stay_finite(method, dtype):
    corners = torch.tensor(list(itertools.product([-1e3, 0.0, 1e3], repeat=3)), dtype=dtype)
    corners.requires_grad_()
    for labels in ([0.0, 0.0], [1.0, 0.0], [1.0, 1.0]):
        target = torch.tensor(labels, dtype=dtype).expand(27, 2)
        losses = terms(objective_of(method=method, cvr_weight=1.0), corners, target)
        (gradient,) = torch.autograd.grad(losses.sum(), corners)
        assert losses.isfinite().all()
        assert gradient.isfinite().all()


# Losses below zero --------------------------------------------------------------------------------


def test_the_doubly_robust_loss_can_be_negative():
    towers = torch.tensor([[-9.0, 9.0, -0.6]]).double()
    target = torch.ones(1, 2).double()
    losses = terms(objective_of(method="dr", cvr_weight=1.0, ctcvr_weight=0.0), towers, target)
    assert losses[1] < -1


NEEDS = {name for name, make in BALANCERS.items() if make().needs_positive}


def test_which_balancers_compare_losses():
    expected = {"uncertainty", "dwa", "famo", "stch", "gls", "log", "gradnorm"}
    assert expected == NEEDS


@pytest.mark.parametrize("name", sorted(BALANCERS))
def test_balancers_that_compare_losses_refuse_it_by_name(name):
    seen = []
    model = small(ESCM2, method="dr", balancer=name)
    model._train = lambda *args, **kwargs: (
        seen.append("trained") or ESCM2._train(model, *args, **kwargs)
    )
    if name not in NEEDS:
        model.fit(TABLE.X, TABLE.chain)
        assert np.isfinite(model.history_["train_loss"]).all()
        return
    with pytest.raises(ValueError, match=f"`balancer` is '{name}'.*those of ESCM2 may.*'equal'"):
        model.fit(TABLE.X, TABLE.chain)
    assert not seen
    assert not hasattr(model, "tasks_")


def test_an_instance_is_refused_too_and_so_is_a_stream():
    model = small(ESCM2, method="dr", balancer=UncertaintyBalancer())
    with pytest.raises(ValueError, match=r"`balancer` is UncertaintyBalancer\(\)"):
        model.partial_fit(TABLE.X, TABLE.chain)
    model.set_params(balancer="equal").partial_fit(TABLE.X, TABLE.chain)
    with pytest.raises(ValueError, match="`balancer` is 'gls'"):
        model.set_params(balancer="gls").partial_fit(TABLE.X, TABLE.chain)


@pytest.mark.parametrize("given", [{"method": "ips"}, {"method": "dr", "cvr_weight": 0.0}], ids=str)
def test_losses_that_cannot_be_negative_are_not_refused(given):
    model = small(ESCM2, balancer="uncertainty", **given).fit(TABLE.X, TABLE.chain)
    assert np.isfinite(model.history_["train_loss"]).all()


# NISE against the equations -----------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_nise_equals_the_loops(seed, weighted, training):
    towers, target = random_rows(outputs=2, seed=seed)
    target, weight = gaps(target) if weighted else (target, None)
    objective = objective_of(NISE).train(training)
    actual = terms(objective, towers, target, weight)
    weights = torch.ones(9, 2) if weight is None else weight
    expected = torch.stack(
        reference.nise.terms(list(towers), target.tolist(), weights.tolist(), training=training)
    )
    assert_close(actual, expected, **EXACT)
    for k in (0, 1):
        found, wanted = (
            torch.autograd.grad(one[k], towers, retain_graph=True)[0] for one in (actual, expected)
        )
        assert_close(found, wanted, **EXACT)


@pytest.mark.parametrize("training", [False, True])
def test_the_conversions_loss_leaves_the_click_alone(training):
    """Neither a product nor the factor w lets it move the click."""
    towers, target = random_rows(outputs=2)
    losses = terms(objective_of(NISE).train(training), towers, target)
    (gradient,) = torch.autograd.grad(losses[1], towers)
    assert torch.equal(gradient[:, 0], torch.zeros(9).double())
    assert (gradient[:, 1] != 0).all()


def test_the_factor_makes_the_second_loss_as_large_as_the_first_up_to_fifty_times():
    towers, target = random_rows(outputs=2)
    objective = objective_of(NISE).train()
    losses = terms(objective, towers, target)
    assert_close(losses[1], losses[0], **EXACT)
    plain = terms(objective.eval(), towers, target)[1]
    assert not torch.allclose(plain, losses[1])
    sure = towers.detach() * torch.tensor([1.0, 0.0]) + (2 * target - 1) * torch.tensor([0.0, 9.0])
    plain = terms(objective.eval(), sure, target)
    assert plain[0] > 60 * plain[1]
    assert_close(terms(objective.train(), sure, target)[1], 50 * plain[1], **EXACT)


def test_entropy_is_its_own_undetached_target():
    """A detached target would have no gradient at all: BCE(sg(p), p) is least at p."""
    towers, target = random_rows(outputs=2)
    objective = objective_of(NISE).eval()
    (gradient,) = torch.autograd.grad(terms(objective, towers, target)[1], towers)
    z, p = towers[:, 1], towers[:, 1].sigmoid()
    free = target[:, 0] == 0
    assert_close(gradient[free, 1], (-z * p * (1 - p) / 9)[free], **EXACT)
    detached = F.binary_cross_entropy_with_logits(z, p.detach())
    (gradient,) = torch.autograd.grad(detached, towers)
    assert_close(gradient, torch.zeros_like(gradient))


def test_only_clicked_rows_give_the_plain_cross_entropy():
    towers, target = random_rows(outputs=2)
    target[:, 0] = 1.0
    expected = F.binary_cross_entropy_with_logits(towers[:, 1], target[:, 1])
    assert_close(terms(objective_of(NISE).eval(), towers, target)[1], expected, **EXACT)


def test_entropy_of_any_logit():
    z = torch.linspace(-30, 30, 61, dtype=torch.float64).requires_grad_()
    p = z.sigmoid()
    direct = -(p * p.log() + (1 - p) * (1 - p).log())
    assert_close(binary_entropy(z)[10:51], direct[10:51], rtol=1e-6, atol=0.0)
    far = torch.tensor([-1e3, -80.0, -20.0, 20.0, 80.0, 1e3], requires_grad=True)
    small_ones = binary_entropy(far)
    assert (small_ones >= 0).all()
    assert_close(small_ones[3].item(), 21 * np.exp(-20.0), rtol=1e-6, atol=0.0)
    (gradient,) = torch.autograd.grad(small_ones.sum(), far)
    assert gradient.isfinite().all()


def test_each_member_has_a_factor_of_its_own():
    """Two networks side by side train as each would alone."""
    target = random_rows()[1]
    alone = [random_rows(outputs=2, seed=seed)[0] for seed in (0, 1)]
    objective = objective_of(NISE).train()
    sums = [objective(z, joint(z), target)[0] for z in alone]
    assert not torch.allclose(sums[0][1], sums[1][1])
    criterion = Criterion(objective, EqualBalancer())
    criterion.n_members = objective.n_members = 2
    together = torch.cat(alone, dim=1)
    both = torch.cat([joint(z) for z in alone], dim=1)
    actual, weights = criterion(together, both, target)
    assert_close(actual, (sums[0] + sums[1]) / 2, **EXACT)
    assert_close(weights, torch.tensor([9.0, 9.0]).double())


def test_the_net_tells_the_objective_of_its_members():
    kinds = binary_for(NISE, 2)
    for n_members in (1, 3):
        module = make_module(NISE, kinds=kinds, n_members=n_members)
        criterion = Criterion(objective_of(NISE), EqualBalancer())
        net = make_net(
            module, criterion, Training(dtype=torch.float64), torch.Generator().manual_seed(0)
        )
        assert net.criterion_.objective.n_members == n_members
        step = net.train_step_single(make_batch(module, make_inputs(9), random_rows()[1]))
        assert step["loss"].isfinite()


def test_a_batch_without_clicks_known_trains():
    """Then there is nothing to divide by, and nothing to learn."""
    towers, target = random_rows(outputs=2)
    weight = torch.tensor([0.0, 1.0]).double().expand(9, 2)
    sums, weights = objective_of(NISE).train()(
        towers, joint(towers), torch.where(weight > 0, target, NAN), weight
    )
    assert weights.tolist() == [0.0, 0.0]
    (gradient,) = torch.autograd.grad(sums.sum(), towers)
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_validation_tells_the_rates_loss():
    """Held out, w is one; in training the second loss looks like the first."""
    half = slice(0, 60), slice(60, 120)
    model = small(NISE, max_epochs=1, dtype="float64", early_stopping=False)
    model.fit(
        TABLE.X[half[0]], TABLE.chain[half[0]], X_val=TABLE.X[half[1]], y_val=TABLE.chain[half[1]]
    )
    rate = torch.from_numpy(model.predict_conversion_rate(TABLE.X[half[1]])).double()
    click, conversion = torch.tensor(TABLE.chain[half[1]].to_numpy()).double().unbind(1)
    clicked = -(conversion * rate.log() + (1 - conversion) * (1 - rate).log())
    entropy = -(rate * rate.log() + (1 - rate) * (1 - rate).log())
    expected = torch.where(click == 1, clicked, entropy).mean().item()
    assert model.history_["valid_loss_conversion"].iloc[0] == pytest.approx(expected, rel=1e-9)


# Both as estimators -------------------------------------------------------------------------------

BOTH = pytest.mark.parametrize(
    ("cls", "given"),
    [(ESCM2, {}), (ESCM2, {"method": "dr"}), (NISE, {})],
    ids=["ips", "dr", "NISE"],
)


@BOTH
@pytest.mark.parametrize(
    "bottom", [SharedBottom(bottom_units=(6,)), MMoE(n_experts=2, expert_units=(6,))], ids=repr
)
@pytest.mark.parametrize("n_members", [1, 2])
def test_on_the_bottom_of_another(cls, given, bottom, n_members):
    model = small(cls, bottom=bottom, n_members=n_members, **given).fit(TABLE.X, TABLE.chain)
    rate, proba = model.predict_conversion_rate(TABLE.X), model.predict_proba(TABLE.X)
    assert rate.shape == (120,)
    np.testing.assert_allclose(proba[:, 3], proba[:, 1] * rate, rtol=1e-5)
    if isinstance(bottom, MMoE):
        extra = {"<output 0>"} if given else set()
        assert set(gate_weights(model, TABLE.X)) == {"click", "conversion"} | extra


@BOTH
def test_exactly_two_tasks(cls, given):
    Y = TABLE.chain.assign(again=0)
    Y.iloc[0] = 1
    with pytest.raises(ValueError, match=f"{cls.__name__} needs exactly two tasks"):
        small(cls, **given).fit(TABLE.X, Y)
    with pytest.raises(ValueError, match=f"{cls.__name__} needs exactly two tasks"):
        small(cls, **given).fit(TABLE.X, TABLE.chain["click"])


@BOTH
def test_labels_that_are_implied_may_be_missing(cls, given):
    gappy = TABLE.chain.astype(float)
    gappy.loc[gappy["click"] == 0, "conversion"] = np.nan
    gappy.loc[gappy["conversion"] == 1, "click"] = np.nan
    whole, other = (small(cls, **given).fit(TABLE.X, Y) for Y in (TABLE.chain, gappy))
    np.testing.assert_array_equal(whole.predict_proba(TABLE.X), other.predict_proba(TABLE.X))


@BOTH
def test_clicks_may_be_missing_where_nobody_converted(cls, given):
    gappy = TABLE.chain.astype(float)
    where = np.flatnonzero((gappy["click"] == 1) & (gappy["conversion"] == 0))[::2]
    gappy.iloc[where, 0] = np.nan
    weight = np.random.default_rng(0).uniform(0.5, 2.0, gappy.shape)
    model = small(cls, **given).fit(TABLE.X, gappy, sample_weight=weight)
    assert np.isfinite(model.history_.drop(columns="dur")).all(axis=None)


@BOTH
def test_history_and_weights_go_by_the_tasks_names(cls, given):
    given = given | {"loss_weights": {"conversion": 2.0}, "validation_fraction": 0.2}
    model = small(cls, monitor="valid_loss_conversion", early_stopping=True, **given)
    history = model.fit(TABLE.X, TABLE.chain).history_
    total = history["valid_loss_click"] + 2 * history["valid_loss_conversion"]
    pd.testing.assert_series_equal(history["valid_loss"], total, check_names=False)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"method": "snips"}, "'method' parameter of ESCM2"),
        ({"cvr_weight": -0.1}, "'cvr_weight' parameter of ESCM2"),
        ({"ctcvr_weight": -1.0}, "'ctcvr_weight' parameter of ESCM2"),
        ({"propensity_clip": 0.0}, "'propensity_clip' parameter of ESCM2"),
        ({"propensity_clip": 1.5}, "'propensity_clip' parameter of ESCM2"),
    ],
)
def test_wrong_parameters_are_named(given, match):
    with pytest.raises(ValueError, match=match):
        small(ESCM2, **given).fit(TABLE.X, TABLE.chain)

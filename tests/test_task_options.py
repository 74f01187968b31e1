"""Options of kinds of task, the kinds with a loss of their own, and kinds that a user defines."""

import json
import math
import pickle

import numpy as np
import pandas as pd
import pytest
import reference.loss
import torch
import torch.nn.functional as F
from conftest import small, task_of
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.metrics import d2_pinball_score, d2_tweedie_score
from sklearn.model_selection import GridSearchCV
from sklearn.utils import compute_sample_weight
from torch.testing import assert_close

from sk_mtl import CGC, ESMM, MMoE, SharedBottom
from sk_mtl._training import Objective
from sk_mtl.tasks import (
    BinaryTask,
    ClassificationTask,
    CountTask,
    MulticlassTask,
    OrdinalTask,
    QuantileTask,
    RegressionTask,
    Task,
    restore_task,
)

few = settings(max_examples=60, deadline=None)

SIZES = ["small", "medium", "large", "huge"]

LABELS = {
    "binary": np.array([0, 1, 1]),
    "multiclass": np.array(["a", "b", "c", "d"]),
    "ordinal": np.array(SIZES),
    "regression": np.array([-1.0, 0.5, 3.0]),
    "quantile": np.array([-1.0, 0.5, 3.0]),
    "count": np.array([0, 1, 2, 40]),
}

TASKS = [
    BinaryTask(),
    BinaryTask(focal_gamma=2.0),
    BinaryTask(pos_weight=3.0),
    BinaryTask(label_smoothing=0.1),
    BinaryTask(negative_fraction=0.05),
    BinaryTask(pos_weight=0.4, focal_gamma=0.5, label_smoothing=0.2, negative_fraction=0.3),
    MulticlassTask(),
    MulticlassTask(focal_gamma=2.0),
    MulticlassTask(label_smoothing=0.1),
    MulticlassTask(focal_gamma=0.5, label_smoothing=0.2),
    OrdinalTask(),
    OrdinalTask(order=SIZES),
    RegressionTask(),
    QuantileTask(),
    QuantileTask(quantile=0.9),
    CountTask(),
]
every_task = pytest.mark.parametrize("kind", TASKS, ids=repr)
with_classes = pytest.mark.parametrize("kind", [t for t in TASKS if t.has_classes], ids=repr)


def make(kind, labels=None, name="t", **kwargs):
    """Return a task fitted to some labels as an estimator does it."""
    return task_of(LABELS[kind.kind] if labels is None else labels, kind, name, **kwargs)


def draw(task, n, scale=2.0, dtype=torch.float64):
    """Return logits and labels at random: (n, 2, n_logits) and (n, 2)."""
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(n, 2, task.n_logits, dtype=dtype, generator=generator)
    codes = torch.from_numpy(task.encode(LABELS[task.kind])).to(dtype)
    return logits, codes[torch.randint(len(codes), (n, 2), generator=generator)]


class TestLosses:
    @every_task
    def test_equals_the_equation_row_by_row(self, kind):
        task = make(kind)
        logits, target = draw(task, 40)
        logits.requires_grad_()
        options = {name: getattr(task, name) for name in vars(type(task))["loss_options"]}
        options = {name: value for name, value in options.items() if value is not None}
        expected = torch.stack(
            [
                torch.stack(
                    [
                        reference.loss.row_loss(task.kind, logits[i, k], target[i, k], **options)
                        for k in range(2)
                    ]
                )
                for i in range(len(logits))
            ]
        )
        found = task.loss(logits, target)
        assert_close(found, expected, rtol=1e-10, atol=1e-12)
        functional = torch.linspace(-1, 1, 80, dtype=torch.float64).view(40, 2)
        (gradient,) = torch.autograd.grad((found * functional).sum(), logits)
        (wanted,) = torch.autograd.grad((expected * functional).sum(), logits)
        assert_close(gradient, wanted, rtol=1e-8, atol=1e-10)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @every_task
    @given(st.lists(st.floats(-1e3, 1e3), min_size=9, max_size=9))
    @few
    def test_is_finite_and_at_least_zero(self, kind, dtype, numbers):
        task = make(kind)
        codes = torch.from_numpy(task.encode(LABELS[task.kind])).to(dtype)
        logits = torch.tensor(numbers, dtype=dtype)[: 9 // task.n_logits * task.n_logits]
        logits = logits.view(-1, 1, task.n_logits).repeat(1, len(codes), 1).requires_grad_()
        loss = task.loss(logits, codes.expand(logits.shape[:-1]))
        loss.sum().backward()
        assert (loss >= 0).all()
        assert loss.isfinite().all()
        assert logits.grad.isfinite().all()

    @pytest.mark.parametrize("plain", [BinaryTask(), MulticlassTask()], ids=repr)
    def test_options_that_say_nothing_change_no_bit(self, plain):
        idle = {"focal_gamma": 0, "label_smoothing": 0, "negative_fraction": 1}
        idle = {name: value for name, value in idle.items() if name in plain.get_params()}
        task, other = make(plain), make(type(plain)(**idle))
        logits, target = draw(task, 100, scale=10.0)
        assert torch.equal(task.loss(logits, target), other.loss(logits, target))

    def test_pos_weight_is_torchs(self):
        logits, target = draw(make(BinaryTask()), 100)
        expected = F.binary_cross_entropy_with_logits(
            logits[..., 0], target, pos_weight=torch.tensor(2.5), reduction="none"
        )
        found = make(BinaryTask(pos_weight=2.5)).loss(logits, target)
        assert_close(found, expected)
        assert not torch.allclose(found, make(BinaryTask()).loss(logits, target))

    def test_label_smoothing_is_torchs(self):
        task = make(MulticlassTask(label_smoothing=0.3))
        logits, target = draw(task, 100)
        expected = F.cross_entropy(
            logits.flatten(0, 1), target.flatten().long(), label_smoothing=0.3, reduction="none"
        )
        assert_close(task.loss(logits, target).flatten(), expected)

    def test_smoothing_is_least_where_the_smoothed_label_is_predicted(self):
        """The stationary point, and not only a formula: p = 1 - e / 2."""
        p = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
        loss = make(BinaryTask(label_smoothing=0.2)).loss(p.logit()[:, None], torch.ones_like(p))
        assert p[loss.argmin()].item() == pytest.approx(0.9)

    def test_count_is_half_the_deviance_of_its_mean(self):
        labels = np.array([0, 1, 2, 40])
        task, z = make(CountTask(), labels), np.array([-2.0, 0.3, 1.0, 2.0])
        predicted = task.link(torch.from_numpy(z)[:, None]).numpy()[:, 0]
        assert_allclose(predicted, np.exp(z) * labels.mean())
        halves = special.xlogy(labels, labels / predicted) - labels + predicted
        loss = task.loss(torch.from_numpy(z)[:, None], torch.from_numpy(task.encode(labels)))
        assert_allclose(loss.numpy() * labels.mean(), halves)

    def test_count_keeps_its_scale_beyond_the_linear_part(self):
        """The deviance is of what is predicted there too, and both grow on."""
        task = make(CountTask(), [0, 2])
        z = torch.tensor([[9.999], [10.0], [10.001], [500.0]], dtype=torch.float64)
        m = task.link(z)[:, 0]
        assert (m.diff() > 0).all()
        assert_close(m[1], torch.tensor(math.exp(10.0), dtype=torch.float64))
        assert_close(m[:3].diff()[0], m[:3].diff()[1], rtol=2e-3, atol=0)
        t = torch.full((4,), 3.0, dtype=torch.float64)
        assert_close(task.loss(z, t), t * (t / m).log() - t + m)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_count_at_its_least_is_no_negative_number(self, dtype):
        z = torch.linspace(-5, 9, 1001, dtype=dtype)
        assert (make(CountTask()).loss(z[:, None], z.exp()) >= 0).all()


class TestSharedCalls:
    def losses(self, kinds):
        tasks = [make(kind, name=f"t{k}") for k, kind in enumerate(kinds)]
        return tasks, Objective(tasks)

    def test_tasks_with_other_options_make_other_calls(self):
        """Grouped by kind alone, the second would be trained with the first one's options."""
        kinds = [BinaryTask(), BinaryTask(pos_weight=3.0), QuantileTask(), QuantileTask(quantile=1)]
        kinds[3].set_params(quantile=0.1)
        tasks, objective = self.losses(kinds)
        assert len(objective.groups) == 4
        logits, target = torch.linspace(-2, 2, 40).view(10, 4), torch.ones(10, 4)
        together = objective.row_losses(logits, target)
        for k, task in enumerate(tasks):
            assert_close(together[:, k], task.loss(logits[:, [k]], target[:, k]))

    def test_tasks_alike_make_one(self):
        """Weights of classes and orders are no business of the loss."""
        kinds = [BinaryTask(class_weight="balanced"), BinaryTask(), BinaryTask(class_weight={0: 2})]
        assert len(self.losses(kinds)[1].groups) == 1
        assert len(self.losses([OrdinalTask(), OrdinalTask(order=SIZES)])[1].groups) == 1
        assert len(self.losses([CountTask(), CountTask()])[1].groups) == 1
        assert len(self.losses([RegressionTask(), QuantileTask()])[1].groups) == 2

    def test_a_kind_that_does_not_say_what_its_loss_reads_makes_its_own(self):
        tasks = [TobitTask(limit=0.0), TobitTask(limit=0.0), ShiftedTask(), ShiftedTask()]
        tasks = [make(task, [-1.0, 0.5, 2.0]) for task in tasks]
        assert len({task.loss_key() for task in tasks}) == 4


class TestOrderedClasses:
    @with_classes
    @given(st.lists(st.floats(-1e3, 1e3), min_size=12, max_size=12))
    @few
    def test_probabilities_sum_to_one(self, kind, numbers):
        task = make(kind)
        logits = torch.tensor(numbers, dtype=torch.float64).view(-1, task.n_logits)
        block = task.link(logits).numpy()
        assert block.shape == (len(logits), len(task.classes_))
        assert (block >= 0).all()
        assert_allclose(block.sum(axis=1), 1, rtol=1e-11)

    @with_classes
    def test_loss_and_probabilities_agree(self, kind):
        """Without options that change the loss it is minus the label's log-probability."""
        task = make(type(kind)(**({"order": SIZES} if kind.get_params().get("order") else {})))
        logits, target = draw(task, 30)
        block = task.link(logits[:, 0]).numpy()
        column = {code: i for i, code in enumerate(task.encode(task.classes_))}
        of_label = block[np.arange(30), [column[code] for code in target[:, 0].tolist()]]
        assert_allclose(task.loss(logits, target)[:, 0].numpy(), -np.log(of_label), rtol=1e-9)

    @with_classes
    def test_decision_values(self, kind):
        task = make(kind)
        logits, _ = draw(task, 30)
        decision, block = task.decision(logits[:, 0].numpy()), task.link(logits[:, 0]).numpy()
        if len(task.classes_) == 2:
            assert_allclose(special.expit(decision), block[:, 1:])
        else:
            assert_allclose(special.softmax(decision, axis=1), block)

    @pytest.mark.parametrize("labels", [["n", "y"], [0, 1]], ids=str)
    def test_two_classes_in_an_order_are_a_binary_task(self, labels):
        ordered, binary = make(OrdinalTask(), labels), make(BinaryTask(), labels)
        logits, target = draw(make(BinaryTask()), 30)
        assert_close(ordered.loss(logits, target), binary.loss(logits, target))
        assert_close(ordered.link(logits[:, 0]), binary.link(logits[:, 0]))
        assert_allclose(ordered.decision(logits[:, 0].numpy()), logits[:, 0].numpy())

    @given(st.lists(st.integers(-9, 9) | st.integers(-(2**53), 2**53), min_size=2, unique=True))
    @few
    def test_an_order_is_a_round_trip(self, order):
        task = make(OrdinalTask(order=order), order)
        assert task.encode(np.array(order)).tolist() == list(range(len(order)))
        assert task.classes_.tolist() == sorted(order)
        # Thresholds that fall slowly below one label and from it on: that label is certain.
        for place, label in enumerate(order):
            z = torch.full((1, task.n_logits), 40.0, dtype=torch.float64)
            z[0, 0] = 20.0 + 40.0 * (place - 1)
            assert task.decode(task.link(z).numpy()).tolist() == [label]

    def test_probabilities_above_each_level_fall(self):
        task = make(OrdinalTask(order=SIZES))
        block = task.link(draw(task, 50)[0][:, 0]).numpy()
        in_order = block[:, [task.classes_.tolist().index(size) for size in SIZES]]
        above = 1 - in_order.cumsum(axis=1)
        z0 = draw(task, 50)[0][:, 0, 0].numpy()
        assert_allclose(above[:, 0], special.expit(z0))
        assert (np.diff(above, axis=1) < 0).all()

    def test_a_level_without_labels_is_a_class(self):
        task = make(OrdinalTask(order=[3, 2, 1, 0]), [0, 2, 3])
        assert task.n_logits == 3
        assert task.classes_.tolist() == [0, 1, 2, 3]
        assert task.encode(np.array([3.0, 0.0])).tolist() == [0, 3]

    def test_classes_known_beforehand(self):
        assert make(OrdinalTask(), [1, 1], classes=[np.array([0, 1, 2])]).n_logits == 2


# In estimators ------------------------------------------------------------------------------------

X = np.random.default_rng(0).normal(size=(300, 3))
Y01 = (X[:, 0] + np.random.default_rng(1).normal(size=300) > 0.8).astype(int)


def fit(kind, y=Y01, cls=SharedBottom, sample_weight=None, **params):
    return small(cls, task_types=kind, **params).fit(X[: len(y)], y, sample_weight=sample_weight)


def rows_trained(model):
    """Return the number of rows of each epoch."""
    sizes = model.net_.history[:, "batches", :, "train_batch_size"]
    return [sum(epoch) for epoch in sizes]


class TestClassWeight:
    @pytest.mark.parametrize("cls", [SharedBottom, MMoE, CGC])
    def test_is_a_sample_weight(self, cls, table):
        """To the last bit, labels missing here and there, other tasks untouched."""
        weights = {"low": 3.0, "mid": 0.5}
        kinds = {"income": BinaryTask(class_weight={">50K": 4}), "level": MulticlassTask}
        kinds["level"] = MulticlassTask(class_weight=weights)
        weight = np.ones(table.Y.shape)
        weight[:, 0] = np.where(table.Y["income"] == ">50K", 4, 1)
        weight[:, 2] = table.Y["level"].map(weights).fillna(1.0)
        by_class = small(cls, task_types=kinds).fit(table.X, table.Y)
        by_label = small(cls).fit(table.X, table.Y, sample_weight=weight)
        assert_array_equal(by_class.predict_proba(table.X), by_label.predict_proba(table.X))
        plain = small(cls).fit(table.X, table.Y)
        assert not np.allclose(by_class.predict_proba(table.X), plain.predict_proba(table.X))

    def test_multiplies_sample_weights(self):
        given = np.random.default_rng(0).random(300)
        exact = {"dtype": "float64"}
        one = fit(BinaryTask(class_weight={1: 5.0}), sample_weight=given, **exact)
        two = fit("binary", sample_weight=given * np.where(Y01 == 1, 5, 1), **exact)
        assert_allclose(one.predict_proba(X), two.predict_proba(X), rtol=1e-9)

    @pytest.mark.parametrize("kind", [BinaryTask, MulticlassTask, OrdinalTask])
    def test_balanced_is_scikit_learns(self, kind):
        labels = np.array(["b", "a", "a", "b", "a", "b", "b", "b"])
        if kind is not BinaryTask:
            labels = np.append(labels, ["c", "c"])
        task = make(kind(class_weight="balanced"), labels)
        expected = compute_sample_weight("balanced", labels)
        assert_allclose(task.label_weight(task.encode(labels)), expected)

    def test_balanced_counts_weights(self):
        labels, weights = np.array([0, 0, 1, 1, 1]), np.array([1.0, 3, 1, 0.5, 0.5])
        task = make(BinaryTask(class_weight="balanced"), labels, weights=weights[:, None])
        factor = task.label_weight(task.encode(labels))
        sums = [(weights * factor)[labels == c].sum() for c in (0, 1)]
        assert_allclose(sums, [weights.sum() / 2] * 2)

    def test_weights_follow_the_labels_of_an_order(self):
        task = make(OrdinalTask(order=["lo", "hi"], class_weight={"hi": 2.0}), ["lo", "hi"])
        assert task.label_weight(task.encode(np.array(["hi", "lo"]))).tolist() == [2.0, 1.0]

    def test_partial_fit_keeps_the_first_weights(self):
        model = small(SharedBottom, task_types=BinaryTask(class_weight="balanced"))
        model.partial_fit(X[:100], Y01[:100])
        before = model.tasks_[0].label_weight(np.array([0.0, 1.0]))
        model.partial_fit(X[100:], np.ones(200, int))
        assert_array_equal(model.tasks_[0].label_weight(np.array([0.0, 1.0])), before)


class TestNegativeFraction:
    def world(self, n=20_000):
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(n, 1))
        click = rng.random(n) < special.expit(rows[:, 0] - 3.5)
        buy = click & (rng.random(n) < special.expit(rows[:, 0] - 0.5))
        return rows, pd.DataFrame({"click": click, "buy": buy}).astype(int)

    @pytest.mark.parametrize("cls", [SharedBottom, ESMM])
    def test_probabilities_are_those_of_all_rows(self, cls):
        """A tenth of the negatives, and no correction at predict; ESMM's product holds too."""
        rows, Y = self.world()
        kinds, r = BinaryTask(negative_fraction=0.1), 0.1
        # Steps on all rows and units that cannot die: what is left is the sampling's own error.
        steps = {"lr": 0.02, "max_epochs": 150, "batch_size": None, "activation": "silu"}
        model = small(cls, task_types=kinds, **steps, tower_units=(8,)).fit(rows, Y)
        assert max(rows_trained(model)) < 0.2 * len(Y)
        proba = model.predict_proba(rows)[:, 1::2]
        for k, name in enumerate(Y):
            rate, negatives = Y[name].mean(), (Y[name] == 0).sum()
            error = rate * math.sqrt((1 - r) / (r * negatives))
            # What is fitted to the labels left would be that many times the rate.
            uncorrected = special.expit(special.logit(proba[:, k]) - math.log(r)).mean()
            assert abs(proba[:, k].mean() - rate) < 4 * error
            assert uncorrected > 3 * rate
            upper = rows[:, 0] > 1.0
            assert proba[upper, k].mean() == pytest.approx(Y[name][upper].mean(), rel=0.2)

    def test_all_negatives_are_the_plain_task(self):
        whole, plain = fit(BinaryTask(negative_fraction=1.0)), fit("binary")
        assert rows_trained(whole) == rows_trained(plain)
        some = fit(BinaryTask(negative_fraction=0.5))
        assert rows_trained(some)[0] < 300
        assert not np.allclose(some.predict_proba(X), plain.predict_proba(X))

    def test_sampling_is_of_the_random_state(self):
        kind = BinaryTask(negative_fraction=0.5)
        one, again, other = fit(kind), fit(kind), fit(kind, random_state=5)
        assert_array_equal(one.predict_proba(X), again.predict_proba(X))
        assert rows_trained(one) != rows_trained(other)

    def test_each_fit_draws_anew(self):
        model = small(
            SharedBottom,
            task_types=BinaryTask(negative_fraction=0.5),
            warm_start=True,
            max_epochs=1,
        )
        counts = {rows_trained(model.fit(X, Y01))[-1] for _ in range(5)}
        assert len(counts) > 1

    def test_rows_with_other_labels_stay(self):
        """Sampled by one task, a row trains the others; those of no other task are dropped."""
        other = np.where(np.arange(300) < 100, X[:, 1], np.nan)
        Y = pd.DataFrame({"y": Y01, "other": other})
        model = fit({"y": BinaryTask(negative_fraction=0.01)}, Y)
        negatives = int((Y01[100:] == 0).sum())
        assert 300 - negatives <= rows_trained(model)[0] < 300 - negatives + 12

    def test_tasks_keep_rows_together(self):
        Y = pd.DataFrame({"a": Y01, "b": Y01})
        both = rows_trained(fit(BinaryTask(negative_fraction=0.3), Y))[0]
        assert both == rows_trained(fit(BinaryTask(negative_fraction=0.3)))[0]

    def test_losing_all_negatives_is_named(self):
        with pytest.raises(ValueError, match=r"none of the \d+ labels of task 'y'.*`negative_frac"):
            fit(BinaryTask(negative_fraction=1e-9))

    def test_partial_fit_on_nothing_changes_nothing(self):
        model = small(SharedBottom, task_types=BinaryTask(negative_fraction=0.5))
        model.partial_fit(X, Y01)
        for row in range(20):
            before, n_iter = model.predict_proba(X), model.n_iter_
            assert model.partial_fit(X[[row]], [0]) is model
            trained = model.n_iter_ - n_iter
            assert trained in (0, 1)
            assert np.array_equal(model.predict_proba(X), before) == (trained == 0)
        assert 1 < model.n_iter_ < 21

    def test_with_held_out_rows_and_class_weights(self):
        kind = BinaryTask(negative_fraction=0.5, class_weight={1: 2.0})
        model = fit(kind, validation_fraction=0.2)
        assert rows_trained(model)[0] < 240 * 0.8
        assert np.isfinite(model.history_["valid_loss"]).all()


class TestForms:
    @pytest.mark.parametrize(
        "task_types",
        [
            QuantileTask,
            QuantileTask(),
            "quantile",
            [QuantileTask(), "quantile"],
            (QuantileTask, QuantileTask),
            {"a": QuantileTask(), "b": QuantileTask},
        ],
        ids=repr,
    )
    def test_task_types(self, task_types):
        model = fit(task_types, pd.DataFrame(X[:, :2], columns=["a", "b"]))
        assert [repr(task) for task in model.tasks_] == ["QuantileTask('a')", "QuantileTask('b')"]

    def test_what_was_passed_never_changes(self):
        kind = MulticlassTask(label_smoothing=0.1)
        before = pickle.dumps(kind)
        model = fit([kind, kind], pd.DataFrame({"a": Y01, "b": np.arange(300) % 3}))
        assert pickle.dumps(kind) == before
        assert [task.n_logits for task in model.tasks_] == [2, 3]
        assert [task.name for task in model.tasks_] == ["a", "b"]
        assert all(task.label_smoothing == 0.1 for task in model.tasks_)

    @pytest.mark.parametrize(
        "task_types",
        [BinaryTask(pos_weight=2.0), [BinaryTask(pos_weight=2.0)], {"y": BinaryTask(pos_weight=2)}],
        ids=repr,
    )
    def test_clone(self, task_types):
        model = fit(task_types)
        twin = clone(model)
        assert repr(twin.task_types) == repr(task_types)
        assert twin.task_types is not task_types
        assert_array_equal(twin.fit(X, Y01).predict_proba(X), model.predict_proba(X))

    def test_search_over_kinds_and_options(self):
        kinds = ["binary", BinaryTask(focal_gamma=2.0), MulticlassTask]
        search = GridSearchCV(fit("binary"), {"task_types": kinds}, cv=2, refit=False).fit(X, Y01)
        assert [repr(p["task_types"]) for p in search.cv_results_["params"]] == list(
            map(repr, kinds)
        )
        search = GridSearchCV(fit(BinaryTask()), {"task_types__label_smoothing": [0.3]}, cv=2)
        assert search.fit(X, Y01).best_estimator_.tasks_[0].label_smoothing == 0.3

    def test_params(self):
        task = BinaryTask().set_params(focal_gamma=1.0)
        assert task.get_params()["focal_gamma"] == 1.0
        with pytest.raises(ValueError, match=r"BinaryTask has no option 'gamma'; it has .*'focal_"):
            task.set_params(gamma=1.0)

    def test_repr(self):
        assert repr(BinaryTask()) == "BinaryTask()"
        assert repr(BinaryTask(class_weight={"a": 2}, label_smoothing=0.0)) == (
            "BinaryTask(class_weight={'a': 2})"
        )
        assert repr(QuantileTask("t", quantile=0.1)) == "QuantileTask('t', quantile=0.1)"
        assert "focal_gamma=2.0" in repr(SharedBottom(task_types=BinaryTask(focal_gamma=2.0)))

    def test_going_on_with_other_options_is_refused(self):
        model = fit(BinaryTask(focal_gamma=1.0), warm_start=True)
        model.fit(X, Y01)
        model.set_params(task_types__focal_gamma=2.0)
        with pytest.raises(ValueError, match=r"`task_types` was BinaryTask\(focal_gamma=1.0\)"):
            model.fit(X, Y01)

    @pytest.mark.parametrize(
        ("task_types", "classifier", "regressor"),
        [
            ("ordinal", True, False),
            ("count", False, True),
            ("quantile", False, True),
            (OrdinalTask, True, False),
            ([BinaryTask(), "ordinal"], True, False),
            ([CountTask, QuantileTask()], False, True),
            ([CountTask, BinaryTask()], False, False),
            ({"y": BinaryTask()}, False, False),
            ("tobit", False, False),
        ],
        ids=repr,
    )
    def test_type_before_fit(self, task_types, classifier, regressor):
        model = SharedBottom(task_types=task_types)
        assert (is_classifier(model), is_regressor(model)) == (classifier, regressor)

    @pytest.mark.parametrize("task", [make(kind) for kind in TASKS], ids=repr)
    def test_state_through_json(self, task):
        """What `save` needs: numbers, strings, lists and arrays in vars, and the class's name."""
        state = {k: v.tolist() if k == "classes_" else v for k, v in vars(task).items()}
        state = json.loads(json.dumps(state))
        if "classes_" in state:
            state["classes_"] = np.array(state["classes_"])
        twin = restore_task(type(task).__name__, state)
        logits, target = draw(task, 10)
        assert_close(twin.loss(logits, target), task.loss(logits, target), rtol=0, atol=0)
        block = task.link(logits[:, 0])
        assert_array_equal(twin.decode(block.numpy()), task.decode(block.numpy()))
        assert repr(twin) == repr(task)

    def test_state_of_before_an_option_was_there(self):
        twin = restore_task("BinaryTask", {"name": "t", "classes_": np.array([0, 1])})
        assert repr(twin) == "BinaryTask('t')"
        with pytest.raises(ValueError, match="unknown kind of task 'Unheard'"):
            restore_task("Unheard", {})


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        (BinaryTask(pos_weight=0), r"`pos_weight` of task 'y' is 0; pass a finite number above 0"),
        (BinaryTask(pos_weight="2"), r"`pos_weight` of task 'y' is '2'"),
        (BinaryTask(focal_gamma=-1.0), r"`focal_gamma` of task 'y' is -1\.0; pass .* at least 0"),
        (BinaryTask(focal_gamma=np.nan), "`focal_gamma` of task 'y' is nan"),
        (BinaryTask(focal_gamma=True), "`focal_gamma` of task 'y' is True"),
        (MulticlassTask(focal_gamma=None), "`focal_gamma` of task 'y' is None"),
        (MulticlassTask(label_smoothing=1.0), "`label_smoothing` of task 'y' is 1.0; .* below 1"),
        (BinaryTask(negative_fraction=0), "`negative_fraction` of task 'y' is 0; .* up to 1"),
        (BinaryTask(negative_fraction=1.1), "`negative_fraction` of task 'y' is 1.1"),
        (
            BinaryTask(class_weight="equal"),
            "`class_weight` of task 'y' is 'equal'; pass 'balanced'",
        ),
        (BinaryTask(class_weight={2: 1}), r"names the label 2, .* its classes are \[0, 1\]"),
        (BinaryTask(class_weight={1: 0}), "gives the label 1 the weight 0; pass a finite"),
        (BinaryTask(class_weight={1: "a"}), "gives the label 1 the weight 'a'"),
        (OrdinalTask(order=[0]), r"`order` of task 'y' is \[0\]; pass a list"),
        (OrdinalTask(order="01"), "`order` of task 'y' is '01'; pass a list"),
        (OrdinalTask(order=[1, 0, 1]), "each once"),
        (OrdinalTask(order=[0, "1"]), "pass a list of its labels"),
        (OrdinalTask(order=[1, 2]), r"`order` of task 'y' lacks the label 0; it is \[1, 2\]"),
        (
            OrdinalTask(order=[0, 1, 2], class_weight="balanced"),
            "'balanced' and its class 2 has no label",
        ),
        (QuantileTask(quantile=1.0), "`quantile` of task 'y' is 1.0; pass a number between"),
        (ClassificationTask, "the kind <class .*; pass one of .*subclass of sk_mtl.tasks.Task"),
        (int, "task 'y' the kind <class 'int'>; pass one of"),
        ([RegressionTask, None], "has 2 entries and y has 1 tasks"),
    ],
    ids=repr,
)
def test_options_that_cannot_be(kind, match):
    with pytest.raises(ValueError, match=match):
        fit(kind)


@pytest.mark.parametrize(
    ("kind", "y", "match"),
    [
        ("count", [0, 1, -2] * 20, r"declared 'count' and has the label -2\. Pass 'regression'"),
        ("count", ["a", "b"] * 30, "declared 'count' and has labels that are no numbers"),
        ("count", [1e308, 1.7e308, 1.7e308] * 20, "mean too large .* larger unit"),
        ("quantile", ["a", "b"] * 30, "declared 'quantile' and has labels that are no numbers"),
        ("ordinal", [0.5, 1.0] * 30, "continuous value 0.5"),
        ("ordinal", ["a"] * 60, "one class only, 'a'"),
    ],
)
def test_labels_that_do_not_suit(kind, y, match):
    with pytest.raises(ValueError, match=match):
        fit(kind, y)


class TestNewKindsLearn:
    @pytest.fixture
    def noise(self):
        return np.random.default_rng(7).normal(size=300)

    def test_count(self):
        y = np.random.default_rng(2).poisson(np.exp(1 + X[:, 0]))
        model = fit("count", y, max_epochs=40)
        predicted = model.predict(X)
        assert (predicted > 0).all()
        assert model.score(X, y) == pytest.approx(d2_tweedie_score(y, predicted, power=1))
        assert model.score(X, y) > 0.6
        assert predicted.mean() == pytest.approx(y.mean(), rel=0.1)
        loss = model.history_["train_loss"]
        assert loss.iloc[-1] < loss.iloc[0]

    def test_count_of_zeros(self):
        model = fit("count", np.zeros(300), max_epochs=30)
        assert (model.predict(X) < 0.7).all()

    @pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
    def test_quantile(self, q, noise):
        y = 3 * X[:, 0] + 50 + noise
        model = fit(QuantileTask(quantile=q), y, max_epochs=60, lr=0.02)
        predicted = model.predict(X)
        assert (y <= predicted).mean() == pytest.approx(q, abs=0.08)
        assert model.score(X, y) == pytest.approx(d2_pinball_score(y, predicted, alpha=q))
        assert model.score(X, y) > 0.4

    def test_ordinal(self, noise):
        level = np.digitize(X[:, 0] + 0.2 * noise, [-1, 0, 1])
        y = np.array(SIZES)[level]
        model = fit(OrdinalTask(order=SIZES), y, max_epochs=60, lr=0.02)
        assert model.classes_.tolist() == sorted(SIZES)
        assert model.get_proba_names_out().tolist() == [f"y={size}" for size in sorted(SIZES)]
        assert model.predict_proba(X).shape == model.decision_function(X).shape == (300, 4)
        assert model.score(X, y) == (model.predict(X) == y).mean()
        assert model.score(X, y) > 0.75
        view = model.task_view("y")
        assert_array_equal(view.predict(X), model.predict(X))

    @pytest.mark.parametrize("kind", [CountTask(), QuantileTask()], ids=repr)
    def test_score_of_constant_labels(self, kind):
        task, same = make(kind), np.array([2.0, 2.0])
        assert task.score(same, same, None) == 1.0
        assert task.score(same, np.array([2.0, 3.0]), None) == 0.0

    def test_all_kinds_in_one_model(self, noise):
        Y = pd.DataFrame(
            {
                "binary": Y01,
                "size": np.array(SIZES)[np.digitize(X[:, 0], [-1, 0, 1])],
                "count": np.random.default_rng(2).poisson(np.exp(X[:, 1])),
                "value": X[:, 2] + noise,
            }
        ).astype(object)
        Y[np.random.default_rng(3).random(Y.shape) < 0.2] = None
        kinds = {"size": OrdinalTask(order=SIZES), "count": "count", "value": QuantileTask}
        model = fit(kinds, Y, MMoE)
        assert [task.kind for task in model.tasks_] == ["binary", "ordinal", "count", "quantile"]
        assert model.predict_proba(X).shape == (300, 6)
        twin = pickle.loads(pickle.dumps(model))
        assert_array_equal(twin.predict(X), model.predict(X))
        assert np.isfinite(model.score(X, Y))


# A kind of a user's own ---------------------------------------------------------------------------


class TobitTask(Task):
    """Values that are never seen below a limit: a label at the limit says "at most"."""

    kind = "tobit"

    def __init__(self, *, limit=0.0):
        self.limit = limit

    def fit(self, values, weights, classes):
        self.mean_, self.scale_ = float(values.mean()), float(values.std())
        self.floor_ = (self.limit - self.mean_) / self.scale_
        return self

    def encode(self, values):
        return (values - self.mean_) / self.scale_

    def loss(self, logits, target):
        z = logits.squeeze(-1)
        censored = -torch.special.log_ndtr(self.floor_ - z)
        return torch.where(target <= self.floor_ + 1e-6, censored, (z - target) ** 2 / 2)

    def link(self, logits):
        return logits * self.scale_ + self.mean_

    def decode(self, block):
        return block[:, 0]

    def score(self, labels, predicted, weights):
        return -float(np.mean((labels - np.maximum(predicted, self.limit)) ** 2))


class ShiftedTask(RegressionTask):
    """A kind whose loss reads what it learned: it may not share a call with another."""

    kind = "shifted"

    def loss(self, logits, target):
        return super().loss(logits + self.mean_, target)


class OddsTask(BinaryTask):
    """A kind with classes of a user's own."""

    kind = "odds"

    def loss(self, logits, target):
        return (-(2 * target - 1) * logits.squeeze(-1) / 2).exp()


class TestOwnKind:
    LATENT = 2 * X[:, 0] + 0.3 * np.random.default_rng(4).normal(size=300)
    SEEN = np.maximum(LATENT, -0.5)

    def test_fits_and_predicts(self):
        model = fit(TobitTask(limit=-0.5), self.SEEN, max_epochs=60)
        assert model.tasks_[0].name == "y"
        below = self.LATENT < -1.5
        # It follows the latent value to where no label has ever been; a regression does not.
        plain = fit("regression", self.SEEN, max_epochs=60)
        assert model.predict(X)[below].mean() < -1.0 < plain.predict(X)[below].mean()
        assert model.score(X, self.SEEN) > -0.3
        assert not hasattr(model, "predict_proba")

    def test_is_a_regressor(self):
        assert is_regressor(SharedBottom(task_types=TobitTask))
        assert is_classifier(SharedBottom(task_types=OddsTask))
        assert is_regressor(fit(TobitTask, self.SEEN))

    def test_pickle_clone_and_repr(self):
        model = fit(TobitTask(limit=-0.5), self.SEEN)
        twin = pickle.loads(pickle.dumps(model))
        assert_array_equal(twin.predict(X), model.predict(X))
        assert repr(clone(model).task_types) == "TobitTask(limit=-0.5)"
        assert (
            repr(restore_task("TobitTask", vars(model.tasks_[0]))) == "TobitTask('y', limit=-0.5)"
        )

    def test_search(self):
        search = GridSearchCV(
            fit(TobitTask(), self.SEEN, max_epochs=20),
            {"task_types__limit": [-0.5, 5.0]},
            cv=2,
        ).fit(X, self.SEEN)
        # A limit above all labels makes every one a mere bound.
        assert search.best_params_ == {"task_types__limit": -0.5}

    def test_beside_other_tasks_with_gaps(self):
        Y = pd.DataFrame({"y": Y01, "low": self.SEEN, "odds": 1 - Y01})
        Y.loc[::3, "low"] = np.nan
        model = fit({"low": TobitTask(limit=-0.5), "odds": OddsTask}, Y, max_epochs=20)
        assert model.predict_proba(X).shape == (300, 4)
        assert ((model.predict(X)[:, 2] == Y["odds"]).mean()) > 0.7

    def test_a_class_that_needs_arguments(self):
        class Needy(TobitTask):
            def __init__(self, limit):
                self.limit = limit

        with pytest.raises(
            ValueError, match=r"the class Needy, which cannot be made .*an instance"
        ):
            fit(Needy, self.SEEN)
        assert fit(Needy(-0.5), self.SEEN).tasks_[0].limit == -0.5

"""What a task does to labels, logits and probabilities, for labels of any type."""

from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import column
from conftest import task_of as make
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import special
from sklearn.metrics import log_loss, r2_score

from sk_mtl.data import check_labels
from sk_mtl.tasks import (
    KINDS,
    MAX_AUTO_CLASSES,
    BinaryTask,
    MulticlassTask,
    RegressionTask,
    encode_targets,
    logit_slices,
    make_tasks,
    resolve_task_types,
)

few = settings(max_examples=40, deadline=None)

LABELS = {
    "integers": st.integers(-(2**53), 2**53),
    "small integers": st.integers(-3, 3),
    "strings": st.text(max_size=4),
    "booleans": st.booleans(),
    "whole floats": st.integers(-5, 5).map(float),
}
"""Labels that can be classes."""

FORMS = {
    "array": np.asarray,
    "series": pd.Series,
    "category": lambda v: pd.Series(v, dtype="category"),
    "objects": lambda v: pd.Series(v, dtype=object),
    "nullable": lambda v: pd.Series(v).convert_dtypes(),
}
"""What columns they come in."""

LABELS_OF = {
    "binary": [0, 1, 0],
    "multiclass": [0, 1, 2],
    "ordinal": [0, 1, 2],
    "regression": [0.5, 1.5, 4.5],
    "quantile": [0.5, 1.5, 4.5],
    "count": [0, 1, 5],
}
"""Labels that suit each kind."""

classes_of_any_type = st.sampled_from(sorted(LABELS)).flatmap(
    lambda kind: st.lists(LABELS[kind], min_size=2, max_size=30)
)


def read(y, X=None):
    """Return the columns of y as the estimators read them."""
    X = np.zeros((len(y), 1)) if X is None else X
    return check_labels(y, None, X, None)[1].columns


class TestLabelsComeBack:
    """Encoding and decoding is a round trip, whatever the labels are and come in."""

    @given(classes_of_any_type, st.sampled_from(sorted(FORMS)))
    @example(["", "a"], "nullable")
    @example([2**53, -(2**53)], "nullable")
    @few
    def test_classes(self, labels, form):
        assume(len(set(labels)) > 1)
        # numpy's strings end before their last "\x00": such an array never held the labels.
        assume(form != "array" or np.asarray(labels).tolist() == labels)
        (found,) = read(FORMS[form](labels))
        (task,) = make_tasks([found], "classification")
        codes = task.encode(found.values)
        blocks = np.eye(len(task.classes_))[codes.astype(int)]
        assert task.decode(blocks).tolist() == labels
        assert task.classes_.tolist() == sorted(set(labels))
        assert codes.dtype == np.float64
        assert task.n_logits == (1 if task.kind == "binary" else len(set(labels)))
        assert (task.kind == "binary") == (len(set(labels)) == 2)

    @given(classes_of_any_type, st.data())
    @few
    def test_missing_labels_stay_missing(self, labels, data):
        gaps = data.draw(st.lists(st.booleans(), min_size=len(labels), max_size=len(labels)))
        kept = [label for label, gap in zip(labels, gaps, strict=True) if not gap]
        assume(len(set(kept)) > 1)
        with_gaps = [None if gap else label for label, gap in zip(labels, gaps, strict=True)]
        whole = pd.Series([0, 1] * len(labels), name="whole")[: len(labels)]
        for dtype in (object, "category"):
            series = pd.Series(with_gaps, dtype=dtype)
            # A Categorical of pandas 2 takes "\x00" for "": such a column never held the labels.
            assume(series.dropna().tolist() == kept)
            columns = read(pd.DataFrame({"t": series, "whole": whole}))
            tasks = make_tasks(columns, "classification")
            targets = encode_targets(tasks, columns)
            np.testing.assert_array_equal(np.isnan(targets[:, 0]), gaps)
            assert tasks[0].classes_.tolist() == sorted(set(kept))
            codes = targets[~np.array(gaps), 0].astype(int)
            assert tasks[0].classes_[codes].tolist() == kept
            assert not np.isnan(targets[:, 1]).any()

    def test_integers_with_gaps_are_classes(self):
        """What integer labels become when some are missing: floats."""
        (a, b) = read(np.array([[3.0, 1], [np.nan, 0], [5.0, 1], [3.0, 0]]))
        task, _ = make_tasks([a, b], "auto")
        assert task.kind == "binary"
        assert task.classes_.tolist() == [3.0, 5.0]

    @given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30), st.data())
    @few
    def test_values(self, values, data):
        weights = np.array(
            data.draw(st.lists(st.floats(0.1, 10), min_size=len(values), max_size=len(values)))
        )
        values = np.array(values)
        assume(np.ptp(values) > 1e-3)
        task = make(values, "regression", weights=weights[:, None])
        encoded = task.encode(values)
        mean = np.average(encoded, weights=weights)
        np.testing.assert_allclose(mean, 0, atol=1e-8)
        np.testing.assert_allclose(np.average((encoded - mean) ** 2, weights=weights), 1)
        decoded = task.decode(task.link(torch.from_numpy(encoded)[:, None]).numpy())
        np.testing.assert_allclose(decoded, values, rtol=1e-9, atol=1e-9 * np.abs(values).max())

    @pytest.mark.parametrize("value", [0.0, 1.0, -3e5, 0.1, 1e150])
    def test_constant_values(self, value):
        task = make(np.full(7, value), "regression")
        np.testing.assert_allclose(task.encode(np.full(7, value)), 0, atol=1e-12 * abs(value))
        logits = torch.zeros(1, 1, dtype=torch.float64)
        assert task.link(logits).item() == pytest.approx(value)

    def test_weights_of_unobserved_labels_do_not_count(self):
        observed = np.array([True, False, True, True])
        weights = np.array([[1.0], [99.0], [2.0], [1.0]])
        found = column([1.5, 50.0, 2.5, 3.5], observed)
        (task,) = make_tasks([found], "regression", weights)
        assert task.mean_ == pytest.approx(2.5)
        assert task.scale_ == pytest.approx(np.sqrt(0.5))


class TestLogits:
    """Links, decisions and losses agree with scipy and scikit-learn."""

    @given(st.integers(2, 5), st.lists(st.floats(-1e4, 1e4), min_size=10, max_size=10))
    @few
    def test_probabilities(self, n_classes, numbers):
        task = make(np.arange(n_classes).repeat(2), "classification")
        logits = torch.tensor(numbers, dtype=torch.float64)[: 10 // task.n_logits * task.n_logits]
        logits = logits.view(-1, task.n_logits)
        block = task.link(logits).numpy()
        assert block.shape == (len(logits), n_classes)
        assert ((block >= 0) & (block <= 1)).all()
        np.testing.assert_allclose(block.sum(axis=1), 1, rtol=1e-12)
        assert set(task.decode(block)) <= set(task.classes_)
        z = logits.numpy()
        expected = special.expit(np.hstack([-z, z])) if n_classes == 2 else special.softmax(z, 1)
        np.testing.assert_allclose(block, expected, rtol=1e-12, atol=1e-300)

    @pytest.mark.parametrize("task_type", ["binary", "multiclass"])
    def test_two_classes_as_either_kind(self, task_type):
        """Two classes may be declared multiclass: two logits, and the same shapes outside."""
        task = make([0, 1, 1], task_type)
        logits = torch.randn(6, task.n_logits, generator=torch.Generator().manual_seed(0))
        block = task.link(logits).numpy()
        decision = task.decision(logits.numpy())
        assert block.shape == (6, 2)
        assert decision.shape == (6, 1)
        np.testing.assert_allclose(special.expit(decision[:, 0]), block[:, 1], rtol=1e-5)
        np.testing.assert_array_equal(task.decode(block), (decision[:, 0] > 0).astype(int))

    def test_decisions_of_many_classes_are_the_logits(self):
        logits = np.arange(6.0).reshape(2, 3)
        assert make([0, 1, 2], "auto").decision(logits) is logits

    @pytest.mark.parametrize("n_classes", [2, 3, 7])
    @pytest.mark.parametrize("scale", [1, 10])
    def test_log_loss_of_each_row(self, n_classes, scale):
        rng = np.random.default_rng(n_classes)
        labels = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, 40)])
        task = make(labels, "classification")
        logits = torch.from_numpy(rng.normal(0, scale, (len(labels), task.n_logits)))
        losses = task.loss(logits, torch.from_numpy(task.encode(labels))).numpy()
        block = task.link(logits).numpy()
        for loss, label, row in zip(losses, labels, block, strict=True):
            reference = log_loss([label], row[None], labels=np.arange(n_classes))
            assert loss == pytest.approx(reference, rel=1e-9, abs=1e-14)

    def test_squared_error_of_each_row(self):
        rng = np.random.default_rng(0)
        values, logits = rng.normal(5, 3, 30), rng.normal(size=30)
        task = make(values, "regression")
        losses = task.loss(torch.from_numpy(logits)[:, None], torch.from_numpy(task.encode(values)))
        predicted = task.decode(task.link(torch.from_numpy(logits)[:, None]).numpy())
        np.testing.assert_allclose(losses.numpy() * values.var(), (predicted - values) ** 2)
        # The mean loss is the share of variance that is not explained.
        assert 1 - losses.mean().item() == pytest.approx(r2_score(values, predicted))

    @pytest.mark.parametrize("n_classes", [2, 4])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_losses_are_finite_at_extreme_logits(self, n_classes, dtype):
        task = make(np.arange(n_classes), "classification")
        size = torch.tensor([-1e4, 1e4, 0.0, 50.0], dtype=dtype).repeat_interleave(n_classes)
        logits = torch.zeros(len(size), task.n_logits, dtype=dtype)
        logits[:, -1] = size
        logits.requires_grad_()
        target = torch.arange(n_classes, dtype=dtype).repeat(4)
        loss = task.loss(logits, target)
        loss.sum().backward()
        assert loss.isfinite().all()
        assert logits.grad.isfinite().all()
        assert loss.max().item() == pytest.approx(1e4, rel=1e-3)
        assert (loss >= 0).all()

    @pytest.mark.parametrize("kind", sorted(KINDS))
    def test_tasks_of_one_kind_may_share_a_call(self, kind):
        """What `loss_key` promises: extra leading dimensions change no number."""
        labels = np.array(LABELS_OF[kind])
        task = make(labels, kind)
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(5, 2, task.n_logits, generator=generator)
        target = torch.randint(0, len(labels), (5, 2), generator=generator)
        target = torch.from_numpy(task.encode(labels))[target].float()
        together = task.loss(logits, target)
        assert together.shape == (5, 2)
        for k in range(2):
            torch.testing.assert_close(together[:, k], task.loss(logits[:, k], target[:, k]))

    def test_slices_of_the_flat_logits(self):
        tasks = [make([0, 1], "binary"), make([0, 1, 2], "multiclass"), make([0.5], "regression")]
        assert logit_slices(tasks) == [slice(0, 1), slice(1, 4), slice(4, 5)]


@given(classes_of_any_type, st.sampled_from(["classification", "multiclass"]), st.randoms())
@few
def test_rows_in_another_order_give_codes_in_that_order(labels, kind, random):
    assume(len(set(labels)) > 1)
    order = random.sample(range(len(labels)), len(labels))
    (found,), (shuffled,) = read(pd.Series(labels)), read(pd.Series([labels[i] for i in order]))
    (task,), (twin,) = make_tasks([found], kind), make_tasks([shuffled], kind)
    np.testing.assert_array_equal(task.classes_, twin.classes_)
    np.testing.assert_array_equal(task.encode(found.values)[order], twin.encode(shuffled.values))


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20), st.randoms())
@few
def test_values_in_another_order(values, random):
    order = random.sample(range(len(values)), len(values))
    task, twin = make(values, "regression"), make(np.array(values)[order], "regression")
    np.testing.assert_allclose(
        task.encode(np.array(values))[order], twin.encode(np.array(values)[order]), atol=1e-6
    )


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (["a", "b", "a"], "binary"),
        (["a", "b", "c"], "multiclass"),
        ([True, False, True], "binary"),
        ([0, 1, 1], "binary"),
        ([-1, 1, 7], "multiclass"),
        (np.array([0, 200], dtype=np.uint8), "binary"),
        ([0.0, 1.0, 1.0], "binary"),
        ([0.0, 2.0, 1.0], "multiclass"),
        ([0.0, 0.5, 1.0], "regression"),
        (np.array([0.5, 2.0], dtype=np.float32), "regression"),
        (pd.Series(["a", "b"], dtype="category"), "binary"),
        (pd.Series([0.5, 1.5], dtype="category"), "regression"),
        (pd.Series([1, 2], dtype="Int64"), "binary"),
        (pd.Series([1.5, 2.0], dtype="Float64"), "regression"),
        (np.array([1, 2.5], dtype=object), "regression"),
        (np.array([True, False], dtype=object), "binary"),
        (np.arange(MAX_AUTO_CLASSES), "multiclass"),
        (np.arange(float(MAX_AUTO_CLASSES)), "multiclass"),
        (np.arange(MAX_AUTO_CLASSES + 1) / 2, "regression"),
        ([f"city {i}" for i in range(MAX_AUTO_CLASSES + 1)], "multiclass"),
    ],
)
def test_auto_infers_kinds(labels, kind):
    (found,) = read(labels)
    many = kind == "multiclass" and len(labels) >= MAX_AUTO_CLASSES
    told = pytest.warns(UserWarning, match="taken for classes") if many else nullcontext()
    with told:
        (task,) = make_tasks([found], "auto")
    assert task.kind == kind
    assert type(task) is KINDS[kind]


@pytest.mark.parametrize("dtype", [int, float])
def test_auto_refuses_to_guess(dtype):
    many = np.arange(MAX_AUTO_CLASSES + 1).astype(dtype)
    match = rf"'t' has {len(many)} distinct whole numbers.*task_types=\{{'t': 'regression'\}}"
    with pytest.raises(ValueError, match=match):
        make(many)
    assert make(many, "regression").kind == "regression"
    assert make(many, "classification").kind == "multiclass"


@pytest.mark.parametrize(
    ("task_types", "kinds"),
    [
        ("auto", ["auto", "auto"]),
        ("regression", ["regression", "regression"]),
        (["binary", "auto"], ["binary", "auto"]),
        (("multiclass", "regression"), ["multiclass", "regression"]),
        (np.array(["binary", "auto"]), ["binary", "auto"]),
        ({"b": "regression"}, ["auto", "regression"]),
        ({}, ["auto", "auto"]),
    ],
)
def test_forms_of_task_types(task_types, kinds):
    assert resolve_task_types(task_types, ["a", "b"]) == kinds


@pytest.mark.parametrize(
    ("task_types", "match"),
    [
        (["binary"], r"`task_types` has 1 entries and y has 2 tasks: \['a', 'b'\]"),
        ({"c": "binary"}, "`task_types` names the task 'c', which y does not have"),
        ({"b": "ranking"}, "gives task 'b' the kind 'ranking'; pass one of .*'regression'"),
        (["binary", None], "gives task 'b' the kind None; pass one of"),
        ("Binary", "gives task 'a' the kind 'Binary'; pass one of"),
    ],
)
def test_unusable_task_types(task_types, match):
    with pytest.raises(ValueError, match=match):
        resolve_task_types(task_types, ["a", "b"])


@pytest.mark.parametrize(
    ("labels", "kind", "match"),
    [
        ([0, 1, 2], "binary", r"'t' is declared 'binary' and has 3 classes: \[0, 1, 2\]"),
        (["a", "b"], "regression", "'t' is declared 'regression'.* such as 'a'"),
        ([0.5, 1.0], "classification", r"'t' is declared a classification .* 0\.5"),
        ([0.5, 1.0], "binary", "Maybe you want 'regression'"),
        ([3, 3], "classification", "'t' has one class only, 3:"),
        (["a"], "auto", "'t' has one class only, 'a':"),
        ([], "auto", "'t' has no observed label"),
        ([], "regression", "'t' has no observed label"),
    ],
)
def test_labels_that_do_not_suit(labels, kind, match):
    with pytest.raises(ValueError, match=match):
        make(labels, kind)


class TestKnownClasses:
    """Classes known before all of them were seen."""

    def test_widen_a_task(self):
        task = make(np.array([1, 1]), classes=[np.array([2, 0, 1])])
        assert task.classes_.tolist() == [0, 1, 2]
        assert task.kind == "multiclass"
        np.testing.assert_array_equal(task.encode(np.array([2, 0])), [2, 0])

    def test_a_label_outside_is_named(self):
        task = make(np.array([1, 1]), classes=[np.array([0, 1])])
        with pytest.raises(ValueError, match=r"'t' has the label 5, .* classes are \[0, 1\]"):
            task.encode(np.array([1, 5]))

    @pytest.mark.parametrize(
        ("first", "later"),
        [
            (["a", "b"], [0, 1]),
            ([0, 1], ["a", "b"]),
            ([0, 1], np.array(["a", "b"], dtype=object)),
            ([True, False], ["True"]),
            ([0.0, 1.0], [0.5]),
        ],
        ids=str,
    )
    def test_a_label_of_another_type_is_named(self, first, later):
        later = np.asarray(later)
        task = make(np.asarray(first), "classification")
        with pytest.raises(ValueError, match=rf"label {later.tolist()[0]!r}, .*first call"):
            task.encode(later)

    @pytest.mark.parametrize("later", [[0.0, 1.0], [True, False], np.array([1], dtype=np.uint8)])
    def test_equal_labels_of_another_dtype_are_known(self, later):
        task = make(np.array([0, 1]), "classification")
        np.testing.assert_array_equal(task.encode(np.asarray(later)), np.asarray(later, float))

    def test_not_for_a_regression(self):
        task = make([0.5, 1.5], "regression", classes=[np.array([0, 1])])
        assert task.classes_ is None


@pytest.mark.parametrize("infinity", [np.inf, -np.inf])
def test_infinite_values_are_named(infinity):
    with pytest.raises(ValueError, match=r"infinity .* in task 't'; use NaN"):
        RegressionTask("t").fit(np.array([1.0, infinity]), None, None)


@pytest.mark.parametrize("values", [[1e300, -1e300], [1e308, 1.7e308, 1e308]])
def test_values_too_large_to_standardize_are_named(values):
    with pytest.raises(ValueError, match=r"'t' has a variance too large .* larger unit"):
        make(values, "regression")


@pytest.mark.parametrize("task", [BinaryTask("t"), MulticlassTask("t"), RegressionTask("t")])
def test_repr(task):
    assert repr(task) == f"{type(task).__name__}('t')"


def test_scores():
    classes = make(["a", "b", "a", "a"], "auto")
    labels, predicted = np.array(["a", "b", "a", "a"]), np.array(["a", "a", "a", "b"])
    assert classes.score(labels, predicted, None) == 0.5
    assert classes.score(labels, predicted, np.array([3, 1, 0, 1])) == 0.6
    values, guesses, weights = np.array([1.0, 2.5, 4]), np.array([1.0, 2, 5]), np.array([1, 2, 3])
    expected = r2_score(values, guesses, sample_weight=weights)
    assert make(values).score(values, guesses, weights) == expected

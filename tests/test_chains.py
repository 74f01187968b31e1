"""Chains of binary tasks: what labels imply, and which class says that a step was reached."""

import copy
import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import assert_equal_state, by_pickle, known_to, make_table, small
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.metrics import accuracy_score, average_precision_score, log_loss, roc_auc_score
from skorch.callbacks import Callback

import sk_mtl
from sk_mtl import ESMM, SharedBottom
from sk_mtl.metrics import multi_task_report, task_scorer
from sk_mtl.tasks import BinaryTask, complete_chain, looks_negative

steady = settings(max_examples=200, deadline=None, derandomize=True, database=None)

NAN = np.nan
TABLE = make_table(120)
X, CHAIN = TABLE.X, TABLE.chain.astype(float)


# What labels imply --------------------------------------------------------------------------------


def contradicts(row):
    """Whether a row has come to a step without one before it."""
    return any(label == 1 and 0 in row[:k] for k, label in enumerate(row))


def naive(targets, usable):
    """Fill in labels and count contradictions, label by label."""
    filled = targets.copy()
    for row, new, may in zip(targets.tolist(), filled, usable, strict=True):
        for k, label in enumerate(row):
            if np.isnan(label) and may[k] and not contradicts(row):
                if 0 in row[:k]:
                    new[k] = 0
                elif 1 in row[k + 1 :]:
                    new[k] = 1
    return filled, sum(map(contradicts, targets.tolist()))


shapes = st.tuples(st.integers(0, 12), st.integers(2, 5))


@st.composite
def chains(draw):
    """Draw labels of a chain, and which of them may be filled in."""
    shape = draw(shapes)
    targets = draw(arrays(float, shape, elements=st.sampled_from([0.0, 1.0, NAN])))
    return targets, draw(arrays(bool, shape))


@steady
@given(chains())
def test_complete_chain_is_the_loop(chain):
    targets, usable = chain
    before = targets.copy()
    filled, n_contradictions = complete_chain(targets, usable)
    expected, n_expected = naive(targets, usable)
    assert_array_equal(filled, expected)
    assert n_contradictions == n_expected
    assert isinstance(n_contradictions, int)
    assert_array_equal(targets, before)


@steady
@given(chains())
def test_what_stays_as_it_is(chain):
    targets, usable = chain
    filled, _ = complete_chain(targets, usable)
    observed = ~np.isnan(targets)
    assert_array_equal(filled[observed], targets[observed])
    assert np.isnan(filled[~usable & ~observed]).all()
    for row, new in zip(targets, filled, strict=True):
        if contradicts(row.tolist()):
            assert_array_equal(new, row)


@steady
@given(chains())
def test_completing_twice_is_completing_once(chain):
    targets, usable = chain
    once, n_once = complete_chain(targets, usable)
    twice, n_twice = complete_chain(once, usable)
    assert_array_equal(twice, once)
    assert n_once == n_twice


@steady
@given(arrays(int, st.integers(0, 20), elements=st.integers(0, 5)), st.integers(2, 5), st.data())
def test_what_is_filled_in_is_implied(steps, n_steps, data):
    whole = (np.arange(n_steps) < steps[:, None]).astype(float)
    gaps = data.draw(arrays(bool, whole.shape))
    filled, n_contradictions = complete_chain(
        np.where(gaps, NAN, whole), np.ones(whole.shape, dtype=bool)
    )
    assert n_contradictions == 0
    known = ~np.isnan(filled)
    assert_array_equal(filled[known], whole[known])
    # What stays open could be either: it lies after the last step reached, before the first missed.
    for row, where in zip(filled, gaps, strict=True):
        for k in np.flatnonzero(np.isnan(row)):
            assert where[k]
            assert 0 not in row[:k]
            assert 1 not in row[k:]


def test_nested_rows_stay():
    whole = np.tril(np.ones((5, 4)), -1)
    filled, n_contradictions = complete_chain(whole, np.ones(whole.shape, dtype=bool))
    assert_array_equal(filled, whole)
    assert n_contradictions == 0


# Through ESMM -------------------------------------------------------------------------------------


class Watch(Callback):
    """Notes the rows that a fit trains on."""

    def __init__(self, note):
        self.note = note

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.note(X)


def chain(**params):
    return small(ESMM, **params)


def same(first, second):
    """Check that two fits came to the same network and history, bit for bit."""
    assert_equal_state(first.module_.state_dict(), second.module_.state_dict())
    losses = [name for name in first.history_ if name != "dur"]
    pd.testing.assert_frame_equal(first.history_[losses], second.history_[losses])


def three_steps():
    """Return a chain of three steps, all labels observed."""
    third = CHAIN["conversion"] * (np.arange(len(CHAIN)) % 3 > 0)
    return CHAIN.assign(again=third)


def no_conversion_without_click(Y):
    return Y.mask(Y["click"].eq(0).to_numpy()[:, None] & (np.arange(Y.shape[1]) > 0))


def no_click_before_conversion(Y):
    return Y.assign(click=Y["click"].mask(Y["conversion"] == 1))


def both(Y):
    return no_conversion_without_click(Y).assign(click=no_click_before_conversion(Y)["click"])


OPTIONS = {
    "plain": {},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.3},
    "balancer": {"balancer": "uncertainty"},
    "sampled": {"task_types": BinaryTask(negative_fraction=0.5)},
    "class weights": {"task_types": BinaryTask(class_weight={1: 3.0})},
}
LEAVE_OUT = [no_conversion_without_click, no_click_before_conversion, both]


@pytest.mark.parametrize("params", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("leave_out", LEAVE_OUT)
@pytest.mark.parametrize("make", [lambda: CHAIN, three_steps], ids=["two", "three"])
def test_labels_that_are_implied_may_be_missing(make, leave_out, params):
    Y = make()
    gaps = leave_out(Y)
    assert gaps.isna().to_numpy().sum() > 20
    same(chain(**params).fit(X, Y), chain(**params).fit(X, gaps))


@pytest.mark.parametrize("leave_out", LEAVE_OUT)
def test_balanced_classes_count_labels_that_are_implied(leave_out):
    params = {"task_types": BinaryTask(class_weight="balanced")}
    same(chain(**params).fit(X, CHAIN), chain(**params).fit(X, leave_out(CHAIN)))


def test_labels_that_are_implied_may_be_missing_in_a_stream():
    whole, gappy = chain(), chain()
    for start in (0, 60):
        rows = slice(start, start + 60)
        whole.partial_fit(X[rows], CHAIN[rows])
        gappy.partial_fit(X[rows], both(CHAIN)[rows])
    same(whole, gappy)


def test_labels_that_are_implied_may_be_missing_where_rows_are_weighted():
    weight = np.random.default_rng(0).uniform(0.5, 2, CHAIN.shape)
    whole = chain().fit(X, CHAIN, sample_weight=weight)
    same(whole, chain().fit(X, both(CHAIN), sample_weight=weight))


def test_labels_that_are_implied_may_be_missing_in_rows_to_validate_on():
    params = {"early_stopping": True, "max_epochs": 3}
    first, second = (
        chain(**params).fit(X[:80], CHAIN[:80], X_val=X[80:], y_val=Y[80:])
        for Y in (CHAIN, both(CHAIN))
    )
    same(first, second)


def trained_on(Y, **given_to_fit):
    """Return the labels and weights that an ESMM of the first rows trains on."""
    seen = []
    n = len(Y)
    chain(max_epochs=1, callbacks=[Watch(lambda rows: seen.append(rows))]).fit(
        X[:n], Y, **given_to_fit
    )
    (rows,) = seen
    return rows.target.numpy(), None if rows.weight is None else rows.weight.numpy()


ROWS = pd.DataFrame(
    [[0, NAN, NAN], [NAN, 1, NAN], [NAN, NAN, 1], [1, NAN, 0], [0, 0, 0], [1, 1, 1]],
    columns=["click", "cart", "buy"],
)


def test_what_is_trained_on():
    target, weight = trained_on(ROWS)
    expected = [[0, 0, 0], [1, 1, NAN], [1, 1, 1], [1, NAN, 0], [0, 0, 0], [1, 1, 1]]
    assert_array_equal(target, expected)
    assert_array_equal(weight, ~np.isnan(expected))


def test_a_label_of_zero_weight_neither_implies_nor_is_filled_in():
    weight = np.ones(ROWS.shape)
    weight[0, 1] = weight[1, 1] = weight[2, 0] = 0
    Y = ROWS.copy()
    Y.iloc[0, 1] = 0  # says nothing: its weight is zero
    Y.iloc[1] = [NAN, 1, 0]
    target, kept = trained_on(Y, sample_weight=weight)
    expected = [[0, NAN, 0], [NAN, NAN, 0], [NAN, 1, 1], [1, NAN, 0], [0, 0, 0], [1, 1, 1]]
    assert_array_equal(target, expected)
    assert_array_equal(kept, ~np.isnan(expected))


def test_a_contradiction_of_zero_weight_is_none():
    Y = ROWS.copy()
    Y.iloc[0] = [0, NAN, 1]
    weight = np.ones(ROWS.shape)
    weight[0, 2] = 0
    target, _ = trained_on(Y, sample_weight=weight)  # a warning would be an error
    assert_array_equal(target[0], [0, 0, NAN])


def test_one_warning_counts_the_contradictions():
    Y = pd.concat([ROWS, ROWS.iloc[:3]], ignore_index=True)
    Y.iloc[6] = [0, 1, NAN]
    Y.iloc[7] = [0, NAN, 1]  # the steps are no neighbours
    Y.iloc[8] = [0, 1, 1]
    with pytest.warns(UserWarning, match="rows have come to a step") as said:
        target, _ = trained_on(Y)
    assert len(said) == 1
    assert str(said[0].message).startswith("3 rows have come to a step of click -> cart -> buy")
    assert_array_equal(target[6:], Y[6:])


# The positive class -------------------------------------------------------------------------------

WORDS = {"click": ["none", "click"], "conversion": ["no buy", "buy"]}
"""Names of not reached and reached, whose sorted order is the other one."""


def in_words(Y=CHAIN, words=WORDS):
    """Return labels by name: [not reached, reached]."""
    return pd.DataFrame({name: np.array(words[name])[Y[name].astype(int)] for name in Y})


POSITIVE = {
    "dict": {"click": "click", "conversion": "buy"},
    "list": ["click", "buy"],
    "tuple": ("click", "buy"),
    "array": np.array(["click", "buy"]),
}


@pytest.fixture(scope="module")
def plain():
    """Return an ESMM fitted to zeros and ones."""
    return chain().fit(X, CHAIN)


def check_mirrored(model, plain):
    """Check a model of words, in sorted order reached first, against one of zeros and ones."""
    assert_equal_state(model.module_.state_dict(), plain.module_.state_dict())
    proba, expected = model.predict_proba(X), plain.predict_proba(X)
    assert_allclose(proba, expected[:, [1, 0, 3, 2]], rtol=1e-12)
    assert_allclose(model.decision_function(X), -plain.decision_function(X), rtol=1e-12)
    reached = pd.DataFrame(plain.predict(X), columns=CHAIN.columns)
    assert_array_equal(model.predict(X), in_words(reached))
    assert_array_equal(model.predict_conversion_rate(X), plain.predict_conversion_rate(X))


@pytest.mark.parametrize("positive", POSITIVE.values(), ids=POSITIVE.keys())
def test_positive_per_task(positive, plain):
    check_mirrored(chain(positive=positive).fit(X, in_words()), plain)


KINDS = {
    "instance": BinaryTask(),
    "class": BinaryTask,
    "string": "binary",
    "classification": "classification",
    "auto": "auto",
    "list": [BinaryTask(), "binary"],
    "dict": {"click": BinaryTask, "conversion": BinaryTask()},
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_positive_with_any_task_types(kind, plain):
    model = chain(positive=POSITIVE["dict"], task_types=kind).fit(X, in_words())
    check_mirrored(model, plain)
    if isinstance(kind, BinaryTask):
        assert kind.positive is None  # the user's own instance was copied


def test_positive_of_task_types(plain):
    kinds = [BinaryTask(positive="click"), BinaryTask(positive="buy")]
    check_mirrored(chain(task_types=kinds).fit(X, in_words()), plain)
    wrong = [BinaryTask(positive="none"), BinaryTask(positive="no buy")]
    check_mirrored(chain(task_types=wrong, positive=["click", "buy"]).fit(X, in_words()), plain)


def test_one_positive_for_all(plain):
    words = {"click": ["off", "Done"], "conversion": ["off", "Done"]}
    model = chain(positive="Done").fit(X, in_words(words=words))
    assert_equal_state(model.module_.state_dict(), plain.module_.state_dict())
    assert model.classes_[0].tolist() == ["Done", "off"]
    assert_allclose(model.predict_proba(X)[:, 0], plain.predict_proba(X)[:, 1], rtol=1e-12)


@pytest.mark.parametrize("positive", [False, np.False_, [False, False], 0], ids=repr)
def test_booleans_turned_round(positive, plain):
    model = chain(positive=positive).fit(X, CHAIN == 0)
    assert_equal_state(model.module_.state_dict(), plain.module_.state_dict())
    assert_allclose(model.predict_proba(X), plain.predict_proba(X)[:, [1, 0, 3, 2]], rtol=1e-12)


@pytest.mark.parametrize("positive", [None, True, {"click": True}], ids=repr)
def test_booleans_are_reached_where_true(positive, plain):
    model = chain(positive=positive).fit(X, CHAIN == 1)
    assert_equal_state(model.module_.state_dict(), plain.module_.state_dict())
    assert_array_equal(model.predict_proba(X), plain.predict_proba(X))


def test_a_dict_may_leave_tasks_out(plain):
    Y = in_words().assign(conversion=CHAIN["conversion"])
    model = chain(positive={"click": "click"}).fit(X, Y)
    assert_equal_state(model.module_.state_dict(), plain.module_.state_dict())
    assert [task.positive_class for task in model.tasks_] == ["click", 1.0]


def test_missing_labels_are_implied_by_the_positive_class(plain):
    Y = in_words().where(both(CHAIN).notna(), None)
    check_mirrored(chain(positive=POSITIVE["dict"]).fit(X, Y), plain)


@pytest.mark.parametrize(
    ("positive", "message"),
    [
        ("Click", r"`positive` of task 'click' is 'Click'.*\['click', 'none'\]"),
        (["click", "sale"], "`positive` of task 'conversion' is 'sale'"),
        ({"clicks": "click"}, "`positive` names the task 'clicks'"),
        (["click"], "`positive` has 1 entries and y has 2 tasks"),
        (1, "`positive` of task 'click' is 1"),
    ],
)
def test_a_wrong_positive(positive, message):
    model = chain(positive=positive)
    with pytest.raises(ValueError, match=message):
        model.fit(X, in_words())
    assert not hasattr(model, "tasks_")


def test_positive_in_a_stream(plain):
    whole, words = chain().partial_fit(X, CHAIN), chain(positive=POSITIVE["dict"])
    classes = [["click", "none"], ["buy", "no buy"]]
    words.partial_fit(X, in_words(), classes=classes)
    assert_equal_state(words.module_.state_dict(), whole.module_.state_dict())


def test_positive_may_not_change_between_fits():
    model = chain(positive=POSITIVE["dict"], warm_start=True).fit(X, in_words())
    model.set_params(positive=["none", "no buy"])
    with pytest.raises(ValueError, match="`positive` was"):
        model.fit(X, in_words())


# What the predictions say -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def words():
    """Return an ESMM whose positive classes are the first ones in sorted order."""
    return chain(positive=POSITIVE["dict"], max_epochs=8).fit(X, in_words())


def test_columns_stand_in_sorted_order(words):
    assert words.classes_[0].tolist() == ["click", "none"]
    assert words.classes_[1].tolist() == ["buy", "no buy"]
    assert words.get_proba_names_out().tolist() == [
        "click=click",
        "click=none",
        "conversion=buy",
        "conversion=no buy",
    ]
    assert [task.positive_class for task in words.tasks_] == ["click", "buy"]


def test_predictions_agree(words):
    proba, decision, labels = words.predict_proba(X), words.decision_function(X), words.predict(X)
    for k, (name, part) in enumerate(words.predict_task_proba(X).items()):
        assert_array_equal(part, proba[:, 2 * k : 2 * k + 2])
        assert_allclose(part.sum(axis=1), 1, rtol=1e-12)
        assert_array_equal(decision[:, k] > 0, part[:, 1] > 0.5)
        assert_array_equal(labels[:, k], words.classes_[k][part.argmax(axis=1)])
        assert_allclose(part[:, 1], 1 / (1 + np.exp(-decision[:, k])), rtol=1e-6)
        assert len(set(labels[:, k])) == 2, name
        view = words.task_view(name)
        assert_array_equal(view.predict_proba(X), part)
        assert_array_equal(view.predict(X), labels[:, k])
    assert (proba[:, 2] <= proba[:, 0]).all()
    assert_allclose(proba[:, 2], proba[:, 0] * words.predict_conversion_rate(X), rtol=1e-5)


def test_metrics_agree(words):
    Y, proba, labels = in_words(), words.predict_proba(X), words.predict(X)
    report = multi_task_report(Y, words, X)
    for k, name in enumerate(Y):
        second, expected = Y[name] == words.classes_[k][1], proba[:, 2 * k + 1]
        row = report.loc[name]
        assert_allclose(row["roc_auc"], roc_auc_score(second, expected))
        assert row["roc_auc"] > 0.7
        assert_allclose(row["average_precision"], average_precision_score(second, expected))
        assert_allclose(row["neg_log_loss"], -log_loss(second, expected))
        assert_allclose(row["accuracy"], accuracy_score(Y[name], labels[:, k]))
        assert_allclose(task_scorer("roc_auc", name)(words, X, Y), row["roc_auc"])
    assert_allclose(words.score(X, Y), report["accuracy"].mean())


def test_monitor_agrees():
    scorer = task_scorer("neg_log_loss", "conversion")
    params = {"early_stopping": True, "validation_fraction": 0.3, "max_epochs": 6, "lr": 0.05}
    first = chain(monitor=scorer, **params).fit(X, CHAIN)
    second = chain(monitor=scorer, positive=POSITIVE["dict"], **params).fit(X, in_words())
    assert_equal_state(second.module_.state_dict(), first.module_.state_dict())


# Warnings -----------------------------------------------------------------------------------------


def words_of(click, conversion):
    return in_words(words={"click": click, "conversion": conversion})


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["none", "click"], True),
        (["no buy", "buy"], True),
        (["not clicked", "clicked"], True),
        (["Non-click", "Click"], True),
        (["no", "yes"], False),
        (["0", "1"], False),
        (["False", "True"], False),
        (["n", "y"], False),
        (["bounce", "north"], False),
        (["a", "notable"], False),
    ],
)
def test_a_positive_class_that_looks_like_no(labels, said):
    Y = words_of(labels, ["no", "yes"])
    second = max(labels)
    assert looks_negative(second) == said
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        # Of a class that is not reached, what comes after contradicts it: another warning.
        chain(max_epochs=1).fit(X, Y)
    messages = [str(w.message) for w in found if "that says 'reached'" in str(w.message)]
    assert len(messages) == said
    if said:
        assert f"takes {second!r}" in messages[0]
        assert f"positive={{'click': {min(labels)!r}}}" in messages[0]


def test_both_tasks_are_named():
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        chain(max_epochs=1).fit(X, in_words())
    messages = "\n".join(str(w.message) for w in found)
    assert "class of task 'click'" in messages
    assert "class of task 'conversion'" in messages


def test_the_advice_silences_the_warning():
    Y = words_of(["none", "click"], ["0", "1"])
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        chain(max_epochs=1).fit(X, Y)
    assert "positive={'click': 'click'}" in str(found[0].message)
    chain(max_epochs=1, positive={"click": "click"}).fit(X, Y)


def test_what_the_user_says_may_look_like_anything():
    turned = words_of(["click", "none"], ["buy", "no buy"])
    chain(max_epochs=1, positive={"click": "none", "conversion": "no buy"}).fit(X, turned)
    kinds = [BinaryTask(positive="none"), BinaryTask(positive="no buy")]
    chain(max_epochs=1, task_types=kinds).fit(X, turned)


@pytest.mark.parametrize("dtype", [int, float, bool])
def test_numbers_and_booleans_say_nothing(dtype):
    chain(max_epochs=1).fit(X, CHAIN.astype(dtype))


# What is kept -------------------------------------------------------------------------------------


def by_file(model, folder):
    pytest.importorskip("safetensors", reason="an extra that save and load need")
    model.save(folder / "model.safetensors")
    return sk_mtl.load(folder / "model.safetensors")


def by_copy(model, folder):
    return copy.deepcopy(model)


COPIES = pytest.mark.parametrize("how", [by_pickle, by_file, by_copy])


@COPIES
@pytest.mark.parametrize("positive", [*POSITIVE.values()], ids=POSITIVE.keys())
def test_copies_keep_positive(how, positive, plain, tmp_path):
    model = chain(positive=positive).fit(X, in_words())
    again = how(model, tmp_path)
    check_mirrored(again, plain)
    assert repr(again.positive) == repr(positive)
    assert [task.positive_class for task in again.tasks_] == ["click", "buy"]
    again.set_params(max_epochs=1).fit(X, in_words())
    assert again.tasks_[1].positive_class == "buy"


def test_copies_go_on(tmp_path):
    model = chain(positive=POSITIVE["dict"], warm_start=True).fit(X, in_words())
    again = by_pickle(model)
    same(again.fit(X, in_words()), model.fit(X, in_words()))


def test_clone_and_parameters():
    positive = {"click": "click", "conversion": "buy"}
    model = chain(positive=positive)
    assert model.get_params()["positive"] == positive
    assert clone(model).positive == positive
    assert clone(model).positive is not positive
    assert "positive={'click': 'click'" in repr(model)
    assert ESMM().positive is None
    assert "positive" not in known_to(SharedBottom, {"positive": None})
    task = BinaryTask(positive="click")
    assert task.get_params()["positive"] == "click"
    assert clone(task).positive == "click"
    assert "positive='click'" in repr(task)


# BinaryTask alone ---------------------------------------------------------------------------------

SHARED = {
    "plain": ({}, {}),
    "class_weight": (
        {"class_weight": {0: 0.5, 1: 3.0}},
        {"class_weight": {"none": 0.5, "click": 3.0}},
    ),
    "one class weight": ({"class_weight": {1: 3.0}}, {"class_weight": {"click": 3.0}}),
    "balanced": ({"class_weight": "balanced"},) * 2,
    "pos_weight": ({"pos_weight": 4.0},) * 2,
    "focal": ({"focal_gamma": 2.0, "label_smoothing": 0.1},) * 2,
    "negative_fraction": ({"negative_fraction": 0.4},) * 2,
    "all": (
        {"class_weight": {0: 2.0}, "pos_weight": 3.0, "negative_fraction": 0.5},
        {"class_weight": {"none": 2.0}, "pos_weight": 3.0, "negative_fraction": 0.5},
    ),
}


@pytest.mark.parametrize(("of_numbers", "of_words"), SHARED.values(), ids=SHARED.keys())
def test_binary_task_alone(of_numbers, of_words, tmp_path):
    y = CHAIN["click"].astype(int)
    named = in_words()["click"]
    first = small(SharedBottom, task_types=BinaryTask(**of_numbers)).fit(X, y)
    task = BinaryTask(positive="click", **of_words)
    second = small(SharedBottom, task_types=task).fit(X, named)
    for model in (second, by_pickle(second), by_file(second, tmp_path)):
        assert_equal_state(model.module_.state_dict(), first.module_.state_dict())
        assert model.classes_.tolist() == ["click", "none"]
        assert_allclose(model.predict_proba(X), first.predict_proba(X)[:, ::-1], rtol=1e-12)
        assert_allclose(model.decision_function(X), -first.decision_function(X), rtol=1e-12)
        assert_array_equal(model.predict(X) == "click", first.predict(X) == 1)
        assert_allclose(model.score(X, named), first.score(X, y))


def test_the_second_class_may_be_named():
    named = in_words()["click"]
    first = small(SharedBottom).fit(X, named)
    second = small(SharedBottom, task_types=BinaryTask(positive="none")).fit(X, named)
    assert_equal_state(second.module_.state_dict(), first.module_.state_dict())
    assert_array_equal(second.predict_proba(X), first.predict_proba(X))


def test_negatives_are_those_that_are_not_positive():
    seen = []
    watch = Watch(lambda rows: seen.append(rows.target.numpy()))
    task = BinaryTask(positive="click", negative_fraction=0.2)
    named = in_words()["click"]
    small(SharedBottom, task_types=task, callbacks=[watch], max_epochs=1).fit(X, named)
    (target,) = seen
    assert (target == 1).sum() == (named == "click").sum()
    assert 0 < (target == 0).sum() < 0.5 * (named == "none").sum()


def test_a_wrong_positive_of_a_task():
    model = small(SharedBottom, task_types=BinaryTask(positive="maybe"))
    with pytest.raises(ValueError, match=r"`positive` of task .* is 'maybe', which is none of its"):
        model.fit(X, in_words()["click"])

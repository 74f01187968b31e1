"""What the displays draw, against the functions and the history that they draw it from."""

import inspect
import warnings

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import any_task, by_pickle, everywhere, make_table, small
from sklearn.calibration import calibration_curve
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError

from sk_mtl import ESMM, PLE, STEM, MMoE, PEPNet, SharedBottom, SingleTask, inspection, load
from sk_mtl.balancing import LossBalancer
from sk_mtl.categorical import Bag, Categories, Hashed
from sk_mtl.inspection import (
    BalanceDisplay,
    EmbeddingDisplay,
    ExpertUseDisplay,
    GateDisplay,
    LossDisplay,
    TaskAffinityDisplay,
    TaskCalibrationDisplay,
    embedding_neighbors,
    embedding_vectors,
    expert_use,
    gate_weights,
)
from sk_mtl.metrics import task_scorer
from sk_mtl.tasks import BinaryTask

TABLE = make_table(120)
TASKS = list(TABLE.Y)
BINARY = "income"


@pytest.fixture(autouse=True)
def plt():
    mpl.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def fit(cls=MMoE, **params):
    model = small(cls, **params)
    return model.fit(TABLE.X, TABLE.targets(cls))


def labels_of(ticks):
    return [tick.get_text() for tick in ticks]


def legend_of(holder):
    return labels_of(holder.get_texts())


def test_every_display_draws_on_given_axes_or_makes_its_own():
    for name in inspection.__all__:
        if not name.endswith("Display"):
            continue
        display = getattr(inspection, name)
        for method in (display.from_estimator, display.plot):
            known = inspect.signature(method).parameters
            (where,) = known.keys() & {"ax", "axes"}
            assert known[where].kind is inspect.Parameter.KEYWORD_ONLY
            assert known[where].default is None, name
        assert next(iter(inspect.signature(display.from_estimator).parameters)) == "estimator"


@pytest.mark.parametrize(
    ("display", "more"),
    [
        (LossDisplay, ()),
        (BalanceDisplay, ()),
        (EmbeddingDisplay, ("city",)),
        (GateDisplay, (TABLE.X,)),
        (TaskCalibrationDisplay, (TABLE.X, TABLE.Y)),
    ],
)
def test_displays_want_a_fitted_estimator(display, more):
    with pytest.raises(NotFittedError):
        display.from_estimator(MMoE(), *more)


# Learning curves ----------------------------------------------------------------------------------


def test_loss_curves_are_the_history():
    model = fit(max_epochs=4, validation_fraction=0.3)
    display = LossDisplay.from_estimator(model, by_task=False)
    assert display.axes_ == [display.ax_] == display.figure_.axes
    assert list(display.lines_) == [(t, rows) for t in TASKS for rows in ("training", "held out")]
    for (task, rows), line in display.lines_.items():
        column = f"{'train' if rows == 'training' else 'valid'}_loss_{task}"
        assert line.get_ydata().tolist() == model.history_[column].tolist()
        assert line.get_xdata().tolist() == [1, 2, 3, 4]
        assert line.get_linestyle() == ("-" if rows == "training" else "--")
    colors = {display.lines_[task, "training"].get_color() for task in TASKS}
    assert len(colors) == len(TASKS)
    assert legend_of(display.ax_.get_legend()) == [*TASKS, "training", "held out"]
    assert display.best_epoch is None
    assert display.best_lines_ == []


def test_loss_curves_without_rows_held_out(plt):
    _, ax = plt.subplots()
    display = LossDisplay.from_estimator(fit(), ax=ax)
    assert display.ax_ is ax
    assert {rows for _, rows in display.lines_} == {"training"}
    assert legend_of(ax.get_legend()) == [*TASKS, "training"]


def history(**losses):
    columns = {f"train_loss_{name}": own for name, own in losses.items()}
    return pd.DataFrame({"epoch": [1, 2, 3], **columns})


def test_losses_of_other_scale_get_axes_of_their_own(plt):
    near = history(a=[3.0, 2.0, 1.0], b=[2.0, 1.8, 1.5])
    far = history(a=[300.0, 200.0, 100.0], b=[2.0, 1.8, 1.5])
    assert len(LossDisplay(near, ["a", "b"]).plot().axes_) == 1
    display = LossDisplay(far, ["a", "b"], best_epoch=2).plot()
    assert [ax.get_title() for ax in display.axes_] == ["a", "b"]
    for name, ax in zip("ab", display.axes_, strict=True):
        assert display.lines_[name, "training"].axes is ax
    (legend,) = display.figure_.legends
    assert legend_of(legend) == ["training", "epoch 2, restored"]
    assert [line.axes for line in display.best_lines_] == display.axes_
    assert len(LossDisplay(far, ["a", "b"]).plot(by_task=False).axes_) == 1
    assert len(LossDisplay(near, ["a", "b"]).plot(by_task=True).axes_) == 2
    _, ax = plt.subplots()
    assert LossDisplay(far, ["a", "b"]).plot(ax=ax).axes_ == [ax]
    with pytest.raises(ValueError, match="`by_task` is True, which makes axes of its own"):
        LossDisplay(far, ["a", "b"]).plot(by_task=True, ax=ax)
    with pytest.raises(ValueError, match=r"'c', of which `history` has no losses; it has \['a'"):
        LossDisplay(far, ["a", "c"]).plot()


def stopped(**params):
    """Return an estimator that gets worse on the rows held out while it trains."""
    params = {"max_epochs": 12, "lr": 0.3, "early_stopping": True, "n_iter_no_change": 99} | params
    return fit(**params)


MONITORS = {
    "loss": ({}, lambda h: h["valid_loss"]),
    "task": ({"monitor": "valid_loss_income"}, lambda h: h["valid_loss_income"]),
    "score": ({"monitor": task_scorer("accuracy", "income")}, lambda h: -h["valid_score"]),
}


@pytest.mark.parametrize("monitor", MONITORS)
def test_the_restored_epoch_is_marked(monitor, tmp_path):
    params, watched = MONITORS[monitor]
    model = stopped(**params)
    expected = int(watched(model.history_).argmin()) + 1
    assert 1 <= expected < model.n_iter_
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`monitor` is left out of the file")
        model.save(tmp_path / "model")
    for one in (model, by_pickle(model), load(tmp_path / "model")):
        display = LossDisplay.from_estimator(one, by_task=False)
        assert display.best_epoch == expected
        (mark,) = display.best_lines_
        assert set(mark.get_xdata()) == {expected}
        assert f"epoch {expected}, restored" in legend_of(display.ax_.get_legend())


def test_the_restored_epoch_is_that_of_the_callback():
    model = stopped()
    (best,) = (c for name, c in model.net_.callbacks_ if name == "best")
    assert LossDisplay.from_estimator(model).best_epoch == best.epoch_


def test_the_restored_epoch_over_several_fits():
    model = stopped(warm_start=True)
    first = LossDisplay.from_estimator(model).best_epoch
    model.set_params(lr=10.0, max_epochs=2).fit(TABLE.X, TABLE.Y)  # nothing gets better by this
    assert model.n_iter_ == 14
    assert LossDisplay.from_estimator(model).best_epoch == first
    held_out = model.history_["valid_loss"]
    model.set_params(lr=1e-3).fit(TABLE.X, TABLE.Y)
    if model.history_["valid_loss"][14:].min() < held_out.min():
        assert LossDisplay.from_estimator(model).best_epoch > 14


def test_no_epoch_is_marked_where_none_was_restored():
    for model in (fit(), fit(validation_fraction=0.2), by_pickle(fit(validation_fraction=0.2))):
        assert LossDisplay.from_estimator(model).best_epoch is None


# The balancer's weights ---------------------------------------------------------------------------


@any_task
def test_balance_display_draws_the_history(cls):
    model = fit(cls, balancer="uncertainty", max_epochs=3)
    display = BalanceDisplay.from_estimator(model)
    assert list(display.lines_) == TASKS
    for task, line in display.lines_.items():
        assert line.get_ydata().tolist() == model.history_[f"weight_{task}"].tolist()
        assert line.get_xdata().tolist() == [1, 2, 3]
    assert legend_of(display.ax_.get_legend()) == TASKS
    assert display.ax_.get_title() == "weights of the losses, uncertainty"
    assert display.ax_.get_yscale() == "linear"


class Silent(LossBalancer):
    def forward(self, losses):
        return losses.sum()

    def backward(self, losses, step):
        losses.sum().backward()
        return losses.detach().sum()


def test_a_balancer_without_weights_is_named(plt):
    with pytest.raises(ValueError, match="'Silent' reports no weights, so `history_` has no col"):
        BalanceDisplay.from_estimator(fit(balancer=Silent()))
    assert plt.get_fignums() == []


def test_weights_far_apart_are_drawn_on_a_logarithmic_scale():
    weights = pd.DataFrame({"a": [1.0, 2.0], "b": [0.01, np.nan]}, index=[1, 2])
    assert BalanceDisplay(weights).plot().ax_.get_yscale() == "log"
    assert BalanceDisplay(weights * 0).plot().ax_.get_yscale() == "linear"


# Gates --------------------------------------------------------------------------------------------


def test_gate_display_puts_every_expert_at_its_number():
    model = fit(PLE, n_task_experts=2, n_shared_experts=1)
    display = GateDisplay.from_estimator(model, TABLE.X)
    weights, use = gate_weights(model, TABLE.X), expert_use(model, TABLE.X)
    assert len(display.axes_) == len(display.images_) == 2
    for level, image in enumerate(display.images_):
        grid = image.get_array()
        names = labels_of(display.axes_[level].get_yticklabels())
        assert names == [n for n, own in weights.items() if len(own) > level]
        of_level = use[use["level"] == level + 1].set_index(["task", "expert"])["load"]
        for row, name in enumerate(names):
            for expert in range(grid.shape[1]):
                if (name, expert) in of_level:
                    assert grid[row, expert] == pytest.approx(of_level[name, expert])
                else:  # an expert that the gate does not read
                    assert np.ma.getmaskarray(np.ma.masked_invalid(grid))[row, expert]


def test_gate_display_of_members():
    model = fit(n_experts=3, n_members=2)
    display = GateDisplay.from_estimator(model, TABLE.X)
    (image,) = display.images_
    expected = np.stack([w[0].mean(axis=0) for w in gate_weights(model, TABLE.X).values()])
    assert np.allclose(image.get_array(), expected)
    assert labels_of(display.axes_[0].get_xticklabels()) == ["0", "1"]
    assert "member" in display.axes_[0].get_xlabel()


def test_numbers_of_a_heat_map_are_those_of_its_squares():
    display = GateDisplay.from_estimator(fit(n_experts=3), TABLE.X)
    (ax,) = [ax for ax in display.figure_.axes if ax.texts]
    grid = display.images_[0].get_array()
    assert len(ax.texts) == grid.size
    for text in ax.texts:
        column, row = text.get_position()
        assert text.get_text() == f"{grid[row, column]:.2f}"
    crowded = GateDisplay({"a": [np.full(40, 1 / 40)]}).plot()
    assert not crowded.axes_[0].texts


def grids(display):
    """Return the heat maps by their titles."""
    pairs = zip(display.axes_, display.images_, strict=True)
    return {ax.get_title(): np.asarray(image.get_array()) for ax, image in pairs}


def test_gate_display_by_the_values_of_a_column():
    model = fit(n_experts=3)
    display = GateDisplay.from_estimator(model, TABLE.X, by="city")
    cities = TABLE.X["city"]
    known = sorted(cities.dropna().unique())
    assert display.values == [*known, "<missing>"]
    assert display.counts == [*(int((cities == c).sum()) for c in known), int(cities.isna().sum())]
    found = grids(display)
    assert list(found) == TASKS
    for task, (weights,) in gate_weights(model, TABLE.X).items():
        expected = [weights[cities == city].mean(axis=0) for city in known]
        expected.append(weights[cities.isna()].mean(axis=0))
        assert np.allclose(found[task], expected)
    first = display.axes_[0]
    assert first.get_ylabel() == "city"
    labels = [f"{v} ({n})" for v, n in zip(display.values, display.counts, strict=True)]
    assert labels_of(first.get_yticklabels()) == labels
    limits = {image.get_clim() for image in display.images_}
    assert limits == {(0.0, max(grid.max() for grid in found.values()))}


def test_numbers_are_cut_at_quantiles():
    model = fit(n_experts=3)
    display = GateDisplay.from_estimator(model, TABLE.X, by="hours", n_values=4)
    hours = TABLE.X["hours"]
    assert len(display.values) == 4
    assert max(display.counts) - min(display.counts) <= 2 * hours.value_counts().max()
    (weights,), start = gate_weights(model, TABLE.X)["income"], 0
    for label, count, found in zip(
        display.values, display.counts, grids(display)["income"], strict=True
    ):
        low, high = map(float, label.split(" to "))
        rows = hours.between(low, high)
        assert rows.sum() == count
        assert np.allclose(weights[rows].mean(axis=0), found)
        start += count
    assert start == len(hours)


def test_rare_categories_are_put_together():
    model, word = fit(n_experts=3), np.array(list("aaaabbbcdx" * 12))
    display = GateDisplay.from_estimator(model, TABLE.X, by=word, n_values=3)
    assert display.values == ["a", "b", "<others>"]
    assert display.counts == [48, 36, 36]
    (weights,) = gate_weights(model, TABLE.X)["wage"]
    assert np.allclose(grids(display)["wage"][2], weights[np.isin(word, ["c", "d", "x"])].mean(0))
    named = pd.Series(word, name="letter", index=np.arange(120)[::-1])  # rows go by position
    again = GateDisplay.from_estimator(model, TABLE.X, by=named, n_values=3)
    assert again.by == "letter"
    assert np.array_equal(grids(again)["wage"], grids(display)["wage"])
    steps = pd.Categorical(np.resize(["low", "mid", "high"], 120), ["low", "mid", "high", "top"])
    assert GateDisplay.from_estimator(model, TABLE.X, by=steps).values == ["low", "mid", "high"]
    constant = GateDisplay.from_estimator(model, TABLE.X, by=np.zeros(120))
    assert constant.values == ["0.0"]
    empty = GateDisplay.from_estimator(model, TABLE.X, by=[None] * 120)
    assert empty.values == ["<missing>"]


def test_gates_of_levels_and_members_by_values():
    model = fit(PLE, n_members=2, n_task_experts=1, n_shared_experts=1)
    display = GateDisplay.from_estimator(model, TABLE.X, by="student")
    found, weights = grids(display), gate_weights(model, TABLE.X)
    assert len(found) == sum(map(len, weights.values()))
    student = TABLE.X["student"].astype(bool)
    expected = weights["level"][1][student].mean(axis=0)
    grid = found["level, level 2"][display.values.index("True")]
    assert np.allclose(grid[~np.isnan(grid)], expected)


@everywhere
def test_gates_by_values_of_every_architecture(cls):
    model = fit(cls)
    if not any(hasattr(part, "streams") for part in model.module_.modules()):
        return
    display = GateDisplay.from_estimator(model, TABLE.X, by="student")
    n_gates = sum(map(len, gate_weights(model, TABLE.X).values()))
    assert len(display.axes_) == n_gates


def test_gates_by_what_there_is_not(plt):
    model = fit()
    by = {
        "town": r"`by` is 'town', and X has no such column; pass one of \['age'",
        7: r"`by` is 7, and X has no such column",
    }
    for column, message in by.items():
        with pytest.raises(ValueError, match=message):
            GateDisplay.from_estimator(model, TABLE.X, by=column)
    with pytest.raises(ValueError, match="`by` has 3 values and X has 120 rows"):
        GateDisplay.from_estimator(model, TABLE.X, by=[1, 2, 3])
    with pytest.raises(ValueError, match="whose cells hold several categories, such as \\['a'\\]"):
        GateDisplay.from_estimator(model, TABLE.X, by=[["a"]] * 120)
    with pytest.raises(ValueError, match="`n_values` must be a whole number of at least 2"):
        GateDisplay.from_estimator(model, TABLE.X, by="city", n_values=1)
    with pytest.raises(ValueError, match="`axes` has 1 axes and there are 4 gates"):
        GateDisplay.from_estimator(model, TABLE.X, by="city", axes=plt.subplots()[1])
    with pytest.raises(ValueError, match="SharedBottom has no gates"):
        GateDisplay.from_estimator(fit(SharedBottom), TABLE.X, by="city")


def test_positions_name_the_columns_of_an_array():
    X = np.random.default_rng(0).normal(size=(60, 3)).round(1)
    model = small(MMoE).fit(X, X[:, :2] > 0)
    display = GateDisplay.from_estimator(model, X, by=1, n_values=5)
    assert display.by == "1"
    assert sum(display.counts) == 60


def test_factors_have_no_experts():
    model = fit(PEPNet)
    display = GateDisplay.from_estimator(model, TABLE.X)
    assert display.axes_[0].get_xlabel() == "unit"
    means = {name: own[0].mean(axis=0) for name, own in gate_weights(model, TABLE.X).items()}
    assert all(np.array_equal(display.means[n][0], m) for n, m in means.items() if n in TASKS)


def test_expert_use_display_marks_an_even_load():
    model = fit(n_experts=4)
    display, use = ExpertUseDisplay.from_estimator(model, TABLE.X), expert_use(model, TABLE.X)
    (ax,) = display.axes_
    (even,) = ax.lines
    assert set(even.get_ydata()) == {0.25}
    for bars in ax.containers:
        heights = [bar.get_height() for bar in bars]
        assert np.allclose(heights, use.loc[use["task"] == bars.get_label(), "load"])
    assert legend_of(ax.get_legend()) == [*TASKS, "even load"]
    uneven = ExpertUseDisplay.from_estimator(fit(PLE, n_levels=1, n_shared_experts=2), TABLE.X)
    assert len(uneven.axes_[0].lines) == 1  # one level: all gates read as many


# Calibration --------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["quantile", "uniform"])
@pytest.mark.parametrize("n_members", [1, 2])
def test_calibration_is_that_of_scikit_learn(strategy, n_members):
    Y = TABLE.Y.assign(other=np.where(TABLE.X["hours"] > 30, "yes", "no"))
    Y.loc[Y.index[::5], "other"] = None
    model = small(MMoE, n_members=n_members).fit(TABLE.X, Y)
    display = TaskCalibrationDisplay.from_estimator(model, TABLE.X, Y, n_bins=4, strategy=strategy)
    binary = [t.name for t in model.tasks_ if isinstance(t, BinaryTask)]
    assert list(display.curves) == list(display.lines_) == binary
    assert "other" in binary
    for ax, name in zip(display.axes_, binary, strict=True):
        seen = Y[name].notna().to_numpy()
        proba = model.task_view(name).predict_proba(TABLE.X)[seen, 1]
        positive = model.task_view(name).classes_[1]
        true, predicted = calibration_curve(
            Y[name][seen] == positive, proba, n_bins=4, strategy=strategy
        )
        curve = display.curves[name]
        assert np.allclose(curve["observed"], true)
        assert np.allclose(curve["predicted"], predicted)
        assert curve["n"].sum() == seen.sum()
        assert display.lines_[name].axes is ax
        assert np.array_equal(display.lines_[name].get_xdata(), curve["predicted"])
        assert np.array_equal(display.lines_[name].get_ydata(), curve["observed"])
        assert ax.get_title() == name


def binary_names(model):
    return [task.name for task in model.tasks_ if isinstance(task, BinaryTask)]


def test_the_positive_class_is_the_tasks():
    model = small(MMoE, task_types={"income": BinaryTask(positive=TABLE.Y["income"].min())})
    model.fit(TABLE.X, TABLE.Y)
    usual, turned = (
        TaskCalibrationDisplay.from_estimator(m, TABLE.X, TABLE.Y, n_bins=1).curves["income"]
        for m in (fit(), model)
    )
    seen = TABLE.Y["income"].dropna()
    assert usual["observed"][0] == pytest.approx((seen == seen.max()).mean())
    assert turned["observed"][0] == pytest.approx((seen == seen.min()).mean())
    proba = model.task_view("income").predict_proba(TABLE.X)[TABLE.Y["income"].notna(), 0]
    assert turned["predicted"][0] == pytest.approx(proba.mean())


def test_weights_count_in_calibration():
    model, rng = fit(), np.random.default_rng(0)
    weights = rng.integers(0, 3, TABLE.Y.shape)
    found = TaskCalibrationDisplay.from_estimator(
        model, TABLE.X, TABLE.Y, weights, strategy="uniform"
    )
    for name in found.curves:
        k = TASKS.index(name)
        y, times = TABLE.Y[name], weights[:, k] * TABLE.Y[name].notna()
        repeated = np.repeat(np.arange(len(y)), times)
        proba = model.task_view(name).predict_proba(TABLE.X)[repeated, 1]
        true = y.iloc[repeated] == model.task_view(name).classes_[1]
        expected = TaskCalibrationDisplay.from_predictions(
            {name: true}, {name: proba}, strategy="uniform"
        )
        columns = ["predicted", "observed"]
        assert np.allclose(found.curves[name][columns], expected.curves[name][columns])


def test_tasks_without_labels_have_no_curve():
    model = fit()
    gone = TABLE.Y.assign(income=None)
    assert BINARY in binary_names(model)
    left = [name for name in binary_names(model) if name != "income"]
    if left:
        display = TaskCalibrationDisplay.from_estimator(model, TABLE.X, gone)
        assert list(display.curves) == left
    none = TABLE.Y.assign(**dict.fromkeys(binary_names(model)))
    with pytest.raises(ValueError, match="no task with two classes that has labels"):
        TaskCalibrationDisplay.from_estimator(model, TABLE.X, none)
    values = small(MMoE).fit(TABLE.X, TABLE.Y["wage"])
    with pytest.raises(ValueError, match="no task with two classes that has labels"):
        TaskCalibrationDisplay.from_estimator(values, TABLE.X, TABLE.Y["wage"])


def test_steps_of_a_chain_count_all_rows():
    chain = TABLE.chain.astype(float)
    first, second = chain
    chain.loc[chain[first] == 0, second] = np.nan  # what a click log has
    model = small(ESMM).fit(TABLE.X, chain)
    display = TaskCalibrationDisplay.from_estimator(model, TABLE.X, chain, n_bins=1)
    curve = display.curves[second]
    assert curve["n"][0] == len(chain)
    assert curve["observed"][0] == pytest.approx(TABLE.chain[second].mean())
    assert curve["predicted"][0] == pytest.approx(
        model.task_view(second).predict_proba(TABLE.X)[:, 1].mean()
    )


def test_curves_from_predictions(plt):
    y = {"a": [0, 1, np.nan, 1], "b": [0, 0, 1, 0]}
    proba = {"a": [0.1, 0.2, 0.9, 0.3], "b": [0.01, 0.02, 0.03, 0.02]}
    _, ax = plt.subplots()
    display = TaskCalibrationDisplay.from_predictions(y, proba, n_bins=1, axes=ax)
    assert display.axes_ == [ax]
    assert display.curves["a"].iloc[0].tolist() == pytest.approx([0.2, 2 / 3, 3])
    assert legend_of(ax.get_legend()) == ["a", "b", "calibrated"]
    own = TaskCalibrationDisplay.from_predictions(y, proba, n_bins=2, strategy="uniform")
    assert len(own.axes_) == 2
    assert own.axes_[1].get_xlim()[1] < 0.5  # rare events fill the axes
    with pytest.raises(
        ValueError, match=r"`y_true` of task 'a' holds 2\.0; pass 1 for the positive"
    ):
        TaskCalibrationDisplay.from_predictions({"a": [2, 0]}, {"a": [0.5, 0.5]})
    with pytest.raises(ValueError, match="has 2 labels and `y_prob` 1"):
        TaskCalibrationDisplay.from_predictions({"a": [1, 0]}, {"a": [0.5]})
    with pytest.raises(ValueError, match="`strategy` must be one of"):
        TaskCalibrationDisplay.from_predictions(y, proba, strategy="deciles")
    with pytest.raises(ValueError, match="`axes` has 2 axes and there are 3 tasks"):
        TaskCalibrationDisplay.from_predictions(
            y | {"c": [1]}, proba | {"c": [0.5]}, axes=plt.subplots(1, 2)[1]
        )


# Embeddings ---------------------------------------------------------------------------------------


def rows_of(model, X, column):
    """Return a column's vectors as the network reads them in some rows, (n, [copies,] dim)."""
    encoder, embedding = model._fitted_.encoder, model.module_.embedding
    parts = {name: torch.as_tensor(p) for name, p in model.encoder_.transform(X).items()}
    place = encoder.encoders[-1].names_.index(column)
    with torch.inference_mode():
        return embedding(parts)[..., embedding.places()["categorical", place]].numpy()


@everywhere
def test_vectors_are_what_the_network_reads(cls):
    model = fit(cls)
    X = TABLE.X.assign(city=TABLE.X["city"].mask(TABLE.X["hours"] > 50, "Atlantis"))
    own = "categorical" in model.module_.embedding.own
    shared = "categorical" in model.module_.embedding.blocks
    whose = [*(model.task_names_ if own else []), *([None] if shared else [])]
    for column in ("city", "student"):
        names = X[column].where(X[column] != "Atlantis", "<unknown>")
        names = names.where(X[column].notna(), "<missing>")
        read = rows_of(model, X, column)
        assert (read.ndim == 3) == own
        for copy, task in enumerate(whose):
            vectors = embedding_vectors(model, column, task=task, special=True)
            assert vectors.index.name == column
            assert vectors.index[:2].tolist() == ["<missing>", "<unknown>"]
            expected = read[:, copy] if own else read
            rows = vectors.index.get_indexer(names)
            np.testing.assert_array_equal(vectors.iloc[rows].to_numpy(), expected)
            known = embedding_vectors(model, column, task=task)
            assert known.equals(vectors.iloc[2:].set_axis(known.index))


def test_vectors_are_copies():
    model = fit()
    before, changed = embedding_vectors(model, "city"), embedding_vectors(model, "city")
    changed.iloc[:] = 9.0
    assert embedding_vectors(model, "city").equals(before)


def test_whose_vectors():
    own = fit(SingleTask)
    with pytest.raises(ValueError, match="SingleTask has an embedding of its own; say whose by"):
        embedding_vectors(own, "city")
    with pytest.raises(ValueError, match=r"`task` is 'town'; pass \['"):
        embedding_vectors(own, "city", task="town")
    both = fit(STEM)
    assert not embedding_vectors(both, "city").equals(embedding_vectors(both, "city", task="wage"))
    display = EmbeddingDisplay.from_estimator(both, "city", task="wage")
    assert display.vectors.equals(embedding_vectors(both, "city", task="wage"))
    assert display.ax_.get_title() == "embedding of city, task wage"
    with pytest.raises(ValueError, match=r"`task` is 'town'; pass None or one of \['"):
        embedding_vectors(both, "city", task="town")
    with pytest.raises(ValueError, match="`task` is 'wage'; its tasks share one embedding"):
        embedding_vectors(fit(), "city", task="wage")


def shop():
    """Return an estimator with every kind of categorical column, and its rows."""
    rng = np.random.default_rng(0)
    item = rng.integers(0, 12, 200)
    X = pd.DataFrame(
        {
            "item": item,
            "before": [rng.integers(0, 12, k).tolist() for k in item % 4],
            "user": rng.integers(0, 10**6, 200),
            "genres": np.array(["comedy|drama", "drama", ""])[item % 3],
            "rare": np.where(item < 10, "often", np.arange(200).astype(str)),
        }
    )
    given = {name: np.arange(3.0) + name for name in range(15)}
    kinds = {
        "item": Categories(vocabulary="item", vectors=given, trainable=False),
        "before": Bag("mean", vocabulary="item"),
        "user": Hashed(n_slots=64),
        "genres": Bag("sum", separator="|"),
        "rare": Categories(min_frequency=5),
    }
    y = np.column_stack([item % 2, item % 3 == 0])
    return small(MMoE, categorical_features=kinds).fit(X, y), X


def test_kinds_of_categories():
    model, _ = shop()
    items = embedding_vectors(model, "item")
    assert items.index.tolist() == list(range(15))
    assert np.allclose(items, np.arange(3.0) + np.arange(15)[:, None])  # frozen at what was given
    assert embedding_vectors(model, "before").equals(items.rename_axis("before"))
    assert embedding_vectors(model, "genres").index.tolist() == ["comedy", "drama"]
    assert embedding_vectors(model, "rare").index.tolist() == ["often"]
    hashed = "`column` is 'user', whose categories are hashed into 64 slots"
    for call in (embedding_vectors, EmbeddingDisplay.from_estimator):
        with pytest.raises(ValueError, match=hashed):
            call(model, "user")
    with pytest.raises(ValueError, match=hashed):
        embedding_neighbors(model, "user", 3)
    assert len(EmbeddingDisplay.from_estimator(model, "rare").points_) == 1


def test_columns_that_have_no_vectors():
    with pytest.raises(ValueError, match=r"'age', which is no categorical column; pass one of \['"):
        embedding_vectors(fit(), "age")
    X = np.random.default_rng(0).normal(size=(40, 2))
    with pytest.raises(ValueError, match="0, which is no categorical column; this estimator was"):
        embedding_vectors(small(MMoE).fit(X, X[:, 0] > 0), 0)


def test_neighbors_are_sorted_by_their_cosines():
    model = fit()
    vectors = embedding_vectors(model, "city").astype(float)
    found = embedding_neighbors(model, "city", "Oslo")
    assert sorted(found.index) == ["Bern", "Cluj", "Riga"]
    assert found.is_monotonic_decreasing
    for city, cosine in found.items():
        a, b = vectors.loc["Oslo"], vectors.loc[city]
        assert cosine == pytest.approx(a @ b / np.sqrt((a @ a) * (b @ b)))
    assert embedding_neighbors(model, "city", "Oslo", n_neighbors=2).equals(found[:2])
    with pytest.raises(ValueError, match="`n_neighbors` must be a whole number"):
        embedding_neighbors(model, "city", "Oslo", n_neighbors=0)


def test_a_category_is_found_as_predict_finds_it():
    model, _ = shop()
    found = embedding_neighbors(model, "item", 3)
    assert found.index[0] in (2, 4)  # the vectors given point ever more the same way
    for other in (3.0, "3", np.int32(3)):
        assert embedding_neighbors(model, "item", other).equals(found)
    for unknown in (99, "x", None, float("nan")):
        with pytest.raises(ValueError, match=r"which column 'item' has no vector of; pass one of"):
            embedding_neighbors(model, "item", unknown)


def test_embedding_display_draws_the_principal_components():
    model = fit()
    display = EmbeddingDisplay.from_estimator(model, "city", category="Oslo", n_neighbors=2)
    vectors = embedding_vectors(model, "city").to_numpy(dtype=float)
    pca = PCA(2, svd_solver="full").fit(vectors)
    assert np.allclose(np.abs(display.points_), np.abs(pca.transform(vectors)))
    assert np.allclose(display.explained_, pca.explained_variance_ratio_)
    assert np.array_equal(display.scatter_.get_offsets(), display.points_)
    neighbors = embedding_neighbors(model, "city", "Oslo", n_neighbors=2)
    assert display.neighbors.equals(neighbors)
    cities = ["Bern", "Cluj", "Oslo", "Riga"]
    for line, city in zip(display.lines_, neighbors.index, strict=True):
        ends = display.points_[[cities.index("Oslo"), cities.index(city)]]
        assert np.array_equal(line.get_xydata(), ends)
    for city, text in display.texts_.items():
        assert text.get_text() == city
        assert tuple(text.xy) == tuple(display.points_[cities.index(city)])
    assert "neighbors of Oslo" in display.ax_.get_title()


def test_names_do_not_cover_each_other():
    rng = np.random.default_rng(0)
    names = pd.Index([f"a rather long category {i}" for i in range(80)], name="c")
    vectors = pd.DataFrame(rng.normal(size=(80, 3)), index=names)
    display = EmbeddingDisplay(vectors).plot()
    renderer = display.figure_.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in display.texts_.values()]
    assert 10 < len(boxes) < 80
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_values_color_the_categories():
    model = fit()
    hours = TABLE.X["hours"].groupby(TABLE.X["city"]).mean().drop("Riga")
    display = EmbeddingDisplay.from_estimator(model, "city", values=hours)
    colors = np.ma.filled(display.scatter_.get_array().astype(float), np.nan)
    assert np.allclose(colors[:3], hours)
    assert np.isnan(colors[3])
    assert display.figure_.axes[1].get_ylabel() == "hours"
    with pytest.raises(ValueError, match="`values` is a list; pass a Series or a dict"):
        display.plot(values=[1, 2])
    with pytest.raises(ValueError, match="`values` has none of the categories"):
        display.plot(values={"Rome": 1.0})


def test_few_categories_and_few_dimensions():
    for shape in ((1, 4), (2, 4), (3, 1), (2, 1)):
        vectors = pd.DataFrame(np.arange(np.prod(shape)).reshape(shape) ** 2.0)
        display = EmbeddingDisplay(vectors).plot()
        assert display.points_.shape == (shape[0], 2)
        assert np.isfinite(display.points_).all()
        assert display.explained_.sum() <= 1 + 1e-12


# Long names and many tasks ------------------------------------------------------------------------


def test_long_names_of_tasks_do_not_overlap():
    names = [f"the_rather_long_name_of_task_{k}" for k in range(6)]
    losses = history(**{name: [10.0**k, 0.0, 0.0] for k, name in enumerate(names)})
    curves = {name: pd.DataFrame({"predicted": [0.1], "observed": [0.2]}) for name in names}
    means = {name: [np.full((2, 4), 0.25), np.full((2, 4), 0.25)] for name in names}
    for display in (
        LossDisplay(losses, names).plot(),
        TaskCalibrationDisplay(curves).plot(),
        GateDisplay(means, values=["a value", "another"], counts=[10, 20]).plot(),
    ):
        figure = display.figure_
        figure.canvas.draw()
        renderer = figure.canvas.get_renderer()
        boxes = [ax.title.get_window_extent(renderer) for ax in display.axes_]
        assert len(boxes) >= 6
        for i, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:i])
            assert box.x1 <= figure.bbox.x1
        assert figure.get_size_inches()[0] <= 8


# Matrices of tasks --------------------------------------------------------------------------------


def test_many_tasks_fit_a_page():
    names = [f"a long name of task {k}" for k in range(14)]
    affinity = pd.DataFrame(np.eye(14), names, names)
    affinity.iloc[0, 1] = np.nan
    display = TaskAffinityDisplay(affinity).plot()
    assert max(display.figure_.get_size_inches()) <= 8
    shown = np.ma.filled(display.image_.get_array().astype(float), np.nan)
    assert np.array_equal(shown, affinity, equal_nan=True)
    assert display.ax_ is display.image_.axes

"""`fit`, `partial_fit`, `score` and `predict_source` over Parquet files."""

import os
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ESTIMATORS, everywhere, small, spread
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pa = pytest.importorskip("pyarrow", reason="an extra, and all of these tests are of it")
import pyarrow.parquet as pq  # noqa: E402
from skorch.callbacks import Callback  # noqa: E402

from sk_mtl import ESMM, MMoE, SharedBottom  # noqa: E402
from sk_mtl.categorical import Categories, Hashed  # noqa: E402
from sk_mtl.data import ParquetSource  # noqa: E402
from sk_mtl.tasks import BinaryTask  # noqa: E402

TARGETS = ["click", "buy", "wage"]
PLAIN = {"n_members": 1, "batch_size": 50, "max_epochs": 2, "early_stopping": False}


def make_frame(n, seed=0):
    """Return rows with strings, integers, gaps and labels that follow from them."""
    rng = np.random.default_rng(seed)
    age, city = rng.normal(size=n).astype(np.float32), rng.integers(0, 12, n)
    drive = age + 0.3 * (city % 3)
    frame = pd.DataFrame(
        {
            "age": age,
            "hours": np.where(rng.random(n) < 0.1, np.nan, rng.integers(0, 50, n)),
            "city": np.array([f"city {k}" for k in range(12)], dtype=object)[city],
            "shop": pd.array(np.where(city > 5, city, 3), dtype="Int64"),
            "click": (drive + rng.normal(size=n) > 0).astype(np.int8),
            "buy": (drive + rng.normal(size=n) > 0.5).astype(float),
            "wage": drive * 3 + rng.normal(size=n),
            "weight": rng.integers(1, 4, n).astype(float),
        }
    )
    frame.loc[rng.random(n) < 0.2, "buy"] = np.nan
    frame.loc[::17, "city"] = None
    return frame


def write(folder, frame, cuts=(0.3, 0.35), group=40):
    """Write a frame to files of uneven numbers of rows."""
    folder.mkdir(exist_ok=True)
    ends = [0, *(int(cut * len(frame)) for cut in cuts), len(frame)]
    for k, (start, end) in enumerate(pairwise(ends)):
        table = pa.Table.from_pandas(frame.iloc[start:end], preserve_index=False)
        pq.write_table(table, folder / f"part-{k}.parquet", row_group_size=group)
    return folder


@pytest.fixture
def frame():
    return make_frame(600)


@pytest.fixture
def folder(frame, tmp_path):
    return write(tmp_path / "rows", frame)


def features(frame):
    return frame.drop(columns=[*TARGETS, "weight"])


def source(folder, window_rows=128, **options):
    options = {"targets": TARGETS, "features": ["age", "hours", "city", "shop"]} | options
    return ParquetSource(folder, window_rows=window_rows, **options)


# In memory or not -----------------------------------------------------------------------------


@everywhere
def test_a_source_that_fits_gives_the_bits_of_fit(cls, folder, frame):
    targets = small_targets(cls)
    frame["buy"] = frame["buy"] * frame["click"]  # steps of a chain nest
    own = source(write(folder, frame), 600, targets=targets)
    one = small(cls, random_state=0).fit(own)
    y = frame[targets] if len(targets) > 1 else frame["click"]
    two = small(cls, random_state=0).fit(features(frame), y)
    assert_array_equal(one.predict(features(frame)), two.predict(features(frame)))
    assert one.history_.drop(columns="dur").equals(two.history_.drop(columns="dur"))


def small_targets(cls):
    """Return targets that any architecture takes."""
    return ["click"] if cls.n_tasks[0] < 2 else ["click", "buy"]


@pytest.mark.parametrize(("window", "cls"), spread([100], ESTIMATORS, every=4))
def test_windows_train_every_architecture(window, cls, folder, frame):
    frame["buy"] = frame["buy"] * frame["click"]  # steps of a chain nest
    write(folder, frame)
    own = source(folder, window, targets=list(small_targets(cls)))
    model = small(cls, random_state=0, max_epochs=2, batch_size=32).fit(own)
    again = small(cls, random_state=0, max_epochs=2, batch_size=32).fit(own)
    found = model.predict(features(frame))
    assert len(found) == 600
    assert_array_equal(found, again.predict(features(frame)))


def test_what_is_learned_of_rows_is_that_of_fit(folder, frame):
    params = PLAIN | {"categorical_features": ["city", "shop"], "numeric_features": "standardize"}
    streamed = SharedBottom(**params, random_state=0).fit(source(folder))
    whole = SharedBottom(**params, random_state=0).fit(features(frame), frame[TARGETS])
    fitted, other = streamed._fitted_, whole._fitted_
    for one, two in zip(
        fitted.encoder.encoders[1].categories_, other.encoder.encoders[1].categories_, strict=True
    ):
        assert one.tolist() == two.tolist()
    assert_allclose(fitted.encoder.encoders[0].means_, other.encoder.encoders[0].means_)
    assert_allclose(fitted.encoder.encoders[0].variances_, other.encoder.encoders[0].variances_)
    assert fitted.encoder.encoders[0].missing_columns_ == other.encoder.encoders[0].missing_columns_
    assert streamed.task_names_ == whole.task_names_
    assert_allclose(streamed.tasks_[2].mean_, whole.tasks_[2].mean_)
    assert_allclose(streamed.tasks_[2].scale_, whole.tasks_[2].scale_)
    assert streamed.n_features_in_ == 4
    assert streamed.feature_names_in_.tolist() == ["age", "hours", "city", "shop"]
    seen, known = streamed.net_.criterion_, whole.net_.criterion_
    assert seen.n_rows == known.n_rows
    assert_allclose(seen.total_weight, known.total_weight)
    for one, two in zip(
        *(m.module_.embedding.tallies()["categorical"].items() for m in (streamed, whole)),
        strict=True,
    ):
        if one[0].startswith("counts"):
            assert_array_equal(one[1], two[1])


def test_windows_learn_as_well_as_memory(folder, frame):
    fresh = make_frame(600, seed=1)
    params = {"n_members": 1, "batch_size": 20, "max_epochs": 15, "early_stopping": False}
    streamed = MMoE(**params, random_state=0).fit(source(folder, 100))
    whole = MMoE(**params, random_state=0).fit(features(frame), frame[TARGETS])
    scores = [model.score(features(fresh), fresh[TARGETS]) for model in (streamed, whole)]
    assert abs(scores[0] - scores[1]) < 0.05
    assert scores[0] > 0.6


def test_single_target(folder, frame):
    model = SharedBottom(**PLAIN).fit(source(folder, targets="click"))
    assert model.predict(features(frame)).shape == (600,)
    assert model.classes_.tolist() == [0, 1]


def test_order_comes_from_the_source_or_the_estimator(folder, frame):
    def fitted(seed, own):
        return SharedBottom(**PLAIN, random_state=seed).fit(source(folder, 100, random_state=own))

    X = features(frame)
    one, two, three = fitted(0, 1).predict(X), fitted(0, 1).predict(X), fitted(0, 2).predict(X)
    assert_array_equal(one, two)
    assert (one != three).any()


# Labels and weights ---------------------------------------------------------------------------


@pytest.mark.parametrize("weight", ["weight", ["w1", "w2", "w3"], ["w1", "w2", "w1"]])
def test_weights(weight, folder, frame):
    write(folder, frame.assign(w1=frame["weight"], w2=frame["weight"], w3=frame["weight"]))
    model = SharedBottom(**PLAIN, random_state=0).fit(source(folder, sample_weight=weight))
    X, y = features(frame), frame[TARGETS]
    whole = SharedBottom(**PLAIN, random_state=0).fit(X, y, frame["weight"])
    assert_allclose(model.net_.criterion_.total_weight, whole.net_.criterion_.total_weight)
    assert model._fitted_.weight_scale == whole._fitted_.weight_scale == 3.0


def test_rows_without_weight_or_label_are_absent(tmp_path, frame):
    frame.loc[:250, "weight"] = 0.0  # whole row groups
    frame.loc[300:420, ["click", "buy", "wage"]] = np.nan
    folder = write(tmp_path / "holes", frame.astype({"click": float}))
    own = source(folder, 100, sample_weight="weight")
    model = SharedBottom(**PLAIN).fit(own)
    assert model.net_.criterion_.n_rows == 600 - 251 - 121


@pytest.mark.parametrize("window", [100, 600])
def test_rows_without_the_label_of_a_single_target_are_absent(window, tmp_path, frame):
    frame["wage"] = frame["wage"].where(np.arange(600) % 3 > 0)
    frame.loc[200:320, "wage"] = np.nan  # whole row groups
    left = frame.dropna(subset="wage", ignore_index=True)
    models = []
    for name, rows in ("holes", frame), ("whole", left):
        own = source(write(tmp_path / name, rows), window, targets="wage", random_state=0)
        models.append(SharedBottom(**PLAIN, random_state=0).fit(own))
        assert models[-1].net_.criterion_.n_rows == len(left)
        models[-1].score(own)
    assert_allclose(models[0].tasks_[0].mean_, left["wage"].mean())
    if window == 600:  # else other rows meet in a window
        assert_array_equal(models[0].predict(features(frame)), models[1].predict(features(frame)))
    models[0].partial_fit(source(tmp_path / "holes", window, targets="wage"))


def test_sampled_negatives_are_the_same_in_every_epoch(folder):
    kinds = {"click": BinaryTask(negative_fraction=0.4)}
    model = SharedBottom(**PLAIN, task_types=kinds).fit(source(folder, 100, targets=["click"]))
    model_n = model.net_.criterion_.n_rows
    assert 300 < model_n < 600
    sizes = [row["batches"] for row in model.net_.history]
    assert sizes
    assert model.history_["train_loss"].notna().all()


def test_rows_held_out_are_sampled_as_the_others(tmp_path):
    frame = make_frame(4000)
    frame["click"] = (np.arange(4000) % 2).astype(np.int8)
    folder = write(tmp_path / "many", frame, group=500)
    kinds = {"click": BinaryTask(negative_fraction=0.4)}
    params = PLAIN | {"task_types": kinds, "validation_fraction": 0.25, "max_epochs": 1}

    class Count(Callback):
        def on_train_begin(self, net, X=None, **kwargs):
            held = sum(batch.n_rows for batch in net.valid_batches)
            self.n_ = len(X), held

    count = Count()
    model = SharedBottom(**params, callbacks=[count], random_state=0)
    model.fit(source(folder, 3000, targets=["click"]))
    # Of 2000 positives and 800 negatives that are kept.
    assert count.n_[0] == pytest.approx(2800 * 0.75, rel=0.06)
    assert count.n_[1] == pytest.approx(2800 * 0.25, rel=0.1)


def test_class_weights(folder, frame):
    kinds = {"click": BinaryTask(class_weight="balanced")}
    params = PLAIN | {"task_types": kinds, "random_state": 0}
    model = SharedBottom(**params).fit(source(folder, targets=["click", "buy"]))
    whole = SharedBottom(**params).fit(features(frame), frame[["click", "buy"]])
    assert_allclose(model.net_.criterion_.total_weight, whole.net_.criterion_.total_weight)


def test_implied_labels_of_a_chain(tmp_path, frame):
    frame["buy"] = np.where(frame["click"] == 0, np.nan, frame["buy"])
    folder = write(tmp_path / "chain", frame)
    params = PLAIN | {"random_state": 0}
    model = ESMM(**params).fit(source(folder, targets=["click", "buy"]))
    whole = ESMM(**params).fit(features(frame), frame[["click", "buy"]])
    assert_allclose(model.net_.criterion_.total_weight, whole.net_.criterion_.total_weight)


# Rows held out ----------------------------------------------------------------------------------


def test_rows_held_out_are_in_memory_up_to_a_window(folder):
    model = SharedBottom(**PLAIN | {"early_stopping": True}).fit(source(folder, 100))
    n_train = model.net_.criterion_.n_rows
    assert 500 < n_train < 590
    assert "valid_loss" in model.history_


def test_more_rows_held_out_than_a_window_are_read_anew(folder):
    params = PLAIN | {"validation_fraction": 0.5}
    model = SharedBottom(**params).fit(source(folder, 100))
    assert model.history_["valid_loss"].notna().all()
    with pytest.raises(ValueError, match=r"`monitor`.*window"):
        SharedBottom(**params | {"early_stopping": True, "monitor": lambda *_: 0.0}).fit(
            source(folder, 100)
        )


def test_a_scorer_watches_rows_held_out(folder):
    def watch(model, X, y, **weights):
        assert len(X) == len(y)
        return float(model.predict_proba(X)[:, 1].mean())

    params = PLAIN | {"early_stopping": True, "monitor": watch}
    model = SharedBottom(**params).fit(source(folder, 100))
    assert "valid_score" in model.history_


@pytest.mark.parametrize("window", [100, 600])
@pytest.mark.parametrize("kind", ["frame", "source"])
def test_rows_to_validate_on(kind, window, folder, frame, tmp_path):
    held = make_frame(200, seed=5)
    if kind == "frame":
        validation = {"X_val": features(held), "y_val": held[TARGETS]}
    else:
        validation = {"X_val": source(write(tmp_path / "held", held), window)}
    model = SharedBottom(**PLAIN, random_state=0).fit(source(folder, 100), **validation)
    assert model.net_.criterion_.n_rows == 600
    net = model.net_
    other = SharedBottom(**PLAIN, random_state=0).fit(
        source(folder, 100), X_val=features(held), y_val=held[TARGETS]
    )
    assert_allclose(model.history_["valid_loss"], other.history_["valid_loss"], rtol=1e-5)
    assert net is not other.net_


# Later calls ------------------------------------------------------------------------------------


def test_warm_start_goes_on(folder, frame):
    model = SharedBottom(**PLAIN | {"warm_start": True}).fit(source(folder, 100))
    first = model.predict(features(frame))
    model.fit(source(folder, 100))
    assert model.n_iter_ == 4
    assert (first != model.predict(features(frame))).any()


@pytest.mark.parametrize("window", [100, 600])
def test_partial_fit(window, folder, frame):
    model = SharedBottom(**PLAIN)
    for _ in range(3):
        model.partial_fit(source(folder, window))
    assert model.predict(features(frame)).shape == (600, 3)
    assert model.score(source(folder, window)) > -1


def test_partial_fit_knows_the_classes_of_all_rows(tmp_path, frame):
    frame["click"] = np.where(np.arange(600) < 500, 0, 1)
    folder = write(tmp_path / "sorted", frame)
    model = SharedBottom(**PLAIN)
    with pytest.warns(UserWarning, match="sorted over .* by: 'click'"):
        model.partial_fit(source(folder, 100, targets=["click", "buy"]))
    assert model.classes_[0].tolist() == [0, 1]


# What is refused ----------------------------------------------------------------------------------


def test_labels_beside_a_source_are_refused(folder, frame):
    with pytest.raises(ValueError, match="`y` is given too"):
        SharedBottom().fit(source(folder), frame["click"])
    with pytest.raises(ValueError, match="`sample_weight` is given too"):
        SharedBottom().fit(source(folder), sample_weight=frame["weight"])
    with pytest.raises(ValueError, match="`y_val` is given too"):
        SharedBottom().fit(source(folder), X_val=source(folder), y_val=frame["click"])


def test_one_batch_of_all_rows_is_refused(folder):
    with pytest.raises(ValueError, match="`batch_size` is None"):
        SharedBottom(batch_size=None).fit(source(folder, 100))


def test_a_source_is_nothing_to_predict(folder):
    model = SharedBottom(**PLAIN).fit(source(folder, 100))
    with pytest.raises(TypeError, match="predict_source"):
        model.predict(source(folder))


def test_a_source_without_targets(folder):
    with pytest.raises(ValueError, match="no `targets`"):
        SharedBottom().fit(source(folder, targets=None))


@pytest.mark.parametrize("window", [100, 600])
def test_a_class_that_is_missing(window, tmp_path, frame):
    frame["click"] = 1
    folder = write(tmp_path / "one", frame)
    with pytest.raises(ValueError, match="'click' has one class only"):
        SharedBottom().fit(source(folder, window))


@pytest.mark.parametrize(
    ("column", "value", "error"),
    [
        ("age", np.inf, "infinity .* in column 'age'"),
        ("wage", -np.inf, "infinity .* in task 'wage'"),
        ("weight", -1.0, "Negative values"),
        ("weight", np.nan, "sample_weight contains NaN"),
    ],
)
def test_values_are_placed_in_their_file(column, value, error, folder, frame):
    frame.loc[555, column] = value  # row 345 of the last file, whose first is row 210
    write(folder, frame)
    placed = r"\(Rows 300 to 389 of '.*part-2.parquet', counted from 0.\)$"
    with pytest.raises(ValueError, match=f"{error}.*{placed}"):
        SharedBottom(**PLAIN).fit(source(folder, 100, sample_weight="weight"))
    model = SharedBottom(**PLAIN).fit(
        frame[["age", "hours", "city", "shop"]][:200], frame[TARGETS][:200]
    )
    with pytest.raises(ValueError, match=f"{error}.*{placed}"):
        model.score(source(folder, 100, sample_weight="weight"))
    if column == "age":
        with pytest.raises(ValueError, match=f"{error}.*{placed}"):
            model.predict_source(source(folder, 100), folder.parent / "out.parquet")
        assert not (folder.parent / "out.parquet").exists()


def test_a_scheme_that_fsspec_does_not_know():
    with pytest.raises(ValueError, match="`path` is 'nowhere://rows', which fsspec cannot open"):
        SharedBottom().fit(source("nowhere://rows"))


def test_no_row_that_counts(tmp_path, frame):
    folder = write(tmp_path / "none", frame.assign(weight=0.0))
    with pytest.raises(
        ValueError, match=r"No row .* \['click', 'buy', 'wage'\] and .* \['weight'\]"
    ):
        SharedBottom().fit(source(folder, 100, sample_weight="weight"))


def test_transformers_and_searches_refuse_a_source(folder):
    with pytest.raises(TypeError, match="A ParquetSource is no array: `fit`"):
        make_pipeline(StandardScaler(), SharedBottom()).fit(source(folder))
    with pytest.raises(TypeError, match="A ParquetSource is no array: `fit`"):
        GridSearchCV(SharedBottom(), {"lr": [0.1]}).fit(source(folder))
    model = make_pipeline("passthrough", SharedBottom(**PLAIN)).fit(source(folder))
    assert model.score(source(folder)) > -1


def test_a_file_that_breaks_while_training(folder, frame):
    model = SharedBottom(**PLAIN | {"max_epochs": 3})
    path = sorted(folder.iterdir())[-1]

    class Breaks:
        def __init__(self):
            self.n = 0

    class BreakFile(Callback):
        def on_epoch_begin(self, net, **kwargs):
            if len(net.history) == 2:
                data = bytearray(path.read_bytes())
                data[40:4000] = os.urandom(3960)
                path.write_bytes(bytes(data))

    model.set_params(callbacks=[BreakFile()])
    threads = threading.active_count()
    with pytest.raises((ValueError, OSError), match=path.name):
        model.fit(source(folder, 100))
    assert not hasattr(model, "tasks_")
    assert threading.active_count() <= threads + 1


# Bounded categories -------------------------------------------------------------------------------


def test_frequent_and_hashed_categories(folder, frame):
    kinds = {"city": Categories(max_categories=4), "shop": Hashed(n_slots=16)}
    params = PLAIN | {"categorical_features": kinds, "random_state": 0}
    streamed = SharedBottom(**params).fit(source(folder, 100))
    whole = SharedBottom(**params).fit(features(frame), frame[TARGETS])
    names = [m._fitted_.encoder.encoders[1].categories_[0].tolist() for m in (streamed, whole)]
    assert names[0] == names[1]
    assert len(names[0]) == 3


# Predictions --------------------------------------------------------------------------------------


def test_predict_source_writes_what_predict_gives(folder, frame, tmp_path):
    model = MMoE(**PLAIN).fit(source(folder, 100))
    out = tmp_path / "answers.parquet"
    model.predict_source(source(folder, 64), out, columns=["weight"])
    found = pd.read_parquet(out)
    X = features(frame)
    assert list(found) == ["weight", *TARGETS, *model.get_proba_names_out()]
    assert_array_equal(found["weight"], frame["weight"])
    assert_allclose(found[TARGETS], model.predict(X), rtol=1e-6)
    assert_allclose(found[model.get_proba_names_out()], model.predict_proba(X), rtol=1e-6)
    assert os.listdir(tmp_path / "rows") == os.listdir(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.parquet", "rows"]


def test_predict_source_needs_no_labels(folder, frame, tmp_path):
    model = SharedBottom(**PLAIN).fit(features(frame), frame["wage"])
    (tmp_path / "new").mkdir()
    features(frame).to_parquet(tmp_path / "new" / "rows.parquet")
    own = ParquetSource(tmp_path / "new", targets=None, window_rows=50)
    model.predict_source(own, tmp_path / "answers.parquet")
    found = pd.read_parquet(tmp_path / "answers.parquet")
    assert list(found) == ["wage"]
    assert_allclose(found["wage"], model.predict(features(frame)), rtol=1e-6)


def test_predict_source_of_a_model_of_arrays(frame, tmp_path):
    X = frame[["age", "hours"]]
    model = SharedBottom(**PLAIN).fit(X.to_numpy(), frame["click"].to_numpy())
    X.to_parquet(tmp_path / "rows.parquet")
    own = ParquetSource(tmp_path / "rows.parquet", targets=None, window_rows=50)
    model.predict_source(own, tmp_path / "answers.parquet")
    assert_array_equal(
        pd.read_parquet(tmp_path / "answers.parquet")["y"], model.predict(X.to_numpy())
    )


def test_predict_source_leaves_nothing_half_written(folder, frame, tmp_path, monkeypatch):
    model = SharedBottom(**PLAIN).fit(source(folder, 100))
    out = tmp_path / "answers.parquet"
    model.predict_source(source(folder, 64), out)
    before = out.read_bytes()
    path = sorted(folder.iterdir())[-1]
    data = bytearray(path.read_bytes())
    data[40:4000] = os.urandom(3960)
    path.write_bytes(bytes(data))
    with pytest.raises((ValueError, OSError), match=path.name):
        model.predict_source(source(folder, 64), out)
    assert out.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(ValueError, match="name of a prediction"):
        model.predict_source(source(folder), out, columns=["click"])
    with pytest.raises(TypeError, match="ParquetSource"):
        model.predict_source(features(frame), out)


def test_score_of_a_source(folder, frame):
    model = SharedBottom(**PLAIN).fit(source(folder, 100))
    expected = model.score(features(frame), frame[TARGETS])
    assert model.score(source(folder, 64)) == pytest.approx(expected)
    weighted = model.score(features(frame), frame[TARGETS], frame["weight"])
    assert model.score(source(folder, 64, sample_weight="weight")) == pytest.approx(weighted)
    with pytest.raises(ValueError, match="`y` is given too"):
        model.score(source(folder), frame[TARGETS])


def test_memory_does_not_grow_with_the_source(tmp_path):
    """Windows that are done are dropped: no more than two and a part are alive."""
    frame = make_frame(4000)
    folder = write(tmp_path / "many", frame, cuts=(), group=100)
    import gc

    from sk_mtl.data.rows import Rows

    most = []

    class Count(Callback):
        def on_batch_end(self, net, **kwargs):
            if len(net.history[-1]["batches"]) % 7:
                return
            alive = [
                one for one in gc.get_objects() if type(one) is Rows and one.target is not None
            ]
            most.append(sum(len(one) for one in alive))

    SharedBottom(**PLAIN | {"callbacks": [Count()], "max_epochs": 1}).fit(source(folder, 200))
    assert max(most) <= 4096 + 5 * 200
    assert Path(folder).exists()

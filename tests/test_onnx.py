"""Models of ONNX give what `predict_proba` and `predict` give, from the columns of X on."""

import functools
import json

import numpy as np
import pandas as pd
import pytest
from conftest import ESTIMATORS, make_table, small, spread
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from sk_mtl import PLE, MMoE, SharedBottom, load, to_onnx
from sk_mtl.categorical import Bag, Categories, Hashed
from sk_mtl.data import CategoryEncoder, NumberEncoder
from sk_mtl.export import onnx_inputs, register_converters
from sk_mtl.export._columns import input_names
from sk_mtl.numeric import ExactValues
from sk_mtl.tasks import BinaryTask, OrdinalTask, QuantileTask

onnx = pytest.importorskip("onnx", reason="an extra: models are written with it")
onnxruntime = pytest.importorskip("onnxruntime", reason="a test extra: it runs the models")
skl2onnx = pytest.importorskip("skl2onnx", reason="an extra: pipelines are converted by it")

TABLE = make_table(72)


def session_of(model):
    """Return a session that runs a model, or the file at a path."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    what = model.SerializeToString() if hasattr(model, "graph") else str(model)
    return onnxruntime.InferenceSession(what, options, providers=["CPUExecutionProvider"])


def answer(session, feed):
    """Return what a model gives, by the names of its outputs."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def strange_rows(X):
    """Return rows with an unknown city, a missing one, and numbers that are missing or far."""
    rows = X.copy()
    if "city" in rows:
        rows.loc[[3, 10], "city"] = "Atlantis"
        rows.loc[[4], "city"] = None
    if "age" in rows:
        rows.loc[[0, 3, 20], "age"] = [np.nan, -60.0, 180.0]
    return rows


BATCHES = [slice(0, 1), slice(3, 5), slice(0, 72)]


def check(model, estimator, rows, batches=BATCHES):
    """Check that a model gives what an estimator or a pipeline predicts, in batches."""
    session = session_of(model)
    final = estimator if hasattr(estimator, "tasks_") else estimator[-1]
    tasks = final.tasks_
    for where in batches:
        some = rows[where] if not hasattr(rows, "iloc") else rows.iloc[where]
        found = answer(session, onnx_inputs(session, some))
        if not set(final.task_names_) & {given.name for given in session.get_inputs()}:
            assert list(found) == final.task_names_
        values = estimator.predict(some)
        values = values if values.ndim == 2 else values[:, None]
        proba = None
        if any(task.classes_ is not None for task in tasks):
            proba = estimator.predict_proba(some)
        for k, (task, block) in enumerate(zip(tasks, found.values(), strict=True)):
            assert block.dtype == np.float64
            if task.classes_ is None:
                expected = values[:, [k]].astype(float)
                scale = max(1.0, float(np.abs(expected).max()))
                np.testing.assert_allclose(block, expected, rtol=1e-5, atol=1e-5 * scale)
            else:
                expected = proba[:, final.task_slices_[task.name]]
                np.testing.assert_allclose(block, expected, rtol=0, atol=1e-5)


# Architectures, encodings, kinds of task ----------------------------------------------------------

VARIANTS = {
    "plain": {},
    "members": {"n_members": 2},
    "auto": {"numeric_features": "auto"},
    "quantile": {"numeric_features": "quantile"},
    "robust": {"numeric_features": "robust", "batch_norm": True},
    "piecewise": {"numeric_features": ("standardize", "piecewise"), "n_members": 2},
    "periodic": {"numeric_features": "periodic", "dropout": 0.2},
    "values": {"numeric_features": ("standardize", "values")},
    "fm": {"interaction": "fm"},
    "cross": {"interaction": "cross", "n_members": 2},
    "float64": {"dtype": "float64"},
    "widths": {"embedding_dim": {"city": 2, "student": 3}, "sparse_embeddings": True},
}


@pytest.mark.parametrize(("variant", "cls"), spread(VARIANTS, ESTIMATORS, every=len(VARIANTS)))
def test_every_architecture(variant, cls):
    model = small(cls, **{"embedding_dim": 3, **VARIANTS[variant]})
    model.fit(TABLE.X, TABLE.targets(cls))
    before = {name: value.clone() for name, value in model.module_.state_dict().items()}
    check(to_onnx(model), model, strange_rows(TABLE.X))
    assert all((before[name] == v).all() for name, v in model.module_.state_dict().items())


@pytest.mark.parametrize("numbers", ["auto", "quantile"])
def test_float64(numbers):
    """torch.onnx rounds Python's numbers to float32, those of an approximation among them."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"age": rng.normal(40.0, 12.0, 600), "size": rng.integers(0, 200, 600)})
    Y = np.column_stack([X["age"] > 40, X["age"] / 12 + rng.normal(size=600)])
    model = small(SharedBottom, dtype="float64", numeric_features=numbers).fit(X, Y)
    session = session_of(to_onnx(model))
    shares, values = answer(session, onnx_inputs(session, X)).values()
    wanted = model.predict(X)[:, 1].astype(float)
    for apart in (shares - model.predict_proba(X))[:, 0], values[:, 0] - wanted:
        # The limits of the normal scores are still rounded, and so the lowest and highest rows.
        assert np.median(np.abs(apart)) < 1e-12
        assert np.abs(apart).max() < 1e-7


@pytest.mark.parametrize("kind", ["regression", "count"])
def test_values_far_from_zero(kind):
    """Dates in seconds: float32 has every 128th of them."""
    y = 1_600_000_000 + np.arange(72)
    model = small(SharedBottom, task_types=kind, dtype="float64").fit(TABLE.X, y)
    session = session_of(to_onnx(model))
    (found,) = answer(session, onnx_inputs(session, TABLE.X)).values()
    np.testing.assert_allclose(found[:, 0], model.predict(TABLE.X).astype(float), rtol=1e-9)


@pytest.mark.parametrize("opset", [18, pytest.param(20, marks=pytest.mark.slow)])
def test_gelu_in_float64(opset):
    """ONNX Runtime has no error function in float64."""
    model = small(SharedBottom, dtype="float64", activation="gelu").fit(TABLE.X, TABLE.Y)
    check(to_onnx(model, target_opset=opset), model, strange_rows(TABLE.X))


def test_every_kind_of_task():
    rng = np.random.default_rng(0)
    Y = pd.DataFrame(
        {
            "age": np.where(rng.random(72) < 0.5, "no", "yes"),
            "age_predicted": rng.choice(["a", "b"], 72),
            "rank": rng.integers(0, 4, 72),
            "named": rng.choice(["high", "low", "mid"], 72),
            "of three": rng.choice([3.0, 5.0, 9.0], 72),
            "amount": rng.poisson(3, 72) * 1e6,
            "median": rng.normal(1e4, 10.0, 72),
            "mean": rng.normal(-3.0, 1e-3, 72),
        }
    )
    kinds = {
        "age": BinaryTask(positive="no"),
        "age_predicted": "binary",
        "rank": "ordinal",
        "named": OrdinalTask(order=["low", "mid", "high"]),
        "of three": "multiclass",
        "amount": "count",
        "median": QuantileTask(quantile=0.5),
        "mean": "regression",
    }
    model = small(SharedBottom, task_types=kinds, n_members=2).fit(TABLE.X, Y)
    made = to_onnx(model)
    check(made, model, strange_rows(TABLE.X))
    names = [output.name for output in made.graph.output]
    assert names[:2] == ["age_predicted", "age_predicted_predicted"]  # "age" is an input
    assert names[2:] == [*Y][2:]
    (said,) = [json.loads(one.value) for one in made.metadata_props if one.key == "sk_mtl"]
    assert [task["kind"] for task in said["tasks"]] == [task.kind for task in model.tasks_]
    assert [task["output"] for task in said["tasks"]] == names
    assert said["tasks"][4]["classes"] == [3.0, 5.0, 9.0]
    assert said["tasks"][5]["classes"] is None
    assert said["inputs"] == {name: [name] for name in TABLE.X}
    assert {one.domain: one.version for one in made.opset_import} == {"": 18, "ai.onnx.ml": 3}
    assert not any(one.metadata_props or one.doc_string for one in made.graph.node)


# Rows of any kind ---------------------------------------------------------------------------------


@functools.cache
def fitted():
    """Return an estimator, and a session that runs it: one for all examples."""
    model = small(SharedBottom, n_members=2, numeric_features=("standardize", "piecewise"))
    model.fit(TABLE.X, TABLE.Y)
    return model, session_of(to_onnx(model))


CELLS = st.fixed_dictionaries(
    {
        "age": st.none() | st.floats(-1e4, 1e4, width=64),
        "hours": st.integers(-100, 1000),
        # ONNX Runtime ends strings at a zero byte.
        "city": st.none()
        | st.sampled_from(["Bern", "Oslo", "bern", "Bern "])
        | st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
        "student": st.booleans(),
    }
)


@settings(max_examples=150, deadline=None)
@given(st.lists(CELLS, min_size=1, max_size=15))
def test_any_rows(cells):
    model, session = fitted()
    rows = pd.DataFrame(cells)
    rows["age"] = rows["age"].astype(float)
    found = answer(session, onnx_inputs(session, rows))
    for name, expected in model.predict_task_proba(rows).items():
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-5)
    wage = model.predict(rows)[:, 3].astype(float)
    np.testing.assert_allclose(found["wage"][:, 0], wage, rtol=1e-5, atol=1e-4)


# Types of columns ---------------------------------------------------------------------------------


def typed_columns(n=60, seed=0):
    """Return categories of every type that ONNX takes, and a number."""
    rng = np.random.default_rng(seed)
    gaps = rng.random(n) < 0.2
    flags = rng.random(n) < 0.5
    shop = rng.integers(-3, 4, n)
    return pd.DataFrame(
        {
            "number": rng.normal(size=n),
            "code": rng.choice([-7, 0, 12, 2**62], n),
            "gapped": pd.array(np.where(gaps, None, rng.integers(0, 5, n)), dtype="Int64"),
            "float": np.where(gaps, np.nan, shop),
            "flag": flags,
            "maybe": pd.Series(np.where(gaps, None, flags), dtype=object),
            "word": pd.Series(rng.choice(["a", "b", "ä€"], n)).where(~gaps).astype("str"),
            "order": pd.Categorical(rng.choice(["x", "y"], n), categories=["x", "y", "z"]),
            "object": pd.Series(np.where(gaps, None, rng.choice(["p", "q"], n)), dtype=object),
            "empty": pd.Series([None] * n, dtype=object),
        }
    )


TYPES = {
    "number": "float64",
    "code": "int64",
    "gapped": "int64",
    "float": "float64",
    "flag": "bool",
    "maybe": "int64",
    "word": "object",
    "order": "object",
    "object": "object",
    "empty": "object",
}


@pytest.mark.parametrize("given", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_types_of_columns(given):
    X, rng = typed_columns(), np.random.default_rng(1)
    Y = pd.DataFrame({"a": rng.integers(0, 2, 60), "b": rng.normal(size=60)})
    if given:
        X["code"] = X["code"].where(X["code"] != 2**62, 3)
    names = [name for name in X if name != "number"]
    model = small(SharedBottom, categorical_features=names, embedding_dim=2).fit(X, Y)
    rows = X.iloc[:10].copy()
    rows.loc[0, "code"], rows.loc[1, "gapped"], rows.loc[2, "float"] = 99, -1, 77.0
    rows.loc[3, "word"], rows.loc[4, "order"], rows.loc[5, "object"] = "c", "z", "r"
    rows.loc[6, "empty"], rows.loc[7, "float"] = "something", 1e300
    expected = TYPES
    if given:  # the types of rows as they will come
        rows["number"] = rows["number"].astype("float32")
        rows["flag"] = rows["flag"].astype(object).where(np.arange(10) != 8)
        rows["code"] = rows["code"].astype(float)
        expected = {**TYPES, "number": "float32", "flag": "int64", "code": "float64"}
    made = to_onnx(model, X=rows if given else None)
    feed = onnx_inputs(made, rows)
    assert {name: str(tensor.dtype) for name, tensor in feed.items()} == expected
    assert all(tensor.shape == (10, 1) for tensor in feed.values())
    assert (feed["flag"][8, 0] == -(2**63)) == given
    check(made, model, rows, [slice(0, 1), slice(0, 10)])


def test_a_float_that_may_stand_for_several_integers_is_refused():
    X = pd.DataFrame({"id": np.array([1, 2**60] * 20)})
    model = small(SharedBottom, categorical_features=["id"], max_epochs=1).fit(X, [0, 1] * 20)
    with pytest.raises(ValueError, match=r"'id' has the category 1152921504606846976.*int64"):
        to_onnx(model, X=X.astype(float))


@pytest.mark.parametrize(
    ("kind", "rounded"),
    [(ExactValues(max_values=9), [0]), pytest.param("standardize", [0, 1], marks=pytest.mark.slow)],
)
def test_rounded_numbers(monkeypatch, kind, rounded):
    """Numbers of large tables are read as float32, here and there or everywhere."""
    monkeypatch.setattr("sk_mtl.data.numbers.LARGE_BYTES", 0)
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=50), "b": rng.integers(0, 5, 50) + 0.1})
    y = (X["a"] > 0).astype(int).rename("y")
    rows = pd.DataFrame({"a": [0.1, -0.7, 1e39, -1e300, np.nan], "b": [0.1, 1.1, 2.1, 7.0, np.nan]})
    model = small(SharedBottom, numeric_features={"a": "quantile", "b": kind}).fit(X, y)
    assert model._fitted_.encoder.encoders[0].rounded_ == rounded
    check(to_onnx(model), model, rows, [slice(0, 1), slice(0, 5)])


# Rows without names -------------------------------------------------------------------------------


def array_of(n=60):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 4))
    X[:, 1], X[:, 3] = rng.integers(0, 4, n), rng.integers(-2, 3, n)
    X[rng.random((n, 4)) < 0.1] = np.nan
    return X


@pytest.mark.parametrize(
    "form",
    ["float32", *(pytest.param(f, marks=pytest.mark.slow) for f in ("float64", "sparse", "named"))],
)
def test_rows_without_names_have_one_input(form):
    X = array_of()
    Y = np.column_stack([np.nan_to_num(X[:, 0]) > 0, np.nan_to_num(X[:, 2])])
    rows = X[:12].copy()
    rows[0, 1], rows[1, 3], rows[2, 3] = 9, 1e18, 0.5
    given = None
    if form == "float32":
        X, rows = X.astype(np.float32), rows.astype(np.float32)
        given = rows
    params = {"categorical_features": [1, 3], "task_types": ["binary", "regression"]}
    if form == "sparse":
        params["categorical_features"] = None
        fitted = small(SharedBottom, **params).fit(sparse.csr_matrix(X), Y)
    else:
        frame = pd.DataFrame(X) if form == "named" else X
        fitted = small(SharedBottom, **params).fit(frame, Y)
    made = to_onnx(fitted, X=given)
    (only,) = made.graph.input
    assert only.name == "X"
    assert onnx_inputs(made, rows)["X"].dtype == rows.dtype
    assert np.array_equal(onnx_inputs(made, rows)["X"], rows, equal_nan=True)
    check(made, fitted, rows, [slice(0, 1), slice(0, 12)])


def test_an_array_with_strings_has_an_input_for_each_column():
    rng = np.random.default_rng(0)
    X = np.empty((40, 3), dtype=object)
    X[:, 0], X[:, 1], X[:, 2] = rng.choice(["a", "b"], 40), rng.normal(size=40), "c"
    model = small(SharedBottom).fit(X, rng.integers(0, 2, 40))
    made = to_onnx(model)
    assert [given.name for given in made.graph.input] == ["0", "1", "2"]
    rows = X[:5].copy()
    rows[0, 0], rows[1, 1] = "unknown", np.nan
    check(made, model, rows, [slice(0, 1), slice(0, 5)])


# Names, files, other runtimes ---------------------------------------------------------------------


@pytest.mark.parametrize("beside", [pytest.param(False, marks=pytest.mark.slow), True])
def test_files(tmp_path, monkeypatch, beside):
    if beside:
        monkeypatch.setattr("sk_mtl.export._onnx.MOST_BYTES", 10)
    model = small(SharedBottom, bottom_units=(64,)).fit(TABLE.X, TABLE.Y)
    path = tmp_path / "model.onnx"
    made = to_onnx(model, path)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["model.onnx", "model.onnx.data"][
        : 1 + beside
    ]
    with pytest.raises(FileNotFoundError):
        to_onnx(model, tmp_path / "nowhere" / "model.onnx")
    feed = onnx_inputs(made, TABLE.X)
    expected = answer(session_of(made), feed)  # what is returned holds its weights itself
    for name, block in answer(session_of(path), feed).items():
        assert np.array_equal(block, expected[name])


@pytest.mark.slow
def test_a_loaded_model_gives_the_same_file(tmp_path):
    pytest.importorskip("safetensors", reason="an extra: `save` needs it")
    model = small(SharedBottom).fit(TABLE.X, TABLE.Y)
    model.save(tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert to_onnx(model).SerializeToString() == to_onnx(again).SerializeToString()


def test_a_clients_own_tensors_and_its_missing_string():
    """A client that knows nothing of ours, of a model of which "" is a category."""
    X = TABLE.X.assign(city=TABLE.X["city"].fillna(""))
    model = small(SharedBottom).fit(X, TABLE.Y)
    with pytest.raises(ValueError, match=r"'city' has the category ''.*`missing_string`"):
        to_onnx(model)
    session = session_of(to_onnx(model, missing_string="n/a"))
    feed = {
        "age": np.array([[31.5], [np.nan], [20.0]]),
        "hours": np.array([[40.0], [38.0], [1.0]]),
        "city": np.array([["Oslo"], ["n/a"], [""]], dtype=object),
        "student": np.array([[True], [False], [True]]),
    }
    rows = pd.DataFrame({name: tensor[:, 0] for name, tensor in feed.items()})
    rows["city"] = ["Oslo", None, ""]
    expected = model.predict_task_proba(rows)["level"]
    np.testing.assert_allclose(answer(session, feed)["level"], expected, atol=1e-5)
    assert np.array_equal(onnx_inputs(session, rows)["city"], feed["city"])


# Pipelines ----------------------------------------------------------------------------------------


def test_skl2onnx_converts_pipelines():
    X = TABLE.X.drop(columns="student").assign(city=TABLE.X["city"].fillna("none"))
    transformer = make_column_transformer(
        (StandardScaler(), ["age", "hours"]),
        (OneHotEncoder(handle_unknown="ignore"), ["city"]),
        sparse_threshold=0,  # "quantile" looks at single values
    )
    last = small(PLE, numeric_features=("standardize", "quantile", "piecewise"))
    pipeline = make_pipeline(transformer, "passthrough", last)
    pipeline.fit(X, TABLE.Y)
    rows = strange_rows(X).fillna({"city": "?"})
    made = to_onnx(pipeline, X=X[:3], target_opset=20)
    assert {one.domain: one.version for one in made.opset_import}[""] == 20
    check(made, pipeline, rows)


def test_ordinal_codes_reach_the_network_as_categories():
    X = TABLE.X.drop(columns="student").assign(city=TABLE.X["city"].fillna("none"))
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    transformer = make_column_transformer((encode, ["city"]), (StandardScaler(), ["age", "hours"]))
    last = small(MMoE, categorical_features=[0])
    inner = GridSearchCV(last, {"n_experts": [2]}, cv=2, error_score="raise")
    search = GridSearchCV(make_pipeline(transformer, inner), {}, cv=2, error_score="raise")
    search.fit(X, TABLE.Y)
    rows, (first, found) = strange_rows(X).fillna({"city": "?"}), search.best_estimator_
    made = to_onnx(search, X=X[:3])
    check(made, make_pipeline(first, found.best_estimator_), rows)


OUTPUTS = {
    "strings": (["income", "level"], {"label": "object", "probabilities": "float64"}),
    "numbers": (["married"], {"label": "int64", "probabilities": "float64"}),
    "values": (["wage"], {"variable": "float64"}),
    "both": (["income", "married", "wage"], {"probabilities": "float64", "variable": "float64"}),
}


@pytest.mark.parametrize(
    "case", ["strings", *(pytest.param(c, marks=pytest.mark.slow) for c in [*OUTPUTS][1:])]
)
def test_outputs_follow_skl2onnx(case):
    names, expected = OUTPUTS[case]
    register_converters()
    X = TABLE.X[["hours", "age"]].fillna(40.0).to_numpy()
    Y = TABLE.Y[names[0]] if len(names) == 1 else TABLE.Y[names]
    Y = Y.fillna(0.0) if case == "numbers" else Y
    pipeline = make_pipeline(StandardScaler(), small(SharedBottom)).fit(X, Y)
    made = skl2onnx.to_onnx(pipeline, X[:1], target_opset=18)
    found = answer(session_of(made), {"X": X})
    assert {name: str(array.dtype) for name, array in found.items()} == expected
    if "probabilities" in found:
        proba = pipeline.predict_proba(X)
        np.testing.assert_allclose(found["probabilities"], proba, atol=1e-5)
    if "label" in found:
        assert np.array_equal(found["label"], pipeline.predict(X))
    if "variable" in found:
        wage = pipeline.predict(X).reshape(len(X), -1)[:, [-1]].astype(float)
        np.testing.assert_allclose(found["variable"], wage, rtol=1e-5)


@pytest.mark.slow
def test_columns_that_skl2onnx_does_not_join_are_told():
    X = pd.DataFrame({"a": np.arange(40), "b": np.arange(40.0), "c": ["x", "y"] * 20})
    transformer = make_column_transformer((StandardScaler(), ["a", "b"]), (OneHotEncoder(), ["c"]))
    pipeline = make_pipeline(transformer, small(SharedBottom)).fit(X, [0, 1] * 20)
    with pytest.raises(ValueError, match=r"reads together one dtype, such as float64"):
        to_onnx(pipeline, X=X)


@pytest.mark.slow
def test_two_networks_in_one_model():
    register_converters()
    X = TABLE.X[["hours", "age"]].fillna(40.0).to_numpy(dtype=np.float32)
    y = TABLE.Y["income"]
    named = [
        ("one", small(SharedBottom, task_types="binary")),
        ("two", make_pipeline(StandardScaler(), LogisticRegression())),
        ("three", small(SharedBottom, task_types="binary", random_state=1)),
    ]
    voting = VotingClassifier(named, voting="soft", flatten_transform=False).fit(X, y)
    made = skl2onnx.convert_sklearn(
        voting,
        initial_types=[("X", skl2onnx.common.data_types.FloatTensorType([None, 2]))],
        options={"zipmap": False},
        target_opset=18,
    )
    found = answer(session_of(made), {"X": X})
    np.testing.assert_allclose(found["probabilities"], voting.predict_proba(X), atol=1e-5)
    assert np.array_equal(found["label"], voting.predict(X))


# What is refused ----------------------------------------------------------------------------------


class OwnEncoder(CategoryEncoder):
    """A kind of feature that we know nothing of."""


class Own(SharedBottom):
    """An architecture with it."""

    def _column_encoders(self):
        return NumberEncoder(), OwnEncoder()


def test_columns_without_a_form_in_onnx_are_named():
    n = 40
    X = pd.DataFrame(
        {
            "x": np.arange(n) / 7,
            "word": ["a", "b"] * (n // 2),
            "mixed": [1, "b"] * (n // 2),
            "pair": [(1, 2), (3, 4)] * (n // 2),
            "list": [["a"], ["b", "a"]] * (n // 2),
            "big": np.array([2**63 + 5, 1] * (n // 2), dtype=np.uint64),
            "broken": pd.Series(["\ud800", "b"] * (n // 2), dtype=object),
        }
    )
    cases = {
        "mixed": (Categories(), "'mixed' has categories of type int and str such as 1.*make str"),
        "pair": (Categories(), r"'pair' has categories of type tuple such as \(1, 2\)"),
        "word": (Hashed(n_slots=8), "'word' is hashed.*pass Categories"),
        "list": (Bag(), "'list' is a Bag: .*one category in a cell"),
        "big": (Categories(), "'big' has the category 9223372036854775813.*make strings"),
        "broken": (Categories(), r"'broken' has the category '\\ud800', which UTF-8"),
    }
    for name, (kind, message) in cases.items():
        some = X[["x", name]]
        model = small(SharedBottom, categorical_features={name: kind}, max_epochs=1)
        model.fit(some, [0, 1] * (n // 2))
        with pytest.raises(ValueError, match=message):
            to_onnx(model)
    own = small(Own, max_epochs=1).fit(X[["x", "word"]], [0, 1] * (n // 2))
    with pytest.raises(ValueError, match="Own has NumberEncoder and OwnEncoder; export `module_`"):
        to_onnx(own)


def test_other_mistakes():
    model = small(SharedBottom, max_epochs=1)
    with pytest.raises(NotFittedError):
        to_onnx(model)
    model.fit(TABLE.X, TABLE.Y)
    with pytest.raises(TypeError, match=r"LogisticRegression is no sk_mtl estimator\.$"):
        to_onnx(LogisticRegression())
    with pytest.raises(TypeError, match=r"TaskView is no sk_mtl estimator\. It holds a Shared"):
        to_onnx(model.task_view("income"))
    for opset in (17, "18", True):
        with pytest.raises(ValueError, match=r"`target_opset` is .*; pass an integer from 18 on"):
            to_onnx(model, target_opset=opset)
    pipeline = make_pipeline(StandardScaler(), small(SharedBottom, max_epochs=1))
    pipeline.fit(TABLE.X[["hours"]], TABLE.Y)
    with pytest.raises(ValueError, match=r"pass some as `X`"):
        to_onnx(pipeline)
    with pytest.raises(ValueError, match=r"no model that `sk_mtl.to_onnx` made"):
        onnx_inputs(onnx.ModelProto(), TABLE.X)
    register_converters()
    with pytest.raises(ValueError, match="`target_opset` is 15, and SharedBottom needs 18"):
        skl2onnx.to_onnx(pipeline, TABLE.X[["hours"]].to_numpy(float), target_opset=15)
    strings = [("X", skl2onnx.common.data_types.StringTensorType([None, 1]))]
    with pytest.raises(ValueError, match="'X' is of strings, and a column of it was a number"):
        skl2onnx.to_onnx(pipeline[-1], initial_types=strings, target_opset=18)
    wide = [("X", skl2onnx.common.data_types.FloatTensorType([None, 3]))]
    with pytest.raises(ValueError, match=r"\['X'\] have 3 columns, and SharedBottom.* on 1"):
        skl2onnx.to_onnx(pipeline[-1], initial_types=wide, target_opset=18)


def test_rows_that_a_model_cannot_take_are_named():
    _, session = fitted()
    rows = TABLE.X[:3]
    with pytest.raises(ValueError, match="X has no column 'city'"):
        onnx_inputs(session, rows.drop(columns="city"))
    with pytest.raises(ValueError, match="'city' is of string in the model, and holds 3"):
        onnx_inputs(session, rows.assign(city=3))
    with pytest.raises(ValueError, match="'student' is of bool in the model, and holds 2"):
        onnx_inputs(session, rows.assign(student=2))
    with pytest.raises(ValueError, match="'age' cannot be read as float64"):
        onnx_inputs(session, rows.assign(age="old"))


def test_names_that_no_inputs_can_have():
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 2)), columns=["a", ""])
    model = small(SharedBottom, max_epochs=1).fit(X, [0, 1] * 10)
    with pytest.raises(ValueError, match="named '', and inputs of ONNX need names"):
        to_onnx(model)
    with pytest.raises(ValueError, match="named 1, and inputs of ONNX need names"):
        input_names([1, "1"])

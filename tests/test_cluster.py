"""What guide/deployment.md says of Dask, Ray and Spark: its own code, and partitions of any kind.

Dask and Ray run as scripts in processes of their own, as users run them: Ray replaces `print`, both
start processes, and what these leave open when they end would be warnings in other tests.
"""

import os
import shutil
import subprocess
import sys
import tempfile

import joblib
import numpy as np
import pandas as pd
import pytest
from conftest import make_table, small
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from test_docs import blocks, page_names

from sk_mtl import MMoE, SharedBottom, predict_frame

ATOL = 1e-6
"""Products of matrices with other numbers of rows differ in the last bits of 32."""


def run_script(folder, kind, marker, extra, names):
    """Run the page's block of a kind with lines of our own after one of its lines; return names."""
    (code,) = blocks(f"python {kind}", "guide/deployment.md")
    (line,) = [line for line in code.splitlines(keepends=True) if marker in line]
    indent = line[: len(line) - len(line.lstrip())]
    more = extra.strip().splitlines()
    more.append(f"joblib.dump({{name: globals()[name] for name in {names}}}, 'found.joblib')")
    lines = "".join(f"{indent}{one}\n" for one in ["import os, joblib", *more])
    script = folder / "script.py"
    script.write_text(code.replace(line, line + lines), encoding="utf-8")
    # Ray's sockets are files, whose names may have 107 bytes: fewer than pytest's folders have.
    with tempfile.TemporaryDirectory() as short:
        env = {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": short}
        done = subprocess.run(
            [sys.executable, str(script)],
            cwd=folder, env=os.environ | env, capture_output=True, text=True, timeout=240,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
    return joblib.load(folder / "found.joblib")


def check_search(found):
    """Check that the search scored what it scores here, and that its fits ran elsewhere."""
    search = found["search"]
    here = GridSearchCV(found["model"], search.param_grid, cv=2).fit(found["X"], found["Y"])
    for name in ("mean_test_score", "std_test_score"):
        assert np.allclose(search.cv_results_[name], here.cv_results_[name], atol=1e-4)
    assert found["pids"].isdisjoint({os.getpid(), found["own"]})


PIDS = """
search_pids = GridSearchCV(
    model, {"n_experts": [2, 4]}, cv=2, scoring=lambda *_: os.getpid(), refit=False
)
"""


# Dask -------------------------------------------------------------------------------------------


def test_search_and_scoring_on_a_dask_cluster(tmp_path):
    pytest.importorskip("distributed", reason="an extra; the page's section needs it")
    pytest.importorskip("dask.dataframe", reason="needs pyarrow, an extra")
    extra = f"""
{PIDS}
with parallel_config("dask"):
    fits = search_pids.fit(X, Y).cv_results_
pids, own = {{int(fits[f"split{{k}}_test_score"][j]) for k in (0, 1) for j in (0, 1)}}, os.getpid()
"""
    names = ["X", "Y", "model", "search", "probabilities", "pids", "own"]
    found = run_script(tmp_path, "dask", "scored.compute()", extra, names)
    check_search(found)
    X, offline = found["X"], predict_frame(found["search"], found["X"], "predict_proba")
    assert found["probabilities"].index.equals(X.index)
    pd.testing.assert_frame_equal(found["probabilities"], offline, rtol=0, atol=ATOL)


@pytest.fixture(scope="module", params=["raw columns", "ColumnTransformer"])
def scorer(request):
    """Return a fitted pipeline, rows with an index of their own, and labels of all kinds."""
    X, Y, _ = make_table(200)
    X = X.set_axis([f"row {k}" for k in range(len(X))])
    Y.index = X.index
    steps = ["passthrough"]
    if request.param == "ColumnTransformer":
        numbers = make_column_selector(dtype_include="number")
        one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        steps = [make_column_transformer((one_hot, ["city"]), ("passthrough", numbers))]
    return make_pipeline(*steps, small(SharedBottom)).fit(X, Y), X


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
@pytest.mark.parametrize("with_meta", [True, False])
@pytest.mark.parametrize("n_kept", [200, 1])
def test_partitions_of_a_dask_frame(scorer, method, with_meta, n_kept):
    dask = pytest.importorskip("dask", reason="an extra")
    dd = pytest.importorskip("dask.dataframe", reason="needs pyarrow, an extra")
    model, X = scorer
    # Arrow's strings have pd.NA where one is missing. We read it as missing; scikit-learn's
    # OneHotEncoder, fitted on NaN, takes it for a category that it does not know.
    arrow_strings = isinstance(model[0], str)
    meta = {"meta": predict_frame(model, X[:0], method)} if with_meta else {}
    with dask.config.set({"dataframe.convert-string": arrow_strings}):
        frame = dd.from_pandas(X.assign(place=np.arange(200)), npartitions=7, sort=False)
    kept = frame[frame["place"] < n_kept].drop(columns="place")  # the other partitions are empty
    assert kept.npartitions > 3
    scored = kept.map_partitions(lambda part: predict_frame(model, part, method), **meta)
    offline = predict_frame(model, X[:n_kept], method)
    with dask.config.set({"dataframe.convert-string": arrow_strings}):
        found = scored.compute()
    assert list(scored.dtypes) == list(offline.dtypes)
    pd.testing.assert_frame_equal(found, offline, check_index_type=False, rtol=0, atol=ATOL)


@pytest.mark.parametrize("form", ["frame", "array", "arrow"])
@pytest.mark.parametrize("n_members", [1, 3])
def test_a_frame_of_no_rows_has_the_columns_and_dtypes_of_others(form, n_members):
    pa = pytest.importorskip("pyarrow", reason="an extra")
    X, Y, _ = make_table()
    X = X.select_dtypes("number")
    given = {"frame": X, "array": X.to_numpy(), "arrow": pa.Table.from_pandas(X)}[form]
    model = small(SharedBottom, n_members=n_members).fit(given, Y)
    for method in ("predict", "predict_proba", "predict_log_proba"):
        none, some = (
            predict_frame(model, given[:0], method),
            predict_frame(model, given[:4], method),
        )
        assert len(none) == 0
        pd.testing.assert_frame_equal(none, some[:0], check_index_type=False)
    with pytest.raises(ValueError, match="0 sample"):  # as scikit-learn's estimators do
        model.predict(given[:0])
    alone = small(SharedBottom).fit(given, Y["wage"])
    assert predict_frame(alone, given[:0]).dtypes.tolist() == [np.float64]
    with pytest.raises(AttributeError, match="predict_proba"):
        predict_frame(alone, given[:0], "predict_proba")


@pytest.mark.parametrize("form", ["frame", "array"])
def test_rows_that_may_not_be_written(form):
    X, Y, _ = make_table()
    if form == "array":
        rows = X.select_dtypes("number").to_numpy()
        locked = rows.copy()
        locked.setflags(write=False)
    else:
        rows, columns = X, {name: values.to_numpy().copy() for name, values in X.items()}
        for values in columns.values():
            values.setflags(write=False)
        locked = pd.DataFrame(columns, copy=False)
        assert not locked["age"].to_numpy().flags.writeable
    model = small(MMoE).fit(rows, Y)
    expected = model.predict_proba(rows)
    assert np.array_equal(model.predict_proba(locked), expected)
    assert np.array_equal(small(MMoE).fit(locked, Y).predict_proba(locked), expected)


# Ray --------------------------------------------------------------------------------------------


@pytest.mark.slow  # half a minute: Ray starts, and each of its workers imports torch
def test_search_and_scoring_with_ray(tmp_path):
    pytest.importorskip("ray", reason="an extra; the page's section needs it")
    extra = f"""
{PIDS}
with joblib.parallel_config("ray", n_jobs=-1):
    fits = search_pids.fit(X, Y).cv_results_
pids, own = {{int(fits[f"split{{k}}_test_score"][j]) for k in (0, 1) for j in (0, 1)}}, os.getpid()
forms = {{}}
for form in ("pandas", "pyarrow"):
    for method in ("predict", "predict_proba"):
        forms[form, method] = rows.map_batches(
            lambda batch: predict_frame(search, batch, method), batch_format=form, batch_size=170
        ).to_pandas()
ray.shutdown()
"""
    names = ["X", "Y", "model", "search", "probabilities", "pids", "own", "forms"]
    found = run_script(tmp_path, "ray", "scored.to_pandas()", extra, names)
    check_search(found)
    forms = found["forms"] | {("pandas", "predict_proba", "page"): found["probabilities"]}
    assert len(forms) == 5
    for (_, method, *_), frame in forms.items():
        offline = predict_frame(found["search"], found["X"], method)
        assert frame.columns.tolist() == offline.columns.tolist()
        assert np.allclose(frame.to_numpy(dtype=float), offline.to_numpy(), rtol=0, atol=ATOL)


# Spark ------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("default")  # Spark warns of pandas 3, and leaves sockets open
def test_scoring_with_spark(tmp_path, monkeypatch):
    pytest.importorskip("pyspark", reason="extra `spark`: 460 MB to load, so not part of `test`")
    if shutil.which("java") is None:
        pytest.skip("Spark needs a Java runtime, and there is none on this machine")
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "OMP_NUM_THREADS": "1",
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    names = page_names()
    (code,) = blocks("python spark", "guide/deployment.md")
    exec(compile(code, "guide/deployment.md", "exec"), names)
    offline = predict_frame(names["pipeline"], names["X"], "predict_proba")
    assert names["probabilities"].columns.tolist() == offline.columns.tolist()
    assert np.allclose(names["probabilities"], offline, rtol=0, atol=ATOL)

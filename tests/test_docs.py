"""The code in the docs runs, block by block."""

import re
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from sk_mtl import MMoE
from sk_mtl.datasets import make_census_like

DOCS = Path(__file__).parent.parent / "docs"


def blocks(kind, name="guide.md"):
    text = (DOCS / name).read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def test_examples_of_architectures_run():
    names = {}
    code = blocks("python", "architectures.md")
    assert len(code) >= 3
    for block in code:
        exec(compile(block, "architectures.md", "exec"), names)
    assert names["few"].module_.bottom.gates.n_selectors == 2


def test_guide_runs_from_top_to_bottom(tmp_path, monkeypatch):
    mpl.use("Agg")
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("safetensors", reason="an extra; the guide saves with it")
    pytest.importorskip("optuna", reason="an extra; the guide searches with it")
    pytest.importorskip("skops", reason="an extra; the guide saves with it")
    names = {}
    code = blocks("python")
    assert len(code) >= 8
    for block in code:
        exec(compile(block, "guide.md", "exec"), names)
    assert list(names["again"][-1].task_names_) == ["high_income", "married", "log_wage"]
    assert names["stream"].n_iter_ == 3
    assert "auc" in names["watched"].history_
    assert names["best"].lr == names["study"].best_params["lr"]


@pytest.mark.filterwarnings("default")  # MLflow and what it stands on warn of one another
def test_a_model_goes_through_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="large, and takes an older pandas: not in CI")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs.db")
    X, Y = make_census_like(200, random_state=0)
    pipeline = make_pipeline("passthrough", MMoE(max_epochs=1, random_state=0)).fit(X, Y)
    names = {"pipeline": pipeline}
    for block in blocks("python mlflow"):
        exec(compile(block, "guide.md", "exec"), names)
    assert np.array_equal(names["served"].predict(X), pipeline.predict(X))


@pytest.mark.slow
def test_search_on_a_dask_cluster(tmp_path):
    pytest.importorskip("distributed", reason="an extra; the guide's last section needs it")
    (code,) = blocks("python dask")
    script = tmp_path / "search.py"
    script.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "'n_experts': " in done.stdout

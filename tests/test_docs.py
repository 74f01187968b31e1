"""The code in the docs runs, block by block."""

import re
from collections import Counter
from pathlib import Path

import matplotlib as mpl
import pytest

DOCS = Path(__file__).parent.parent / "docs"


def blocks(kind, name="guide.md"):
    text = (DOCS / name).read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def page_names():
    """Return the names that the first block of docs/deployment.md defines, for its sections."""
    names = {}
    exec(compile(blocks("python", "deployment.md")[0], "deployment.md", "exec"), names)
    return names


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


def test_deployment_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("optuna_integration", reason="an extra; the page prunes with it")
    names = page_names()
    for block in blocks("python", "deployment.md")[1:]:
        exec(compile(block, "deployment.md", "exec"), names)
    ends = Counter(trial.state.name for trial in names["study"].trials)
    assert ends.keys() == {"COMPLETE", "PRUNED"}, ends
    for trial in names["study"].trials:
        steps = trial.intermediate_values
        assert (len(steps) == 4) == (trial.state.name == "COMPLETE")
        assert trial.value == list(steps.values())[-1]


def test_large_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("pyarrow", reason="an extra; the page reads Parquet")
    names = {}
    for block in blocks("python", "large.md"):
        exec(compile(block, "large.md", "exec"), names)
    assert names["model"].n_iter_ == 3
    assert len(names["pd"].read_parquet("predictions.parquet")) == 3000


def test_export_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for extra in ("onnx", "onnxruntime", "skl2onnx"):
        pytest.importorskip(extra, reason="an extra; the page is about it")
    names = {}
    code = blocks("python", "export.md")
    assert len(code) >= 8
    for block in code:
        exec(compile(block, "export.md", "exec"), names)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".onnx"] * 3 + [".pt2"]

"""The guide's code runs, block by block."""

import re
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest

GUIDE = (Path(__file__).parent.parent / "docs" / "guide.md").read_text(encoding="utf-8")


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", GUIDE, flags=re.DOTALL | re.MULTILINE)


def test_guide_runs_from_top_to_bottom(tmp_path, monkeypatch):
    mpl.use("Agg")
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("safetensors", reason="an extra; the guide saves with it")
    pytest.importorskip("optuna", reason="an extra; the guide searches with it")
    names = {}
    code = blocks("python")
    assert len(code) >= 8
    for block in code:
        exec(compile(block, "guide.md", "exec"), names)
    assert list(names["again"].task_names_) == ["high_income", "married", "log_wage"]
    assert names["stream"].n_iter_ == 3
    assert "spread" in names["watched"].history_
    assert names["best"].lr == names["study"].best_params["lr"]


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

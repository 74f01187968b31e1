"""The READMEs' code runs, their commands are there, and they name what exists."""

import re
from pathlib import Path

import joblib
import pytest

import sk_mtl
from sk_mtl.base import MultiTaskEstimator

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
READMES = pytest.mark.parametrize("text", [README, CHINESE], ids=["en", "zh"])


def without_comments(code):
    return re.sub(r" *#.*", "", code)


def test_example_runs(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    saved = joblib.load(tmp_path / "mmoe.joblib")
    assert names["probabilities"].shape == (5000, 4)
    assert saved[-1].n_experts in (4, 8)


def test_the_chinese_example_is_the_same():
    english, chinese = (
        re.findall(r"```\w*\n.*?```", t, flags=re.DOTALL) for t in (README, CHINESE)
    )
    assert list(map(without_comments, english)) == list(map(without_comments, chinese))


@pytest.mark.parametrize("name", ["main", "tests"])
def test_commands_stand_behind_their_markers(name):
    (command,) = re.findall(rf"<!-- {name} -->\n```\n(.*?)\n```", README, flags=re.DOTALL)
    assert "\n" not in command
    assert command.startswith("python3 -m venv .venv && .venv/bin/pip install")


@READMES
def test_every_architecture_is_in_the_table(text):
    for name in sk_mtl.__all__:
        member = getattr(sk_mtl, name)
        if isinstance(member, type) and issubclass(member, MultiTaskEstimator):
            assert re.search(rf"^\| `{name}` \|", text, flags=re.MULTILINE), name


@READMES
def test_links_into_the_repository_lead_somewhere(text):
    for target in re.findall(r"\]\(([^)h][^)]*)\)", text):
        assert (ROOT / target.partition("#")[0]).exists(), target

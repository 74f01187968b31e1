"""The README's code runs, its commands are there, and it names what exists."""

import re
from pathlib import Path

import joblib
import pytest

import sk_mtl
from sk_mtl.base import MultiTaskEstimator

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_example_runs(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    saved = joblib.load(tmp_path / "mmoe.joblib")
    assert names["probabilities"].shape == (5000, 4)
    assert saved[-1].n_experts in (4, 8)


@pytest.mark.parametrize("name", ["main", "tests"])
def test_commands_stand_behind_their_markers(name):
    (command,) = re.findall(rf"<!-- {name} -->\n```\n(.*?)\n```", README, flags=re.DOTALL)
    assert "\n" not in command
    assert command.startswith("python3 -m venv .venv && .venv/bin/pip install")


def test_every_architecture_is_in_the_table():
    for name in sk_mtl.__all__:
        member = getattr(sk_mtl, name)
        if isinstance(member, type) and issubclass(member, MultiTaskEstimator):
            assert re.search(rf"^\| `{name}` \|", README, flags=re.MULTILINE), name


def test_links_into_the_repository_lead_somewhere():
    for target in re.findall(r"\]\(([^)h][^)]*)\)", README):
        assert (ROOT / target.partition("#")[0]).exists(), target

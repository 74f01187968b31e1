"""The code on the site's pages runs, page by page, block by block.

A block of ``python`` is executed, one of ``pycon`` is a doctest; both share the page's names.
Blocks with a further word (``python server``) are other tests' or, with ``peer``, another
library's. The gallery is run by Sphinx.
"""

import doctest
import re
from collections import Counter
from pathlib import Path

import matplotlib as mpl
import pytest

DOCS = Path(__file__).parent.parent / "docs"
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FENCE = re.compile(r"^```(.+?)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)


def blocks(kind, name):
    """Return the code of a page's blocks of one kind."""
    text = (DOCS / name).read_text(encoding="utf-8")
    return [code for of, code in FENCE.findall(text) if of == kind]


def page_names():
    """Return the names that the first block of guide/deployment.md defines, for its sections."""
    names = {}
    code = blocks("python", "guide/deployment.md")[0]
    exec(compile(code, "deployment.md", "exec"), names)
    return names


def run_page(name):
    """Run a page from top to bottom, and return its names."""
    names = {"__name__": "page"}
    text = (DOCS / name).read_text(encoding="utf-8")
    for number, (kind, code) in enumerate(FENCE.findall(text), 1):
        where = f"{name}, block {number}"
        if kind == "python":
            exec(compile(code, where, "exec"), names)
        elif kind == "pycon":
            runner = doctest.DocTestRunner(optionflags=OPTIONS)
            test = doctest.DocTestParser().get_doctest(code, names, where, name, 0)
            runner.run(test, clear_globs=False)
            names.update(test.globs)
            assert runner.summarize(verbose=False).failed == 0, where
    return names


def deployment(names):
    ends = Counter(trial.state.name for trial in names["study"].trials)
    assert ends.keys() == {"COMPLETE", "PRUNED"}, ends
    for trial in names["study"].trials:
        steps = trial.intermediate_values
        assert (len(steps) == 4) == (trial.state.name == "COMPLETE")
        assert trial.value == list(steps.values())[-1]


def large(names):
    assert names["model"].n_iter_ == 3
    assert len(names["pd"].read_parquet("predictions.parquet")) == 3000


def export(names):
    suffixes = sorted(path.suffix for path in Path.cwd().iterdir())
    assert suffixes == [".onnx"] * 3 + [".pt2"]


AFTERWARDS = {
    "guide/deployment.md": deployment,
    "guide/large.md": large,
    "guide/export.md": export,
}
"""What must hold after a page beyond that it runs."""

PAGES = sorted(
    name
    for name in (path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
    if not name.startswith(("_build/", "auto_examples/", "api/generated/"))
    and (blocks("python", name) or blocks("pycon", name))
)


@pytest.mark.parametrize("name", PAGES)
def test_page_runs_from_top_to_bottom(name, tmp_path, monkeypatch):
    mpl.use("Agg")
    monkeypatch.chdir(tmp_path)
    names = run_page(name)
    if name in AFTERWARDS:
        AFTERWARDS[name](names)


def test_pages_with_code_are_found():
    assert AFTERWARDS.keys() <= set(PAGES)


def test_a_wrong_output_is_seen(tmp_path, monkeypatch):
    (tmp_path / "page.md").write_text("```python\nn = 1\n```\n\n```pycon\n>>> n + 1\n3\n```\n")
    monkeypatch.setattr("test_docs.DOCS", tmp_path)
    with pytest.raises(AssertionError, match=r"page\.md, block 2"):
        run_page("page.md")

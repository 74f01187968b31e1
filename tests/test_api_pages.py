"""The API reference lists every public name once, and the HTML views' links lead there."""

import re
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from conftest import ESTIMATORS, small
from sklearn.base import clone

import sk_mtl
from sk_mtl import MMoE, TaskView

DOCS = Path(__file__).parent.parent / "docs"
sys.path.insert(0, str(DOCS / "_ext"))
import public_names  # noqa: E402

ENTRY = re.compile(r"^   (\w+)$")
DIRECTIVE = re.compile(r"^\.\. (currentmodule|autosummary|py:data|py:class|\w+)::(?: (\S+))?$")


def listed():
    """Return the names that the pages list: those with a page of their own, and the others."""
    pages, lines = [], []
    for path in sorted((DOCS / "api").glob("*.md")):
        module, inside = "sk_mtl", False
        for line in path.read_text(encoding="utf-8").splitlines():
            if (found := DIRECTIVE.match(line)) is not None:
                kind, argument = found.groups()
                inside = kind == "autosummary"
                if kind == "currentmodule":
                    module = argument
                elif kind.startswith("py:"):
                    lines.append(f"{module}.{argument}")
            elif inside and (entry := ENTRY.match(line)) is not None:
                pages.append(f"{module}.{entry[1]}")
    return pages, lines


def test_every_public_name_is_listed_once():
    pages, lines = listed()
    homes = public_names.homes()
    things = public_names.exported()
    with_page = {home for name, home in homes.items() if public_names.has_page(things[name])}
    for of, wanted in ((pages, with_page), (lines, set(homes.values()) - with_page)):
        assert [name for name, n in Counter(of).items() if n > 1] == []
        assert wanted - set(of) == set(), "add to the table of a page in docs/api"
        assert set(of) - wanted == set(), "no longer public: remove from docs/api"


def test_homes():
    homes = public_names.homes()
    assert homes["sk_mtl.architectures.MMoE"] == "sk_mtl.MMoE"
    assert homes["sk_mtl.persistence.load"] == "sk_mtl.load"
    assert homes["sk_mtl.base.BinaryTask"] == "sk_mtl.tasks.BinaryTask"
    assert homes["sk_mtl.architectures.SharedEmbeddingBottom"] == "sk_mtl.nn.SharedEmbeddingBottom"
    assert homes["sk_mtl.tasks.KINDS"] != homes["sk_mtl.categorical.KINDS"]
    other = public_names.other_names()
    for name in ("BinaryTask", "sk_mtl.tasks.binary.BinaryTask"):
        assert other[name] == "sk_mtl.tasks.BinaryTask"
    assert "KINDS" not in other


def test_every_public_name_has_words():
    for name, thing in public_names.exported().items():
        if public_names.has_page(thing):
            assert thing.__doc__, name
            assert "{common_" not in thing.__doc__, name


@pytest.mark.parametrize("cls", [*ESTIMATORS, TaskView])
def test_the_link_of_the_html_view_leads_to_its_page(cls, table):
    estimator = small(MMoE).fit(table.X, table.Y).task_view(0) if cls is TaskView else cls()
    link = estimator._get_doc_link()
    site, page = link.split("/api/generated/")
    assert page.removesuffix(".html") in listed()[0]
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["urls"]["Documentation"] == site
    assert f'href="{link}"' in estimator._repr_html_()


def test_a_class_of_ones_own_has_no_link():
    class Own(MMoE):
        """Somebody's own."""

    assert clone(Own())._get_doc_link() == ""
    assert sk_mtl.__name__ not in Own.__module__

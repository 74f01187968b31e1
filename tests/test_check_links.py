"""The script that CI runs over the built site: it finds what leads nowhere, and nothing else."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "docs" / "_ext"))
import check_links

PAGE = '<html><body><h1 id="one">One</h1>{}</body></html>'


@pytest.fixture
def site(tmp_path):
    (tmp_path / "sub" / "folder").mkdir(parents=True)
    (tmp_path / "sub" / "folder" / "index.html").write_text(PAGE.format(""))
    (tmp_path / "style.css").write_text("a { background: url(data:image/png;base64,AA) }")
    (tmp_path / "a b.png").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    "good",
    [
        '<a href="#one">x</a><a href="#">x</a><a href="">x</a><a href="#top">x</a>',
        '<a href="sub/folder/#one">x</a><a href="/sub/folder/index.html?q=1#one">x</a>',
        '<a href="https://example.org/nowhere#x">x</a><a href="mailto:a@b.c">x</a>',
        '<img src="a%20b.png" srcset="a%20b.png 1x"><img src="data:image/png;base64,AA">',
        '<link rel="stylesheet" href="style.css"><link rel="canonical" href="https://a.org/">',
    ],
)
def test_what_is_there(site, good):
    (site / "page.html").write_text(PAGE.format(good))
    assert check_links.check(site) == []


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        ('<a href="#two">x</a>', "#two has no such anchor"),
        ('<a href="sub/folder/#two">x</a>', "sub/folder/#two has no such anchor"),
        ('<a href="gone.html">x</a>', "gone.html leads nowhere"),
        ('<a href="sub/">x</a>', "sub/ leads nowhere"),
        ('<img src="b.png">', "b.png leads nowhere"),
        ('<img src="a%20b.png" srcset="c.png 2x">', "c.png leads nowhere"),
        ('<script src="https://example.org/x.js"></script>', "loads https://example.org/x.js"),
        ('<link rel="stylesheet" href="//a.org/x.css">', "loads //a.org/x.css"),
        ('<iframe src="https://example.org/"></iframe>', "loads https://example.org/"),
    ],
)
def test_what_leads_nowhere(site, bad, fault):
    (site / "page.html").write_text(PAGE.format(bad))
    (found,) = check_links.check(site)
    assert found.startswith("page.html")
    assert found.endswith(fault)


def test_styles_load_nothing_either(site):
    (site / "style.css").write_text('@import "https://a.org/x.css"; a { src: url(//b.org/y.woff) }')
    (site / "page.html").write_text(PAGE.format(""))
    found = check_links.check(site)
    assert found == ["style.css loads https://a.org/x.css", "style.css loads //b.org/y.woff"]


def test_a_folder_without_pages_is_a_fault(tmp_path):
    assert check_links.check(tmp_path) == [f"{tmp_path} holds no page"]

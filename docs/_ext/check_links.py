"""Check a built site: ``python docs/_ext/check_links.py docs/_build``.

Links and anchors within the site must lead somewhere, and nothing may be loaded from elsewhere, so
that the site can be read offline. Links to other sites are not followed.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADING = {"audio", "embed", "iframe", "img", "link", "script", "source", "video"}
"""Elements whose address the browser loads by itself."""

NOT_LOADED = {"alternate", "author", "canonical", "index", "next", "prev", "search"}
"""Relations of a ``link`` that only say where something is."""

IN_STYLES = re.compile(r"""(?:url\(\s*|@import\s+)["']?((?:https?:)?//[^"')\s]+)""")


class Page(HTMLParser):
    """What a page loads, where it leads, and the anchors that it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.leads: list[str] = []
        self.anchors = {"", "top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of an element."""
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        relations = set(given.get("rel", "").split())
        loading = tag in LOADING and not (tag == "link" and relations & NOT_LOADED)
        for name in ("href", "src", "data-src", "poster"):
            if name in given:
                (self.loads if loading else self.leads).append(given[name])
        for entry in filter(None, given.get("srcset", "").split(",")):
            self.loads.append(entry.split()[0])


def check(root: Path) -> list[str]:
    """Return what is wrong with a site, a line each."""
    found = (path for path in sorted(root.rglob("*.html")) if "_static" not in path.parts)
    pages = {path.resolve(): Page(path) for path in found}
    wrong = [] if pages else [f"{root} holds no page"]
    for path, page in pages.items():
        here = path.relative_to(root.resolve())
        wrong += [f"{here} loads {address}" for address in page.loads if urlsplit(address).netloc]
        for address in dict.fromkeys(page.loads + page.leads):
            fault = broken(address, path, pages, root.resolve())
            wrong += [] if fault is None else [f"{here}: {address} {fault}"]
    for path in sorted(root.rglob("*.css")):
        styles = IN_STYLES.findall(path.read_text(encoding="utf-8", errors="replace"))
        wrong += [f"{path.relative_to(root)} loads {address}" for address in styles]
    return wrong


def broken(address: str, path: Path, pages: dict[Path, Page], root: Path) -> str | None:
    """Return what is wrong with an address on a page, or None."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return None
    target = path
    if parts.path:
        start = root if parts.path.startswith("/") else path.parent
        target = (start / unquote(parts.path).lstrip("/")).resolve()
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return "leads nowhere"
    page, anchor = pages.get(target), unquote(parts.fragment)
    if page is not None and anchor not in page.anchors:
        return "has no such anchor"
    return None


def main() -> None:
    """Print what is wrong with the site in the folder given; exit with 1 if anything is."""
    (folder,) = sys.argv[1:]
    wrong = check(Path(folder))
    print(*wrong, f"{folder}: {len(wrong)} faults", sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

"""The API reference: the members that a page shows, its gallery examples, links that lead there."""

import json
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from numpydoc.docscrape_sphinx import SphinxDocString
from public_names import exported, has_page, is_ours, other_names
from sphinx_gallery.directives import MiniGallery

PLUMBING = re.compile("get_params|get_metadata_routing|set_callbacks|set_.*_request|_.*|.*_")
"""Methods that every estimator of scikit-learn has, private ones, and the fitted attributes.

These stand among the attributes that a class's docstring lists.
"""


BACK = re.compile(r'(href="[^"]*/api/generated/([\w.]+)\.html#)([\w.]+)')
"""A link from a page of source to a name's page: its start, the page, and the anchor."""


def skip_member(app: Any, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool:
    """Leave out what a class has from scikit-learn or torch, and fields: those are parameters."""
    thing = thing.fget if isinstance(thing, property) else thing
    return skip or not callable(thing) or not is_ours(thing) or bool(PLUMBING.fullmatch(name))


class GalleryUses(MiniGallery):
    """The gallery examples that use a name, under a heading; nothing if there are none."""

    def run(self) -> list[nodes.Node]:
        """Return the heading and the examples."""
        config = self.state.document.settings.env.config.sphinx_gallery_conf
        path = Path(config["src_dir"], config["backreferences_dir"], "backreferences_all.json")
        uses = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if not uses.get(self.arguments[0]):
            return []
        return [nodes.rubric(text="In the gallery"), *super().run()]


class Links:
    """Lead names that Sphinx does not find to the page of their home."""

    def __init__(self) -> None:
        self.names = other_names()

    def __call__(self, app: Any, env: Any, node: Any, text: Any) -> Any:
        """Return a reference, or None if the name is none of ours."""
        if node.get("refdomain") != "py":
            return None
        first, members = node["reftarget"], ""
        while first not in self.names:
            first, dot, member = first.rpartition(".")
            if not dot:
                return None
            members = f".{member}{members}"
        target = self.names[first] + members
        if target == node["reftarget"]:
            return None
        domain = env.get_domain("py")
        return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, text)


def keep_descriptions(cls: Any) -> None:
    """Let numpydoc show an attribute's description as it is, not the summary of its property."""
    process = cls._process_param
    cls._process_param = lambda self, param, text, _: process(self, param, text, False)


def stay_here(app: Any, module: str, name: str) -> str | None:
    """Show no source of what other packages or Python define."""
    thing = exported().get(f"{module}.{name}")
    return None if thing is None or has_page(thing) else module


def mend_anchors(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Let links from a source page lead to names documented under another module than the rest.

    viewcode takes one module for all names of a source file; a page's file name has the right one.
    """
    if page.startswith("_modules/") and "body" in context:
        context["body"] = BACK.sub(_home_anchor, context["body"])


def _home_anchor(link: re.Match[str]) -> str:
    start, home, anchor = link.groups()
    name = home.rpartition(".")[2]
    return start + home + anchor.partition(f".{name}")[2]


def setup(app: Any) -> dict[str, Any]:
    """Register all of this."""
    app.connect("html-page-context", mend_anchors)
    app.connect("viewcode-follow-imported", stay_here)
    keep_descriptions(SphinxDocString)
    app.add_directive("gallery-uses", GalleryUses)
    app.connect("autodoc-skip-member", skip_member)
    app.connect("missing-reference", Links())
    return {"parallel_read_safe": True, "parallel_write_safe": True}

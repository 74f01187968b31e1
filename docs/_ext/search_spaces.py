"""What `sk_mtl.search_space` tries, as tables: ``{search-spaces} common`` and ``own``."""

from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import sk_mtl
from sk_mtl.base import MultiTaskEstimator


def describe(name: str, what: Any) -> str:
    """Return a parameter and its choices or distribution, in Markdown."""
    if isinstance(what, list):
        return f"`{name}`: " + ", ".join(f"`{choice!r}`" for choice in what)
    log = ", even in the logarithm" * (what.dist.name == "loguniform")
    return f"`{name}`: " + " to ".join(f"{end:g}" for end in what.support()) + log


class SearchSpaces(SphinxDirective):
    """What all architectures try ("common"), or what each tries beside that ("own")."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return a list, or a table in which architectures with the same space share a row."""
        classes = (getattr(sk_mtl, name) for name in sk_mtl.__all__)
        kinds = [c for c in classes if isinstance(c, type) and issubclass(c, MultiTaskEstimator)]
        told = {c: [describe(*of) for of in sk_mtl.search_space(c()).items()] for c in kinds}
        common = [one for one in told[sk_mtl.MMoE] if one in told[sk_mtl.ESMM]]
        if self.arguments[0] == "common":
            return self.parse_text_to_nodes("\n".join(f"- {one}" for one in common))
        shared: dict[str, list[str]] = {}
        for kind, space in told.items():
            own = "; ".join(one for one in space if one not in common) or "nothing more"
            shared.setdefault(own, []).append(f"{{py:class}}`~sk_mtl.{kind.__name__}`")
        rows = [f"| {', '.join(names)} | {own} |" for own, names in shared.items()]
        return self.parse_text_to_nodes("\n".join(["| architecture | tries |", "|---|---|", *rows]))


def setup(app: Any) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("search-spaces", SearchSpaces)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

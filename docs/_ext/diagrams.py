"""Diagrams of architectures on the site's pages, drawn by the package itself."""

from html import escape
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

import sk_mtl
from sk_mtl.inspection import draw

SOURCES = [
    *Path(sk_mtl.__file__).parent.glob("inspection/_diagram/*.py"),
    *Path(sk_mtl.__file__).parent.glob("architectures/*.py"),
    *Path(sk_mtl.__file__).parent.glob("nn/*.py"),
]
"""What a diagram follows from: a page is written anew when one of these files changes."""

CAPTION = "font-size:.85rem;font-weight:400;text-align:left;color:var(--pst-color-text-muted)"
LEGEND = "A part in color is trained by that task's loss alone, a gray one by several."


class ArchitectureDiagram(SphinxDirective):
    """The diagram of an estimator: ``{architecture-diagram} MMoE(n_experts=3)``.

    The expression sees all public names of sk_mtl. Options: ``:tasks:``, names with commas
    between them; ``:caption:``; ``:max-equal:`` as in `sk_mtl.inspection.draw`.
    """

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[dict[str, Any]] = {
        "tasks": directives.unchanged_required,
        "caption": directives.unchanged,
        "max-equal": directives.positive_int,
    }

    def run(self) -> list[nodes.Node]:
        """Return the figure."""
        for source in SOURCES:
            self.env.note_dependency(str(source))
        expression = self.arguments[0]
        names = {name: getattr(sk_mtl, name) for name in sk_mtl.__all__}
        options: dict[str, Any] = {}
        if "tasks" in self.options:
            options["tasks"] = [name.strip() for name in self.options["tasks"].split(",")]
        if "max-equal" in self.options:
            options["max_equal"] = self.options["max-equal"]
        try:
            svg = draw(eval(expression, names), **options).svg
        except Exception as error:
            raise self.error(f"no diagram of {expression}: {error}") from error
        caption = escape(" ".join([self.options.get("caption", ""), LEGEND]).strip())
        below = f'<figcaption style="{CAPTION}">{caption}</figcaption>'
        figure = (
            '<figure class="sk-mtl-figure" style="margin:1rem 0;overflow-x:auto" tabindex="0">'
            f"{svg}{below}</figure>"
        )
        return [nodes.raw("", figure, format="html")]


def setup(app: Any) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("architecture-diagram", ArchitectureDiagram)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

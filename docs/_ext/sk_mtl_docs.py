"""What the site's pages take from the stored studies."""

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

STUDY = Path(__file__).parent.parent / "results" / "architectures.md"
MINUS = "\N{MINUS SIGN}"
CAPTION = "Gain over SingleTask in %: the mean of five seeds ± their standard deviation"


def gains() -> dict[str, dict[str, str]]:
    """Return each contestant's gains by set, of the first table of the study of architectures."""
    lines = STUDY.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| model |"))
    sets = _cells(lines[start])[2:]
    found = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        name, _, *values = _cells(line)
        found[name] = {
            of: value.replace("-", MINUS) for of, value in zip(sets, values, strict=True) if value
        }
    return found


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


class ArchitectureResults(SphinxDirective):
    """A table of gains over SingleTask: ``{architecture-results} MMoE; MMoE, DSelect-k``."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the table: a row per set of the first contestant, a column per contestant."""
        self.env.note_dependency(str(STUDY))
        study = gains()
        names = [name.strip() for name in self.arguments[0].split(";")]
        unknown = [name for name in names if name not in study]
        if unknown:
            raise self.error(f"{STUDY.name} has no {unknown}; it has {list(study)}")
        sets = list(study[names[0]])
        rows = [[of, *(study[name].get(of, "") for name in names)] for of in sets]
        return [_table(["set", *names], rows, CAPTION)]


def _table(head: list[str], rows: list[list[str]], caption: str) -> nodes.table:
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in head), cols=len(head))
    group += nodes.thead("", _row(head))
    group += nodes.tbody("", *map(_row, rows))
    return nodes.table("", nodes.title(text=caption), group, classes=["figures"])


def _row(cells: list[str]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph(text=cell)) for cell in cells))


def setup(app: Any) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("architecture-results", ArchitectureResults)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

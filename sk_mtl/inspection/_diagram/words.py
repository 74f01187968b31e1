"""Words for the nodes: what each is called, whose it is, and how wide."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sk_mtl.inspection._diagram.graph import Graph, Vertex
from sk_mtl.nn import (
    ColumnTokens,
    CumulativeLogits,
    DSelectGates,
    EncoderBlock,
    MultiTaskModule,
    ProbabilityChain,
    StackedLinear,
    StackedMLP,
    TaskTokens,
    Towers,
)

SHORT = 16
"""Letters of a name that a box shows; its title has all of them."""

NETWORKS = {
    # what an attribute is called, and what its network is called; others go by their own names
    "mlp": "network",
    "mlps": "network",
    "task_mlps": "network",
    "before": "network",
    "last": "network",
    "relation_mlps": "relation",
}

SYMBOLS = {"sum": "Σ", "product": "⊙", "plus": "+", "stitch": "\N{GREEK SMALL LETTER ALPHA}"}


@dataclass(frozen=True)
class Node:
    """A node of a diagram.

    Parameters
    ----------
    name : str
        Its name, unique in the diagram: where the part is in the network, such as
        ``"bottom.experts[0]"``.
    kind : str
        What it is: "input", "embedding", "interaction", "network", "expert", "gate", "stitch",
        "attention", "column token", "task token", "tower", "head", "output"; "sum" (what a gate
        weighs), "product" (what a gate scales), "plus" (a sum without weights); or "module".
    label, detail : str
        What the picture says.
    tasks : tuple of str
        The tasks whose losses train it, or would if it had weights.
    owner : str or None
        The task whose part it is, by its gate, its tower, or because it alone trains it.
    level : int or None
        Its level, from 1 on, in a network of several levels.
    widths : tuple of int
        Widths of its layers.
    """

    name: str
    kind: str
    label: str
    detail: str
    tasks: tuple[str, ...]
    owner: str | None
    level: int | None
    widths: tuple[int, ...]


@dataclass(frozen=True)
class Edge:
    """An edge of a diagram: one node reads another.

    Parameters
    ----------
    source, target : str
        Names of the nodes.
    gradient : bool
        Whether a gradient flows back.
    """

    source: str
    target: str
    gradient: bool


@dataclass
class Words:
    """What is known of a vertex beside its place in the graph."""

    word: str
    owner: int | None
    widths: tuple[int, ...]
    label: str = ""
    detail: str = ""


class Namer:
    """Finds the words of a graph.

    Parameters
    ----------
    graph : Graph
        The graph.
    module : MultiTaskModule
        The network.
    names, kinds : sequence of str
        Names and kinds of the outputs: of the tasks, and of outputs without a label.
    columns : list of list of str
        The columns of each slice of the embedding; one list if no columns are told apart.
    """

    def __init__(
        self,
        graph: Graph,
        module: MultiTaskModule,
        names: Sequence[str],
        kinds: Sequence[str],
        columns: list[list[str]],
    ) -> None:
        self.graph, self.module, self.names, self.kinds = graph, module, names, kinds
        self.columns = columns
        self.words: dict[Vertex, Words] = {}

    def find(self) -> dict[Vertex, Words]:
        """Return the words of every vertex."""
        for vertex in self.graph.vertices:
            own = next(iter(vertex.tasks)) if len(vertex.tasks) == 1 else None
            self.words[vertex] = Words(_word(vertex), own, _widths(vertex))
        if len(self.names) > 1:
            self._find_homes()
        numbers = self._number_experts()
        for vertex, words in self.words.items():
            words.label, words.detail = self._say(vertex, words, numbers.get(vertex))
        return self.words

    # Whose a part is ----------------------------------------------------------------------------

    def _find_homes(self) -> None:
        for vertex, words in self.words.items():
            if vertex.kind in ("tower", "output", "head"):
                words.owner = vertex.position
            elif vertex.kind == "gate":
                words.owner = _stream(vertex)
        for vertex, words in self.words.items():
            if words.owner is None and vertex.kind == "expert":
                words.owner = self._home_of_expert(vertex)
        groups: dict[Any, list[Vertex]] = {}
        for vertex, words in self.words.items():
            if vertex.kind in ("network", "attention", "stitch", "module", "embedding"):
                key = vertex.kind, words.word, vertex.level, _holder(vertex)
                groups.setdefault(key, []).append(vertex)
        for group in groups.values():
            self._share_out(group)
        for vertex, words in self.words.items():
            if vertex.kind in ("sum", "product", "plus"):
                owners = {self.words[target].owner for target in self.graph.targets(vertex)}
                gates = {
                    self.words[source].owner
                    for source in self.graph.sources(vertex)
                    if source.kind == "gate"
                }
                owners = gates or owners
                if words.owner is None and len(owners) == 1:
                    words.owner = owners.pop()

    def _home_of_expert(self, expert: Vertex) -> int | None:
        """Return the one task whose gate weighs an expert, or to whose mixture it is added."""
        sums = [target for target in self.graph.targets(expert) if target.kind == "sum"]
        added = [
            source
            for plus in self.graph.targets(expert)
            if plus.kind == "plus"
            for source in self.graph.sources(plus)
            if source.kind == "sum"
        ]
        for found in (sums, added):
            gates = {gate for of in found for gate in self.graph.sources(of) if gate.kind == "gate"}
            streams = {_stream(gate) for gate in gates} - {None}
            if len(streams) == 1:
                return streams.pop()
        return None

    def _share_out(self, group: list[Vertex]) -> None:
        """Give each of some parts the one task that is left for it, if there is one."""
        n_tasks = len(self.names)
        taken: set[int] = set()
        homes: dict[Vertex, int] = {}
        for vertex in sorted(group, key=lambda v: len(v.tasks)):
            left = vertex.tasks - taken
            if len(left) != 1:
                break
            homes[vertex] = left.pop()
            taken.add(homes[vertex])
        if len(homes) == len(group):
            for vertex, task in homes.items():
                self.words[vertex].owner = task
            return
        # Slices come in the tasks' order where there are as many.
        for vertex in group:
            in_order = vertex.n_slices == n_tasks and vertex.position in vertex.tasks
            if in_order and self.words[vertex].owner is None and vertex.kind != "embedding":
                self.words[vertex].owner = vertex.position

    def _number_experts(self) -> dict[Vertex, int]:
        """Return the experts' numbers within their level, as gates and `expert_use` do."""
        found: dict[Vertex, int] = {}
        n: dict[int | None, int] = {}
        for vertex in self.graph.vertices:
            if vertex.kind == "expert":
                found[vertex] = n.get(vertex.level, 0)
                n[vertex.level] = found[vertex] + 1
        return found

    # What a box says ----------------------------------------------------------------------------

    def _say(self, vertex: Vertex, words: Words, number: int | None) -> tuple[str, str]:
        owner = None if words.owner is None else shorten(self.names[words.owner])
        widths = " → ".join(map(str, words.widths))
        kind, part = vertex.kind, None if vertex.block is None else vertex.block.part
        if kind in SYMBOLS:
            return SYMBOLS[kind], ""
        if kind == "input":
            n = len({name for of_slice in self.columns for name in of_slice})
            return "x", f"{n} columns" if n != 1 else "1 column"
        if kind == "output":
            return owner or shorten(self.names[vertex.position]), self.kinds[vertex.position]
        if kind == "head":
            return self._say_head(vertex, part)
        if kind == "embedding":
            return self._say_embedding(vertex, owner, words)
        if kind == "expert":
            others = [v for v in self.graph.vertices if v.kind == "expert"]
            mixed = any(self.words[v].owner is not None for v in others if v.level == vertex.level)
            whose = owner or ("shared" if mixed else "")
            return f"expert {number}", " · ".join(filter(None, [whose, widths]))
        if kind == "gate":
            if isinstance(part, DSelectGates):
                widths = f"DSelect-{part.n_selectors}"
            return self._say_gate(vertex, owner), widths
        if kind in ("network", "tower", "attention", "module"):
            if isinstance(part, EncoderBlock):
                widths = f"{part.n_heads} heads · {widths}"
            if owner is not None:
                return f"{words.word}: {owner}", widths
            alone = vertex.n_slices == 1 and len(vertex.tasks) > 1
            if alone and words.word == "network":
                return "shared network", widths
            return words.word + ("" if vertex.n_slices == 1 else f" {vertex.position}"), widths
        if kind == "task token" and vertex.position < len(self.names):
            return f"token: {shorten(self.names[vertex.position])}", widths
        if kind == "column token":
            return f"column {vertex.position}" if vertex.n_slices > 1 else "columns", widths
        return words.word, widths

    def _say_gate(self, vertex: Vertex, owner: str | None) -> str:
        if owner is not None:
            return f"gate: {owner}"
        streams: Any = vertex.block.part.streams if vertex.block is not None else ()
        stream = streams[vertex.position] if vertex.position < len(streams) else ""
        if isinstance(stream, str) and "expert" in stream:
            return f"gate: expert {stream.rpartition(' ')[2].strip('>')}"
        return f"{stream.strip('<>')} gate" if isinstance(stream, str) and stream else "gate"

    def _say_head(self, vertex: Vertex, part: Any) -> tuple[str, str]:
        name, before = (shorten(self.names[k]) for k in (vertex.position, vertex.position - 1))
        if isinstance(part, ProbabilityChain):
            return f"P({before}) \N{MULTIPLICATION SIGN}", f"P({name} | {before})"
        if isinstance(part, CumulativeLogits):
            return "+", ""
        return type(part).__name__, name

    def _say_embedding(self, vertex: Vertex, owner: str | None, words: Words) -> tuple[str, str]:
        trained = any(True for _ in self.module.embedding.parameters())
        word, width = "embedding" if trained else "features", self.module.embedding.out_features
        if self.module.embedding.n_own:
            if owner is not None:
                return f"{word}: {owner}", str(width)
            return f"shared {word}", str(width)
        if len(self.columns) == 1:
            return word, str(width)
        names = self.columns[vertex.position]
        if len(names) <= 2:
            return f"{word}: {shorten(', '.join(names))}", ""
        return word, f"{len(names)} columns"


def shorten(name: str, most: int = SHORT) -> str:
    """Return a name of so many letters at most."""
    name = str(name)
    return name if len(name) <= most else name[: most - 1] + "…"


def _stream(gate: Vertex) -> int | None:
    """Return the task whose gate it is, None if it is no task's own."""
    streams: Any = gate.block.part.streams if gate.block is not None else ()
    stream = streams[gate.position] if gate.position < len(streams) else None
    return stream if isinstance(stream, int) else None


def _holder(vertex: Vertex) -> str:
    """Return the path of the module that holds a block, or the list that the block is in."""
    names = vertex.block.path.split(".") if vertex.block is not None else []
    while names and names[-1].isdigit():
        names.pop()
    return ".".join(names[:-1])


def _word(vertex: Vertex) -> str:
    if vertex.kind == "interaction" and vertex.block is not None:
        return {"CrossNetwork": "cross layers", "FMInteraction": "FM products"}.get(
            type(vertex.block.part).__name__, "interaction"
        )
    if vertex.kind not in ("network", "module") or vertex.block is None:
        return vertex.kind
    name = next(n for n in reversed(vertex.block.path.split(".")) if not n.isdigit())
    if name in NETWORKS:
        return NETWORKS[name]
    if name == "bottom":
        return type(vertex.block.part).__name__
    words = name.strip("_").replace("_", " ")
    return (
        words[:-1]
        if vertex.block.path.endswith(tuple("0123456789")) and words.endswith("s")
        else words
    )


def _widths(vertex: Vertex) -> tuple[int, ...]:
    part: Any = None if vertex.block is None else vertex.block.part
    if isinstance(part, Towers):
        k = vertex.position
        group = next(g for g, tasks in enumerate(part.groups) if k in tasks)
        part = part.towers[group][0]  # type: ignore[index]
    if isinstance(part, EncoderBlock):
        part = part.mlp
    if vertex.kind == "gate":
        part = getattr(part, "hidden", None)
    if isinstance(part, StackedMLP):
        return tuple(p.out_features for p in part.layers if isinstance(p, StackedLinear))
    if isinstance(part, ColumnTokens):
        return (part.width,)
    if isinstance(part, TaskTokens):
        return (part.tokens.shape[-1],)
    out = getattr(part, "out_features", None)
    return (out,) if isinstance(out, int) and vertex.kind != "embedding" else ()

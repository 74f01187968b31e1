"""From what was measured to a graph: parts, and the sums and products between them."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from torch import nn

from sk_mtl.inspection._diagram.blocks import Block
from sk_mtl.inspection._diagram.measure import Part, Reading, Structure
from sk_mtl.nn import ColumnTokens, EncoderBlock, StackedMLP, StepAttention, Stitch, TaskTokens

KINDS: dict[type, str] = {
    StackedMLP: "network",
    Stitch: "stitch",
    StepAttention: "attention",
    EncoderBlock: "attention",
    ColumnTokens: "column token",
    TaskTokens: "task token",
}

LEVEL_WORDS = {
    # lists of parts that follow each other, and what an entry is called
    "levels": "level",
    "experts": "level",
    "gates": "level",
    "layers": "layer",
    "stitches": "layer",
    "blocks": "block",
}


@dataclass(eq=False)
class Vertex:
    """A node before it has words."""

    name: str
    kind: str
    block: Block | None = None
    position: int = 0
    """Number of its slice in its block, of an output the number of the output."""
    n_slices: int = 1
    call: int = 0
    level: int | None = None
    level_word: str = ""
    tasks: set[int] = field(default_factory=set)
    """Outputs whose losses train it, or would if it had weights."""


@dataclass(eq=False)
class Graph:
    """Vertices in the network's order, and edges with whether a gradient flows back."""

    vertices: list[Vertex] = field(default_factory=list)
    edges: dict[tuple[Vertex, Vertex], bool] = field(default_factory=dict)

    def connect(self, source: Vertex, target: Vertex, flows: bool) -> None:
        """Add an edge, or a gradient to the one that is there."""
        self.edges[source, target] = self.edges.get((source, target), False) or flows

    def sources(self, vertex: Vertex) -> list[Vertex]:
        """Return what a vertex reads."""
        return [a for a, b in self.edges if b is vertex]

    def targets(self, vertex: Vertex) -> list[Vertex]:
        """Return what reads a vertex."""
        return [b for a, b in self.edges if a is vertex]


def build_graph(structure: Structure, n_outputs: int, n_tasks: int) -> Graph:
    """Return the graph of a network.

    Parameters
    ----------
    structure : Structure
        What was measured.
    n_outputs, n_tasks : int
        Number of outputs, and of those that belong to tasks. The others are read off towers.
    """
    builder = _Builder(structure)
    graph = builder.build(n_outputs, n_tasks)
    _prune(graph)
    _own(graph)
    if not _has_levels(graph):
        for vertex in graph.vertices:
            vertex.level = None
    return graph


class _Builder:
    def __init__(self, structure: Structure) -> None:
        self.structure, self.graph = structure, Graph()
        self.of_part: dict[Part, Vertex] = {}
        self.between: dict[Any, Vertex] = {}

    def build(self, n_outputs: int, n_tasks: int) -> Graph:
        calls = self.structure.calls
        n_calls: dict[str, int] = {}
        graph = self.graph
        rows = Vertex("x", "input")
        graph.vertices.append(rows)
        for c, call in enumerate(calls[:-1]):
            path = call.block.path
            again = n_calls[path] = n_calls.get(path, 0) + 1
            kind = "embedding" if c == 0 else kind_of(call.block)
            level, word = level_of(path)
            for s in range(len(call.cuts)):
                name = path + (f"({again})" if again > 1 else "")
                name += f"[{s}]" if len(call.cuts) > 1 else ""
                vertex = Vertex(name, kind, call.block, s, len(call.cuts), c, level, word)
                self.of_part[Part(c, s)] = vertex
                graph.vertices.append(vertex)
                if c == 0:
                    graph.connect(rows, vertex, True)
        for k in range(n_outputs):
            output = Vertex(f"output[{k}]", "output", position=k, n_slices=n_outputs)
            graph.vertices.append(output)
            if k < n_tasks:
                self.of_part[Part(len(calls) - 1, k)] = output
            else:
                tower = next(v for v in graph.vertices if v.kind == "tower" and v.position == k)
                graph.connect(tower, output, True)
        for part, reading in self.structure.readings.items():
            if part not in self.structure.same and part in self.of_part:
                self._read(self.of_part[part], reading)
        return graph

    def vertex(self, part: Part) -> Vertex:
        return self.of_part[self.structure.same.get(part, part)]

    def _read(self, target: Vertex, reading: Reading) -> None:
        terms: dict[Part, tuple[Vertex, bool]] = {
            one: (self.vertex(one), flows) for one, flows in reading.direct.items()
        }
        for gate, weighed in reading.weighed.items():
            terms[gate] = self._sum(gate, weighed), any(weighed.values())
        for cluster in _clusters(list(terms), reading.added):
            members = [terms[one] for one in cluster]
            if len(members) == 1:
                self.graph.connect(members[0][0], target, members[0][1])
                continue
            key = "plus", frozenset(vertex for vertex, _ in members)
            plus = self._new(key, "plus", [vertex for vertex, _ in members])
            for vertex, flows in members:
                self.graph.connect(vertex, plus, flows)
            self.graph.connect(plus, target, any(flows for _, flows in members))

    def _sum(self, gate: Part, weighed: dict[Part, bool]) -> Vertex:
        members = [self.vertex(one) for one in weighed]
        scales = not hasattr(getattr(self.vertex(gate).block, "part", None), "experts")
        kind = "product" if scales else "sum"
        found = self._new((kind, frozenset(members)), kind, members[:1])
        for member, flows in zip(members, weighed.values(), strict=True):
            self.graph.connect(member, found, flows)
            if not scales and member.kind == "network":
                member.kind = "expert"
        return found

    def _new(self, key: Any, kind: str, beside: list[Vertex]) -> Vertex:
        if key not in self.between:
            name = f"{kind}[{sum(of == kind for of, _ in self.between)}]"
            last = max(beside, key=lambda v: (v.level or 0, v.call))
            vertex = Vertex(name, kind, call=last.call, position=last.position)
            vertex.level, vertex.level_word = last.level, last.level_word
            self.between[key] = vertex
            self.graph.vertices.append(vertex)
        return self.between[key]


def _clusters(terms: list[Part], added: set[frozenset[Part]]) -> list[list[Part]]:
    """Return the terms of each sum."""
    clusters: list[list[Part]] = []
    for one in terms:
        near = [c for c in clusters if any(frozenset((one, other)) in added for other in c)]
        clusters = [c for c in clusters if c not in near]
        clusters.append([other for c in near for other in c] + [one])
    return clusters


def kind_of(block: Block) -> str:
    """Return the kind of a block's nodes, by what it is; an expert is told later."""
    if block.path in ("towers", "head", "interaction"):
        return block.path.removesuffix("s")
    if hasattr(block.part, "streams"):
        return "gate"
    for cls, kind in KINDS.items():
        if isinstance(block.part, cls):
            return kind
    return "module"


def level_of(path: str) -> tuple[int | None, str]:
    """Return the level of a block by its place in a list, counted from 1, and its word."""
    names = path.split(".")
    for name, number in pairwise(names):
        if name in LEVEL_WORDS and number.isdigit():
            return int(number) + 1, LEVEL_WORDS[name]
    return None, ""


def _has_levels(graph: Graph) -> bool:
    """Whether there are several levels, each of which reads the one before."""
    of_level: dict[int, set[Vertex]] = {}
    for vertex in graph.vertices:
        if vertex.level is not None:
            of_level.setdefault(vertex.level, set()).add(vertex)
    for before, after in pairwise(sorted(of_level)):
        reached = set(of_level[before])
        for _ in graph.vertices:
            reached |= {b for a, b in graph.edges if a in reached}
        if not reached & of_level[after]:
            return False
    return len(of_level) > 1


def _prune(graph: Graph) -> None:
    """Leave out what no output depends on."""
    alive = {vertex for vertex in graph.vertices if vertex.kind == "output"}
    for _ in graph.vertices:
        alive |= {a for a, b in graph.edges if b in alive}
    graph.vertices = [vertex for vertex in graph.vertices if vertex in alive]
    graph.edges = {pair: flows for pair, flows in graph.edges.items() if set(pair) <= alive}


def _own(graph: Graph) -> None:
    """Tell each vertex which outputs' gradients come to it."""
    for vertex in graph.vertices:
        if vertex.kind == "output":
            vertex.tasks = {vertex.position}
    for _ in graph.vertices:
        for (a, b), flows in graph.edges.items():
            if flows:
                a.tasks |= b.tasks


def is_plain(part: nn.Module | None) -> bool:
    """Whether a part has no weights."""
    return part is None or not any(True for _ in part.parameters())

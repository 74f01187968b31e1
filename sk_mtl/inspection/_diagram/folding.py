"""Boxes of a picture: nodes, and stacks of nodes that are alike."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sk_mtl.inspection._diagram.graph import Graph, Vertex
from sk_mtl.inspection._diagram.words import Words


@dataclass(eq=False)
class Box:
    """What is drawn for one node or for several."""

    vertices: list[Vertex]
    kind: str
    label: str
    detail: str
    tasks: list[int]
    owner: int | None
    level: int | None
    level_word: str
    title: str = ""
    column: int = 0
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0

    @property
    def count(self) -> int:
        """How many nodes it stands for."""
        return len(self.vertices)

    @property
    def is_circle(self) -> bool:
        """Whether it is a sign, and no box with words."""
        return self.kind in ("sum", "product", "plus", "stitch") or self.label == "+"


@dataclass(eq=False)
class Link:
    """An edge between boxes."""

    source: Box
    target: Box
    gradient: bool


@dataclass(eq=False)
class Picture:
    """Boxes and links, to be placed."""

    boxes: list[Box] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)


def fold(graph: Graph, words: Mapping[Vertex, Words], max_equal: int) -> Picture:
    """Return the boxes: more than `max_equal` nodes that read and are read alike are one.

    Nodes are alike if they are slices of one block's output, and nodes that are alike read them
    and are read by them.
    """
    classes = _classes(graph, words)
    boxes: dict[Vertex, Box] = {}
    picture = Picture()
    for members in classes:
        groups = [members] if len(members) > max_equal else [[one] for one in members]
        for group in groups:
            box = _box(group, words)
            picture.boxes.append(box)
            boxes |= dict.fromkeys(group, box)
    order = {vertex: place for place, vertex in enumerate(graph.vertices)}
    picture.boxes.sort(key=lambda box: order[box.vertices[0]])
    links: dict[tuple[Box, Box], bool] = {}
    for (a, b), flows in graph.edges.items():
        pair = boxes[a], boxes[b]
        links[pair] = links.get(pair, False) or flows
    picture.links = [Link(a, b, flows) for (a, b), flows in links.items()]
    for box in picture.boxes:
        box.title = _title(box, picture, words)
    return picture


def _classes(graph: Graph, words: Mapping[Vertex, Words]) -> list[list[Vertex]]:
    """Return the nodes by class, classes told apart until nothing more tells them apart."""
    colors: dict[Vertex, Any] = {}
    for vertex in graph.vertices:
        one = vertex.position if vertex.kind in ("output", "tower", "head", "embedding") else None
        colors[vertex] = (
            vertex.kind, vertex.call, vertex.level, tuple(sorted(vertex.tasks)),
            words[vertex].owner, one,
        )  # fmt: skip
    n_before = 0
    while (n := len(set(colors.values()))) > n_before:
        n_before = n
        number = {color: k for k, color in enumerate(dict.fromkeys(colors.values()))}
        reads: dict[Vertex, list[Any]] = {vertex: [] for vertex in graph.vertices}
        is_read: dict[Vertex, list[Any]] = {vertex: [] for vertex in graph.vertices}
        for (a, b), flows in graph.edges.items():
            reads[b].append((number[colors[a]], flows))
            is_read[a].append((number[colors[b]], flows))
        colors = {
            v: (number[colors[v]], tuple(sorted(reads[v])), tuple(sorted(is_read[v])))
            for v in graph.vertices
        }
    found: dict[Any, list[Vertex]] = {}
    for vertex in graph.vertices:
        found.setdefault(colors[vertex], []).append(vertex)
    return list(found.values())


def _box(group: list[Vertex], words: Mapping[Vertex, Words]) -> Box:
    first, said = group[0], words[group[0]]
    label = said.label
    if len(group) > 1:
        label = f"{len(group)} {PLURALS.get(first.kind, said.word + 's')}"
        if first.kind in ("sum", "product", "plus", "stitch"):
            label = said.label
    return Box(
        group, first.kind, label, said.detail, sorted(first.tasks), said.owner, first.level,
        first.level_word,
    )  # fmt: skip


PLURALS = {"attention": "tokens attend"}


def _title(box: Box, picture: Picture, words: Mapping[Vertex, Words]) -> str:
    """Return what a box is, and what it reads, in a sentence."""
    name = _spoken(box)
    paths = [v.name for v in box.vertices if v.block is not None]
    where = f" ({paths[0]})" if len(paths) == 1 else f" ({paths[0]} …)" if paths else ""
    read = [_spoken(link.source) for link in picture.links if link.target is box]
    stopped = [
        _spoken(link.source) for link in picture.links if link.target is box and not link.gradient
    ]
    text = name + where
    if read:
        text += " reads " + ", ".join(read)
    if stopped:
        text += "; no gradient flows back to " + ", ".join(stopped)
    return text


def _spoken(box: Box) -> str:
    """Return a box's name without signs."""
    signs = {"sum": "weighted sum", "product": "product", "plus": "sum", "stitch": "combination"}
    if box.is_circle:
        return signs.get(box.kind, "sum")
    if box.kind == "head":
        return f"{box.label} {box.detail}"
    if box.kind == "output":
        return f"output {box.label}"
    if box.kind == "input":
        return f"input ({box.detail})"
    return box.label if box.kind != "expert" or not box.detail else f"{box.label} ({box.detail})"

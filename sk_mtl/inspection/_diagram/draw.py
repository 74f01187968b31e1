"""`draw`: from an estimator to its diagram."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sk_mtl._checks import check_count
from sk_mtl._views import find_multi_task
from sk_mtl.base import MultiTaskEstimator
from sk_mtl.inspection._diagram.example import fit_example
from sk_mtl.inspection._diagram.folding import fold
from sk_mtl.inspection._diagram.graph import build_graph
from sk_mtl.inspection._diagram.layout import arrange
from sk_mtl.inspection._diagram.measure import measure
from sk_mtl.inspection._diagram.svg import write_svg
from sk_mtl.inspection._diagram.words import Edge, Namer, Node
from sk_mtl.nn import MultiTaskModule, undrawn


class Diagram:
    """The diagram of a network, as `draw` returns it.

    A notebook shows it. Light and dark follow the page that it is shown on.

    Parameters
    ----------
    title : str
        What it shows, for those who do not see it.
    nodes : list of Node
        All parts of the network, those too that the picture shows as one stack. A node has a
        unique `name`, such as ``"bottom.experts[0]"``; a `kind`: "input", "embedding",
        "interaction", "network", "expert", "gate", "stitch", "attention", "column token",
        "task token", "tower", "head", "output", "sum" (of what a gate weighs), "product" (of what
        a gate scales), "plus" (without weights) or "module"; the picture's words, `label` and
        `detail`; `tasks`, those whose losses train it; `owner`, the task whose part it is, or
        None; `level`, from 1 on, or None; and the `widths` of its layers.
    edges : list of Edge
        Which node reads which: `source` and `target`, by name, and `gradient`, whether a gradient
        flows back.
    svg : str
        The picture.

    Examples
    --------
    >>> from sk_mtl import CGC
    >>> from sk_mtl.inspection import draw
    >>> model = CGC(n_task_experts=1, n_shared_experts=1)
    >>> diagram = draw(model, tasks=["click", "buy"])
    >>> [node.label for node in diagram.nodes if node.kind == "gate"]
    ['gate: click', 'gate: buy']
    >>> diagram.svg[:4]
    '<svg'
    """

    def __init__(self, title: str, nodes: list[Node], edges: list[Edge], svg: str) -> None:
        self.title, self.nodes, self.edges, self.svg = title, nodes, edges, svg

    def __repr__(self) -> str:
        return f"<Diagram of {self.title}: {len(self.nodes)} nodes, {len(self.edges)} edges>"

    def _repr_html_(self) -> str:
        return f'<div style="overflow-x: auto">{self.svg}</div>'

    def save(self, path: Any) -> None:
        """Write the picture to a file.

        Parameters
        ----------
        path : str or path-like
            Where to; the name ends in ``.svg``.

        Raises
        ------
        ValueError
            If it ends in something else.
        """
        path = Path(path)
        if path.suffix != ".svg":
            raise ValueError(
                f"`path` is {str(path)!r}, and a diagram is written as .svg only; pass a name that "
                "ends in .svg. Browsers and Inkscape make a .png or .pdf of it."
            )
        path.write_text(self.svg, encoding="utf-8")


def draw(estimator: Any, *, tasks: Sequence[str] | None = None, max_equal: int = 3) -> Diagram:
    """Draw the network of an estimator.

    What the diagram shows is measured, not declared: parts of a copy of the network are told to
    hand on something else, and what then changes reads them. So an architecture of one's own is
    drawn as well.

    Parameters
    ----------
    estimator : MultiTaskEstimator, or a pipeline or search that holds one
        Fitted or not. One that is not fitted is drawn as if it had been fitted to a few random
        rows, with the parameters that it has.
    tasks : sequence of str, default=None
        Names of the tasks of an estimator that is not fitted. Default: those that its parameters
        name, or "task 1" and "task 2".
    max_equal : int, default=3
        So many parts that read and are read alike are drawn side by side; more are drawn as one
        stack, such as "8 experts".

    Returns
    -------
    Diagram
        Its `svg` is the picture, its `nodes` and `edges` are what it shows. A part that one task
        alone trains has that task's color; an edge is dashed where no gradient flows back.

    Raises
    ------
    TypeError
        If `estimator` is none of sk_mtl, and holds none.
    ValueError
        If `tasks` are given for a fitted estimator, or no random rows suit the parameters of one
        that is not fitted.

    Examples
    --------
    >>> from sk_mtl import MMoE
    >>> from sk_mtl.inspection import draw
    >>> diagram = draw(MMoE(n_experts=3), tasks=["income", "married"])
    >>> diagram
    <Diagram of MMoE: 13 nodes, 18 edges>
    >>> [node.label for node in diagram.nodes if node.kind == "expert"]
    ['expert 0', 'expert 1', 'expert 2']
    >>> diagram.save("mmoe.svg")  # doctest: +SKIP
    """
    max_equal = check_count("max_equal", max_equal)
    model = _find(estimator)
    if not hasattr(model, "tasks_"):
        model = fit_example(model, tasks)
    elif tasks is not None:
        raise ValueError(
            f"`tasks` is {tasks!r}, and the estimator is fitted to the tasks "
            f"{model.task_names_}; leave `tasks` out."
        )
    module: MultiTaskModule = _one_member(model)
    fitted = model.tasks_
    n_extra = model.net_.criterion_.objective.extra_outputs
    widths = [task.n_logits for task in fitted] + [1] * n_extra
    names = [*model.task_names_, *(f"output {k}" for k in range(n_extra))]
    kinds = [*(task.kind for task in fitted), *["no label"] * n_extra]
    structure = measure(module, widths, len(fitted))
    graph = build_graph(structure, len(widths), len(fitted))
    columns = _columns(model, module, structure.groups)
    words = Namer(graph, module, names, kinds, columns).find()
    nodes = [
        Node(
            vertex.name, vertex.kind, words[vertex].label, words[vertex].detail,
            tuple(str(names[k]) for k in sorted(vertex.tasks)),
            None if (owner := words[vertex].owner) is None else str(names[owner]),
            vertex.level, words[vertex].widths,
        )
        for vertex in graph.vertices
    ]  # fmt: skip
    edges = [Edge(a.name, b.name, flows) for (a, b), flows in graph.edges.items()]
    title = type(model).__name__
    picture = arrange(fold(graph, words, max_equal), len(names))
    return Diagram(title, nodes, edges, write_svg(picture, title, [str(name) for name in names]))


def _find(estimator: Any) -> Any:
    """Return the multi-task estimator that is meant, fitted if there is a fitted one."""
    if isinstance(estimator, MultiTaskEstimator):
        return estimator
    try:
        return find_multi_task(estimator)
    except TypeError:
        inner = estimator
        while not isinstance(inner, MultiTaskEstimator):
            steps = getattr(inner, "steps", None)
            inner = steps[-1][1] if isinstance(steps, list) else getattr(inner, "estimator", None)
            if inner is None:
                break
        if inner is not None:
            return inner
    what = estimator.__name__ if isinstance(estimator, type) else type(estimator).__name__
    raise TypeError(
        f"`estimator` is {'the class ' if isinstance(estimator, type) else 'a '}{what}; pass an "
        "estimator of sk_mtl, such as MMoE(), or a pipeline or search that holds one."
    )


def _one_member(model: Any) -> MultiTaskModule:
    """Return the network, or one as its members are."""
    if model.module_.n_members == 1:
        return model.module_
    import torch

    fitted = model._fitted_
    twin = type(model)(**fitted.params)
    with undrawn():
        return twin._build_module(
            model.tasks_, fitted.encoder.spec_, torch.Generator(), 1, fitted.encoder.columns()
        )


def _columns(model: Any, module: MultiTaskModule, groups: list[list[int]]) -> list[list[str]]:
    """Return the names of the columns that stand in each group of places."""
    names = model._fitted_.encoder.columns()
    places = module.embedding.places()
    of_group: list[list[str]] = [[] for _ in groups]
    for column, name in names.items():
        for group, found in zip(groups, of_group, strict=True):
            if set(places.get(column, [])) & set(group) or len(groups) == 1:
                found.append(str(name))
    return of_group

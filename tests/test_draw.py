"""Diagrams show what the papers say, and are sound pictures.

What a network is expected to be is written here by hand: for each node what it reads. A level
follows its node as ``@1``; ``~`` stands before what sends no gradient back.
"""

import re
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ESTIMATORS, everywhere
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from test_adding import Residual
from torch import nn

import sk_mtl
from sk_mtl import (
    AITM,
    CGC,
    DBMTL,
    ESCM2,
    ESMM,
    NISE,
    PLE,
    STEM,
    AdaTT,
    CrossStitch,
    MLMMoE,
    MMoE,
    MultiTabNet,
    OMoE,
    PEPNet,
    ResFlow,
    SharedBottom,
    SingleTask,
    base,
)
from sk_mtl.inspection import draw
from sk_mtl.inspection._diagram import blocks, measure
from sk_mtl.nn import Gates, StackedMLP, mix

TASKS = ["a", "b"]
SIGNS = {"sum": "Σ", "product": "⊙", "plus": "+"}
SVG = "{http://www.w3.org/2000/svg}"


def keys(diagram):
    """Return a readable name of each node: its label and level, of a sum what makes it."""
    found = {}
    level = {node.name: f"@{node.level}" if node.level else "" for node in diagram.nodes}
    for node in diagram.nodes:
        label = {"stitch": f"stitch {node.owner}", "output": f"out {node.label}"}.get(node.kind)
        label = f"head {node.owner}" if node.kind == "head" else label or node.label
        if node.kind not in SIGNS:
            found[node.name] = label + level[node.name]
    for _ in range(3):
        for node in diagram.nodes:
            if node.kind in SIGNS:
                read = [edge.source for edge in diagram.edges if edge.target == node.name]
                of_kind = {n.name for n in diagram.nodes if n.kind == "gate"}
                gates = [found[name] for name in read if name in of_kind]
                made = sorted(found.get(name, "?") for name in read)
                inner = gates[0] if gates else ", ".join(made)
                found[node.name] = f"{SIGNS[node.kind]}({inner})"
    return found


def reads(diagram):
    """Return by node what it reads; neither the input nor what merely passes the embedding."""
    names = keys(diagram)
    assert len(set(names.values())) == len(names)
    found = {names[node.name]: set() for node in diagram.nodes}
    for edge in diagram.edges:
        stopped = "" if edge.gradient else "~"
        found[names[edge.target]].add(stopped + names[edge.source])
    assert found.pop("x") == set()
    return found


def expect(text):
    """Return what a text says: a line for each node, ``node: what, it, reads``."""
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        nodes, sources = line.split(" <-")
        for node in nodes.split("; "):
            assert node not in found, node
            found[node] = set(filter(None, sources.strip().split("; ")))
    return found


ENDS = """
embedding <- x
out a <- tower: a
out b <- tower: b
"""
CHAIN = """
embedding <- x
out a <- tower: a
head b <- tower: a; tower: b
out b <- head b
"""

PAPERS = {
    # Caruana: one network for all, a tower each
    "SharedBottom": (
        SharedBottom(),
        ENDS + "shared network <- embedding\ntower: a; tower: b <- shared network",
    ),
    # nothing is shared but the rows
    "SingleTask": (
        SingleTask(),
        """
        embedding: a; embedding: b <- x
        network: a <- embedding: a
        network: b <- embedding: b
        tower: a <- network: a
        tower: b <- network: b
        out a <- tower: a
        out b <- tower: b
        """,
    ),
    # Misra et al., equation 1: after each layer every task takes a combination of all
    "CrossStitch": (
        CrossStitch(bottom_units=(8, 6)),
        ENDS
        + """
        layer: a@1; layer: b@1 <- embedding
        stitch a@1; stitch b@1 <- layer: a@1; layer: b@1
        layer: a@2 <- stitch a@1
        layer: b@2 <- stitch b@1
        stitch a@2; stitch b@2 <- layer: a@2; layer: b@2
        tower: a <- stitch a@2
        tower: b <- stitch b@2
        """,
    ),
    # Ma et al. 2018: the product of the rates; the click's rate is its own
    "ESMM": (ESMM(), CHAIN + "tower: a; tower: b <- embedding"),
    "NISE": (NISE(), CHAIN + "tower: a; tower: b <- embedding"),
    "ESCM2": (
        ESCM2(bottom=SharedBottom()),
        CHAIN + "shared network <- embedding\ntower: a; tower: b <- shared network",
    ),
    # Xi et al.: the second step attends to its own and to what the first hands on
    "AITM": (
        AITM(),
        ENDS
        + """
        network: a; network: b <- embedding
        transfer: b <- network: a
        attention: b <- network: b; transfer: b
        tower: a <- network: a
        tower: b <- attention: b
        """,
    ),
    # Fu et al.: layers and logits add up, and the first task takes nothing
    "ResFlow": (
        ResFlow(bottom_units=(8, 6)),
        CHAIN
        + """
        layer: a@1; layer: b@1 <- embedding
        +(layer: a@1, layer: b@1) <- layer: a@1; layer: b@1
        layer: a@2 <- layer: a@1
        layer: b@2 <- +(layer: a@1, layer: b@1)
        +(layer: a@2, layer: b@2) <- layer: a@2; layer: b@2
        tower: a <- layer: a@2
        tower: b <- +(layer: a@2, layer: b@2)
        """,
    ),
    # Ma et al., KDD 2018, figure 1 (b): one gate
    "OMoE": (
        OMoE(n_experts=2),
        ENDS
        + """
        expert 0; expert 1; shared gate <- embedding
        Σ(shared gate) <- shared gate; expert 0; expert 1
        tower: a; tower: b <- Σ(shared gate)
        """,
    ),
    # the same, figure 1 (c): a gate for each task
    "MMoE": (
        MMoE(n_experts=2),
        ENDS
        + """
        expert 0; expert 1; gate: a; gate: b <- embedding
        Σ(gate: a) <- gate: a; expert 0; expert 1
        Σ(gate: b) <- gate: b; expert 0; expert 1
        tower: a <- Σ(gate: a)
        tower: b <- Σ(gate: b)
        """,
    ),
    # experts of the second level read mixtures of the first; all gates read the input
    "MLMMoE": (
        MLMMoE(n_levels=2, n_experts=2),
        ENDS
        + """
        expert 0@1; expert 1@1; gate: expert 0@1; gate: expert 1@1 <- embedding
        gate: a@2; gate: b@2 <- embedding
        Σ(gate: expert 0@1) <- gate: expert 0@1; expert 0@1; expert 1@1
        Σ(gate: expert 1@1) <- gate: expert 1@1; expert 0@1; expert 1@1
        expert 0@2 <- Σ(gate: expert 0@1)
        expert 1@2 <- Σ(gate: expert 1@1)
        Σ(gate: a@2) <- gate: a@2; expert 0@2; expert 1@2
        Σ(gate: b@2) <- gate: b@2; expert 0@2; expert 1@2
        tower: a <- Σ(gate: a@2)
        tower: b <- Σ(gate: b@2)
        """,
    ),
    # Tang et al., section 4.1: its own experts and the shared ones, nobody else's
    "CGC": (
        CGC(n_task_experts=2, n_shared_experts=1),
        ENDS
        + """
        expert 0; expert 1; expert 2; expert 3; expert 4; gate: a; gate: b <- embedding
        Σ(gate: a) <- gate: a; expert 0; expert 1; expert 4
        Σ(gate: b) <- gate: b; expert 2; expert 3; expert 4
        tower: a <- Σ(gate: a)
        tower: b <- Σ(gate: b)
        """,
    ),
    # section 4.2: a shared gate over all experts, but not in the last level
    "PLE": (
        PLE(n_levels=2, n_task_experts=1, n_shared_experts=1),
        ENDS
        + """
        expert 0@1; expert 1@1; expert 2@1; gate: a@1; gate: b@1; shared gate@1 <- embedding
        Σ(gate: a@1) <- gate: a@1; expert 0@1; expert 2@1
        Σ(gate: b@1) <- gate: b@1; expert 1@1; expert 2@1
        Σ(shared gate@1) <- shared gate@1; expert 0@1; expert 1@1; expert 2@1
        expert 0@2; gate: a@2 <- Σ(gate: a@1)
        expert 1@2; gate: b@2 <- Σ(gate: b@1)
        expert 2@2 <- Σ(shared gate@1)
        Σ(gate: a@2) <- gate: a@2; expert 0@2; expert 2@2
        Σ(gate: b@2) <- gate: b@2; expert 1@2; expert 2@2
        tower: a <- Σ(gate: a@2)
        tower: b <- Σ(gate: b@2)
        """,
    ),
    # Li et al., AdaTT-sp: all tasks' experts, and the own ones added
    "AdaTT": (
        AdaTT(n_task_experts=1, expert_units=(8,)),
        ENDS
        + """
        expert 0; expert 1; gate: a; gate: b <- embedding
        Σ(gate: a) <- gate: a; expert 0; expert 1
        Σ(gate: b) <- gate: b; expert 0; expert 1
        +(expert 0, Σ(gate: a)) <- expert 0; Σ(gate: a)
        +(expert 1, Σ(gate: b)) <- expert 1; Σ(gate: b)
        tower: a <- +(expert 0, Σ(gate: a))
        tower: b <- +(expert 1, Σ(gate: b))
        """,
    ),
    # Su et al.: gates over all experts, and gradients to the own and the shared ones only
    "STEM": (
        STEM(n_task_experts=1, n_shared_experts=1),
        """
        embedding: a; embedding: b; shared embedding <- x
        expert 0 <- embedding: a
        expert 1 <- embedding: b
        expert 2 <- shared embedding
        +(embedding: a, shared embedding) <- embedding: a; shared embedding
        +(embedding: b, shared embedding) <- embedding: b; shared embedding
        gate: a <- +(embedding: a, shared embedding)
        gate: b <- +(embedding: b, shared embedding)
        Σ(gate: a) <- gate: a; expert 0; ~expert 1; expert 2
        Σ(gate: b) <- gate: b; ~expert 0; expert 1; expert 2
        tower: a <- Σ(gate: a)
        tower: b <- Σ(gate: b)
        out a <- tower: a
        out b <- tower: b
        """,
    ),
    # Chang et al.: gates read the prior columns, and the rest without training it
    "PEPNet": (
        PEPNet(bottom_units=(8,), prior_features=["user"]),
        """
        embedding; embedding: user <- x
        layer: a; layer: b <- embedding; embedding: user
        gate: a; gate: b <- ~embedding; embedding: user
        ⊙(gate: a) <- gate: a; layer: a
        ⊙(gate: b) <- gate: b; layer: b
        tower: a <- ⊙(gate: a)
        tower: b <- ⊙(gate: b)
        out a <- tower: a
        out b <- tower: b
        """,
    ),
    # Wang et al.: b reads a's hidden features beside its own
    "DBMTL": (
        DBMTL(parents={"b": ["a"]}),
        ENDS
        + """
        shared network <- embedding
        network: a; network: b <- shared network
        relation: a <- network: a
        relation: b <- network: b; relation: a
        tower: a <- relation: a
        tower: b <- relation: b
        """,
    ),
    # a task's token attends to itself and to all columns, not to the other task's
    "MultiTabNet": (
        MultiTabNet(categorical_features=["v"], numeric_features={"u": "standardize"}),
        ENDS
        + """
        token: a; token: b <-
        column 0; column 1; column 2; column 3 <- embedding
        attention: a <- token: a; column 0; column 1; column 2; column 3
        attention: b <- token: b; column 0; column 1; column 2; column 3
        tower: a <- attention: a
        tower: b <- attention: b
        """,
    ),
}


@everywhere
def test_every_architecture_has_an_expectation(cls):
    assert cls.__name__ in PAPERS


@pytest.mark.parametrize("name", PAPERS)
def test_structure_is_that_of_the_paper(name):
    estimator, said = PAPERS[name]
    assert reads(draw(estimator, tasks=TASKS)) == expect(said)


def leak(level, task_x, shared_x):
    """Do what `ExtractionLevel` does, but let each gate weigh all experts of one number."""
    task_x = task_x.unsqueeze(1).expand(-1, level.n_tasks, -1)
    weights = level.task_gates(task_x)
    experts = torch.cat([level.task_experts(task_x), level.shared_experts(shared_x)], dim=1)
    return weights @ experts[:, : weights.shape[2]], None


def test_a_mistake_in_the_network_shows(monkeypatch):
    monkeypatch.setattr(sk_mtl.nn.ExtractionLevel, "forward", leak)
    estimator, said = PAPERS["CGC"]
    found = reads(draw(estimator, tasks=TASKS))
    assert found["Σ(gate: a)"] == found["Σ(gate: b)"] - {"gate: b"} | {"gate: a"}
    assert found != expect(said)


@pytest.mark.parametrize("n_levels", [1, 2, 3])
def test_ple_has_a_shared_gate_in_every_level_but_the_last(n_levels):
    diagram = draw(PLE(n_levels=n_levels, n_task_experts=2, n_shared_experts=1), tasks=list("abc"))
    of_level = {k: [] for k in range(1, n_levels + 1)}
    for node in diagram.nodes:
        if node.kind == "gate":
            of_level[node.level or 1].append(node.owner)
    *before, last = of_level.values()
    assert before == [["a", "b", "c", None]] * (n_levels - 1)
    assert last == ["a", "b", "c"]
    assert sum(node.kind == "expert" for node in diagram.nodes) == 7 * n_levels
    assert sum(node.kind == "tower" for node in diagram.nodes) == 3


def test_stem_stops_the_gradient_to_other_tasks_experts_and_nowhere_else():
    diagram = draw(STEM(n_task_experts=2, n_shared_experts=2), tasks=list("abc"))
    owner = {node.name: node.owner for node in diagram.nodes if node.kind == "expert"}
    sums = {node.name: node.owner for node in diagram.nodes if node.kind == "sum"}
    for edge in diagram.edges:
        others = owner.get(edge.source) not in (None, sums.get(edge.target))
        assert edge.gradient != (edge.target in sums and others)
    assert sum(not edge.gradient for edge in diagram.edges) == 3 * 4


def test_domain_columns_scale_the_embedding():
    model = PEPNet(bottom_units=(8,), prior_features=["user"], domain_features=["page"])
    found = reads(draw(model, tasks=TASKS))
    rest = "embedding: x1, x2"
    columns = {rest, "embedding: user", "embedding: page"}
    domain, scaled = "domain gate", "⊙(domain gate)"
    assert found[domain] == {"embedding: page", f"~{rest}", "~embedding: user"}
    assert found[scaled] == {domain, *columns}
    assert found["layer: a"] == found["layer: b"] == {scaled}
    assert found["gate: a"] == found["gate: b"] == {"embedding: user", f"~{scaled}"}


def test_chains_of_three_steps():
    found = reads(draw(ESMM(), tasks=list("abc")))
    assert found["head c"] == {"tower: a", "tower: b", "tower: c"}
    assert found["out a"] == {"tower: a"}
    found = reads(draw(AITM(), tasks=list("abc")))
    assert found["transfer: c"] == {"attention: b"}
    assert found["attention: c"] == {"network: c", "transfer: c"}
    found = reads(draw(DBMTL(parents={"c": ["a", "b"], "a": ["b"]})))
    assert found["relation: c"] == {"network: c", "relation: a", "relation: b"}
    assert found["relation: a"] == {"network: a", "relation: b"}


def test_tokens_of_several_blocks_meet_in_the_columns():
    diagram = draw(MultiTabNet(n_blocks=2), tasks=TASKS)
    names, by_name = keys_of_attention(diagram), {node.name: node for node in diagram.nodes}
    first, last = ([n for n in names if by_name[n].level == level] for level in (1, 2))
    assert (len(first), len(last)) == (2 + 4, 2)
    assert [by_name[name].tasks for name in last] == [("a",), ("b",)]
    readers = {edge.source for edge in diagram.edges if edge.target == last[0]}
    assert readers == {first[0], *first[2:]}


def keys_of_attention(diagram):
    return [node.name for node in diagram.nodes if node.kind == "attention"]


def test_kinds_of_gates_make_no_difference():
    plain = reads(draw(MMoE(n_experts=3), tasks=TASKS))
    dselect = sk_mtl.nn.DSelectK(n_selectors=1)
    assert reads(draw(MMoE(n_experts=3, gate=dselect), tasks=TASKS)) == plain
    diagram = draw(MMoE(n_experts=3, gate=dselect.set_params(conditioned=False)), tasks=TASKS)
    assert reads(diagram)["gate: a"] == set()
    assert reads(diagram)["Σ(gate: a)"] == plain["Σ(gate: a)"]
    details = {node.detail for node in diagram.nodes if node.kind == "gate"}
    assert details == {"DSelect-1"}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_narrow_layers_hide_nothing(seed, activation, monkeypatch):
    monkeypatch.setattr(measure, "SCALES", (1.0 + seed, 0.2))
    model = PLE(
        n_task_experts=1, n_shared_experts=1, expert_units=(1, 1, 1), gate_units=(1,),
        activation=activation, tower_units=(1, 1),
    )  # fmt: skip
    assert reads(draw(model, tasks=TASKS)) == expect(PAPERS["PLE"][1])


# Words --------------------------------------------------------------------------------------------


def test_who_trains_a_part_and_whose_it_is():
    diagram = draw(PLE(n_task_experts=1, n_shared_experts=1, expert_units=(9, 5)), tasks=TASKS)
    known = {
        (node.level, node.label): (node.tasks, node.owner, node.detail)
        for node in diagram.nodes
        if node.kind == "expert"
    }
    both = ("a", "b")
    assert known == {
        # the shared gate of the first level reads all of them
        (1, "expert 0"): (both, "a", "a · 9 → 5"),
        (1, "expert 1"): (both, "b", "b · 9 → 5"),
        (1, "expert 2"): (both, None, "shared · 9 → 5"),
        (2, "expert 0"): (("a",), "a", "a · 9 → 5"),
        (2, "expert 1"): (("b",), "b", "b · 9 → 5"),
        (2, "expert 2"): (both, None, "shared · 9 → 5"),
    }
    assert {node.widths for node in diagram.nodes if node.kind == "expert"} == {(9, 5)}


def test_experts_have_the_numbers_of_expert_use():
    X, Y = sk_mtl.datasets.make_census_like(200, random_state=0)
    model = CGC(n_task_experts=2, n_shared_experts=1, max_epochs=1, random_state=0).fit(X, Y)
    use = sk_mtl.inspection.expert_use(model, X)
    diagram = draw(model)
    label = {node.name: node.label for node in diagram.nodes}
    for node in diagram.nodes:
        if node.kind == "sum":
            read = {label[e.source] for e in diagram.edges if e.target == node.name}
            numbers = use.loc[use["task"] == node.owner, "expert"].unique()
            assert read == {f"gate: {node.owner}", *(f"expert {n}" for n in numbers)}


def test_outputs_say_their_kinds():
    kinds = ["binary", "regression", "multiclass", "count"]
    diagram = draw(MMoE(task_types=kinds, n_experts=2))
    outputs = [(node.label, node.detail) for node in diagram.nodes if node.kind == "output"]
    assert outputs == [(f"task {k}", kind) for k, kind in enumerate(kinds, 1)]


def test_a_long_name_is_whole_in_the_title():
    name = "the_probability_of_a_purchase"
    svg = draw(SharedBottom(), tasks=[name, "b"]).svg
    texts = [text.text for text in ET.fromstring(svg).iter(SVG + "text")]
    assert "tower: the_probability…" in texts
    assert name in ET.fromstring(svg).get("aria-label")


# Variants -----------------------------------------------------------------------------------------


def test_outputs_without_a_label():
    found = reads(draw(ESCM2(method="dr"), tasks=TASKS))
    assert found["out output 0"] == {"tower: output 0"}
    assert found["head b"] == {"tower: a", "tower: b"}
    assert set(found) >= {"out a", "out b"}


def test_interaction_and_shared_embedding():
    found = reads(draw(SharedBottom(interaction="cross"), tasks=TASKS))
    assert found["cross layers"] == {"embedding"}
    assert found["shared network"] == {"cross layers"}
    found = reads(draw(SingleTask(shared_embedding=True, interaction="fm"), tasks=TASKS))
    assert found["network: a"] == found["network: b"] == {"FM products"}


def test_members_are_drawn_as_one():
    X, Y = sk_mtl.datasets.make_census_like(200, random_state=0)
    model = PLE(n_task_experts=1, n_shared_experts=1, max_epochs=1, random_state=0)
    one, three = (draw(model.set_params(n_members=n).fit(X, Y)) for n in (1, 3))
    assert one.svg == three.svg
    assert one.nodes == three.nodes


def test_the_bottom_of_another_architecture():
    found = reads(draw(ESMM(bottom=MMoE(n_experts=2)), tasks=TASKS))
    assert found["Σ(gate: a)"] == {"gate: a", "expert 0", "expert 1"}
    assert found["head b"] == {"tower: a", "tower: b"}


def test_an_architecture_of_ones_own():
    assert reads(draw(Residual(), tasks=TASKS)) == expect(
        ENDS
        + """
        shared; own: a; own: b <- embedding
        +(own: a, shared) <- own: a; shared
        +(own: b, shared) <- own: b; shared
        tower: a <- +(own: a, shared)
        tower: b <- +(own: b, shared)
        """
    )


class PlainBottom(nn.Module):
    """Layers of torch, a gate that no other part of sk_mtl knows, and values joined end to end."""

    def __init__(self, in_features, n_tasks, **network):
        super().__init__()
        self.n_tasks = n_tasks
        self.trunk = nn.Sequential(nn.Linear(in_features, 6), nn.ReLU(), nn.Linear(6, 4))
        self.side = nn.Linear(in_features, 3)
        self.switch = Switch(in_features, 4)
        self.unused = nn.Linear(in_features, 2)
        self.out_features = 7

    def forward(self, x):
        self.unused(x)
        joined = torch.cat([self.switch(x)[:, 0] * self.trunk(x), self.side(x).detach()], dim=1)
        return joined.unsqueeze(1).expand(-1, self.n_tasks, -1)


class Switch(nn.Module):
    streams = ("<switch>",)

    def __init__(self, n, width):
        super().__init__()
        self.linear = nn.Linear(n, width)

    def forward(self, x):
        return self.linear(x.detach()).sigmoid().unsqueeze(1)


@dataclass(kw_only=True, eq=False, repr=False)
class Plain(base.MultiTaskEstimator):
    """An architecture of plain layers.

    Parameters
    ----------
    {common_parameters}
    """

    def _build_bottom(self, in_features, n_tasks, **network):
        return PlainBottom(in_features, n_tasks)


def test_layers_of_torch_are_drawn():
    found = reads(draw(Plain(n_members=1), tasks=TASKS))
    assert found == expect(
        ENDS
        + """
        trunk; side <- embedding
        switch gate <- ~embedding
        ⊙(switch gate) <- switch gate; trunk
        tower: a; tower: b <- ⊙(switch gate); ~side
        """
    )


class Pair(nn.Module):
    """Two mixtures end to end, each of its own experts by a gate of its own."""

    def __init__(self, in_features, n_tasks, **network):
        super().__init__()
        self.n_tasks, self.out_features = n_tasks, 6
        kind = {"activation": "tanh"}
        self.experts = nn.ModuleList(StackedMLP(2, in_features, (3,), **kind) for _ in range(2))
        streams = [("<left>",), ("<right>",)]
        self.gates = nn.ModuleList(Gates(1, in_features, 2, streams=s) for s in streams)

    def forward(self, x):
        mixed = [mix(g(x), e(x)) for g, e in zip(self.gates, self.experts, strict=True)]
        return torch.cat(mixed, dim=2).expand(-1, self.n_tasks, -1)


def test_each_gate_has_what_it_weighs(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PlainBottom", Pair)
    found = reads(draw(Plain(n_members=1), tasks=TASKS))
    assert found["Σ(left gate)"] == {"left gate", "expert 0", "expert 1"}
    assert found["Σ(right gate)"] == {"right gate", "expert 2", "expert 3"}
    assert found["tower: a"] == found["tower: b"] == {"Σ(left gate)", "Σ(right gate)"}


# The estimator ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted():
    X, Y = sk_mtl.datasets.make_census_like(200, random_state=0)
    return MMoE(n_experts=2, n_members=1, max_epochs=1, random_state=0).fit(X, Y), X, Y


def test_the_estimator_stays_as_it_is(fitted):
    model, X, _ = fitted
    before, weights = model.predict_proba(X), model.module_.state_dict()
    weights = {name: value.clone() for name, value in weights.items()}
    state = torch.get_rng_state()
    draw(model)
    assert np.array_equal(model.predict_proba(X), before)
    assert all(torch.equal(weights[n], v) for n, v in model.module_.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(part._forward_hooks for part in model.module_.modules())
    unfitted = MMoE(n_experts=2)
    draw(unfitted)
    assert not hasattr(unfitted, "tasks_")


def test_tables_are_not_copied(fitted):
    twin = blocks.copy_for_probing(fitted[0].module_)
    kept = {name for name, _ in twin.named_parameters()}
    assert kept == {n for n, _ in fitted[0].module_.named_parameters() if "embedding" not in n}


def test_what_holds_an_estimator(fitted):
    model, _, _ = fitted
    svg = draw(model).svg
    assert draw(make_pipeline(FunctionTransformer(), model)).svg == svg
    unfitted = make_pipeline(FunctionTransformer(), MMoE(n_experts=2))
    search = GridSearchCV(unfitted, {"mmoe__n_experts": [2]})
    expected = draw(MMoE(n_experts=2), tasks=TASKS).svg
    assert draw(unfitted, tasks=TASKS).svg == draw(search, tasks=TASKS).svg == expected


@pytest.mark.parametrize("what", [3, "MMoE", MMoE, pd.DataFrame(), None])
def test_no_estimator(what):
    with pytest.raises(TypeError, match=r"pass an\s+estimator of sk_mtl"):
        draw(what)


def test_wrong_arguments(fitted):
    with pytest.raises(ValueError, match=r"is fitted to the tasks \['high_income', .*leave"):
        draw(fitted[0], tasks=TASKS)
    with pytest.raises(ValueError, match="different names, at least one"):
        draw(MMoE(), tasks=["a", "a"])
    with pytest.raises(ValueError, match=r"`max_equal` must .* got 0"):
        draw(MMoE(), max_equal=0)
    with pytest.raises(ValueError, match=r"do not suit it: ESCM2 .* Pass a fitted"):
        draw(ESCM2(), tasks=list("abc"))
    with pytest.raises(ValueError, match=r"names the task 'z'.* Pass a fitted"):
        draw(DBMTL(parents={"b": ["z"]}), tasks=TASKS)


@pytest.mark.parametrize(
    "estimator",
    [
        AITM(positive="yes"),
        AITM(positive={"a": "yes", "b": True}),
        ESMM(positive=["click", 0]),
        MMoE(task_types={"a": "ordinal", "b": "quantile"}),
        MMoE(task_types=["binary", "count", "regression"]),
        MMoE(tower_units={"a": (8,), "b": ()}),
        MMoE(categorical_features=[0, 2], embedding_dim="auto"),
        MMoE(categorical_features=["user"], numeric_features={"age": "quantile"}),
        MMoE(categorical_features=None),
        PEPNet(prior_features=[5]),
        PEPNet(prior_features=[True, False, True]),
        SharedBottom(warm_start=True, early_stopping=True, n_members=4, batch_size=2),
        ResFlow(task_types="ordinal"),
        MMoE(task_types="count", dtype="float64"),
    ],
    ids=lambda estimator: repr(estimator).replace("\n", ""),
)
def test_rows_that_suit_parameters(estimator):
    assert sum(node.kind == "output" for node in draw(estimator).nodes) >= 2


# The picture --------------------------------------------------------------------------------------

PICTURES = [*(estimator for estimator, _ in PAPERS.values()), *(cls() for cls in ESTIMATORS)]


def rectangles(root):
    """Return the boxes' places, without what stands behind them."""
    found = []
    for group in root.iter(SVG + "g"):
        shape = group.findall(SVG + "rect")[-1]
        x, y, w, h = (float(shape.get(name)) for name in ("x", "y", "width", "height"))
        found.append((x, y, x + w, y + h))
    return found


@pytest.mark.parametrize("estimator", PICTURES, ids=lambda e: repr(e).replace("\n", ""))
def test_picture(estimator):
    diagram = draw(estimator, tasks=TASKS)
    root = ET.fromstring(diagram.svg)
    _, _, width, height = map(float, root.get("viewBox").split())
    assert width <= 905
    boxes = rectangles(root)
    for i, (left, top, right, bottom) in enumerate(boxes):
        assert 0 < left < right < width
        assert 0 < top < bottom < height
        for other in boxes[:i]:
            apart = right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
            assert apart
    titles = [title.text for title in root.iter(SVG + "title")]
    assert len(titles) == len(boxes)
    described = root.find(SVG + "desc")
    assert described.get("id") == root.get("aria-describedby")
    assert all(title in described.text for title in titles if not title.startswith("input"))


def test_links_keep_off_boxes():
    for estimator in (STEM(n_shared_experts=2), PEPNet(prior_features=["user"]), MLMMoE()):
        root = ET.fromstring(draw(estimator, tasks=TASKS).svg)
        boxes = rectangles(root)
        for path in root.iter(SVG + "path"):
            if "e " not in path.get("class") + " " or "h" in path.get("d"):
                continue
            numbers = [float(n) for n in re.findall(r"-?[\d.]+", path.get("d"))]
            points = list(zip(numbers[::2], numbers[1::2], strict=True))
            for x, y in curve(points):
                inside = [b for b in boxes if b[0] + 2 < x < b[2] - 2 and b[1] + 2 < y < b[3] - 2]
                assert not inside


def curve(points):
    """Yield points of a link: a line, a cubic curve, a line."""
    start, begin, *controls, end = points
    (p1, p2, p3) = controls
    for t in np.linspace(0, 1, 21):
        yield tuple(np.asarray(start) * (1 - t) + np.asarray(begin) * t)
        yield tuple(np.asarray(p3) * (1 - t) + np.asarray(end) * t)
        weights = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
        yield tuple(
            sum(w * np.asarray(p) for w, p in zip(weights, (begin, p1, p2, p3), strict=True))
        )


def test_equal_parts_are_one_stack():
    diagram = draw(MMoE(n_experts=8), tasks=TASKS)
    assert sum(node.kind == "expert" for node in diagram.nodes) == 8
    assert "8 experts" in diagram.svg
    assert "expert 7" not in diagram.svg
    assert "expert 7" in draw(MMoE(n_experts=8), tasks=TASKS, max_equal=8).svg
    # gates of experts, their sums and the experts that read them fold together
    folded = draw(MLMMoE(n_experts=6), tasks=TASKS).svg
    assert folded.count(">6 experts<") == 2
    assert folded.count(">6 gates<") == 1


def test_colors_are_of_tasks_alone():
    root = ET.fromstring(draw(CGC(n_task_experts=1, n_shared_experts=1), tasks=TASKS).svg)
    hue = {}
    for group in root.iter(SVG + "g"):
        texts = " ".join(text.text for text in group.iter(SVG + "text"))
        hue[texts] = group.findall(SVG + "rect")[-1].get("class")
    assert hue["expert 0 a · 64"] == hue["tower: a 32"] == hue["gate: a"] == "ot0"
    assert hue["expert 1 b · 64"] == hue["tower: b 32"] == "ot1"
    assert hue["expert 2 shared · 64"] == hue["embedding 18"] == "on"


def test_style_follows_light_and_dark():
    style = ET.fromstring(draw(SharedBottom(), tasks=TASKS).svg).find(SVG + "style").text
    light, dark = (
        re.findall(pattern, style)
        for pattern in (
            r"html\[data-theme=light\] \.sk-mtl-diagram[^{]*\{([^}]*)\}",
            r"html\[data-theme=dark\] \.sk-mtl-diagram[^{]*\{([^}]*)\}",
        )
    )
    assert f"@media (prefers-color-scheme:dark){{.sk-mtl-diagram{{{dark[0]}}}}}" in style
    assert style.startswith(f".sk-mtl-diagram{{{light[0]}}}")
    names = [re.findall(r"--(\w+):", of_page) for of_page in (light[0], dark[0])]
    assert names[0] == names[1]
    assert set(re.findall(r"var\(--(\w+)\)", style)) <= set(names[0])


def test_the_same_picture_each_time():
    assert draw(PLE(), tasks=TASKS).svg == draw(PLE(), tasks=TASKS).svg


def test_many_tasks_and_one():
    many = draw(MMoE(n_experts=2), tasks=[f"t{k}" for k in range(9)])
    assert sum(node.kind == "sum" for node in many.nodes) == 9
    assert set(re.findall(r"var\(--t(\d)\)", many.svg)) == set("0123456")
    assert reads(draw(MMoE(n_experts=2), tasks=["only"]))["tower: only"] == {"Σ(gate: only)"}


def test_save(tmp_path):
    diagram = draw(SharedBottom(), tasks=["a<b", "c&d"])
    diagram.save(tmp_path / "network.svg")
    root = ET.parse(tmp_path / "network.svg").getroot()
    assert "a<b, c&d" in root.get("aria-label")
    assert diagram.svg in diagram._repr_html_()
    for name in ("network.png", "network", "network.SVG.pdf"):
        with pytest.raises(ValueError, match=r"written as \.svg only"):
            diagram.save(tmp_path / name)


def test_matplotlib_is_not_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert draw(SharedBottom()).svg

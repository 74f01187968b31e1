"""The benchmark of architectures: who takes part, at which size, and what its findings say."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from benchmarks.architectures import findings, fits, study
from benchmarks.architectures.contestants import FUNNELS, contestants, fitting_width
from benchmarks.architectures.results import Results, set_table
from benchmarks.architectures.sets import SETS, drawn, world_name
from benchmarks.speed import plain
from benchmarks.speed.workloads import random_table
from sk_mtl import architectures
from sk_mtl._chains import ChainEstimator
from sk_mtl.base import MultiTaskEstimator

NAME = "p = 0.9"
CLASSES = [
    cls
    for name in architectures.__all__
    if issubclass(cls := getattr(architectures, name), MultiTaskEstimator)
]


@pytest.mark.parametrize("wanted", [1, 40, 1_000, 12_345])
def test_width_is_the_nearest(wanted):
    def size(width):
        return 3 * width**2 + 5 * width + 7

    width = fitting_width(size, wanted)
    others = [abs(size(w) - wanted) for w in range(1, 200)]
    assert abs(size(width) - wanted) == min(others)


def test_every_architecture_takes_part_somewhere():
    (_, numbers, *_), _ = drawn(NAME, 0, True)
    (_, clicks, *_), _ = drawn(world_name(0.9, 0.2), 0, True)
    taken = {
        contestant.cls
        for contestant in contestants().values()
        if contestant.takes(SETS[NAME], numbers)
        or contestant.takes(SETS[world_name(0.9, 0.2)], clicks)
    }
    assert taken == set(CLASSES)


def test_ordered_steps_take_no_labels_that_are_not_nested():
    Y = pd.DataFrame({"income": [0, 1] * 5, "never_married": [1, 0] * 5})
    for contestant in contestants().values():
        ordered = issubclass(contestant.cls, ChainEstimator) or contestant.cls.__name__ in FUNNELS
        assert contestant.takes(SETS["Adult"], Y) is not ordered


def test_a_fit_has_the_wanted_size_and_goes_on_where_it_stopped(monkeypatch):
    entry = fits.extend(NAME, "SharedBottom", None, 1, True)
    assert "error" not in entry
    (first,) = entry["runs"]
    assert abs(first["body"] / entry["wanted"] - 1) < 0.05
    assert json.loads(json.dumps(entry))["runs"] == [first]
    monkeypatch.setattr(fits, "chosen", None)
    entry = fits.extend(NAME, "SharedBottom", entry, 2, True)
    assert "error" not in entry
    assert entry["runs"][0] is first
    assert entry["runs"][1]["scores"] != first["scores"]
    assert "SharedBottom" in set_table(Results({NAME: {"SharedBottom": entry}}), NAME)


def test_what_is_done_is_not_fitted_again(tmp_path, monkeypatch):
    wanted = [(NAME, "SharedBottom"), (NAME, "MMoE")]
    made = []

    def extend(name, label, known, runs, quick):
        made.append(label)
        return {"error": "no"} if label == "MMoE" else {"runs": [{}] * runs}

    monkeypatch.setattr(study, "extend", extend)
    path = tmp_path / "in" / "cache.json"
    for _ in range(2):  # a failure is tried again
        study.measured(wanted, 2, True, study.Store(path, False), 1)
    assert made == ["SharedBottom", "MMoE", "MMoE"]
    found = study.measured(wanted, 1, True, study.Store(path, False), 1)
    assert len(found[NAME]["SharedBottom"]["runs"]) == 1
    assert found[NAME]["MMoE"]["error"] == "no"
    made.clear()
    study.measured(wanted[:1], 2, True, study.Store(path, True), 1)
    assert made == ["SharedBottom"]


def entry(scores, is_value=False):
    one = {"is_value": {"a": is_value}, "conversion": None, "body": 20_500}
    return {"runs": [{"scores": {"a": s}, **one} for s in scores], "wanted": 20_000}


def test_gain_is_signed_by_what_is_better():
    aucs = Results({"s": {"SingleTask": entry([0.8, 0.5]), "MMoE": entry([0.88, 0.45])}})
    np.testing.assert_allclose(aucs.gains("s", "MMoE"), [10, -10])
    errors = Results({"s": {"SingleTask": entry([0.5], True), "MMoE": entry([0.4], True)}})
    np.testing.assert_allclose(errors.gains("s", "MMoE"), [20])
    assert Results({"s": {"SharedBottom": entry([1])}}).reference == "SharedBottom"


def test_verdicts():
    assert findings.verdict(np.array([1.0, 1.1, 0.9])) == "better"
    assert findings.verdict(np.array([1.0, 1.1, 0.9]), bigger_is_better=False) == "worse"
    assert findings.verdict(np.array([1.0, -1.1, 0.9])) == "within the spread"
    assert findings.verdict(np.array([1.0])) == findings.UNTOLD


def test_findings_at_both_ends_of_the_correlation():
    single, worse = [1.0, 1.0, 1.0], [1.2, 1.3, 1.25]
    by_label = {
        "SingleTask": entry(single, True),
        "SharedBottom": entry(worse, True),
        "MMoE": entry([1.01, 0.98, 1.0], True),
    }
    said = findings.findings(Results({"p = 0": by_label, "p = 0.9": by_label}))
    assert not any("size wanted" in one for one in said)
    by_label["MMoE"]["wanted"] = 10_000
    (size,) = findings.size_findings(Results({"p = 0": by_label}))
    assert "p = 0 MMoE (20,500 of 10,000)" in size
    assert "At p = 0 the gated models lose nothing: reached (MMoE)." in said
    assert "At p = 0 SharedBottom loses: reached (SharedBottom)." in said
    assert "At p = 0.9 all gain: not reached (SharedBottom worse, MMoE within the spread)." in said


def test_findings_of_conversions():
    def of(auc, error):
        return {"runs": [{"conversion": [error, error, 0, 0, auc + s]} for s in (0, 0.01, 0.02)]}

    name = world_name(0.9, 0.2)
    said = findings.conversion_findings(
        Results({name: {"ESMM": of(0.7, 0.01), "ESCM2-IPS": of(0.8, 0.05)}}), *findings.PAIRS[0]
    )
    assert any("by AUC in all confounded worlds: reached (better in 1 of 1" in s for s in said)
    assert any("by error of the mean" in s and "not reached" in s and "worse in 1" in s
               for s in said)  # fmt: skip


def layers(stack, linears):
    """Pair the weight and bias of a stack, one network's after the other, with single layers."""
    for one, linear in enumerate(linears):
        yield linear.weight, stack.weight[one]
        if linear.bias is not None:
            yield linear.bias, stack.bias[one]


def networks(stack, sequences):
    """Pair the layers of a `StackedMLP` with those of sequences of layers and activations."""
    for at, layer in enumerate(stack.layers):
        if hasattr(layer, "weight"):
            yield from layers(layer, [one[at] for one in sequences])


def adatt(ours, theirs):
    for one, other in zip(ours.levels, theirs.levels, strict=True):
        own = len(one.task_experts.layers[0].weight)
        yield from networks(one.task_experts, other.experts[:own])
        yield from networks(one.shared_experts, other.experts[own:])
        yield from layers(one.gates.scores, other.gates)
        shared = [] if one.shared_factors is None else one.shared_factors
        yield from zip(other.own, [*one.task_factors, *shared], strict=True)


def aitm(ours, theirs):
    yield from networks(ours.before, theirs.streams[:-1])
    yield from networks(ours.last, theirs.streams[-1:])
    for one, other in zip(ours.transfer.transfers, theirs.transfers, strict=True):
        yield from networks(one, [other])
    attention = [theirs.first, theirs.second, theirs.third]
    yield from layers(ours.transfer.attention.maps, attention)


def stem(ours, theirs):
    *own, shared = theirs.experts
    yield from networks(ours.level.task_experts, [one for experts in own for one in experts])
    yield from networks(ours.level.shared_experts, shared)
    yield from layers(ours.level.gates.scores, theirs.gates)


def towers(ours, theirs):
    hidden, output = ours.towers[0]
    if isinstance(theirs[0], torch.nn.Linear):
        yield from layers(output, theirs)
    else:
        yield from networks(hidden, [one[0] for one in theirs])
        yield from layers(output, [one[1] for one in theirs])


BOTTOMS = {"adatt": adatt, "aitm": aitm, "stem": stem}


@pytest.mark.parametrize("model", plain.NETWORKS)
def test_plain_loop_trains_the_network_of_the_estimator(model):
    """The same weights give the same logits and loss; the tables hold no more than vocabularies."""
    table = random_table(300, [5, 3, 7], 2)
    loop, ours = plain.Loop(model, table), plain.Estimator(model, table)
    body, copies = loop.net.body.double(), loop.net.body.copies
    assert loop.net.table.weight.shape == (15, copies * plain.W1.embedding_dim)
    estimator = ours.model.set_params(max_epochs=1, dtype="float64").fit(ours.X, ours.Y)
    module = estimator.module_
    assert ours.n_parameters() == loop.n_parameters()
    width = module.embedding.out_features
    copied = set()
    with torch.no_grad():
        pairs = [*towers(module.towers, body.towers)]
        if model in BOTTOMS:
            pairs += BOTTOMS[model](module.bottom, body)
        for to, value in pairs:
            copied.add(to)
            to.copy_(value)
    assert copied == set(body.parameters())

    shape = (20, copies, width) if copies > 1 else (20, width)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tower_logits = module.towers(module.bottom(x))
    assert tower_logits.std() > 0
    assert_close(body(x), tower_logits)

    objective = estimator._build_objective(estimator.tasks_)
    target, logits = loop.parts[2][:20].double(), module.join(tower_logits)
    sums, weights = objective(tower_logits, logits, target)
    loss = (sums / weights).sum()
    if objective.row_penalty is not None:
        loss = loss + objective.row_penalty(tower_logits, logits).mean()
    assert_close(body.loss(tower_logits, target), loss)

"""The speed benchmark compares like with like: its loop trains the network that sk_mtl does."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from benchmarks.speed import measure, processes, study
from benchmarks.speed.clock import Clock
from benchmarks.speed.contenders import frames, limit, loop
from benchmarks.speed.results import Results
from benchmarks.speed.scaling import parts_of_step
from benchmarks.speed.targets import Target, targets
from benchmarks.speed.workloads import Job, Sizes, Workload, random_table
from sk_mtl.data.frames import as_table
from sk_mtl.nn import StackedLinear

ROOT = Path(__file__).parents[1]
SPLIT = {"n_task_experts": 3, "n_shared_experts": 2, "experts": (6, 5), "gates": (4,)}
MODELS = {
    "shared_bottom": Sizes(bottom=(7, 6), towers=(5, 4)),
    "esmm": Sizes(towers=(5, 4)),
    "mmoe": Sizes(n_experts=3, experts=(6, 5), gates=(4,), towers=(3,)),
    "cgc": Sizes(**SPLIT, towers=(3,)),
    "ple": Sizes(**SPLIT, n_levels=2, towers=(3,)),
}


def tiny_job(model, **changed):
    table = random_table(200, [5, 3, 7], 2)
    workload = Workload(lambda rows: table, 200, 64, 1e-3, 4, MODELS)
    return Job(replace(workload, **changed), model, table)


def layers(net):
    """Yield the loop's (weight, bias) in the order in which sk_mtl's module holds its layers."""
    for child in net.children():
        if isinstance(child, loop.Networks):
            yield from zip(child.weights, child.biases, strict=True)
        elif isinstance(child, loop.Gates):
            yield from zip(child.hidden.weights, child.hidden.biases, strict=True)
            yield child.scores, None
        else:
            yield from layers(child)


@torch.no_grad()
def copy_weights(module, net):
    """Copy a fitted module's weights into the loop's network."""
    block = module.embedding.blocks["categorical"]
    codes = torch.cat([torch.arange(2, n) + s for n, s in zip(block.sizes[0],
                       block.offsets_0.tolist(), strict=True)])  # fmt: skip
    net.table.weight.copy_(block.tables[0][codes])
    ours = [m for m in module.modules() if isinstance(m, StackedLinear)]
    theirs = [*layers(net), (net.out, net.out_bias)]
    assert sum(p.numel() for p in net.parameters()) == len(codes) * 4 + sum(
        p.numel() for layer in ours for p in layer.parameters()
    )
    for layer, (weight, bias) in zip(ours, theirs, strict=True):
        weight.copy_(layer.weight.reshape(len(weight), -1, layer.in_features).mT)
        if bias is not None:
            bias.copy_(layer.bias.reshape(len(bias), 1, -1))


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.filterwarnings("ignore:.*without a step before")
def test_loop_trains_the_same_network(model):
    job = tiny_job(model)
    ours = frames.Contender(job)
    ours.model.set_params(max_epochs=1, dtype="float64").fit(ours.X, ours.Y)
    module = ours.model.module_
    theirs = loop.Contender(job)
    net = theirs.network().double()
    copy_weights(module, net)

    target = torch.from_numpy(job.table.labels).double()
    encoded = ours.model._fitted_.encoder.transform(as_table(ours.X))
    numeric = torch.from_numpy(np.ascontiguousarray(encoded["numeric"]))
    parts = module.prepare(
        {"numeric": numeric, "categorical": torch.from_numpy(encoded["categorical"])}
    )
    tower_logits = module.towers(module.represent(parts))
    logits, criterion = module.join(tower_logits), ours.model.net_.criterion_
    sums, _ = criterion(tower_logits, logits, target)
    loss = criterion.estimate(sums, len(target)).sum()
    rows = theirs.tensors(0, 200)[1]
    other = net(numeric, rows)
    other_loss = F.binary_cross_entropy_with_logits(other, target) * target.shape[1]

    assert logits.std() > 0
    assert_close(other, logits)
    assert_close(other_loss, loss)
    weight = module.towers.towers[0][-1].weight
    (gradient,) = torch.autograd.grad(loss, weight)
    (other_gradient,) = torch.autograd.grad(other_loss, net.out)
    assert_close(other_gradient, gradient.mT)


def test_limit_counts_every_weight_once():
    """A product per layer: their weights, inner width times columns, are the network's."""
    for model, sizes in MODELS.items():
        job = tiny_job(model)
        net = loop.Contender(job).network()
        biases = {id(p) for name, p in net.named_parameters() if "bias" in name}
        held = sum(p.numel() for name, p in net.named_parameters()
                   if id(p) not in biases and name != "table.weight")  # fmt: skip
        batch = job.workload.batch
        counted = sum(g * inner * columns for g, _, inner, columns in limit.products(job)
                      if g % batch)  # fmt: skip
        assert counted == held, (model, sizes)


def train_forever(clock):
    while True:
        clock.tick()


def test_clock_measures_after_the_first_epoch(monkeypatch):
    """A first step at 3 s, then one per second: epochs of 3 steps of 10, 10 and 5 rows."""
    now = iter([0.0, *np.arange(3.0, 30.0)])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    clock = Clock(rows=25, batch=10, seconds=6.0)
    with pytest.raises(KeyboardInterrupt):
        train_forever(clock)
    assert clock.first == 3.0
    assert clock.warm == 2
    assert len(clock.times) == 9
    assert clock.rate == 50 / 6.0


def test_clock_says_that_training_ended_too_early():
    clock = Clock(rows=100, batch=10, seconds=1.0)
    clock.tick()
    with pytest.raises(RuntimeError, match="after 1 steps"):
        _ = clock.rate


@pytest.mark.slow
@pytest.mark.parametrize("contender", ["sk_mtl", "loop", "limit"])
def test_a_process_measures_a_contender(tmp_path, contender):
    random_table(2_000, [5, 3, 7], 2).save(tmp_path)
    arguments = ("w1", "mmoe", contender, "--data", tmp_path, "--seconds", 0.05)
    numbers = processes.measured("benchmarks.speed.measure", *arguments, threads=1, attempts=1)
    assert "error" not in numbers
    assert numbers["steps"] > 2
    parts = {"fit", "first", "bulk", "memory"} | ({"single"} if contender != "limit" else set())
    assert parts <= set(numbers)
    assert all(numbers[part] > 0 for part in parts)


def test_a_failure_is_an_error_not_a_number(tmp_path):
    arguments = ("w1", "mmoe", "loop", "--data", tmp_path / "nowhere")
    numbers = processes.measured("benchmarks.speed.measure", *arguments, threads=1, attempts=1)
    assert "FileNotFoundError" in numbers["error"]


def test_what_a_library_lacks_is_said(tmp_path):
    random_table(500, [5, 3], 2).save(tmp_path)
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "benchmarks.speed.measure", "w1", "esmm", "scikit_learn"]
    command += ["--data", str(tmp_path), "--seconds", "0.05", "--out", str(out)]
    subprocess.run(command, cwd=ROOT, check=True)
    assert json.loads(out.read_text())["error"].startswith("NoSuchModel: ")


def test_targets_take_the_fastest_peer_and_every_model():
    results = Results()
    rates = {"sk_mtl": 100.0, "deepctr_torch": 10.0, "torch_rechub": 25.0, "loop": 95.0}
    for contender, rate in rates.items():
        for factor in (0.9, 1.0, 1.2):
            numbers = {"fit": rate * factor, "bulk": rate, "single": 2.0, "others": 0.0}
            results.add("w1", "mmoe", contender, numbers)
    results.add("w1", "mmoe", "deepctr", {"error": "ValueError: no", "others": 0.0})
    found = {target.text: target for target in targets(results, {})}
    peers = found["w1, w2: fit over the fastest torch peer"]
    assert peers.values == {"w1 mmoe": 4.0}
    assert peers.met is False
    assert found["w1: fit over deepctr"].met is None
    assert found["one row, data frame, ms"].met is False
    assert next(t for text, t in found.items() if text.endswith("over the loop")).met is True
    report = study.report(results, {})
    assert not any("do not hold" in finding for finding in report.findings)
    results.runs["w1", "mmoe", "loop"][0]["others"] = 0.3
    assert "1 of 13 measurements" in study.report(results, {}).findings[0]
    text = "\n".join(report.sections)
    assert "ValueError: no" in text
    assert "100 (90 to 120)" in text


@pytest.mark.parametrize(("at_least", "met"), [(True, False), (False, True)])
def test_target_bounds(at_least, met):
    assert Target("", at_least, 1.0, {"a": 0.5, "b": 0.9}).met is met
    assert Target("", at_least, 1.0, {"a": 0.5, "b": 1.1}).met is False


def test_timed_takes_the_median_after_a_first_call():
    calls = []
    assert measure.timed(lambda: calls.append(1), 0.0) >= 0.0
    assert len(calls) == 2


def test_every_part_of_a_step_is_entered(monkeypatch):
    """What is not timed as the network's would count as skorch's share."""
    entered, wanted = set(), parts_of_step()

    def noted(of, key):
        def call(*args, **kwargs):
            entered.add(key)
            return of(*args, **kwargs)

        return call

    for owner, name in wanted:
        monkeypatch.setattr(owner, name, noted(getattr(owner, name), (owner, name)))
    contender = frames.Contender(tiny_job("mmoe"))
    contender.model.set_params(max_epochs=1).fit(contender.X, contender.Y)
    assert entered == set(wanted)

"""AdaTT, AITM, STEM and ESCM2 at W1's sizes beside plain torch loops: one measurement a process.

``python -m benchmarks.speed.plain MODEL CONTENDER`` writes one JSON object to `--out`. The loops
are what one writes for one model by hand: lists of experts, one table with offsets, rows copied
once per epoch in shuffled order and cut in slices, Adam. Both sides have the same sizes.
"""

import argparse
import contextlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

import sk_mtl
from benchmarks.shared import PLAIN
from benchmarks.speed.clock import Clock, peak_memory
from benchmarks.speed.contenders import NoSuchModel
from benchmarks.speed.measure import said
from benchmarks.speed.workloads import WORKLOADS, Table

W1 = WORKLOADS["w1"]
CONTENDERS = ("sk_mtl", "plain")
TOWERS, LEVELS, N_OWN, N_SHARED = (32, 32), 2, 2, 2
EXPERTS, STREAM, CHAIN = (64, 64), (128, 64), (64, 64)
PENALTY, CLIP, CVR_WEIGHT, CTCVR_WEIGHT = 0.6, 0.1, 0.1, 1.0

SIZES: dict[str, tuple[str, dict[str, Any]]] = {
    "adatt": (
        "AdaTT",
        {"n_levels": LEVELS, "n_task_experts": N_OWN, "n_shared_experts": N_SHARED}
        | {"expert_units": EXPERTS, "tower_units": TOWERS},
    ),
    "aitm": ("AITM", {"bottom_units": STREAM}),
    "stem": (
        "STEM",
        {"n_task_experts": N_OWN, "n_shared_experts": N_SHARED, "gate_units": ()}
        | {"expert_units": EXPERTS, "tower_units": TOWERS},
    ),
    "escm2": ("ESCM2", {"method": "ips", "bottom": None, "tower_units": CHAIN}),
}
"""The class of each model, and its parameters."""


def mlp(width: int, units: tuple[int, ...]) -> nn.Sequential:
    """Return layers that all end in ReLU."""
    layers: list[nn.Module] = []
    for unit in units:
        layers += [nn.Linear(width, unit), nn.ReLU()]
        width = unit
    return nn.Sequential(*layers)


def tower(width: int, units: tuple[int, ...]) -> nn.Sequential:
    return nn.Sequential(mlp(width, units), nn.Linear(units[-1] if units else width, 1))


def logits_of(towers: nn.ModuleList, xs: list[Tensor]) -> Tensor:
    """Return the logits, (B, K), of towers that read a vector each."""
    return torch.cat([one(x) for one, x in zip(towers, xs, strict=True)], dim=1)


def bce(logits: Tensor, target: Tensor) -> Tensor:
    """Return the sum of the tasks' mean losses."""
    return F.binary_cross_entropy_with_logits(logits, target) * target.shape[1]


class AdaTTLevel(nn.Module):
    """One level: each unit's gate over all experts, and its own experts by learned weights."""

    def __init__(self, k: int, width: int, out: int, last: bool) -> None:
        super().__init__()
        self.counts = [N_OWN] * k + [N_SHARED]
        self.experts = nn.ModuleList(mlp(width, (out,)) for _ in range(sum(self.counts)))
        n_units = k if last else k + 1
        n = len(self.experts)
        self.gates = nn.ModuleList(nn.Linear(width, n, bias=False) for _ in range(n_units))
        self.own = nn.ParameterList(
            nn.Parameter(torch.empty(m).uniform_(-(m**-0.5), m**-0.5))
            for m in self.counts[:n_units]
        )

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        found, at = [], 0
        for unit, count in enumerate(self.counts):
            found += [expert(xs[unit]) for expert in self.experts[at : at + count]]
            at += count
        every = torch.stack(found, dim=1)  # (B, E, H)
        outputs, at = [], 0
        for unit, (gate, own) in enumerate(zip(self.gates, self.own, strict=True)):
            mixed = torch.bmm(gate(xs[unit]).softmax(1).unsqueeze(1), every).squeeze(1)
            count = self.counts[unit]
            outputs.append(mixed + torch.einsum("m,bmh->bh", own, every[:, at : at + count]))
            at += count
        return outputs


class AdaTT(nn.Module):
    copies = 1

    def __init__(self, width: int, k: int) -> None:
        super().__init__()
        self.k = k
        inputs = (width, *EXPERTS)
        self.levels = nn.ModuleList(
            AdaTTLevel(k, inputs[level], out, level == LEVELS - 1)
            for level, out in enumerate(EXPERTS)
        )
        self.towers = nn.ModuleList(tower(EXPERTS[-1], TOWERS) for _ in range(k))

    def forward(self, x: Tensor) -> Tensor:
        xs = [x] * (self.k + 1)
        for level in self.levels:
            xs = level(xs)
        return logits_of(self.towers, xs)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return bce(logits, target)


class AITM(nn.Module):
    copies = 1

    def __init__(self, width: int, k: int) -> None:
        super().__init__()
        h = STREAM[-1]
        self.streams = nn.ModuleList(mlp(width, STREAM) for _ in range(k))
        self.transfers = nn.ModuleList(mlp(h, (h,)) for _ in range(k - 1))
        self.first, self.second, self.third = (nn.Linear(h, h, bias=False) for _ in range(3))
        self.towers = nn.ModuleList(nn.Linear(h, 1) for _ in range(k))

    def forward(self, x: Tensor) -> Tensor:
        streams = [stream(x) for stream in self.streams]
        zs = streams[:1]
        for q, transfer in zip(streams[1:], self.transfers, strict=True):
            both = torch.stack([q, transfer(zs[-1])], dim=1)  # (B, 2, H)
            score = (self.first(both) * self.second(both)).sum(2) / both.shape[2] ** 0.5
            zs.append((score.softmax(1).unsqueeze(2) * self.third(both)).sum(1))
        return logits_of(self.towers, zs)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        rates = logits.sigmoid()
        excess = (rates[:, 1:] - rates[:, :-1]).relu().sum(1).mean()
        return bce(logits, target) + PENALTY * excess


class STEM(nn.Module):
    """One level; the last of the embedding's copies is the shared one."""

    def __init__(self, width: int, k: int) -> None:
        super().__init__()
        self.k, self.copies = k, k + 1
        counts = [N_OWN] * k + [N_SHARED]
        self.experts = nn.ModuleList(
            nn.ModuleList(mlp(width, EXPERTS) for _ in range(count)) for count in counts
        )
        self.gates = nn.ModuleList(nn.Linear(width, sum(counts), bias=False) for _ in range(k))
        self.towers = nn.ModuleList(tower(EXPERTS[-1], TOWERS) for _ in range(k))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of embeddings (B, K + 1, D)."""
        xs = x.unbind(1)
        found = [[e(one) for e in experts] for experts, one in zip(self.experts, xs, strict=True)]
        mixed = []
        for task, gate in enumerate(self.gates):
            seen = [
                expert if unit in (task, self.k) else expert.detach()
                for unit, experts in enumerate(found)
                for expert in experts
            ]
            weights = gate(xs[task] + xs[self.k]).softmax(1).unsqueeze(1)
            mixed.append(torch.bmm(weights, torch.stack(seen, dim=1)).squeeze(1))
        return logits_of(self.towers, mixed)

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return bce(logits, target)


class ESCM2(nn.Module):
    """Inverse propensities: towers of click and conversion on the shared embedding."""

    copies = 1

    def __init__(self, width: int, k: int) -> None:
        super().__init__()
        self.towers = nn.ModuleList(tower(width, CHAIN) for _ in range(k))

    def forward(self, x: Tensor) -> Tensor:
        return logits_of(self.towers, [x] * len(self.towers))

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        click, conversion = logits.unbind(1)
        clicked, converted = target.unbind(1)
        both = -torch.logsumexp(torch.stack([-click, -conversion, -click - conversion]), 0)
        of_click = F.binary_cross_entropy_with_logits(click, clicked)
        of_both = F.binary_cross_entropy_with_logits(both, converted)
        error = F.binary_cross_entropy_with_logits(conversion, converted, reduction="none")
        propensity = click.detach().sigmoid().clamp_min(CLIP)
        weighted = (clicked * error / propensity).mean()
        return of_click + CVR_WEIGHT * weighted + CTCVR_WEIGHT * of_both


NETWORKS: dict[str, Callable[[int, int], Any]] = {
    "adatt": AdaTT,
    "aitm": AITM,
    "stem": STEM,
    "escm2": ESCM2,
}


class Network(nn.Module):
    """An embedding, in as many copies as the model reads, and the model."""

    def __init__(self, model: str, n_numeric: int, n_columns: int, table: int, k: int) -> None:
        super().__init__()
        self.body = NETWORKS[model](n_numeric + n_columns * W1.embedding_dim, k)
        self.table = nn.Embedding(table, self.body.copies * W1.embedding_dim)
        nn.init.normal_(self.table.weight, std=0.01)

    def forward(self, numeric: Tensor, rows: Tensor) -> Tensor:
        copies, vectors = self.body.copies, self.table(rows)  # (B, C, copies * d)
        if copies == 1:
            return self.body(torch.cat([numeric, vectors.flatten(1)], dim=1))
        by_copy = vectors.unflatten(2, (copies, -1)).transpose(1, 2).flatten(2)
        repeated = numeric.unsqueeze(1).expand(-1, copies, -1)
        return self.body(torch.cat([repeated, by_copy], dim=2))


class Loop:
    """The plain loop."""

    def __init__(self, model: str, table: Table) -> None:
        torch.manual_seed(0)
        self.labels = nested(model, table)
        offsets = np.concatenate([[0], table.vocabularies[:-1].cumsum()])
        self.parts = (
            torch.from_numpy(table.numeric).float(),
            torch.from_numpy(table.categorical + offsets),
            torch.from_numpy(self.labels).float(),
        )
        sizes = table.numeric.shape[1], table.categorical.shape[1], int(table.vocabularies.sum())
        self.net = Network(model, *sizes, self.labels.shape[1])

    def n_parameters(self) -> int:
        """Return the number of parameters but for the table's."""
        return sum(p.numel() for p in self.net.body.parameters())

    def fit(self, clock: Clock) -> None:
        optimizer = torch.optim.Adam(self.net.parameters(), lr=W1.lr, fused=True)
        while True:
            order = torch.randperm(len(self.labels))
            shuffled = [part[order] for part in self.parts]
            for numeric, rows, target in zip(*(p.split(W1.batch) for p in shuffled), strict=True):
                self.net.body.loss(self.net(numeric, rows), target).backward()
                optimizer.step()
                optimizer.zero_grad()
                clock.tick()


class Estimator:
    """sk_mtl's estimator on a data frame."""

    def __init__(self, model: str, table: Table) -> None:
        name, sizes = SIZES[model]
        if not hasattr(sk_mtl, name):
            raise NoSuchModel(f"sk_mtl has no {name} yet")
        ids = pd.DataFrame(table.categorical).add_prefix("c")
        self.X = pd.concat([ids, pd.DataFrame(table.numeric).add_prefix("x")], axis=1)
        self.Y = pd.DataFrame(nested(model, table)).add_prefix("task")
        common = {
            "categorical_features": list(ids),
            "numeric_features": "passthrough",
            "embedding_dim": W1.embedding_dim,
            "lr": W1.lr,
            "batch_size": W1.batch,
            "max_epochs": 1_000_000,
            "random_state": 0,
        }
        cls = getattr(sk_mtl, name)
        known = {key: value for key, value in sizes.items() if key in cls.__dataclass_fields__}
        self.model = cls(**PLAIN | common | known)

    def n_parameters(self) -> int:
        """Return the number of parameters but for the table's."""
        named = self.model.module_.named_parameters()
        return sum(p.numel() for name, p in named if not name.startswith("embedding."))

    def fit(self, clock: Clock) -> None:
        hook = register_optimizer_step_post_hook(clock.tick)
        try:
            self.model.fit(self.X, self.Y)
        finally:
            hook.remove()


def nested(model: str, table: Table) -> Any:
    """Return labels; for funnels the second implies the first."""
    if model in ("adatt", "stem"):
        return table.labels
    return np.column_stack([table.labels[:, 0], table.labels[:, 0] * table.labels[:, 1]])


def measure(model: str, contender: str, table: Table, seconds: float) -> dict[str, Any]:
    """Return the rows per second of fit and what else the clock and the machine tell."""
    made = (Estimator if contender == "sk_mtl" else Loop)(model, table)
    clock = Clock(len(table.labels), W1.batch, seconds)
    with contextlib.suppress(KeyboardInterrupt):
        made.fit(clock)
    return {
        "fit": clock.rate,
        "first": clock.first,
        "memory": peak_memory(),
        "steps": len(clock.times),
        "parameters": parameters_of(made, model, table),
    }


def parameters_of(made: Any, model: str, table: Table) -> int:
    """Return the number of parameters, after a short fit where the clock has stopped sk_mtl's."""
    if isinstance(made, Estimator) and not hasattr(made.model, "module_"):
        made = Estimator(model, table)
        made.model.set_params(max_epochs=1, batch_size=W1.batch)
        made.model.fit(made.X[:1_000], made.Y[:1_000])
    return made.n_parameters()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=NETWORKS)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("--data", type=Path, required=True, help="folder of the saved table")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    try:
        numbers = measure(args.model, args.contender, Table.load(args.data), args.seconds)
    except Exception as error:
        numbers = {"error": said(error)}
    args.out.write_text(json.dumps(numbers))


if __name__ == "__main__":
    main()

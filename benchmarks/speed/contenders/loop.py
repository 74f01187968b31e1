"""A training loop of the same network in plain torch, as written for one model by hand.

Networks side by side are held as (g, in, n / g * out): the first layer of all that read one input
is one product, later layers are one batched product. All columns share one table with offsets; rows
are copied once per epoch in shuffled order and cut in slices. A table of more than 50,000 rows gets
sparse gradients and an optimizer of its own.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.speed.clock import Clock
from benchmarks.speed.contenders import BULK_BATCH
from benchmarks.speed.workloads import Job, Sizes

SPARSE_ROWS = 50_000


class Networks(nn.Module):
    """``n`` perceptrons over ``g`` inputs, each input read by n / g of them: (g, B, in)."""

    def __init__(self, g: int, n: int, width: int, units: tuple[int, ...]) -> None:
        super().__init__()
        self.n = n
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for index, unit in enumerate(units):
            groups = g if index == 0 else n
            self.weights.append(weights(groups, width, n // groups * unit))
            self.biases.append(nn.Parameter(torch.zeros(groups, 1, n // groups * unit)))
            width = unit
        self.width = width

    def forward(self, x: Tensor) -> Tensor:  # (g, B, in) -> (n, B, out)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            if len(weight) == 1:
                x = torch.addmm(bias[0], x[0], weight[0]).relu()[None]
            else:
                x = torch.baddbmm(bias, x, weight).relu()
            if len(x) < self.n:
                x = x.unflatten(2, (self.n // len(x), -1)).transpose(1, 2).flatten(0, 1)
        return x


def weights(groups: int, width: int, out: int) -> nn.Parameter:
    weight = torch.empty(groups, width, out)
    return nn.Parameter(nn.init.trunc_normal_(weight, std=(2 / width) ** 0.5))


class Gates(nn.Module):
    """``n`` softmax gates over ``g`` inputs: (g, B, in) -> (n, B, E)."""

    def __init__(self, g: int, n: int, width: int, units: tuple[int, ...], n_experts: int) -> None:
        super().__init__()
        self.hidden = Networks(g, n, width, units)
        groups = n if units else g
        self.n = n
        self.scores = weights(groups, self.hidden.width, n // groups * n_experts)

    def forward(self, x: Tensor) -> Tensor:
        x = self.hidden(x)
        scores = (x[0] @ self.scores[0])[None] if len(self.scores) == 1 else x @ self.scores
        if len(scores) < self.n:
            scores = scores.unflatten(2, (self.n, -1)).transpose(1, 2).flatten(0, 1)
        return scores.softmax(-1)


def mix(gates: Tensor, experts: Tensor) -> Tensor:  # (K, B, E), (E, B, H) -> (K, B, H)
    return torch.bmm(gates.transpose(0, 1), experts.transpose(0, 1)).transpose(0, 1)


class MMoE(nn.Module):
    def __init__(self, width: int, k: int, sizes: Sizes) -> None:
        super().__init__()
        self.experts = Networks(1, sizes.n_experts, width, sizes.experts)
        self.gates = Gates(1, k, width, sizes.gates, sizes.n_experts)
        self.width = self.experts.width

    def forward(self, x: Tensor) -> Tensor:  # (1, B, D) -> (K, B, H)
        return mix(self.gates(x), self.experts(x))


class Level(nn.Module):
    """One extraction level over g inputs, 1 or K, and a shared one."""

    def __init__(self, g: int, width: int, k: int, sizes: Sizes, last: bool) -> None:
        super().__init__()
        self.k, self.m, n_shared = k, sizes.n_task_experts, sizes.n_shared_experts
        self.own = Networks(g, k * self.m, width, sizes.experts)
        self.shared = Networks(1, n_shared, width, sizes.experts)
        self.gates = Gates(g, k, width, sizes.gates, self.m + n_shared)
        every = k * self.m + n_shared
        self.shared_gate = None if last else Gates(1, 1, width, sizes.gates, every)
        self.width = self.own.width

    def forward(self, x: Tensor, shared_x: Tensor) -> tuple[Tensor, Tensor | None]:
        own, shared, gates = self.own(x), self.shared(shared_x), self.gates(x)
        by_task = own.unflatten(0, (self.k, self.m)).transpose(1, 2)  # (K, B, m, H)
        tasks = (gates[..., : self.m].unsqueeze(-1) * by_task).sum(2)
        tasks = tasks + mix(gates[..., self.m :], shared)
        if self.shared_gate is None:
            return tasks, None
        return tasks, mix(self.shared_gate(shared_x), torch.cat([own, shared]))


class PLE(nn.Module):
    """Extraction levels in a row; one level is CGC."""

    def __init__(self, width: int, k: int, sizes: Sizes) -> None:
        super().__init__()
        self.levels = nn.ModuleList()
        for index in range(sizes.n_levels):
            last = index == sizes.n_levels - 1
            self.levels.append(Level(k if index else 1, width, k, sizes, last))
            width = self.levels[-1].width
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        shared = x
        for level in self.levels:
            x, shared = level(x, shared)
        return x


class SharedBottom(Networks):
    def __init__(self, width: int, k: int, sizes: Sizes) -> None:
        super().__init__(1, 1, width, sizes.bottom)


BOTTOMS = {"mmoe": MMoE, "cgc": PLE, "ple": PLE, "shared_bottom": SharedBottom}


class Network(nn.Module):
    """Embedding, bottom, towers: numbers (B, F), rows of the table (B, C) -> logits (B, K)."""

    def __init__(
        self, model: str, sizes: Sizes, n_numeric: int, n_columns: int, table: int, dim: int, k: int
    ) -> None:
        super().__init__()
        start = torch.empty(table, dim).normal_(std=0.01)
        self.table = nn.Embedding.from_pretrained(start, freeze=False, sparse=table > SPARSE_ROWS)
        width = n_numeric + n_columns * dim
        self.is_chain = model == "esmm"
        self.bottom = nn.Identity() if self.is_chain else BOTTOMS[model](width, k, sizes)
        width = width if self.is_chain else self.bottom.width
        g = 1 if model in ("esmm", "shared_bottom") else k
        self.towers = Networks(g, k, width, sizes.towers)
        self.out = weights(k, self.towers.width, 1)
        self.out_bias = nn.Parameter(torch.zeros(k, 1, 1))

    def forward(self, numeric: Tensor, rows: Tensor) -> Tensor:
        x = torch.cat([numeric, self.table(rows).flatten(1)], dim=1)
        x = self.towers(self.bottom(x[None]))
        logits = torch.baddbmm(self.out_bias, x, self.out)[..., 0].t()  # (B, K)
        if not self.is_chain:
            return logits
        click, conversion = logits.unbind(1)
        both = -torch.logsumexp(torch.stack([-click, -conversion, -click - conversion]), 0)
        return torch.stack([click, both], dim=1)


class Contender:
    by_epoch = False

    def __init__(self, job: Job) -> None:
        self.job = job

    def tensors(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return rows as numbers, and as rows of the table."""
        table = self.job.table
        offsets = np.concatenate([[0], table.vocabularies[:-1].cumsum()])
        numeric = torch.from_numpy(table.numeric[start:stop]).float()
        return numeric, torch.from_numpy(table.categorical[start:stop] + offsets)

    def network(self) -> Network:
        table, workload = self.job.table, self.job.workload
        return Network(
            self.job.model,
            self.job.sizes,
            table.numeric.shape[1],
            table.categorical.shape[1],
            int(table.vocabularies.sum()),
            workload.embedding_dim,
            table.labels.shape[1],
        )

    def fit(self, clock: Clock) -> None:
        torch.manual_seed(0)
        workload, labels = self.job.workload, self.job.table.labels
        numeric, rows = self.tensors(0, len(labels))
        target = torch.from_numpy(labels).float()
        self.net = net = self.network()
        dense = [p for name, p in net.named_parameters() if name != "table.weight"]
        lr = workload.lr
        if net.table.sparse:
            optimizers = [torch.optim.SparseAdam([net.table.weight], lr=lr)]
        else:
            optimizers, dense = [], [*dense, net.table.weight]
        optimizers.append(torch.optim.Adam(dense, lr=lr, fused=True))
        k = labels.shape[1]
        while True:
            order = torch.randperm(len(labels))
            parts = [part[order] for part in (numeric, rows, target)]
            for batch in zip(*(part.split(workload.batch) for part in parts), strict=True):
                loss = F.binary_cross_entropy_with_logits(net(batch[0], batch[1]), batch[2]) * k
                loss.backward()
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
                clock.tick()

    def inputs(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        return self.tensors(start, stop)

    def predict(self, inputs: tuple[Tensor, Tensor]) -> np.ndarray:
        with torch.inference_mode():
            parts = zip(*(part.split(BULK_BATCH) for part in inputs), strict=True)
            return torch.cat([self.net(*part).sigmoid() for part in parts]).numpy()

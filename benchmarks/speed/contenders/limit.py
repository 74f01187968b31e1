"""The matrix products of a network alone, and one read and one write of the rows it touches.

Every product is timed in several forms, of which the quickest is taken: one batched product or one
product per network, with the operands in order or transposed. Outputs are allocated beforehand.
"""

import math
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.speed.clock import Clock
from benchmarks.speed.contenders import NoSuchModel
from benchmarks.speed.workloads import Job, Sizes

Shape = tuple[int, int, int, int]
"""A batch of products: how many, rows, inner width, columns."""

TRIALS = 5


def stack(g: int, n: int, batch: int, width: int, units: tuple[int, ...]) -> list[Shape]:
    """Return the products of n perceptrons that read g inputs."""
    shapes = []
    for index, unit in enumerate(units):
        groups = g if index == 0 else n
        shapes.append((groups, batch, width, n // groups * unit))
        width = unit
    return shapes


def gates(
    g: int, n: int, batch: int, width: int, units: tuple[int, ...], experts: int
) -> list[Shape]:
    """Return the products of n gates that read g inputs."""
    groups, inner = (n, units[-1]) if units else (g, width)
    scores = (groups, batch, inner, n // groups * experts)
    return [*stack(g, n, batch, width, units), scores]


def level(g: int, batch: int, width: int, k: int, sizes: Sizes, last: bool) -> list[Shape]:
    """Return the products of one extraction level."""
    m, s = sizes.n_task_experts, sizes.n_shared_experts
    out = sizes.experts[-1]
    shapes = [
        *stack(g, k * m, batch, width, sizes.experts),
        *stack(1, s, batch, width, sizes.experts),
        *gates(g, k, batch, width, sizes.gates, m + s),
        (batch * k, 1, m, out),
        (batch, k, s, out),
    ]
    if not last:
        shapes += gates(1, 1, batch, width, sizes.gates, k * m + s)
        shapes.append((batch, 1, k * m + s, out))
    return shapes


def products(job: Job) -> list[Shape]:
    """Return the products of a forward pass over one batch."""
    sizes, batch, table = job.sizes, job.workload.batch, job.table
    k = table.labels.shape[1]
    width = table.numeric.shape[1] + table.categorical.shape[1] * job.workload.embedding_dim
    shapes, g = [], k
    if job.model == "esmm":
        g = 1
    elif job.model == "shared_bottom":
        shapes, width, g = stack(1, 1, batch, width, sizes.bottom), sizes.bottom[-1], 1
    elif job.model == "mmoe":
        shapes += stack(1, sizes.n_experts, batch, width, sizes.experts)
        shapes += gates(1, k, batch, width, sizes.gates, sizes.n_experts)
        width = sizes.experts[-1]
        shapes.append((batch, k, sizes.n_experts, width))
    else:
        for index in range(sizes.n_levels):
            last = index == sizes.n_levels - 1
            shapes += level(k if index else 1, batch, width, k, sizes, last)
            width = sizes.experts[-1]
    shapes += stack(g, k, batch, width, sizes.towers)
    return [*shapes, (k, batch, sizes.towers[-1], 1)]


def quickest(forms: list[Callable[[], None]]) -> Callable[[], None]:
    """Return the form that takes the least time, each at its best of a few trials."""
    best: list[float] = []
    for form in forms:
        form()
        times = []
        for _ in range(TRIALS):
            start = time.perf_counter()
            form()
            times.append(time.perf_counter() - start)
        best.append(min(times))
    return forms[int(np.argmin(best))]


def product(g: int, a: tuple[int, int], b: tuple[int, int]) -> Callable[[], None]:
    """Return the quickest way to multiply g matrices of one shape by g of another."""
    forms: list[Callable[[], None]] = []
    for a_turned in (False, True):
        for b_turned in (False, True):
            left, right = operand(g, a, a_turned), operand(g, b, b_turned)
            out = torch.empty(g, a[0], b[1])
            forms.append(partial(torch.bmm, left, right, out=out))
            if g <= 32:
                forms.append(partial(one_by_one, left, right, out))
    return quickest(forms)


def operand(g: int, shape: tuple[int, int], turned: bool) -> Tensor:
    rows, columns = shape
    return torch.rand(g, columns, rows).mT if turned else torch.rand(g, rows, columns)


def one_by_one(left: Tensor, right: Tensor, out: Tensor) -> None:
    for a, b, c in zip(left, right, out, strict=True):
        torch.mm(a, b, out=c)


class Contender:
    by_epoch = False

    def __init__(self, job: Job) -> None:
        self.job = job

    def fit(self, clock: Clock) -> None:
        self.forward, self.backward = [], []
        for g, rows, inner, columns in products(self.job):
            self.forward.append(product(g, (rows, inner), (inner, columns)))
            self.backward.append(product(g, (rows, columns), (columns, inner)))
            self.backward.append(product(g, (inner, rows), (rows, columns)))
        table, workload = self.job.table, self.job.workload
        size = int(table.vocabularies.sum())
        self.weight = torch.zeros(size, workload.embedding_dim)
        offsets = np.concatenate([[0], table.vocabularies[:-1].cumsum()])
        touched = (table.categorical[: workload.batch] + offsets).ravel()
        self.rows = torch.from_numpy(touched)
        self.read = torch.empty(len(touched), workload.embedding_dim)
        while True:
            self.step()
            clock.tick()

    def step(self) -> None:
        torch.index_select(self.weight, 0, self.rows, out=self.read)
        for call in self.forward:
            call()
        for call in self.backward:
            call()
        self.weight.index_add_(0, self.rows, self.read)

    def inputs(self, start: int, stop: int) -> int:
        if stop - start < self.job.workload.batch:
            raise NoSuchModel("products of one batch only")
        return stop - start

    def predict(self, inputs: int) -> None:
        """Do the products of a forward pass as often as these rows have batches."""
        for _ in range(math.ceil(inputs / self.job.workload.batch)):
            torch.index_select(self.weight, 0, self.rows, out=self.read)
            for call in self.forward:
                call()

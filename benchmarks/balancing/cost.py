"""What a training step with each balancer costs, as a ratio to one with "equal"."""

import time
from statistics import median
from typing import Any, NamedTuple

from skorch.callbacks import Callback

from benchmarks.adult import load, models
from sk_mtl.balancing import BALANCERS, GradientBalancer, GradNormBalancer
from sk_mtl.data import Batch

STEPS, WARM, ROUNDS, BATCH = 6, 1, 31, 256
N_BATCHES, N_TASKS = 24, 2


class Cost(NamedTuple):
    """Milliseconds per step, and each round's ratio to "equal"."""

    milliseconds: float
    ratios: list[float]

    @property
    def ratio(self) -> float:
        return median(self.ratios)


class Batches(Callback):
    """Keep the batches that a net trains on, prepared for it; no label of the study is missing."""

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.batches_: list[Batch] = []

    def on_batch_begin(self, net: Any, batch: Any = None, **kwargs: Any) -> None:
        self.batches_.append(Batch(*batch, None))


def said(rounds: int) -> str:
    """Say what is measured, and how."""
    return (
        f"MMoE and the train file of the study adult (8 experts (64, 64), gates (32, 32), towers "
        f"(32, 32), embeddings of width 16), batch {BATCH}, 1 thread. The time of the net's "
        "train_step on a prepared batch: forward, backward, optimizer and what the balancer does. "
        f"In each of {rounds} rounds every balancer takes {STEPS} steps next to {STEPS} of equal "
        f"on the same batches, before them and after them in turn, the first {WARM} not counted; "
        "ratios of the two medians. Each has a partner of its own with equal, which has done as "
        "many steps. The row of equal is equal beside itself."
    )


def target(name: str) -> float:
    """Return the ratio that a balancer may have: K + 1 where it reads gradients."""
    reads = isinstance(BALANCERS[name](), GradientBalancer | GradNormBalancer)
    return N_TASKS + 1 if reads else 1.1


def costs(rounds: int = ROUNDS) -> dict[str, Cost]:
    """Return the cost of every balancer, "equal" beside itself included."""
    X, Y = load()
    X, Y = X[: N_BATCHES * BATCH], Y[: N_BATCHES * BATCH]

    def trained(balancer: str) -> Any:
        model = models(0)["MMoE"].set_params(balancer=balancer, max_epochs=1, callbacks=[Batches()])
        net = model.fit(X, Y).net_
        net.module_.train()
        return net

    # One partner for all would do thousands of steps on these few rows: Adam's moments become
    # subnormal numbers, which are slow, and all ratios too low.
    pairs = {name: (trained(name), trained("equal")) for name in BALANCERS}
    batches = next(c for _, c in pairs["equal"][0].callbacks_ if isinstance(c, Batches)).batches_
    times: dict[str, list[float]] = {name: [] for name in pairs}
    ratios: dict[str, list[float]] = {name: [] for name in pairs}
    for turn in range(rounds):
        start = turn * STEPS % N_BATCHES
        some = batches[start : start + STEPS]
        for name, (net, equal) in pairs.items():
            if turn % 2:
                own, base = step(net, some), step(equal, some)
            else:
                base, own = step(equal, some), step(net, some)
            times[name].append(own)
            ratios[name].append(own / base)
    return {name: Cost(1e3 * median(times[name]), ratios[name]) for name in pairs}


def step(net: Any, batches: list[Batch]) -> float:
    """Return the median time of a step over some batches, in seconds."""
    times = []
    for batch in batches:
        start = time.perf_counter()
        net.train_step(batch)
        times.append(time.perf_counter() - start)
    return median(times[WARM:])

"""What a training step with each balancer costs, as a ratio to one with "equal"."""

import time
from statistics import median
from typing import Any, NamedTuple

from skorch.callbacks import Callback

from benchmarks.adult import load, models
from sk_mtl.balancing import BALANCERS, GradientBalancer, GradNormBalancer

STEPS, WARM, ROUNDS, BATCH = 24, 4, 7, 256
N_TASKS = 2


class Cost(NamedTuple):
    """Milliseconds per step, and each round's ratio to "equal"."""

    milliseconds: float
    ratios: list[float]

    @property
    def ratio(self) -> float:
        return median(self.ratios)


class Stopwatch(Callback):
    """Take the time of each training step, batches' preparation left out."""

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.seconds_: list[float] = []

    def on_batch_begin(self, net: Any, **kwargs: Any) -> None:
        self.start_ = time.perf_counter()

    def on_batch_end(self, net: Any, **kwargs: Any) -> None:
        self.seconds_.append(time.perf_counter() - self.start_)


def said(rounds: int) -> str:
    """Say what is measured, and how."""
    return (
        f"MMoE and the train file of the study adult (8 experts (64, 64), gates (32, 32), towers "
        f"(32, 32), embeddings of width 16), batch {BATCH}, 1 thread. Time from a batch's begin to "
        "its end in skorch's hooks: forward, backward, optimizer and what the balancer does. In "
        f"each of {rounds} rounds every balancer takes {STEPS} steps next to {STEPS} of equal, "
        f"before them and after them in turn; medians without the first {WARM} steps. The row of "
        "equal is equal beside itself."
    )


def target(name: str) -> float:
    """Return the ratio that a balancer may have: K + 1 where it reads gradients."""
    reads = isinstance(BALANCERS[name](), GradientBalancer | GradNormBalancer)
    return N_TASKS + 1 if reads else 1.1


def costs(rounds: int = ROUNDS) -> dict[str, Cost]:
    """Return the cost of every balancer, "equal" beside itself included."""
    X, Y = load()
    X, Y = X[: STEPS * BATCH], Y[: STEPS * BATCH]

    def new(balancer: str) -> Any:
        return models(0)["MMoE"].set_params(balancer=balancer, callbacks=[Stopwatch()])

    def step(model: Any) -> float:
        watch = next(
            callback
            for _, callback in model.partial_fit(X, Y).net_.callbacks_
            if isinstance(callback, Stopwatch)
        )
        return median(watch.seconds_[WARM:])

    others, equal = {name: new(name) for name in BALANCERS}, new("equal")
    times: dict[str, list[float]] = {name: [] for name in others}
    ratios: dict[str, list[float]] = {name: [] for name in others}
    for turn in range(rounds):
        for name, model in others.items():
            if turn % 2:
                own, base = step(model), step(equal)
            else:
                base, own = step(equal), step(model)
            times[name].append(own)
            ratios[name].append(own / base)
    return {name: Cost(1e3 * median(times[name]), ratios[name]) for name in others}

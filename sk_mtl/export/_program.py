"""The network with its links as one torch module, and as a `torch.export` program."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sk_mtl._views import find_multi_task
from sk_mtl.categorical import Bag
from sk_mtl.data import CategoryEncoder, NumberEncoder
from sk_mtl.nn import MultiTaskModule
from sk_mtl.tasks import Task, mean_blocks

N_EXAMPLE = 5
"""Rows that are traced: any number but 0 and 1, which torch takes for constants."""


class TaskNetwork(nn.Module):
    """A network whose outputs are what `predict_proba` and `predict` give.

    Parameters
    ----------
    network : MultiTaskModule
        Parts -> logits of all members.
    tasks : sequence of Task
        The tasks, fitted.

    Notes
    -----
    Shape: numbers (B, F) and codes (B, C) -> for each task (B, n_classes) probabilities or
    (B, 1) values, in float64, the mean over the members.
    """

    def __init__(self, network: MultiTaskModule, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.network, self.tasks = network, tuple(tasks)

    def forward(self, numeric: Tensor, categorical: Tensor) -> dict[str, Tensor]:
        """Return each task's probabilities or values by its name."""
        # In float64, as `predict_proba` has them.
        logits = self.network(numeric, categorical).to(torch.float64)
        blocks = mean_blocks(self.tasks, logits)
        # Detached, so that what a program returns is free of gradients wherever it runs.
        return {t.name: block.detach() for t, block in zip(self.tasks, blocks, strict=True)}


def find_fitted(estimator: Any) -> Any:
    """Return an estimator if it is a fitted one of sk_mtl.

    Raises
    ------
    TypeError
        If it is of another kind.
    NotFittedError
        If it is not fitted.
    """
    if not hasattr(type(estimator), "task_view"):
        held = ""
        try:
            found = type(find_multi_task(estimator)).__name__
            held = f" It holds a {found}: pass that."
        except TypeError:
            pass
        raise TypeError(f"{type(estimator).__name__} is no sk_mtl estimator.{held}")
    check_is_fitted(estimator)
    return estimator


def check_parts(estimator: Any, what: str) -> tuple[NumberEncoder, CategoryEncoder]:
    """Return the encoders of an estimator's columns, or say what cannot leave Python.

    Raises
    ------
    ValueError
        If a column is a bag of categories, or a part is of another kind than numbers and codes.
    """
    encoders = {type(one): one for one in estimator._fitted_.encoder.encoders}
    if set(encoders) != {NumberEncoder, CategoryEncoder}:
        kinds = " and ".join(kind.__name__ for kind in encoders)
        raise ValueError(
            f"{what} takes columns of NumberEncoder and CategoryEncoder, and "
            f"{type(estimator).__name__} has {kinds}; export `module_` yourself, with what "
            "`encoder_.transform` gives."
        )
    numbers, categories = encoders[NumberEncoder], encoders[CategoryEncoder]
    assert isinstance(numbers, NumberEncoder)
    assert isinstance(categories, CategoryEncoder)
    for name, pooling in zip(categories.names_, categories.poolings_, strict=True):
        if pooling is not None:
            raise ValueError(
                f"Column {name!r} is a {Bag.__name__}: {what} takes one category in a cell. Leave "
                "the column out and fit anew, or make a column of each category."
            )
    return numbers, categories


def to_torch_program(estimator: Any) -> "torch.export.ExportedProgram":
    """Export a fitted network with `torch.export`, for batches of any size.

    Parameters
    ----------
    estimator : estimator
        A fitted sk_mtl estimator.

    Returns
    -------
    torch.export.ExportedProgram
        It takes what ``estimator.encoder_.transform(X)`` gives, as tensors: ``numeric``, (n, F)
        float64, and ``categorical``, (n, C) int64, on the device of ``module_``. It returns a dict
        of task name to tensor of float64: (n, n_classes) probabilities, as `predict_task_proba`
        has them, or (n, 1) values; the mean over the members. `torch.export.save` writes it,
        ``.module()`` runs it, and ``torch._inductor.aoti_compile_and_package`` compiles it.

    Raises
    ------
    TypeError
        If `estimator` is none of sk_mtl's.
    ValueError
        If a column is a `sk_mtl.categorical.Bag`, or is of a kind of feature of one's own.

    Examples
    --------
    >>> import torch
    >>> from sk_mtl import MMoE
    >>> from sk_mtl.datasets import make_census_like
    >>> from sk_mtl.export import to_torch_program
    >>> X, Y = make_census_like(300, random_state=0)
    >>> model = MMoE(max_epochs=1, random_state=0).fit(X, Y)
    >>> run = to_torch_program(model).module()
    >>> parts = {k: torch.from_numpy(v) for k, v in model.encoder_.transform(X[:7]).items()}
    >>> {name: tuple(block.shape) for name, block in run(**parts).items()}
    {'high_income': (7, 2), 'married': (7, 2), 'log_wage': (7, 1)}
    """
    estimator = find_fitted(estimator)
    check_parts(estimator, "to_torch_program")
    network = TaskNetwork(estimator.module_, estimator.tasks_)
    with in_evaluation(network):
        parts = example(estimator, next(network.parameters()).device)
        return torch.export.export(network, (), parts, dynamic_shapes=any_batch(parts))


def example(estimator: Any, device: Any = "cpu") -> dict[str, Tensor]:
    """Return some rows as a network takes them."""
    numbers, categories = check_parts(estimator, "an export")
    n_numbers, n_codes = len(numbers.columns_), len(categories.columns_)
    return {
        NumberEncoder.part: torch.zeros(N_EXAMPLE, n_numbers, dtype=torch.float64, device=device),
        CategoryEncoder.part: torch.zeros(N_EXAMPLE, n_codes, dtype=torch.int64, device=device),
    }


def any_batch(parts: Mapping[str, Tensor]) -> dict[str, dict[int, Any]]:
    """Return shapes whose number of rows is free, the same for all parts."""
    n = torch.export.Dim("n")
    return {name: {0: n} for name in parts}


@contextmanager
def in_evaluation(network: TaskNetwork) -> Iterator[None]:
    """Take a network as it predicts, and leave its mode as it was."""
    was_training = network.network.training
    network.eval()
    try:
        yield
    finally:
        network.network.train(was_training)


def on_cpu(estimator: Any) -> TaskNetwork:
    """Return the network with its links on the CPU, a copy if it is elsewhere."""
    module = estimator.module_
    if any(p.device.type != "cpu" for p in module.parameters()):
        module = copy.deepcopy(module).to("cpu")
    return TaskNetwork(module, estimator.tasks_)

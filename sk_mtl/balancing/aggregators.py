"""Aggregators of the package TorchJD: gradients combined so that they do not conflict."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from sk_mtl.balancing._checks import check_choice, check_per_task
from sk_mtl.balancing.base import own_generator
from sk_mtl.balancing.gradients import GradientBalancer

AGGREGATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "upgrad": ("UPGrad", {}),
    "mgda": ("MGDA", {}),
    "pcgrad": ("PCGrad", {}),
    "cagrad": ("CAGrad", {"c": 0.4}),
    "nash_mtl": ("NashMTL", {}),
    "aligned_mtl": ("AlignedMTL", {}),
    "imtl_g": ("IMTLG", {}),
    "dualproj": ("DualProj", {}),
    "config": ("ConFIG", {}),
    "graddrop": ("GradDrop", {}),
}
"""Aggregators by name: TorchJD's class, and options it has no default for."""

PER_TASK = ("pref_vector", "leak")
"""Options and attributes of aggregators that hold one number per task."""

NOT_HOMOGENEOUS = "NashMTL"
"""The one named aggregator that does not scale with the gradients."""


class TorchJDBalancer(GradientBalancer):
    r"""Combine the tasks' gradients by an aggregator of the package TorchJD.

    The rows of a matrix :math:`J` are the gradients of the task losses in what the tasks share;
    the aggregator makes one vector of them. Needs ``pip install "sk_mtl[torchjd]"``.

    =============  =========================================================== ===============
    aggregator     method                                                      equal gradients
    =============  =========================================================== ===============
    "upgrad"       each gradient projected onto the dual cone, then the mean   mean
                   (Quinton & Rey, arXiv 2406.16232)
    "mgda"         shortest vector of the convex hull (Désidéri 2012; Sener &  mean
                   Koltun, NeurIPS 2018)
    "pcgrad"       conflicting parts projected out, then the sum (Yu et al.,   sum
                   NeurIPS 2020)
    "cagrad"       largest worst improvement near the mean (Liu et al.,        (1 + c) mean
                   NeurIPS 2021); ``c`` is 0.4
    "nash_mtl"     Nash bargaining, norm of at most 1 (Navon et al., ICML      of length 1
                   2022)
    "aligned_mtl"  principal components of equal size (Senushkin et al., CVPR  mean
                   2023)
    "imtl_g"       equal projections onto all gradients (Liu et al., ICLR      mean
                   2021)
    "dualproj"     the mean projected onto the dual cone (Lopez-Paz &          mean
                   Ranzato, NeurIPS 2017)
    "config"       equal angles to all gradients (Liu et al., ICLR 2025)       sum
    "graddrop"     one sign for each entry, drawn at random (Chen et al.,      sum
                   NeurIPS 2020)
    =============  =========================================================== ===============

    The last column is the length that equal gradients lead to. Each method keeps its own: where it
    is the mean, shared parameters move by 1/K of what towers do, which get the plain sum.

    Parameters
    ----------
    aggregator : str or torchjd.aggregation.Aggregator, default="upgrad"
        A name of the table, or an aggregator, which is used as it is. "upgrad" and "dualproj"
        need the packages quadprog and qpsolvers (with the extra), "cagrad" and "nash_mtl" cvxpy
        and a solver.
    on : {"auto", "features", "parameters"}, default="auto"
        Where gradients are compared: at the one representation that all tasks share, which costs
        little more than plain training, or at the shared parameters, a backward pass for each
        task. "auto" takes the representation where there is one (SharedBottom, ESMM).
    options : dict, default=None
        Keyword arguments of the aggregator that `aggregator` names, as ``{"c": 0.2}``. For
        "pref_vector" and "leak" a list or a dict by task name.

    Notes
    -----
    The aggregator sees the tasks that have labels in the batch; a single one is left as it is.

    NOTE[DIFF]: gradients are divided by the norm of :math:`J` before an aggregator of the table
    that scales with them, and multiplied by it after. TorchJD's solvers take matrices of a squared
    norm below 1e-4 for zero, which mean losses of large batches are at their features, and then
    return the mean ("upgrad", "dualproj") or zero ("cagrad").

    Examples
    --------
    >>> import torch
    >>> from sk_mtl.balancing import Step
    >>> balancer = TorchJDBalancer("pcgrad")
    >>> balancer.setup(["click", "buy"], [False, False])
    >>> w = torch.nn.Parameter(torch.zeros(2))
    >>> losses = torch.stack([1 + w[0], 1 + w[1] - w[0]])
    >>> balancer.backward(losses, Step([w], [])).item()
    2.0
    >>> w.grad
    tensor([0.5000, 1.5000])
    """

    generator: torch.Generator
    aggregator: Any
    rule: Any

    def __init__(
        self, aggregator: Any = "upgrad", on: str = "auto", options: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        # Past nn.Module's __setattr__, which would take an aggregator for a part of this module
        # and then refuse a name in its place.
        vars(self)["aggregator"] = aggregator
        self.on, self.options = on, options

    def begin(self, generator: torch.Generator | None) -> None:
        """Build the aggregator."""
        super().begin(generator)
        self.generator = own_generator(generator)
        self.rule, self.scale_free = self._make_rule()
        self.vectors = {
            name: vector
            for name in PER_TASK
            if (vector := getattr(self.rule, name, None)) is not None
        }
        for name, vector in self.vectors.items():
            if len(vector) != len(self.names):
                raise ValueError(
                    f"`balancer__aggregator` has a {name} of {len(vector)} entries and y has "
                    f"{len(self.names)} tasks: {list(self.names)}."
                )

    def _make_rule(self) -> tuple[Any, bool]:
        """Return a new aggregator, and whether it may be given scaled gradients."""
        aggregation = _import_torchjd(self.aggregator)
        known = {getattr(aggregation, name) for name, _ in AGGREGATORS.values()}
        known.remove(getattr(aggregation, NOT_HOMOGENEOUS))
        if not isinstance(self.aggregator, str):
            if not isinstance(self.aggregator, aggregation.Aggregator):
                raise ValueError(
                    f"`balancer__aggregator` is {self.aggregator!r}; pass one of "
                    f"{list(AGGREGATORS)} or an instance of torchjd.aggregation.Aggregator."
                )
            if self.options:
                raise ValueError(
                    f"`balancer__options` is {self.options!r}, which is for aggregators given by "
                    "name; set them on the instance."
                )
            rule = deepcopy(self.aggregator)
            return rule, type(rule) in known
        check_choice("aggregator", self.aggregator, list(AGGREGATORS))
        name, defaults = AGGREGATORS[self.aggregator]
        rule = self._build(getattr(aggregation, name), {**defaults, **(self.options or {})})
        return rule, type(rule) in known

    def _build(self, cls: Any, options: dict[str, Any]) -> Any:
        for name in PER_TASK:
            if options.get(name) is not None:
                values = check_per_task(f"options[{name!r}]", options[name], self.names)
                options[name] = torch.tensor(values)
        if cls.__name__ == "NashMTL":
            options["n_tasks"] = len(self.names)
        try:
            return cls(**options)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"`balancer__options` is {self.options!r}, which {cls.__name__} does not take: "
                f"{error}"
            ) from error
        except ImportError as error:
            raise ImportError(
                f"The aggregator {self.aggregator!r} needs further packages. {error}"
            ) from error

    def combine(self, rows: Sequence[Tensor], present: Sequence[int]) -> Sequence[Tensor]:
        """Aggregate the tasks' gradients as rows of one matrix."""
        matrix = torch.cat(list(rows), dim=1)
        norm = torch.linalg.matrix_norm(matrix)
        if not norm.isfinite():  # then the net will stop; a solver would fail obscurely before
            return [g.sum(0) for g in rows]
        scale = norm.clamp(min=torch.finfo(norm.dtype).tiny) if self.scale_free else 1.0
        self._fit_rule(present, matrix)
        with private_draws(self.generator, matrix.device), warnings.catch_warnings():
            # Of NashMTL's solver: nothing that a user could change.
            warnings.filterwarnings("ignore", "You are solving a parameterized|Solution may be in")
            vector = self.rule(matrix / scale) * scale
        return vector.split([g.shape[1] for g in rows])

    def _fit_rule(self, present: Sequence[int], matrix: Tensor) -> None:
        """Tell an aggregator that knows the tasks which of them there are in the batch."""
        for name, vector in self.vectors.items():
            setattr(self.rule, name, vector[list(present)].to(matrix))
        if getattr(self.rule, "n_tasks", len(present)) != len(present):
            self.rule.n_tasks = len(present)
            self.rule.reset()


def _import_torchjd(aggregator: Any) -> Any:
    try:
        import torchjd.aggregation
    except ImportError as error:
        raise ImportError(
            f'The balancer {aggregator!r} needs the package torchjd: pip install "sk_mtl[torchjd]".'
        ) from error
    return torchjd.aggregation


@contextmanager
def private_draws(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Let code that draws from torch's global generators draw from another one.

    Parameters
    ----------
    generator : torch.Generator
        Source of the random numbers.
    device : torch.device
        Where the code draws some, beside the CPU.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    elsewhere = device.type != "cpu"
    kind = device.type if elsewhere else "cuda"
    with torch.random.fork_rng(devices=[device] if elsewhere else [], device_type=kind):
        # Not torch.manual_seed: it would also seed a GPU that is not in use yet, and for good.
        torch.default_generator.manual_seed(seed)
        if elsewhere:
            getattr(torch, kind).manual_seed(seed)
        yield

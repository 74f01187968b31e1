"""Aggregators of the package TorchJD: gradients combined so that they do not conflict."""

import warnings
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sk_mtl._checks import check_choice, numbers_per_task
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
        self.rules: dict[tuple[int, ...], Any] = {}
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
        check_choice("balancer__aggregator", self.aggregator, list(AGGREGATORS))
        name, defaults = AGGREGATORS[self.aggregator]
        rule = self._build(getattr(aggregation, name), {**defaults, **(self.options or {})})
        return rule, type(rule) in known

    def _build(self, cls: Any, options: dict[str, Any]) -> Any:
        for name in PER_TASK:
            if options.get(name) is not None:
                values = numbers_per_task(f"balancer__options[{name!r}]", options[name], self.names)
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
        if hasattr(self.rule, "n_tasks"):  # NashMTL divides by the length of each gradient
            moving = (matrix != 0).any(1).nonzero().flatten().tolist()
            if not moving:
                return [g.sum(0) for g in rows]
            present, matrix = [present[k] for k in moving], matrix[moving]
        norm = torch.linalg.matrix_norm(matrix)
        if not norm.isfinite():  # then the net will stop; a solver would fail obscurely before
            return [g.sum(0) for g in rows]
        scale = norm.clamp(min=torch.finfo(norm.dtype).tiny) if self.scale_free else 1.0
        with OwnDraws(self.generator), warnings.catch_warnings():
            # NashMTL's solver warns of what no user could change.
            warnings.filterwarnings("ignore", "You are solving a parameterized|Solution may be in")
            vector = self._rule_for(present, matrix)(matrix / scale) * scale
        return vector.split([g.shape[1] for g in rows])

    def _rule_for(self, present: Sequence[int], matrix: Tensor) -> Any:
        """Return the aggregator for the tasks that a batch has.

        One that remembers steps is kept once for each set of tasks: a task that is absent from a
        batch does not move what is known of all of them.
        """
        tasks = tuple(present)
        if tasks not in self.rules:
            rule = deepcopy(self.rule)
            if getattr(rule, "n_tasks", len(tasks)) != len(tasks):
                rule.n_tasks = len(tasks)
                rule.reset()
            self.rules[tasks] = rule
        rule = self.rules[tasks]
        for name, vector in self.vectors.items():
            setattr(rule, name, vector[list(tasks)].to(matrix))
        return rule

    def get_state(self) -> dict[str, Any]:
        """Return copies of what the aggregators remember, and the generator's state."""
        rules = {tasks: remembered(rule) for tasks, rule in self.rules.items()}
        return {"generator": self.generator.get_state(), "rules": rules}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over what `get_state` returned."""
        self.generator.set_state(state["generator"].cpu())
        self.rules = {tasks: deepcopy(self.rules.get(tasks, self.rule)) for tasks in state["rules"]}
        for tasks, found in state["rules"].items():
            remember(self.rules[tasks], found, len(tasks))


def remembered(rule: Any) -> dict[str, dict[str, Any]]:
    """Return the numbers and arrays among the attributes of an aggregator and its parts."""
    kinds = (Tensor, int, float, str, tuple, type(None))
    return {
        path: {
            name: deepcopy(value)
            for name, value in vars(part).items()
            if isinstance(value, kinds) or hasattr(value, "dtype")
        }
        for path, part in rule.named_modules()
    }


def remember(rule: Any, found: dict[str, dict[str, Any]], n_tasks: int) -> None:
    """Give an aggregator what `remembered` returned."""
    if getattr(rule, "n_tasks", n_tasks) != n_tasks:
        rule.n_tasks = n_tasks
        rule.reset()
    for path, values in found.items():
        part = rule.get_submodule(path)
        vars(part).update({name: deepcopy(value) for name, value in values.items()})
        # NashMTL poses its problem at step 0; to one that is past it the problem must be given.
        if values.get("step") and not hasattr(part, "prob"):
            part._init_optim_problem()


def _import_torchjd(aggregator: Any) -> Any:
    try:
        import torchjd.aggregation
    except ImportError as error:
        raise ImportError(
            f'The balancer {aggregator!r} needs the package torchjd: pip install "sk_mtl[torchjd]".'
        ) from error
    return torchjd.aggregation


class OwnDraws(TorchFunctionMode):
    """Let random functions of torch draw from one generator while the block runs.

    They do so in this thread only, and no global generator moves.

    Parameters
    ----------
    generator : torch.Generator
        Source of the random numbers, on the CPU.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function of torch, a random one with the generator."""
        kwargs = dict(kwargs or {})
        if func not in DRAWS or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        device = kwargs.pop("device", None)
        drawn = func(*args, **kwargs, generator=self.generator)
        return drawn if device is None else drawn.to(device)


DRAWS = (torch.rand, torch.randn, torch.randint, torch.randperm)
"""The functions that TorchJD's aggregators draw by."""

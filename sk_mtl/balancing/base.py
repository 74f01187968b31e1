"""The contract of a balancer."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn


class Partners(Protocol):
    """Other processes that train the same network, each on a share of every batch.

    A balancer gets losses whose values are those of the whole batch, the same bits in every
    process, and whose gradients are those of the own share: added up over the processes they are
    the whole batch's. Gradients that are left in ``.grad`` are added up after the balancer. One
    that looks at gradients must add them up before, by these methods. All processes must call them
    in the same order.
    """

    def sum_all(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Add up tensors over all processes.

        Parameters
        ----------
        tensors : sequence of Tensor
            Of any shapes, the same in every process, and of one dtype.

        Returns
        -------
        list of Tensor
            New tensors, the same bits in every process.
        """

    def join_slots(self, slots: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the entries of sparse gradients of all processes one after another.

        Parameters
        ----------
        slots : Tensor of shape (n,)
            The slots of the own entries, in any number.
        values : Tensor of shape (n, ...)
            Their values.
        """

    def join_rows(self, values: Tensor) -> Tensor:
        """Return the values of all rows of the batch: (own rows, ...) -> (all rows, ...)."""

    def own_rows(self, values: Tensor, like: Tensor) -> Tensor:
        """Return the own rows among the values of all: (all rows, ...) -> the shape of `like`."""

    def leave(self, parameters: Sequence[nn.Parameter]) -> None:
        """Say that the gradients of parameters will not have to be added up in this step."""


@dataclass(frozen=True)
class Step:
    """What a balancer may use of one training step, beside the losses.

    Parameters
    ----------
    shared : sequence of nn.Parameter
        Parameters that two or more tasks move; embedding tables may have sparse gradients.
    own : sequence of nn.Parameter
        The network's other parameters: towers, a task's own gates and experts.
    features : Tensor of shape (B, K, H) or None
        The bottom's output where it is one representation for all tasks: its K slices are equal,
        and all shared parameters lie before it.
    present : Tensor of shape (K,) of bool, or None
        Which losses the batch says something of: those with a label in it. None: all.
    penalty : Tensor or None
        The network's own penalty, a scalar whose gradient is to be added as it is. Given only to
        balancers that say `takes_penalty`; for others it has been added already.
    partners : Partners or None
        Other processes that train the same network. None: there are none.
    """

    shared: Sequence[nn.Parameter]
    own: Sequence[nn.Parameter]
    features: Tensor | None = None
    present: Tensor | None = None
    penalty: Tensor | None = None
    partners: Partners | None = None


class LossBalancer(nn.Module, ABC):
    """Turn the vector of task losses into gradients.

    A method that weighs losses overrides `forward`; one that works on gradients overrides
    `backward` (see `GradientBalancer`). A `forward` that does not care which tasks are absent may
    take the losses alone. Constructors store their parameters, as scikit-learn's
    do; `begin` validates them and creates what is to be trained or remembered. An instance is
    copied at `fit`, so one instance may serve several estimators.

    Attributes
    ----------
    step_hook : bool
        Whether `after_step` is to be called.
    needs_positive : bool
        Whether the method compares losses, so that none may be below zero.
    takes_penalty : bool
        Whether `backward` adds the gradient of the step's penalty. A class that overrides
        `backward` says so itself; else it does not.
    weights : Tensor of shape (K,) or None
        Weight of each task in the last step, NaN where a task had no label in it (`EqualBalancer`
        says one).

    Notes
    -----
    The losses of a step are unbiased estimates of the tasks' mean losses over all rows to train
    on. A task without a label in the batch is absent: its loss is zero, no method lets it count,
    and it leaves what a method remembers of the task as it is.
    """

    step_hook: ClassVar[bool] = False
    needs_positive: ClassVar[bool] = True
    takes_penalty: ClassVar[bool] = True
    weights: Tensor | None = None
    names: tuple[str, ...]
    regression: tuple[bool, ...]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "backward" in vars(cls) and "takes_penalty" not in vars(cls):
            cls.takes_penalty = False

    def __init__(self) -> None:
        super().__init__()

    @classmethod
    def _parameter_names(cls) -> list[str]:
        return list(inspect.signature(cls).parameters)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's parameters.

        Parameters
        ----------
        deep : bool, default=True
            Whether to add the parameters of parameters that have some.
        """
        found = {name: getattr(self, name) for name in self._parameter_names()}
        if deep:
            for name, value in list(found.items()):
                if hasattr(value, "get_params"):
                    inner = value.get_params().items()
                    found.update((f"{name}__{key}", entry) for key, entry in inner)
        return found

    def set_params(self, **params: Any) -> Self:
        """Set parameters of the constructor; they count from the next `setup`.

        Parameters
        ----------
        **params
            Values by name.
        """
        known = self._parameter_names()
        for name, value in params.items():
            if name not in known:
                raise ValueError(
                    f"{type(self).__name__} has no parameter {name!r}; it has {known}."
                )
            # Past nn.Module's __setattr__, which would take a parameter that is a module for a
            # part of this one.
            vars(self)[name] = value
        return self

    def __repr__(self) -> str:
        params = ", ".join(f"{key}={value!r}" for key, value in self.get_params(False).items())
        return f"{type(self).__name__}({params})"

    def setup(
        self,
        names: Sequence[str],
        regression: Sequence[bool],
        generator: torch.Generator | None = None,
    ) -> None:
        """Get ready to train: check the parameters, create state.

        Parameters
        ----------
        names : sequence of str
            Names of the K tasks.
        regression : sequence of bool
            Whether each task is a regression.
        generator : torch.Generator, optional
            Source of random numbers. Only methods that draw some read it.

        Raises
        ------
        ValueError
            If a parameter is not valid.
        """
        self.names, self.regression = tuple(names), tuple(regression)
        self.weights = None
        self._takes_present = "present" in inspect.signature(self.forward).parameters
        self.begin(generator)

    def begin(self, generator: torch.Generator | None) -> None:
        """Check the parameters and create state: a method's own part of `setup`.

        Parameters
        ----------
        generator : torch.Generator or None
            As in `setup`; ``names`` and ``regression`` are attributes by now.
        """

    @abstractmethod
    def forward(self, losses: Tensor, present: Tensor | None = None) -> Tensor:
        """Reduce the task losses.

        Parameters
        ----------
        losses : Tensor of shape (K,)
            The task losses, times `loss_weights`; zero where absent.
        present : Tensor of shape (K,) of bool, optional
            Which tasks have labels in the batch; None: all.

        Returns
        -------
        Tensor
            A scalar.
        """

    _takes_present = True

    def reduce(self, losses: Tensor, present: Tensor | None) -> Tensor:
        """Call `forward` with what it takes."""
        if present is None or not self._takes_present:
            return self(losses)
        return self(losses, present)

    def backward(self, losses: Tensor, step: Step) -> Tensor:
        """Accumulate gradients into ``.grad`` and return the reduced loss.

        Parameters
        ----------
        losses : Tensor of shape (K,)
            The task losses, times `loss_weights`.
        step : Step
            Parameters and features that the losses come from.

        Returns
        -------
        Tensor
            A detached scalar, what the step reduced.
        """
        leaf = losses.detach().requires_grad_()
        loss = self.reduce(leaf, step.present)
        loss.backward()
        weights = leaf.grad
        assert weights is not None
        if step.present is None:
            self.weights = weights
        else:
            self.weights = weights.where(step.present, torch.nan)
            weights = weights.where(step.present, 0.0)
        if step.penalty is None:
            losses.backward(weights)
        else:  # one way back through the network for both
            torch.autograd.backward([losses, step.penalty], [weights, None])
        return loss.detach()

    def after_step(self, losses: Tensor) -> None:
        """Take note of what the optimizer's step did; called only if `step_hook` is true.

        Parameters
        ----------
        losses : Tensor of shape (K,)
            The losses of the same batch after the step.
        """

    def end_epoch(self, losses: Tensor) -> None:
        """Take note of an epoch's end.

        Parameters
        ----------
        losses : Tensor of shape (K,)
            The epoch's mean training losses in float64, NaN for a task without a label in it.
        """

    def get_state(self) -> dict[str, Any]:
        """Return copies of what the method remembers: tensors, numbers, strings, tuples.

        Parameters that the optimizer moves are not among them.
        """
        given = {*self._parameter_names(), "training"}
        plain = {
            name: _copied(value)
            for name, value in vars(self).items()
            if not name.startswith("_") and name not in given
        }
        buffers = {}
        for path, part in self.named_modules():
            for name, tensor in part._buffers.items():
                key = f"{path}.{name}" if path else name
                buffers[key] = None if tensor is None else tensor.detach().clone()
        return {"plain": plain, "buffers": buffers}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over what `get_state` returned.

        Parameters
        ----------
        state : dict
            The state of a balancer with the same parameters and tasks.
        """
        for name, value in state["plain"].items():
            now = getattr(self, name, None)
            if isinstance(now, torch.Generator):
                now.set_state(value.cpu())
            else:
                setattr(self, name, _copied(value))
        for key, tensor in state["buffers"].items():
            path, _, name = key.rpartition(".")
            setattr(self.get_submodule(path), name, _copied(tensor))


def _copied(value: Any) -> Any:
    """Return a copy of a tensor, the state of a generator, and anything else as it is."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    return value.get_state() if isinstance(value, torch.Generator) else value


def mask(losses: Tensor, present: Tensor | None) -> Tensor:
    """Return which tasks are present as a mask, also where all are: (K,) of bool."""
    return torch.ones_like(losses, dtype=torch.bool) if present is None else present


def logarithms(losses: Tensor, present: Tensor, eps: float = 0.0) -> Tensor:
    """Return the logarithms of losses, zero of absent ones: (K,) -> (K,).

    A loss of zero counts as the smallest number whose reciprocal is finite.
    """
    above_zero = (losses + eps).clamp(min=torch.finfo(losses.dtype).tiny)
    return torch.where(present, above_zero, 1.0).log()


def own_generator(generator: torch.Generator | None) -> torch.Generator:
    """Return a new generator on the CPU, seeded from another, or always alike if that is None."""
    own = torch.Generator()
    if generator is not None:
        own.manual_seed(int(torch.randint(2**62, (), generator=generator)))
    return own

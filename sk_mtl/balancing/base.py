"""The contract of a balancer."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn


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
    """

    shared: Sequence[nn.Parameter]
    own: Sequence[nn.Parameter]
    features: Tensor | None = None


class LossBalancer(nn.Module, ABC):
    """Turn the vector of task losses into gradients.

    A method that weighs losses overrides `forward`; one that works on gradients overrides
    `backward` (see `GradientBalancer`). Constructors store their parameters, as scikit-learn's
    do; `begin` validates them and creates what is to be trained or remembered. An instance is
    copied at `fit`, so one instance may serve several estimators.

    Attributes
    ----------
    step_hook : bool
        Whether `after_step` is to be called.
    reads_zero : bool
        Whether a loss of zero tells the method that a task is absent, see Notes.
    weights : Tensor of shape (K,) or None
        Weight of each task in the last step, NaN where a task had no label in it (`EqualBalancer`
        says one).

    Notes
    -----
    A loss of exactly zero is a task without a label in the batch. No method lets it count, and
    those that compare losses or gradients leave out one below zero too: the loss of a kind of
    task of one's own must be above zero.
    """

    step_hook: ClassVar[bool] = False
    reads_zero: ClassVar[bool] = True
    weights: Tensor | None = None
    names: tuple[str, ...]
    regression: tuple[bool, ...]

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
        self.begin(generator)

    def begin(self, generator: torch.Generator | None) -> None:
        """Check the parameters and create state: a method's own part of `setup`.

        Parameters
        ----------
        generator : torch.Generator or None
            As in `setup`; ``names`` and ``regression`` are attributes by now.
        """

    @abstractmethod
    def forward(self, losses: Tensor) -> Tensor:
        """Reduce the task losses, (K,) -> scalar."""

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
        loss = self(leaf)
        loss.backward()
        assert leaf.grad is not None
        self.weights = leaf.grad.where(observed(leaf), torch.nan)
        losses.backward(leaf.grad)
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


def observed(losses: Tensor) -> Tensor:
    """Return which tasks have a label in the batch, (K,) -> (K,) of bool.

    Losses too small for their reciprocal to be finite count as zero. NaN counts as a label, so
    that it shows in the reduced loss.
    """
    return ~(losses.detach() <= torch.finfo(losses.dtype).tiny)


def own_generator(generator: torch.Generator | None) -> torch.Generator:
    """Return a new generator on the CPU, seeded from another, or always alike if that is None."""
    own = torch.Generator()
    if generator is not None:
        own.manual_seed(int(torch.randint(2**62, (), generator=generator)))
    return own

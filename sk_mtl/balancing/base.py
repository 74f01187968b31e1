"""The contract of a balancer."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import Tensor, nn


class LossBalancer(nn.Module, ABC):
    """Turn the vector of task losses into gradients.

    A method that weighs losses overrides `forward`; one that works on gradients overrides
    `backward`. Parameters of a balancer are trained with the network's. An instance is copied at
    `fit`, so one instance may serve several estimators.
    """

    @abstractmethod
    def forward(self, losses: Tensor) -> Tensor:
        """Reduce the task losses, (K,) -> scalar."""

    def backward(self, losses: Tensor, shared_parameters: Iterable[nn.Parameter]) -> Tensor:
        """Accumulate gradients into ``.grad`` and return the reduced loss.

        Parameters
        ----------
        losses : Tensor of shape (K,)
            The task losses, times `loss_weights`.
        shared_parameters : iterable of nn.Parameter
            The parameters before the towers, which several tasks may move.

        Returns
        -------
        Tensor
            A scalar, what the step reduced.
        """
        loss = self(losses)
        loss.backward()
        return loss

"""Adam on one number per task, for methods that move their weights by themselves."""

import torch
from torch import Tensor, nn

BETAS = (0.9, 0.999)
EPS = 1e-8


class TaskAdam(nn.Module):
    """Adam on a vector of one entry per task.

    Its state is made of buffers: it moves with the network and survives copying. Entries of
    tasks without a label in the batch stay as they are, their moments too.

    Parameters
    ----------
    n_tasks : int
        Number of entries.
    """

    mean: Tensor
    square: Tensor
    steps: Tensor

    def __init__(self, n_tasks: int) -> None:
        super().__init__()
        for name in ("mean", "square", "steps"):
            self.register_buffer(name, torch.zeros(n_tasks))

    def forward(self, gradient: Tensor, lr: float, present: Tensor) -> Tensor:
        """Return what to add to the vector, (K,) -> (K,)."""
        b1, b2 = BETAS
        self.mean = torch.where(present, b1 * self.mean + (1 - b1) * gradient, self.mean)
        square = b2 * self.square + (1 - b2) * gradient**2
        self.square = torch.where(present, square, self.square)
        self.steps = self.steps + present
        mean = self.mean / (1 - b1**self.steps)
        square = self.square / (1 - b2**self.steps)
        return torch.where(present, -lr * mean / (square.sqrt() + EPS), 0.0)

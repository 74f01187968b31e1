"""The bottom that does nothing."""

from torch import Tensor, nn


class SharedEmbeddingBottom(nn.Module):
    """The bottom that does nothing: all towers read the shared embedding itself.

    Parameters
    ----------
    in_features : int
        Width D of the input.
    n_tasks : int
        Number of tasks K.
    n_members : int, default=1
        Number M of members.

    Notes
    -----
    Shape: (B, D) -> (B, M * K, D)
    """

    one_representation = True

    def __init__(self, in_features: int, n_tasks: int, *, n_members: int = 1) -> None:
        super().__init__()
        self.n_tasks, self.n_members, self.out_features = n_tasks, n_members, in_features

    def forward(self, x: Tensor) -> Tensor:
        """Return the embedding once per task."""
        return x.unsqueeze(1).expand(-1, self.n_members * self.n_tasks, -1)

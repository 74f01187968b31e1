"""The whole network: embedding, bottom, towers, head."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sk_mtl.nn.embedding import FeatureEmbedding
from sk_mtl.nn.stacked import Dropout


class MultiTaskModule(nn.Module):
    """Embedding, bottom, towers and head in a row: the same for every architecture.

    Parameters
    ----------
    embedding : FeatureEmbedding
        (numeric (B, F), categorical (B, C)) -> (B, D).
    bottom : nn.Module
        (B, D) -> (B, K, H): the architecture.
    towers : nn.Module
        (B, K, H) -> (B, L), see `Towers`.
    head : nn.Module, optional
        (B, L) -> (B, L): what ties the tasks' outputs together; nothing if None.

    Examples
    --------
    >>> import torch
    >>> from sk_mtl.architectures import MMoEBottom
    >>> from sk_mtl.nn import FeatureEmbedding, MultiTaskModule, Towers
    >>> embedding = FeatureEmbedding(n_numeric=3, n_categories=[10, 4], embedding_dims=[8, 8])
    >>> bottom = MMoEBottom(embedding.out_features, 2, n_experts=4, expert_units=(16,))
    >>> module = MultiTaskModule(embedding, bottom, Towers(16, [(8,), (8,)], [1, 1]))
    >>> module(torch.randn(5, 3), torch.zeros(5, 2, dtype=torch.int64)).shape
    torch.Size([5, 2])
    """

    embedding: FeatureEmbedding

    def __init__(
        self,
        embedding: FeatureEmbedding,
        bottom: nn.Module,
        towers: nn.Module,
        head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.embedding, self.bottom, self.towers = embedding, bottom, towers
        self.head = nn.Identity() if head is None else head

    def prepare(self, numeric: Tensor, categorical: Tensor) -> tuple[Tensor, Tensor]:
        """Do what depends on no weight; see `FeatureEmbedding.prepare`."""
        return self.embedding.prepare(numeric, categorical)

    def represent(self, dense: Tensor, rows: Tensor) -> Tensor:
        """Return the tasks' representations of rows that are prepared: (B, K, H)."""
        return self.bottom(self.embedding.embed(dense, rows))

    def read(self, representations: Tensor) -> Tensor:
        """Return the logits of all tasks side by side: (B, K, H) -> (B, L)."""
        return self.head(self.towers(representations))

    def tower_logits(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """Return the towers' logits, before the head: (B, L)."""
        return self.towers(self.represent(*self.prepare(numeric, categorical)))

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """Return the logits of all tasks side by side: (B, L)."""
        return self.read(self.represent(*self.prepare(numeric, categorical)))

    @property
    def one_representation(self) -> bool:
        """Whether the bottom gives all tasks the same representation, and says so."""
        return getattr(self.bottom, "one_representation", False)

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that several tasks move: before the towers, but no task's own.

        A bottom with parts that a single task's loss reaches lists them as `own_parameters`.
        """
        own = getattr(self.bottom, "own_parameters", tuple)
        known = {id(p) for p in own()}
        for part in (self.embedding, self.bottom):
            yield from (p for p in part.parameters() if id(p) not in known)

    def set_generator(self, generator: torch.Generator | None) -> None:
        """Let all dropout layers draw from `generator`, or from torch's global one if None."""
        for layer in self.modules():
            if isinstance(layer, Dropout):
                layer.generator = generator

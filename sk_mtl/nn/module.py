"""The whole network: embedding, bottom, towers, head."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sk_mtl.nn.embedding import FeatureEmbedding
from sk_mtl.nn.members import fold_members, unfold_members
from sk_mtl.nn.stacked import Dropout


class MultiTaskModule(nn.Module):
    """Embedding, bottom, towers and head in a row: the same for every architecture.

    Parameters
    ----------
    embedding : FeatureEmbedding
        Parts of B rows -> (B, D).
    bottom : nn.Module
        (B, D) -> (B, M * K, H): the architecture. Of an embedding with copies it takes
        (B, copies, D).
    towers : nn.Module
        (B, M * K, H) -> (B, M * L), see `Towers`.
    head : nn.Module, optional
        (B, L) -> (B, L): what ties one member's outputs together; nothing if None.
    n_logits : int, optional
        How many of a member's L logits, the first ones, belong to tasks. The rest are outputs
        without a label: an objective reads them in training, and `forward` leaves them out.
        Default: all.
    n_members : int, default=1
        Number M of members: whole networks (bottom, towers, head) that read one embedding.
    interaction : nn.Module, optional
        What stands between embedding and bottom, (..., D) -> (..., D'): one for all members, and
        for all copies of the embedding.

    Notes
    -----
    The bottom, a gate or the head may have a method ``penalty() -> Tensor``, a scalar that
    training adds to the loss, outside the balancer. It is called after each forward pass in
    training mode, so that it can tell of that pass's rows, as their mean. A part may have a method
    ``rate_factors() -> dict``, of some of its parameters a factor on the learning rate each, and
    ``undecayed_parameters() -> Iterator``, of those that weight decay is to leave alone.

    Members stand side by side from the bottom on, all of one before all of the next. Nothing here
    averages them: `forward` returns the logits of every member.

    Examples
    --------
    >>> import torch
    >>> from sk_mtl.architectures import MMoEBottom
    >>> from sk_mtl.nn import FeatureEmbedding, MultiTaskModule, NumbersBlock, TablesBlock, Towers
    >>> tables = TablesBlock(n_categories=[10, 4], embedding_dims=[8, 8])
    >>> embedding = FeatureEmbedding({"numeric": NumbersBlock(3), "categorical": tables})
    >>> bottom = MMoEBottom(embedding.out_features, 2, n_experts=4, expert_units=(16,))
    >>> module = MultiTaskModule(embedding, bottom, Towers(16, [(8,), (8,)], [1, 1]))
    >>> module(torch.randn(5, 3), torch.zeros(5, 2, dtype=torch.int64)).shape
    torch.Size([5, 2])
    """

    embedding: FeatureEmbedding
    interaction: nn.Module | None

    def __init__(
        self,
        embedding: FeatureEmbedding,
        bottom: nn.Module,
        towers: nn.Module,
        head: nn.Module | None = None,
        n_logits: int | None = None,
        n_members: int = 1,
        interaction: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.embedding, self.bottom, self.towers = embedding, bottom, towers
        self.interaction = interaction
        self.head = nn.Identity() if head is None else head
        self.n_logits, self.n_members = n_logits, n_members
        self.penalized: list[Any] = [part for part in self.modules() if _has_penalty(part)]

    def prepare(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        """Do what depends on no weight; see `FeatureEmbedding.prepare`."""
        return self.embedding.prepare(parts)

    def represent(self, prepared: Mapping[str, Any]) -> Tensor:
        """Return the tasks' representations of rows that are prepared: (B, M * K, H)."""
        x = self.embedding.embed(prepared)
        return self.bottom(x if self.interaction is None else self.interaction(x))

    def join(self, tower_logits: Tensor) -> Tensor:
        """Return the logits of the tasks from those of the towers: the head, and no more."""
        logits = self.head(self.split_members(tower_logits))
        if self.n_logits is not None:
            logits = logits[:, : self.n_logits]
        return unfold_members(logits, self.n_members)

    def split_members(self, logits: Tensor) -> Tensor:
        """Give each member's logits a row of their own: (B, M * L) -> (B * M, L)."""
        return fold_members(logits, self.n_members)

    def read(self, representations: Tensor) -> Tensor:
        """Return the logits of all tasks side by side: (B, M * K, H) -> (B, M * L)."""
        return self.join(self.towers(representations))

    def tower_logits(self, numeric: Tensor, categorical: Tensor, **others: Any) -> Tensor:
        """Return all logits of the towers, before the head: (B, M * L)."""
        parts = {"numeric": numeric, "categorical": categorical, **others}
        return self.towers(self.represent(self.prepare(parts)))

    def forward(self, numeric: Tensor, categorical: Tensor, **others: Any) -> Tensor:
        """Return the logits of all tasks side by side, those of each member: (B, M * L).

        Parameters
        ----------
        numeric : Tensor of shape (B, F)
            Numbers, NaN where missing.
        categorical : Tensor of shape (B, C)
            Category codes.
        **others
            Parts of further blocks, by name.
        """
        return self.join(self.tower_logits(numeric, categorical, **others))

    def penalty(self) -> Tensor | None:
        """Return the sum of the parts' penalties in the last forward pass, None without any."""
        return sum(part.penalty() for part in self.penalized) if self.penalized else None

    @property
    def one_representation(self) -> bool:
        """Whether the bottom gives all tasks the same representation, and says so."""
        return self.n_members == 1 and getattr(self.bottom, "one_representation", False)

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that several tasks move: before the towers, but no task's own.

        A bottom with parts that a single task's loss reaches lists them as `own_parameters`.
        """
        own = getattr(self.bottom, "own_parameters", tuple)
        known = {id(p) for p in (*own(), *self.embedding.own_parameters())}
        for part in (self.embedding, self.interaction, self.bottom):
            if part is not None:
                yield from (p for p in part.parameters() if id(p) not in known)

    def undecayed_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what weight decay leaves alone.

        These are embeddings, biases, scales of normalizations, and what parts list themselves.
        """
        yield from self.embedding.parameters()
        for part in self.modules():
            if isinstance(part, nn.modules.batchnorm._NormBase | nn.LayerNorm):
                yield from part.parameters()
            elif isinstance(bias := getattr(part, "bias", None), nn.Parameter):
                yield bias
            spared = getattr(part, "undecayed_parameters", None)
            if spared is not None and part is not self:
                yield from spared()

    def rate_factors(self) -> dict[nn.Parameter, float]:
        """Return the parameters that learn at another rate than the rest, with their factors."""
        found: dict[nn.Parameter, float] = {}
        for part in self.modules():
            factors = getattr(part, "rate_factors", None)
            if factors is not None and part is not self:
                found.update(factors())
        return found

    def set_generator(self, generator: torch.Generator | None) -> None:
        """Let all dropout layers draw from `generator`, or from torch's global one if None."""
        for layer in self.modules():
            if isinstance(layer, Dropout):
                layer.generator = generator


def _has_penalty(part: nn.Module) -> bool:
    return callable(getattr(part, "penalty", None)) and not isinstance(part, MultiTaskModule)

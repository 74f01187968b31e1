"""A new kind of feature is one block and one encoder, here: no other file knows of it."""

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import by_pickle, small
from torch import nn

from sk_mtl import MMoE, SharedBottom
from sk_mtl.data import BlockSpec, ColumnEncoder
from sk_mtl.nn import Block, FeatureEmbedding, NumbersBlock, TablesBlock


class TagsBlock(Block):
    """The mean of the vectors of a row's tags: codes (B, most), zero where there is none."""

    kind: ClassVar[str] = "test_tags"

    def __init__(self, n_tags, width, *, generator=None):
        super().__init__()
        table = torch.empty(n_tags + 1, width).normal_(std=0.1, generator=generator)
        self.table = nn.Parameter(table)
        self.out_features = width

    def prepare(self, part):
        return part.long()

    def embed(self, prepared):
        here = (prepared > 0).unsqueeze(2).to(self.table.dtype)
        return (self.table[prepared] * here).sum(1) / here.sum(1).clamp(min=1)


class TagsEncoder(ColumnEncoder):
    """Columns that hold lists: codes of what stands in them."""

    part: ClassVar[str] = "tags"

    def choose(self, table):
        first = (table.column(j).iloc[0] for j in range(table.shape[1]))
        return [j for j, value in enumerate(first) if isinstance(value, list)]

    def fit(self, table, rows, weight):
        found = sorted(
            {tag for j in self.columns_ for tags in table.column(j, rows) for tag in tags}
        )
        self.tags_ = {tag: code for code, tag in enumerate(found, 1)}
        self.most_ = max((len(tags) for j in self.columns_ for tags in table.column(j)), default=1)

    def transform(self, table):
        codes = np.zeros((len(table), self.most_), dtype=np.int32)
        for j in self.columns_:
            for row, tags in enumerate(table.column(j)):
                known = [self.tags_[tag] for tag in tags if tag in self.tags_][: self.most_]
                codes[row, : len(known)] = known
        return codes

    def specs(self):
        return {"tags": BlockSpec("test_tags", {"n_tags": len(self.tags_), "width": 4}, "tags")}


class Tagged(SharedBottom):
    """Shared-Bottom over rows that have tags."""

    def _column_encoders(self):
        return [*super()._column_encoders(), TagsEncoder()]


class TaggedMMoE(MMoE):
    """MMoE over such rows."""

    def _column_encoders(self):
        return [*super()._column_encoders(), TagsEncoder()]


@pytest.fixture
def tagged():
    rng = np.random.default_rng(0)
    tags = [list(rng.choice(list("abcdef"), rng.integers(0, 4), replace=False)) for _ in range(300)]
    X = pd.DataFrame(
        {"tags": tags, "age": rng.normal(size=300), "city": rng.choice(["x", "y"], 300)}
    )
    hot = np.array(["a" in tags for tags in X["tags"]])
    Y = pd.DataFrame({"hot": hot.astype(int), "size": X["age"] + hot})
    return X, Y


@pytest.mark.parametrize("cls", [Tagged, TaggedMMoE])
def test_a_toy_block_learns(tagged, cls):
    X, Y = tagged
    model = small(cls, max_epochs=60, lr=0.02, activation="silu").fit(X, Y)
    assert list(model.module_.embedding.blocks) == ["numeric", "categorical", "tags"]
    assert (model.predict(X)[:, 0] == Y["hot"]).mean() > 0.95
    one_by_one = np.vstack([model.predict(X.iloc[[k]]) for k in range(20)])
    assert np.allclose(one_by_one, model.predict(X.iloc[:20]))
    assert np.array_equal(by_pickle(model).predict(X), model.predict(X))


def test_a_toy_block_in_every_way_of_training(tagged, tmp_path):
    X, Y = tagged
    model = small(Tagged, early_stopping=True, max_epochs=3).fit(X, Y)
    assert model.history_["valid_loss"].notna().all()
    stream = small(Tagged)
    for start in range(0, 300, 100):
        stream.partial_fit(X[start : start + 100], Y[start : start + 100])
    before = stream.module_.embedding.blocks["tags"].table.detach().clone()
    with pytest.raises(ValueError, match="label 7"):
        stream.partial_fit(X[:5], Y[:5].assign(hot=7))
    assert torch.equal(before, stream.module_.embedding.blocks["tags"].table)


def test_parts_by_name():
    """The module takes numbers and codes by position, further parts by name."""
    blocks = {"numeric": NumbersBlock(2), "categorical": TablesBlock([3], [4])}
    embedding = FeatureEmbedding({**blocks, "tags": TagsBlock(5, 4)})
    assert embedding.out_features == 2 + 4 + 4
    parts = {
        "numeric": torch.tensor([[1.0, torch.nan]]),
        "categorical": torch.tensor([[2]]),
        "tags": torch.tensor([[1, 0, 0]]),
    }
    vector = embedding(parts)
    assert vector.shape == (1, 10)
    assert vector[0, :2].tolist() == [1.0, 0.0]
    assert torch.equal(vector[0, -4:], embedding.blocks["tags"].table[1])


# Numbers ------------------------------------------------------------------------------------------


def test_a_constant_column_is_held_at_its_fill():
    """The network has learned nothing of other values than the one it saw."""
    block = NumbersBlock(2, mean=[5.0, 0.0], scale=[float("nan"), 1.0], fill=[0.0, 0.0])
    out = block.prepare(torch.tensor([[5.0, 1.0], [1e9, 2.0], [torch.nan, 3.0]]))
    assert out[:, 0].tolist() == [0.0, 0.0, 0.0]
    assert out[:, 1].tolist() == [1.0, 2.0, 3.0]


def test_missing_values_are_marked_in_a_constant_column():
    block = NumbersBlock(1, mean=[5.0], scale=[float("nan")], missing_columns=[0])
    assert block.prepare(torch.tensor([[5.0], [torch.nan]])).tolist() == [[0.0, 0.0], [0.0, 1.0]]


# Tables -------------------------------------------------------------------------------------------


def mean_of_seen(block, column, codes):
    """Return the mean vector of the known categories in codes, over all rows."""
    known = codes[codes[:, column] >= 2][:, column]
    slots = torch.zeros_like(codes[: len(known)])
    slots[:, column] = known
    vectors = block.embed(block.prepare(slots)).split([4, 4], dim=1)[column]
    return vectors.mean(0)


@pytest.mark.parametrize("sparse", [False, True])
def test_an_unknown_category_reads_the_mean_of_all_that_was_seen(sparse):
    """In pieces or at once, while the table moves between them."""
    torch.manual_seed(0)
    block = TablesBlock([6, 9], [4, 4]).double()
    block.choose_sparse(sparse)
    codes = torch.stack([torch.randint(2, 8, (60,)), torch.randint(1, 11, (60,))], dim=1)
    for part in codes.split(7):
        block.begin(part)
        with torch.no_grad():
            slots = block.prepare(part).unique()
            block.tables[0][slots] += torch.randn(len(slots), 4, dtype=torch.float64)
        block.count(part)
        block.settle()
    unknown = block.embed(block.prepare(torch.tensor([[1, 1]])))[0]
    missing = block.embed(block.prepare(torch.tensor([[0, 0]])))[0]
    assert torch.allclose(unknown[:4], mean_of_seen(block, 0, codes), atol=1e-9)
    # Unknown codes of the second column were trained themselves; its missing ones were not.
    assert torch.allclose(missing[4:], mean_of_seen(block, 1, codes), atol=1e-9)


def test_what_was_forgotten_weighs_as_a_whole():
    """A block without counts (of a loaded estimator) keeps the mean that it had, and its weight."""
    torch.manual_seed(0)
    block = TablesBlock([3], [4]).double()
    first = torch.tensor([[2], [2], [3]])
    block.count(first)
    block.settle()
    twin = TablesBlock([3], [4]).double()
    twin.load_state_dict(block.state_dict())
    more = torch.tensor([[4]])
    for one in (block, twin):
        one.begin(more)
        one.count(more)
        one.settle()
    assert torch.allclose(block.tables[0][1], twin.tables[0][1])

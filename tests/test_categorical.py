"""Kinds of categories: rare ones, shared vocabularies, hashed ids, given vectors, bags."""

import copy
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import by_pickle, everywhere, make_table, small
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.preprocessing import OneHotEncoder

import sk_mtl
from sk_mtl import MMoE, SharedBottom
from sk_mtl.categorical import (
    Bag,
    CategoricalEncoding,
    Categories,
    Hashed,
    hash_integers,
    hash_value,
    hashing,
    infrequent,
    read_vectors,
)
from sk_mtl.data import CategoryEncoder, FeatureEncoder, NumberEncoder, Rows
from sk_mtl.data.bags import Bags
from sk_mtl.data.frames import as_table
from sk_mtl.inspection import gate_weights, gradient_conflict, task_affinity
from sk_mtl.nn import BagsBlock, TablesBlock

N = 300


def encoder_of(X, kinds, dim=4, rows=None):
    """Return the encoder of some columns, fitted."""
    features = FeatureEncoder([NumberEncoder(), CategoryEncoder(kinds, dim)])
    features.fit(as_table(X), rows)
    return features.encoders[1]


def codes_of(encoder, X):
    return encoder.transform(as_table(X))


def shop(n=N, seed=0):
    """Rows of a shop: items, the last item, a list of those seen before, tags, a shop's city."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(25) * 0.3)
    X = pd.DataFrame(
        {
            "item": rng.choice(25, n, p=weights),
            "last": rng.choice(25, n, p=weights).astype(float),
            "seen": [rng.choice(25, rng.integers(0, 5), p=weights).tolist() for _ in range(n)],
            "tags": [set(rng.choice(list("abcd"), rng.integers(0, 4))) for _ in range(n)],
            "city": rng.choice(["x", "y", None], n),
            "age": rng.normal(size=n),
        }
    )
    X.loc[::9, "last"] = np.nan
    X.loc[5, "seen"] = None
    hot = np.array(["a" in tags for tags in X["tags"]])
    return X, pd.DataFrame({"hot": hot.astype(int), "size": X["age"] + hot})


SHOP = shop()
KINDS = {
    "item": Categories(min_frequency=5, vocabulary="item"),
    "last": Categories(vocabulary="item"),
    "seen": Bag("sum", vocabulary="item"),
    "tags": Bag("max", n_slots=50),
}


# Infrequent categories ----------------------------------------------------------------------------

RULES = st.tuples(
    st.one_of(st.none(), st.integers(1, 8)),
    st.one_of(st.none(), st.integers(1, 8), st.floats(0.01, 0.9)),
)


@settings(max_examples=80)
@given(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=40), RULES)
def test_infrequent_categories_are_those_of_scikit_learn(values, rule):
    most, least = rule
    X = pd.DataFrame({"x": pd.Series(values, dtype=object)})
    theirs = OneHotEncoder(
        max_categories=most, min_frequency=least, handle_unknown="infrequent_if_exist"
    ).fit(X)
    rare = [] if most is least is None else theirs.infrequent_categories_[0]
    rare = [] if rare is None else rare
    encoder = encoder_of(X, Categories(most, least))
    (known,) = encoder.categories_
    assert sorted(set(values) - set(known)) == sorted(rare)
    assert encoder.infrequent_ == [len(rare) > 0]
    codes = codes_of(encoder, X)[:, 0]
    assert [code == 1 for code in codes] == [value in set(rare) for value in values]


def test_a_share_counts_rows_with_missing_values():
    X = pd.DataFrame({"x": ["a"] * 3 + ["b"] * 2 + [None] * 5})
    (known,) = encoder_of(X, Categories(min_frequency=0.3)).categories_
    assert known.tolist() == ["a"]


def test_later_categories_win_ties():
    assert infrequent(np.array([2, 2, 2]), 6, 2, None).tolist() == [True, True, False]


def test_training_sees_infrequent_categories():
    """An unseen value reads a vector that rows of infrequent categories have trained."""
    X, Y = SHOP
    model = small(SharedBottom, categorical_features={"item": Categories(min_frequency=20)})
    model.fit(X[["item", "age"]], Y)
    block = model.module_.embedding.blocks["categorical"]
    assert block.special_seen[0].tolist() == [False, True]
    unseen = X[["item", "age"]].assign(item=999)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # all rows may be infrequent ones: nothing strange
        predicted = model.predict(unseen)
    (known,) = model._fitted_.encoder.encoders[1].categories_
    rare = next(item for item in X["item"] if item not in known)
    assert np.array_equal(predicted, model.predict(unseen.assign(item=rare)))


def test_only_rows_that_train_count():
    X = pd.DataFrame({"x": list("aabbcc")})
    encoder = encoder_of(X, Categories(min_frequency=2), rows=np.array([0, 1, 2, 4, 5]))
    assert encoder.categories_[0].tolist() == ["a", "c"]


# Shared vocabularies ------------------------------------------------------------------------------


@settings(max_examples=50)
@given(st.lists(st.tuples(*[st.one_of(st.none(), st.integers(0, 9))] * 2), min_size=1))
def test_a_shared_vocabulary_does_not_know_columns_apart(pairs):
    """Swapping the values of two columns swaps their codes, and so their vectors."""
    X = pd.DataFrame(pairs, columns=["a", "b"], dtype="Int64")
    shared = dict.fromkeys("ab", Categories(vocabulary="v"))
    encoder = encoder_of(X, shared)
    codes = codes_of(encoder, X)
    swapped = codes_of(encoder, X.rename(columns={"a": "b", "b": "a"})[["a", "b"]])
    assert np.array_equal(codes, swapped[:, ::-1])
    known = sorted({value for pair in pairs for value in pair if value is not None})
    assert encoder.categories_[0].tolist() == known
    (spec,) = encoder.specs().values()
    block = TablesBlock(**spec.options, generator=torch.Generator().manual_seed(0))
    assert sum(len(table) for table in block.tables) == len(known) + 2
    vectors = block.embed(block.prepare(torch.from_numpy(codes)))
    other = block.embed(block.prepare(torch.from_numpy(np.ascontiguousarray(codes[:, ::-1]))))
    assert torch.equal(vectors, torch.cat([other[:, 4:], other[:, :4]], dim=1))


def test_dtypes_of_one_vocabulary():
    """Whole numbers are one category, whatever the gaps of their columns made of them."""
    X = pd.DataFrame(
        {
            "a": [1, 2, 2**60 + 1],
            "b": [3.0, np.nan, 1.0],
            "c": pd.Series([2, None, 7], dtype="Int64"),
            "d": pd.Categorical([9, 1, 9]),
        }
    )
    kinds = dict.fromkeys("abcd", Categories(vocabulary="v"))
    encoder = encoder_of(X, kinds)
    assert encoder.categories_[0].tolist() == [1, 2, 3, 7, 9, 2**60 + 1]
    assert codes_of(encoder, X).tolist() == [[2, 4, 3, 6], [3, 0, 0, 2], [7, 2, 5, 6]]


def test_counts_of_a_vocabulary_are_those_of_all_its_columns():
    X = pd.DataFrame({"a": ["x", "y", "z"], "b": ["x", "y", "y"], "c": [["x"], [], ["x", "w"]]})
    kinds = {
        "a": Categories(vocabulary="v", min_frequency=3),
        "b": Categories(vocabulary="v"),
        "c": Bag(vocabulary="v"),
    }
    assert encoder_of(X, kinds).categories_[0].tolist() == ["x", "y"]
    kinds["a"] = Categories(vocabulary="v", min_frequency=0.4)  # of 3 + 3 + 4 cells
    assert encoder_of(X, kinds).categories_[0].tolist() == ["x"]


def test_unknown_values_of_a_shared_vocabulary_read_the_mean_of_all_columns():
    block = TablesBlock([5, 5, 2], [3, 3, 3], vocabularies=[0, 0, 1]).double()
    codes = torch.tensor([[2, 3, 2], [3, 3, 3], [0, 6, 2]])
    block.count(codes)
    block.settle()
    table = block.tables[0]
    shown = [2, 3, 3, 3, 6]
    assert_allclose(table[1].detach(), table[shown].mean(0).detach())
    assert_allclose(table[8].detach(), table[[9, 10, 9]].mean(0).detach())
    assert block.totals.tolist() == [5, 3]
    assert block.special_seen.tolist() == [[True, False], [False, False]]


# Hashes -------------------------------------------------------------------------------------------


def splitmix(value):
    """The generator's output function, digit by digit from its definition."""
    z = (value + 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


@given(st.integers(-(2**63), 2**63 - 1))
def test_hashes_of_integers(value):
    assert hash_value(value) == splitmix(value % 2**64)
    assert int(hash_integers(np.array([value]))[0]) == hash_value(value)
    assert hash_value(str(value)) == hash_value(value)
    assert hash_value(np.int64(value)) == hash_value(value)


def test_hashes_do_not_change():
    """A model that was saved reads the slots that it trained."""
    assert hash_value("item") == 15634484697162812036
    assert hash_value(3) == 2092789425003139053
    assert [hash_value(v) % 1000 for v in (0, -1, 2**70, 0.5, "ä", "\ud800", "")] == EXPECTED
    same = [3, 3.0, np.float32(3), np.int8(3), np.uint64(3), "3"]
    assert len({hash_value(value) for value in same}) == 1
    assert hash_value(True) == hash_value(1)
    assert len({hash_value(v) for v in (3, "03", "3.0", " 3", "+3", "-3", "³")}) == 7
    assert hash_value("-0") != hash_value(0) == hash_value(-0.0)
    with pytest.raises(TypeError, match="neither a string nor a number"):
        hash_value(b"3")


EXPECTED = [535, 936, 463, 235, 504, 914, 756]


def test_hashes_are_those_of_another_process():
    code = (  # the file alone: to import the package takes seconds
        f"import runpy; hashes = runpy.run_path({hashing.__file__!r});"
        "print(hashes['hash_value']('item'), hashes['hash_value'](7))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7"},
    )
    assert done.stdout.split() == [str(hash_value("item")), str(hash_value(7))]


WHOLE = st.lists(st.one_of(st.none(), st.integers(-5, 5)), min_size=1, max_size=8)


@settings(max_examples=25)
@given(WHOLE, st.integers(1, 20))
def test_equal_numbers_share_a_slot_in_every_dtype(values, n_slots):
    expected = [0 if v is None else 2 + splitmix(v % 2**64) % n_slots for v in values]
    forms = [
        pd.Series(values, dtype="Int64"),
        pd.Series(values, dtype="float64"),
        pd.Series(values, dtype="float32"),
        pd.Series(values, dtype=object),
        pd.Series(pd.Categorical(values)),
        pd.Series([None if v is None else str(v) for v in values], dtype=object),
        pd.Series([None if v is None else str(v) for v in values], dtype="string"),
        pd.Series(values, dtype="int64[pyarrow]"),
    ]
    if None not in values:
        forms += [pd.Series(values, dtype=np.int8), pd.Series(values, dtype=np.int64)]
    for form in forms:
        X = pd.DataFrame({"x": form})
        encoder = encoder_of(X, {"x": Hashed(n_slots)})
        assert codes_of(encoder, X)[:, 0].tolist() == expected, form.dtype
        few = encoder.transform_few(as_table(X), as_table(X).cells())
        assert few is None or few[:, 0].tolist() == expected


@settings(max_examples=100)
@given(
    st.lists(
        st.one_of(st.none(), st.text(max_size=3), st.integers(), st.booleans(),
                  st.integers(-(2**20), 2**20).map(float)),
        min_size=1, max_size=6,
    )
)  # fmt: skip
def test_any_cells_are_hashed_one_by_one(values):
    X = pd.DataFrame({"x": pd.Series(values, dtype=object)})
    encoder = encoder_of(X, {"x": Hashed(1000)})
    codes = codes_of(encoder, X)[:, 0].tolist()
    numbers = [v for v in values if v is not None]
    if any(type(v) is float for v in numbers) and any(
        type(v) is int and abs(v) > 2**53 for v in numbers
    ):
        return  # pandas makes floats of such a column
    assert codes == [0 if v is None else 2 + hash_value(v) % 1000 for v in values]
    few = encoder.transform_few(as_table(X), as_table(X).cells())
    assert few is None or few[:, 0].tolist() == codes


def test_large_integers_are_hashed_with_all_digits():
    big = [2**63 - 1, 2**63 - 2]
    X = pd.DataFrame({"x": big})
    assert len(set(codes_of(encoder_of(X, {"x": Hashed(10**6)}), X)[:, 0].tolist())) == 2
    wide = pd.DataFrame({"x": np.array([2**64 - 1, 5], dtype=np.uint64)})
    codes = codes_of(encoder_of(wide, {"x": Hashed(10**6)}), wide)[:, 0]
    assert codes.tolist() == [2 + hash_value(v) % 10**6 for v in (2**64 - 1, 5)]


def test_an_id_that_training_did_not_show_reads_the_mean():
    X = pd.DataFrame({"x": [f"id {i}" for i in range(60)]})
    Y = np.arange(60) + 0.5
    model = small(SharedBottom, categorical_features={"x": Hashed(5000)}, early_stopping=False)
    model.fit(X, Y)
    block = model.module_.embedding.blocks["categorical"]
    codes = codes_of(model._fitted_.encoder.encoders[1], X)[:, 0]
    mean = block.tables[0][codes.astype(int)].mean(0)
    new = next(f"new {i}" for i in range(99) if hash_value(f"new {i}") % 5000 + 2 not in codes)
    row = torch.tensor([[hash_value(new) % 5000 + 2]])
    assert torch.allclose(block.embed(block.prepare(row))[0], mean, atol=1e-6)
    own = block.train().embed(block.prepare(row))[0]
    assert torch.equal(own, block.tables[0][row.item()])
    assert not torch.allclose(own, mean, atol=1e-4)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_stream_learns_new_ids(sparse):
    rng = np.random.default_rng(0)
    model = small(
        SharedBottom, categorical_features={"x": Hashed(2000)}, lr=0.05,
        sparse_embeddings=sparse, batch_size=16,
    )  # fmt: skip

    def part(first):
        ids = rng.integers(first, first + 10, 160)
        return pd.DataFrame({"x": ids}), (ids % 2).astype(int)

    for _ in range(8):
        model.partial_fit(*part(0))
    X, y = part(100)
    before = model.score(X, y)
    for _ in range(8):
        model.partial_fit(*part(100))
    assert model.score(X, y) > 0.95 > before
    assert np.array_equal(by_pickle(model).predict(X), model.predict(X))
    block = model.module_.embedding.blocks["categorical"]
    shown = block.get_buffer("shown_0").sum().item()
    assert shown == 2 + len({hash_value(i) % 2000 for i in [*range(10), *range(100, 110)]})


def test_a_failed_part_of_a_stream_leaves_no_mark():
    X, y = pd.DataFrame({"x": [1, 2, 3, 4]}), np.array([0, 1, 0, 1])
    model = small(SharedBottom, categorical_features={"x": Hashed(100)}, sparse_embeddings=True)
    model.partial_fit(X, y)
    before = copy.deepcopy(model.module_.state_dict())
    with pytest.raises(ValueError, match="label"):
        model.partial_fit(X + 50, y + 7)
    for name, tensor in model.module_.state_dict().items():
        assert torch.equal(tensor, before[name]), name


# Vectors ------------------------------------------------------------------------------------------


def vectors(keys, width=3, seed=0):
    rng = np.random.default_rng(seed)
    return {key: rng.normal(size=width) for key in keys}


def slot_of(model, column, value):
    """Return the vector that a value of a column reads."""
    encoder = model._fitted_.encoder.encoders[1]
    c = encoder.names_.index(column)
    index, start = model.module_.embedding.blocks["categorical"].homes[c]
    code = encoder.lookups[c].encode(pd.Series([value]), column)[0]
    return model.module_.embedding.blocks["categorical"].tables[index][start + code].detach()


OPTIMIZERS = {
    "adam": {"optimizer": "adam"},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1},
    "sgd": {"optimizer": "sgd", "lr": 0.1, "weight_decay": 0.1},
    "adagrad": {"optimizer": "adagrad"},
    "sparse": {"optimizer": "adam", "sparse_embeddings": True},
    "rowwise": {"optimizer": "rowwise_adagrad", "sparse_embeddings": True},
    "sparse sgd": {"optimizer": "sgd", "sparse_embeddings": True},
    "clipped": {"clip_norm": 0.1},
    "a class": {"optimizer": torch.optim.RMSprop},
    "balanced": {"balancer": "gradnorm"},
}


@pytest.mark.parametrize("params", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_frozen_vectors_stay(params):
    X, Y = SHOP
    table = vectors(range(0, 40, 2))
    kinds = {"item": Categories(vectors=table, trainable=False), "tags": Bag(), "seen": Bag()}
    model = small(SharedBottom, categorical_features=kinds, max_epochs=3, **params).fit(X, Y)
    for key, vector in table.items():
        assert np.array_equal(slot_of(model, "item", key), vector.astype(np.float32)), key
    start = small(SharedBottom, categorical_features=kinds, max_epochs=1, lr=1e-12).fit(X, Y)
    odd = next(item for item in X["item"] if item % 2)
    assert not np.allclose(slot_of(model, "item", odd), slot_of(start, "item", odd), atol=1e-5)


def test_trainable_vectors_are_where_training_starts():
    X, Y = SHOP
    table = vectors(range(0, 40, 2))
    kinds = {"item": Categories(vectors=table), "tags": Bag(), "seen": Bag()}
    start = small(SharedBottom, categorical_features=kinds, max_epochs=1, lr=1e-12).fit(X, Y)
    end = small(SharedBottom, categorical_features=kinds, max_epochs=3).fit(X, Y)
    seen = next(item for item in X["item"] if item % 2 == 0)
    for key, vector in table.items():
        assert_allclose(slot_of(start, "item", key), vector, atol=1e-6)
    assert not np.allclose(slot_of(end, "item", seen), table[seen], atol=1e-4)


@pytest.mark.parametrize(
    "form",
    [
        lambda table: table,
        lambda table: {key: vector.tolist() for key, vector in table.items()},
        lambda table: pd.DataFrame.from_dict(table, orient="index"),
        lambda table: {str(key): vector for key, vector in table.items()},
        lambda table: {float(key): vector for key, vector in table.items()},
        lambda table: {np.int64(key): vector for key, vector in table.items()},
    ],
)
def test_forms_of_vectors(form):
    table = vectors([1, 2, 50])
    X = pd.DataFrame({"x": [1, 1, 2, 3]})
    encoder = encoder_of(X, {"x": Categories(vectors=form(table))})
    assert encoder.categories_[0].tolist() == [1, 2, 3, 50]
    assert encoder.dims_ == [3]
    codes, values = encoder.specs()["categorical"].options["vectors"][0]
    assert codes.tolist() == [2, 3, 5]
    assert_allclose(values, np.array(list(table.values())))


def test_infrequent_categories_with_a_vector_are_known():
    X = pd.DataFrame({"x": list("aaaabbc")})
    kind = Categories(min_frequency=3, vectors=vectors("cz"))
    encoder = encoder_of(X, {"x": kind})
    assert encoder.categories_[0].tolist() == ["a", "c", "z"]
    assert encoder.infrequent_ == [True]


BAD_VECTORS = {
    "a list": ([1, 2], "must be a mapping"),
    "of other lengths": ({"a": [1.0, 2.0], "b": [1.0]}, "'b' has shape"),
    "of numbers": ({"a": 1.0, "b": 2.0}, "one-dimensional"),
    "empty": ({}, "are empty"),
    "not finite": ({"a": [1.0, np.inf]}, "finite numbers; that of 'a'"),
    "of words": ({"a": ["x"]}, "cannot be read as numbers"),
    "of a missing value": ({"a": [1.0], None: [2.0]}, "missing value"),
    "of another type": ({"a": [1.0], (1, 2): [2.0]}, "a tuple"),
    "twice": (pd.DataFrame([[1.0], [2.0]], index=["a", "a"]), "'a' twice"),
}


@pytest.mark.parametrize(("given", "words"), BAD_VECTORS.values(), ids=BAD_VECTORS.keys())
def test_bad_vectors(given, words):
    X = pd.DataFrame({"x": ["a", "b"]})
    with pytest.raises(ValueError, match=f"column 'x'.*{words}|{words}.*column 'x'"):
        encoder_of(X, {"x": Categories(vectors=given)})


def test_vectors_of_equal_categories():
    X = pd.DataFrame({"x": [3, 4]})
    given = {3: [1.0], "3": [2.0]}
    with pytest.raises(ValueError, match="3 and '3', which are one category"):
        encoder_of(X, {"x": Categories(vectors=given)})


def test_widths():
    X = pd.DataFrame({"x": ["a", "b"], "y": ["a", "c"]})
    kinds = {"x": Categories(vectors=vectors("ab", 3), vocabulary="v")}
    assert encoder_of(X, kinds, 8).dims_ == [3, 8]
    assert encoder_of(X, kinds, {"y": 5}).dims_ == [3, 5]
    assert encoder_of(X, kinds, {"x": 3, "y": 5}).dims_ == [3, 5]
    with pytest.raises(ValueError, match="of column 'x' is 4, and its `vectors` have 3 entries"):
        encoder_of(X, kinds, {"x": 4})
    kinds["y"] = Categories(vocabulary="v")
    assert encoder_of(X, kinds, 8).dims_ == [3, 3]
    with pytest.raises(ValueError, match="of column 'y' is 4, and its `vectors` have 3 entries"):
        encoder_of(X, kinds, [3, 4])
    shared = dict.fromkeys("xy", Categories(vocabulary="v"))
    assert encoder_of(X, shared, {"x": 5}).dims_ == [5, 5]
    with pytest.raises(ValueError, match=r"\['x', 'y'\] share a vocabulary"):
        encoder_of(X, shared, [3, 4])
    assert encoder_of(X, {"x": Hashed(64)}, "auto").dims_ == [32, 4]


# Bags ---------------------------------------------------------------------------------------------


def pool(pooling, rows):
    """Pool vectors, one number after another."""
    columns = list(zip(*rows, strict=True))
    total = [sum(column) for column in columns]
    return {
        "sum": total,
        "mean": [entry / len(rows) for entry in total],
        "max": [max(column) for column in columns],
    }[pooling]


LISTS = st.lists(st.lists(st.integers(0, 5), max_size=5), min_size=1, max_size=7)


@settings(max_examples=60)
@given(LISTS, st.sampled_from(["sum", "mean", "max"]), st.sampled_from([0, 2]), st.booleans())
def test_bags_are_pooled_row_by_row(lists, pooling, copies, sparse):
    known = [0, 1, 2, 3]
    X = pd.DataFrame({"x": pd.Series([known, *lists], dtype=object), "y": 1})
    encoder = encoder_of(X, {"x": Bag(pooling), "y": Categories()}, rows=np.array([0]))
    (spec,) = encoder.specs().values()
    block = BagsBlock(
        **spec.options, copies=copies, generator=torch.Generator().manual_seed(1)
    ).double()
    block.choose_sparse(sparse)
    with torch.no_grad():
        block.tables[0].normal_(generator=torch.Generator().manual_seed(2))
    part = codes_of(encoder, X)
    found = block.embed(block.prepare(part))
    assert found.shape == ((len(X), copies, 8) if copies else (len(X), 8))
    places = dict(block.places())
    table = block.tables[0].detach().view(len(block.tables[0]), max(copies, 1), 4)
    for row, cell in enumerate([known, *lists]):
        slots = [entry + 2 if entry in known else 1 for entry in cell] or [0]
        for k in range(max(copies, 1)):
            expected = pool(pooling, [table[slot, k].tolist() for slot in slots])
            vector = found[row, k] if copies else found[row]
            assert_allclose(vector[places[0]].detach(), expected, atol=1e-12)
            assert_allclose(vector[places[1]].detach(), table[6 + 2, k])
    # The gradient of a weighted sum, by the same loops.
    weight = torch.randn(*found.shape, dtype=torch.float64, generator=torch.Generator())
    (gradient,) = torch.autograd.grad((found * weight).sum(), block.tables[0])
    assert gradient.is_sparse == sparse
    expected = torch.zeros_like(table)
    for row, cell in enumerate([known, *lists]):
        slots = [entry + 2 if entry in known else 1 for entry in cell] or [0]
        for k in range(max(copies, 1)):
            w = weight[row, k] if copies else weight[row]
            expected[8, k] += w[places[1]]
            for position, place in enumerate(places[0]):
                entries = [table[slot, k, position].item() for slot in slots]
                for slot, entry in zip(slots, entries, strict=True):
                    share = {"sum": 1.0, "mean": 1 / len(slots)}.get(
                        pooling, (entry == max(entries)) / entries.count(max(entries))
                    )
                    expected[slot, k, position] += share * w[place]
    assert_allclose(gradient.to_dense(), expected.view(gradient.shape), atol=1e-12)


@settings(max_examples=60)
@given(LISTS, st.sampled_from(["sum", "mean", "max"]), st.randoms(use_true_random=False))
def test_the_order_in_a_cell_does_not_matter(lists, pooling, random):
    mixed = [random.sample(cell, len(cell)) for cell in lists]
    one, other = (pd.DataFrame({"x": pd.Series(v, dtype=object)}) for v in (lists, mixed))
    encoder = encoder_of(one, {"x": Bag(pooling)})
    a, b = codes_of(encoder, one), codes_of(encoder, other)
    assert torch.equal(a.values[0], b.values[0])
    assert torch.equal(a.offsets[0], b.offsets[0])


@settings(max_examples=60)
@given(
    st.lists(st.one_of(st.none(), st.integers(0, 4)), min_size=1, max_size=20),
    st.sampled_from(["sum", "mean", "max"]),
    RULES,
    st.one_of(st.none(), st.integers(1, 9)),
)
def test_a_bag_of_one_is_a_category(values, pooling, rule, n_slots):
    most, least = rule
    plain = pd.DataFrame({"x": pd.Series(values, dtype="Int64")})
    bags = pd.DataFrame({"x": pd.Series([[] if v is None else [v] for v in values], dtype=object)})
    if n_slots is None:
        kinds = Categories(most, least), Bag(pooling, None, most, least)
    else:
        kinds = Hashed(n_slots), Bag(pooling, n_slots)
    one, other = (encoder_of(X, {"x": kind}) for X, kind in zip((plain, bags), kinds, strict=True))
    assert one.categories_[0].tolist() == other.categories_[0].tolist()
    codes, part = codes_of(one, plain), codes_of(other, bags)
    assert part.values[0].tolist() == codes[:, 0].tolist()
    vectors = []
    for encoder, rows in ((one, torch.from_numpy(codes)), (other, part)):
        (spec,) = encoder.specs().values()
        make = TablesBlock if spec.kind == "tables" else BagsBlock
        block = make(**spec.options, generator=torch.Generator().manual_seed(0))
        block.count(rows)
        block.settle()
        vectors.append(block.eval().embed(block.prepare(rows)))
    assert torch.equal(*vectors)


FORMS = {
    "lists": lambda cell: cell,
    "tuples": tuple,
    "sets": set,
    "frozen sets": frozenset,
    "arrays": np.array,
    "arrays of objects": lambda cell: np.array(cell, dtype=object),
}


@pytest.mark.parametrize("values", [[[1, 3], [2], [3, 1, 2]], [["a"], ["c", "b"], ["a", "b"]]])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_forms_of_cells(values, form):
    def frame(make):
        cells = np.empty(5, dtype=object)
        for k, cell in enumerate(values):
            cells[k] = make(cell)
        cells[3:] = [None, np.nan]
        return pd.DataFrame({"x": cells})

    plain, other = frame(list), frame(form)
    expected = codes_of(encoder_of(plain, {"x": Bag()}), plain)
    encoder = encoder_of(other, {"x": Bag()})
    for part in (codes_of(encoder, other), encoder.transform_few(None, as_table(other).cells())):
        assert torch.equal(part.values[0], expected.values[0])
        assert part.offsets[0].tolist() == expected.offsets[0].tolist()
    assert expected.values[0][-2:].tolist() == [0, 0]


@pytest.mark.parametrize("rows", [[[1, 2], [], None, [7]], [["a"], None, [], ["b", "a"]]], ids=str)
def test_lists_of_arrow_and_polars(rows):
    pyarrow, polars = pytest.importorskip("pyarrow"), pytest.importorskip("polars")
    y = np.array([0, 1, 0, 1])
    kinds = {"x": Bag()}
    frames = [
        pd.DataFrame({"x": pd.Series(rows, dtype=object)}),
        pyarrow.table({"x": rows}),
        polars.DataFrame({"x": rows}),
        pyarrow.table({"x": rows}).to_pandas(types_mapper=pd.ArrowDtype),
    ]
    predicted = [
        small(SharedBottom, categorical_features=kinds, random_state=0).fit(X, y).predict_proba(X)
        for X in frames
    ]
    for other in predicted[1:]:
        assert np.array_equal(predicted[0], other)


def test_a_separator():
    X = pd.DataFrame({"x": ["a|b", "b", "", None, " a | | b|", "  "]})
    encoder = encoder_of(X, {"x": Bag(separator="|")})
    assert encoder.categories_[0].tolist() == ["a", "b"]
    part = codes_of(encoder, X)
    assert part.values[0].tolist() == [2, 3, 3, 0, 0, 2, 3, 0]
    assert part.offsets[0].tolist() == [0, 2, 3, 4, 5, 7, 8]


def test_a_missing_entry_reads_as_an_empty_cell():
    X = pd.DataFrame({"x": [[1, None], [np.nan, 2], [], [2, 2]]})
    part = codes_of(encoder_of(X, {"x": Bag()}), X)
    assert part.values[0].tolist() == [0, 2, 0, 3, 0, 3, 3]


WRONG_CELLS = {
    "a string": (["a", "b"], Bag(), "holds a str, 'a'.*separator"),
    "a number": ([1, 2], Bag(), "holds a int, 1"),
    "a dict": ([{"a": 1}, {}], Bag(), "holds a dict"),
    "a matrix": ([np.ones((2, 2)), []], Bag(), "holds a ndarray"),
    "lists in lists": ([[[1], [2]], [[3]]], Bag(), "holds a list, .1.*real number"),
    "fractions": ([[1.5], [2]], Bag(), "holds the number 1.5"),
    "hashed fractions": ([[1.5], [2]], Bag(n_slots=5), "holds the number 1.5"),
    "lists": ([[1], [2]], Categories(), r"categorical_features=\{'x': Bag\(\)\}"),
    "hashed lists": ([[1], [2]], Hashed(), r"categorical_features=\{'x': Bag\(\)\}"),
    "numbers with fractions": ([0.5, 1.0], Hashed(), "holds the number 0.5"),
    "bytes": ([b"a", b"b"], Hashed(), "'x' holds a bytes.*make strings"),
}


@pytest.mark.parametrize(("cells", "kind", "words"), WRONG_CELLS.values(), ids=WRONG_CELLS.keys())
def test_wrong_cells(cells, kind, words):
    X = pd.DataFrame({"x": pd.Series(cells)})
    model = small(SharedBottom, categorical_features={"x": kind})
    with pytest.raises((TypeError, ValueError), match=f"Column 'x'.*{words}|{words}"):
        model.fit(X, np.array([0, 1]))
    assert not hasattr(model, "module_")


def test_lists_without_a_kind():
    X = pd.DataFrame({"x": [[1], [2]]})
    with pytest.raises(TypeError, match=r"pass `categorical_features=\{'x': Bag\(\)\}`"):
        small(SharedBottom).fit(X, np.array([0, 1]))


@pytest.mark.parametrize("kind", [Categories(), Hashed()])
def test_lists_in_a_column_that_had_none(kind):
    X, y = pd.DataFrame({"x": ["a", "b"] * 20}), np.array([0, 1] * 20)
    model = small(SharedBottom, categorical_features={"x": kind}).fit(X, y)
    for n in (1, 40):
        with pytest.raises(TypeError, match="Column 'x' holds a list"):
            model.predict(pd.DataFrame({"x": [["a"]] * n}))


# Rows of bags -------------------------------------------------------------------------------------


def bags(n=50, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 5, (2, n), generator=generator)
    values = [torch.arange(int(own.sum())) for own in lengths]
    ends = [torch.cat([own.new_zeros(1), own.cumsum(0)]) for own in lengths]
    return Bags(torch.arange(n).unsqueeze(1), values, ends)


def as_lists(rows):
    """Return all codes, a list for each row."""
    found = [[code] for code in rows.codes[:, 0].tolist()]
    for values, ends in zip(rows.values, rows.offsets, strict=True):
        for row in range(len(rows)):
            start, stop = (int(ends[k] - ends[0]) for k in (row, row + 1))
            found[row].append(values[start:stop].tolist())
    return found


@settings(max_examples=50)
@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 20), st.integers(0, 20))
def test_cuts_of_bags(a, b, c, d):
    rows, expected = bags(), as_lists(bags())
    cut = rows[a:b]
    assert as_lists(cut) == expected[a:b]
    assert as_lists(cut[c:d]) == expected[a:b][c:d]
    order = torch.randperm(len(cut), generator=torch.Generator().manual_seed(1))
    assert as_lists(cut[order]) == [expected[a:b][k] for k in order]
    assert as_lists(cut[order][c:d]) == [expected[a:b][k] for k in order][c:d]


def test_bags_are_cut_in_runs():
    with pytest.raises(ValueError, match="cut in runs"):
        bags()[::2]


def test_rows_hold_bags():
    rows = Rows({"categorical": bags()}, np.zeros((50, 1)))
    assert len(rows) == 50
    assert rows.chunk_rows > 1
    assert as_lists(rows[3:7].parts["categorical"]) == as_lists(bags())[3:7]
    assert bags().nbytes == sum(t.nbytes for t in (bags().codes, *bags().values, *bags().offsets))


# Estimators ---------------------------------------------------------------------------------------


@everywhere
def test_every_architecture_takes_every_kind(cls, tmp_path):
    X, Y = SHOP[0][:100], make_table(100).targets(cls)
    model = small(cls, categorical_features=KINDS, max_epochs=1, n_members=2)
    model.fit(X, Y)
    predicted = model.predict_proba(X)
    one_by_one = [model.predict_proba(X.iloc[[k]]) for k in range(12)]
    assert_allclose(np.vstack(one_by_one), predicted[:12], atol=1e-6)
    assert_allclose(model.predict_proba(X.iloc[::-1])[::-1], predicted, atol=1e-6)
    path = tmp_path / "model.safetensors"
    model.save(path)
    for twin in (by_pickle(model), sk_mtl.load(path), clone(model).fit(X, Y)):
        assert np.array_equal(twin.predict_proba(X), predicted)


def test_bags_learn():
    X, Y = shop(600)
    model = small(MMoE, max_epochs=30, lr=0.02, categorical_features=KINDS).fit(X, Y)
    assert (model.predict(X)[:, 0] == Y["hot"]).mean() > 0.97


def test_pieces_and_early_stopping(monkeypatch):
    X, Y = SHOP
    fit = {"categorical_features": KINDS, "early_stopping": True, "max_epochs": 3}
    whole = small(SharedBottom, **fit).fit(X, Y)
    monkeypatch.setattr("sk_mtl.data.encoder.CHUNK_ROWS", 7)
    monkeypatch.setattr("sk_mtl.data.encoder.CHUNK_BYTES", 1)
    pieces = small(SharedBottom, **fit).fit(X, Y)
    assert np.array_equal(pieces.predict(X), whole.predict(X))
    assert whole.history_["valid_loss"].notna().all()


@pytest.mark.parametrize("sparse", [False, True])
def test_a_stream_of_bags(sparse):
    X, Y = SHOP
    model = small(SharedBottom, categorical_features=KINDS, sparse_embeddings=sparse)
    for start in range(0, N, 100):
        model.partial_fit(X[start : start + 100], Y[start : start + 100])
    predicted = model.predict(X)
    again = by_pickle(model)
    assert np.array_equal(again.predict(X), predicted)
    for one in (model, again):
        one.partial_fit(X[:50], Y[:50])
    assert np.array_equal(again.predict(X), model.predict(X))
    assert not np.array_equal(predicted, model.predict(X))
    before = copy.deepcopy(model.module_.state_dict())
    with pytest.raises(ValueError, match="label 7"):
        model.partial_fit(X[:5], Y[:5].assign(hot=7))
    for name, tensor in model.module_.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_warm_start_goes_on():
    X, Y = SHOP
    kinds = {**KINDS, "city": Categories(vectors=pd.DataFrame([[1.0, 2.0]], index=["x"]))}
    model = small(
        SharedBottom,
        categorical_features=kinds,
        warm_start=True,
        max_epochs=1,
        lr_schedule="constant",
    ).fit(X, Y)
    model.set_params(categorical_features=copy.deepcopy(kinds)).fit(X, Y)
    assert model.n_iter_ == 2
    model.set_params(categorical_features={**kinds, "item": Categories()})
    with pytest.raises(ValueError, match="`categorical_features` was"):
        model.fit(X, Y)


def test_unknown_entries_are_told():
    X, Y = SHOP
    model = small(SharedBottom, categorical_features={"seen": Bag(), "tags": Bag()}).fit(X, Y)
    strange = X.assign(seen=[[1000 + k] for k in range(N)])
    with pytest.warns(UserWarning, match="column 'seen' has values such as 1000"):
        model.predict(strange)


def test_one_kind_for_all_columns():
    X = pd.DataFrame({"a": list("aabbc"), "b": pd.Categorical(list("xxyyz")), "n": range(5)})
    encoder = encoder_of(X, Categories(max_categories=2))
    assert encoder.names_ == ["a", "b"]
    assert [index.tolist() for index in encoder.categories_] == [["b"], ["y"]]
    model = SharedBottom(categorical_features=Categories(max_categories=2))
    assert model.get_params()["categorical_features__max_categories"] == 2
    model.set_params(categorical_features__max_categories=3)
    assert model.categorical_features.max_categories == 3
    other = clone(model)
    assert other.categorical_features.max_categories == 3
    assert other.categorical_features is not model.categorical_features


def test_columns_by_position():
    X = np.array([[3, 0.5, 7], [4, 1.5, 7], [3, 2.5, 8]])
    features = FeatureEncoder([NumberEncoder(), CategoryEncoder({0: Hashed(10), 2: None}, 4)])
    features.fit(as_table(X))
    assert [encoder.columns_ for encoder in features.encoders] == [[1], [0, 2]]
    named = encoder_of(pd.DataFrame(X, columns=list("abc")), {"a": "hashed", 2: "learned"})
    assert named.names_ == ["a", "c"]


BAD_PARAMETERS = {
    "no such column": ({"z": Bag()}, "names 'z', which is no column of X"),
    "a kind that is none": ({"item": 3}, "of column 'item' is 3; pass an instance"),
    "a name that is none": ({"item": "bags"}, "of column 'item' is 'bags'"),
    "twice": ({"item": None, 0: None}, "column 'item' twice"),
    "n_slots": ({"item": Hashed(0)}, "n_slots` must be a whole number of at least 1"),
    "no slots": ({"item": Hashed(None)}, "n_slots` must be a whole number of at least 1"),
    "many slots": ({"item": Hashed(2**40)}, "at most"),
    "max_categories": (Categories(max_categories=0), "max_categories` must be a whole number"),
    "min_frequency": (Categories(min_frequency=0), "min_frequency` must be a whole number"),
    "a large share": (Categories(min_frequency=1.0), "below 1.*count as a whole number"),
    "pooling": ({"seen": Bag("min")}, "pooling` must be one of"),
    "separator": ({"seen": Bag(separator="")}, "separator` must be a string"),
    "vocabulary": ({"item": Categories(vocabulary=3)}, "vocabulary` must be a string"),
    "trainable": ({"item": Categories(trainable=1)}, "trainable` must be True or False"),
    "nothing to freeze": ({"item": Categories(trainable=False)}, "no `vectors`"),
    "hashed vectors": ({"seen": Bag(n_slots=5, vectors={1: [1.0]})}, "'seen' has `vectors`"),
    "hashed rules": ({"seen": Bag(n_slots=5, max_categories=3)}, "'seen' has `max_categories`"),
    "hashes that differ": (
        {"item": Hashed(5, "v"), "last": Hashed(6, "v")},
        "'item' and 'last' share the vocabulary 'v', and `n_slots` is 5 for one and 6",
    ),
    "rules that differ": (
        {"item": Categories(3, vocabulary="v"), "last": Categories(4, vocabulary="v")},
        "`max_categories` is 3 for one and 4",
    ),
    "vectors that differ": (
        {
            c: Categories(vocabulary="v", vectors={1: [float(c == "item")]})
            for c in ("item", "last")
        },
        "`vectors` is some for one and others for the other",
    ),
    "hashed and learned": (
        {"item": Hashed(5, "v"), "last": Categories(min_frequency=3, vocabulary="v")},
        "'last' has `min_frequency`, and its categories are hashed",
    ),
}


@pytest.mark.parametrize(("kinds", "words"), BAD_PARAMETERS.values(), ids=BAD_PARAMETERS.keys())
def test_bad_parameters(kinds, words):
    X, Y = SHOP
    model = small(SharedBottom, categorical_features=kinds)
    with pytest.raises(ValueError, match=words):
        model.fit(X, Y)


def test_vectors_in_a_file(tmp_path):
    """Long tables and short ones, of strings and numbers; and a fit after loading them."""
    X, Y = SHOP
    kinds = {
        "item": Categories(vectors=vectors(range(2000)), trainable=False),
        "city": Categories(vectors=vectors("xyz")),
        "seen": Bag(n_slots=70_000),
        "tags": Bag(separator=","),
    }
    model = small(SharedBottom, categorical_features=kinds).fit(X, Y)
    model.save(tmp_path / "file")
    loaded = sk_mtl.load(tmp_path / "file")
    assert np.array_equal(loaded.predict(X), model.predict(X))
    found = loaded.categorical_features
    assert {name: type(kind) for name, kind in found.items()} == {
        name: type(kind) for name, kind in kinds.items()
    }
    assert found["item"].trainable is False
    for name in ("item", "city"):
        assert list(found[name].vectors) == list(kinds[name].vectors)
        ours, theirs = (read_vectors(kind[name].vectors).values for kind in (kinds, found))
        assert np.array_equal(ours, theirs)
    assert np.array_equal(clone(loaded).fit(X, Y).predict(X), model.predict(X))


def test_skops(tmp_path):
    skops = pytest.importorskip("skops.io", reason="an extra")
    X, Y = SHOP
    kinds = {**KINDS, "city": Categories(vectors=vectors("xyz"))}
    model = small(SharedBottom, categorical_features=kinds).fit(X, Y)
    skops.dump(model, tmp_path / "model.skops")
    again = skops.load(tmp_path / "model.skops", trusted=sk_mtl.trusted_types())
    assert np.array_equal(again.predict(X), model.predict(X))


def test_what_is_printed():
    kind = Categories(min_frequency=3, vectors=vectors(range(100)))
    assert repr(kind) == "Categories(min_frequency=3, vectors=<dict of 100>)"
    assert repr(Bag("sum", n_slots=7)) == "Bag(pooling='sum', n_slots=7)"
    assert issubclass(Bag, CategoricalEncoding)


def test_plain_categories_stay_an_array():
    X = pd.DataFrame({"a": list("ab"), "b": [1, 2]})
    encoder = encoder_of(X, {"b": Hashed(10)})
    assert isinstance(codes_of(encoder, X), np.ndarray)
    plain = encoder_of(X, "from_dtype").specs()["categorical"]
    assert plain.kind == "tables"
    assert set(plain.options) == {"n_categories", "embedding_dims"}


def test_cells_are_looked_at_in_pieces(monkeypatch):
    """Integers and gaps in one piece, floats in another: one category stays one."""
    X = pd.DataFrame({"x": pd.Series([[1, 2], [], [2, None], [3.0], None, [1]], dtype=object)})
    whole = encoder_of(X, {"x": Bag(min_frequency=2)})
    assert whole.categories_[0].tolist() == [1, 2]
    monkeypatch.setattr("sk_mtl.data.categories.PIECE", 1)
    pieces = encoder_of(X, {"x": Bag(min_frequency=2)})
    assert pieces.categories_[0].tolist() == [1, 2]
    assert encoder_of(X, {"x": Bag()}).categories_[0].tolist() == [1, 2, 3]


def test_the_column_of_a_shared_vocabulary_is_named():
    X = pd.DataFrame({"a": [1, 2], "b": [0.5, 1.0]})
    with pytest.raises(ValueError, match="Column 'b' is declared categorical"):
        encoder_of(X, dict.fromkeys("ab", Categories(vocabulary="v")))


def test_inspection():
    X, Y = SHOP
    kinds = {**KINDS, "seen": Bag(n_slots=60_000, pooling="max"), "item": Hashed(vocabulary="item")}
    kinds["last"] = Hashed(vocabulary="item")
    model = small(MMoE, categorical_features=kinds, n_members=1).fit(X, Y)
    for weights in gate_weights(model, X).values():
        assert all(len(own) == N for own in weights)
    assert np.isfinite(gradient_conflict(model, X, Y).norms.to_numpy(dtype=float)).all()
    assert np.isfinite(task_affinity(model, X, Y).to_numpy(dtype=float)).all()


def test_columns_of_one_vocabulary_may_have_equal_vectors(tmp_path):
    """They are one object for the user, and two after loading: a fit takes both."""
    X, Y = SHOP[0][["item", "last"]], SHOP[1]
    given = vectors(X["item"].dropna().unique()[:3])
    kinds = {c: Categories(vocabulary="v", vectors=given) for c in ("item", "last")}
    model = small(SharedBottom, categorical_features=kinds).fit(X, Y)
    model.save(tmp_path / "model.sk")
    again = sk_mtl.load(tmp_path / "model.sk").fit(X, Y)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))

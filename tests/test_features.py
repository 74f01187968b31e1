"""The feature side: the same content in any container gives the same predictions."""

from random import Random

import numpy as np
import pandas as pd
import pytest
from conftest import PLAIN
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import sparse

from sk_mtl import SharedBottom
from sk_mtl.data import CategoryEncoder, FeatureEncoder, NumberEncoder
from sk_mtl.data.categories import auto_embedding_dim
from sk_mtl.data.frames import as_table
from sk_mtl.data.lookup import MISSING, UNKNOWN

RNG = np.random.default_rng(0)
N = 80


def network(**params):
    return SharedBottom(bottom_units=(8,), random_state=0, **PLAIN | {"max_epochs": 2} | params)


def fit_encoder(X, weight=None, numeric_features="standardize", embedding_dim="auto"):
    encoders = [NumberEncoder(numeric_features), CategoryEncoder("from_dtype", embedding_dim)]
    return FeatureEncoder(encoders).fit(as_table(X), None, weight)


def encode(X, other=None):
    """Return an encoder that has learned from X, and the parts of X or of other rows."""
    encoder = fit_encoder(X)
    return encoder, encoder.transform(as_table(X if other is None else other))


@pytest.fixture
def numbers():
    X = RNG.normal(size=(N, 3))
    return X, (X[:, 0] > 0).astype(int)


@pytest.mark.parametrize(
    "form",
    [
        np.asfortranarray,
        lambda X: np.repeat(X, 2, axis=0)[::2],
        lambda X: X.astype(object),
        lambda X: X.tolist(),
        sparse.csr_matrix,
        sparse.csc_matrix,
        sparse.csr_array,
    ],
)
def test_containers_of_numbers(numbers, form):
    X, y = numbers
    expected = network().fit(X, y).predict_proba(X)
    assert np.allclose(network().fit(form(X), y).predict_proba(form(X)), expected, atol=1e-5)


def test_read_only_and_memory_mapped(numbers, tmp_path):
    X, y = numbers
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    expected = network().fit(X, y).predict_proba(X)
    assert np.array_equal(network().fit(mapped, y).predict_proba(mapped), expected)


STRINGS = ["str"] if pd.__version__ >= "3" else []  # before, astype(str) makes words of gaps


@pytest.mark.parametrize("dtype", ["category", "object", "string", *STRINGS])
def test_dtypes_of_categories_are_one(dtype):
    words = pd.Series(RNG.choice(["x", "y", "z"], N)).where(RNG.random(N) > 0.2)
    expected = encode(pd.DataFrame({"c": words.astype("category")}))[1]["categorical"]
    got = encode(pd.DataFrame({"c": words.astype(dtype)}))[1]["categorical"]
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "float32"])
def test_dtypes_of_numbers_are_one(dtype):
    values = pd.Series(RNG.integers(0, 9, N)).where(RNG.random(N) > 0.2)
    expected = encode(pd.DataFrame({"n": values}))[1]["numeric"]
    got = encode(pd.DataFrame({"n": values.astype(dtype)}))[1]["numeric"]
    assert np.array_equal(got, expected, equal_nan=True)


def test_unseen_and_missing_categories_have_codes_of_their_own():
    X = pd.DataFrame({"c": ["a", "b", None, "a"]})
    _, parts = encode(X, pd.DataFrame({"c": ["b", "new", None, "a"]}))
    assert parts["categorical"][:, 0].tolist() == [3, UNKNOWN, MISSING, 2]


@given(st.lists(st.one_of(st.none(), st.text(max_size=3)), min_size=1, max_size=30), st.randoms())
@example(["", "\x00"], Random(0))
def test_known_categories_come_back(words, random):
    X = pd.DataFrame({"c": pd.Series(words, dtype=object)})
    encoder, parts = encode(X)
    codes, (categories,) = parts["categorical"], encoder.encoders[1].categories_
    known = [categories[c - 2] if c >= 2 else None for c in codes[:, 0]]
    assert known == [None if word is None else word for word in words]
    order = list(range(len(words)))
    random.shuffle(order)
    again = encoder.transform(as_table(X.iloc[order]))["categorical"]
    assert np.array_equal(again, codes[order])


def test_unseen_category_is_read_as_the_mean_of_the_known_ones():
    X = pd.DataFrame({"c": ["a"] * 30 + ["b"] * 10})
    model = network(embedding_dim=4).fit(X, [0] * 30 + [1] * 10)
    table = model.module_.embedding.blocks["categorical"].tables[0]
    mean = (30 * table[2] + 10 * table[3]) / 40
    assert np.allclose(table[UNKNOWN].detach(), mean.detach(), atol=1e-6)
    assert np.allclose(table[MISSING].detach(), mean.detach(), atol=1e-6)
    assert np.isfinite(model.predict_proba(pd.DataFrame({"c": ["new", None]}))).all()


def test_missing_numbers_take_the_mean_and_an_indicator():
    X = np.column_stack([RNG.normal(5, 2, N), RNG.normal(size=N)])
    X[::4, 0] = np.nan
    y = np.isnan(X[:, 0]).astype(int)
    model = network(lr=0.05).set_params(max_epochs=30).fit(X, y)
    assert model._fitted_.encoder.spec_["numeric"].options["missing_columns"] == [0]
    assert model.score(X, y) == 1.0  # only the indicator tells them apart
    filled = X.copy()
    filled[:, 1] = np.nan  # missing at predict only: the mean, no indicator
    at_mean = np.where(np.isnan(filled), [[np.nan, X[:, 1].mean()]], filled)
    assert np.allclose(model.predict_proba(filled), model.predict_proba(at_mean), atol=1e-6)


def test_time_stamps_keep_their_digits():
    seconds = RNG.normal(size=400)
    X = (1.7e9 + seconds)[:, None]
    model = network(lr=0.05).set_params(max_epochs=30).fit(X, (seconds > 0).astype(int))
    assert model.score(X, (seconds > 0).astype(int)) > 0.97


def test_statistics_are_weighted():
    X = pd.DataFrame({"n": [0.0, 10.0]})
    encoder = fit_encoder(X, np.array([3.0, 1.0]))
    spec = encoder.spec_["numeric"].options
    assert spec["mean"][0] == pytest.approx(2.5)
    assert spec["scale"][0] == pytest.approx(np.sqrt(18.75))
    numbers = encoder.encoders[0]
    found = numbers.counts_[0], numbers.means_[0], numbers.variances_[0]
    assert found == pytest.approx((4.0, 2.5, 18.75))
    raw = fit_encoder(X, numeric_features="passthrough").spec_["numeric"].options
    assert (raw["mean"][0], raw["scale"][0], raw["fill"][0]) == (0, 1, 5)


def test_constant_and_empty_columns():
    X = np.column_stack([np.full(N, 3.0), np.full(N, np.nan), RNG.normal(size=N)])
    assert np.isfinite(network().fit(X, X[:, 2]).predict(X)).all()


def widths_of(encoder):
    return encoder.spec_["categorical"].options["embedding_dims"]


def test_widths_of_embeddings():
    X = pd.DataFrame({"a": ["u", "v"] * 5, "b": list("abcdefghij")})
    dims = {
        "auto": [4, 8],
        6: [6, 6],
        (3, 5): [3, 5],
    }
    for asked, expected in dims.items():
        assert widths_of(fit_encoder(X, embedding_dim=asked)) == expected
    assert widths_of(fit_encoder(X, embedding_dim={"b": 7})) == [4, 7]
    widths = [auto_embedding_dim(n) for n in (0, 1, 2, 10, 100, 10_000, 10**7)]
    assert widths == sorted(widths)
    assert {4, 64} <= set(widths) <= {4, 8, 16, 32, 64}


def test_declared_columns_by_mask_index_and_name():
    X = pd.DataFrame({"n": RNG.normal(size=N), "code": RNG.integers(0, 4, N).astype(float)})
    y = (X["code"] > 1).astype(int)
    outs = [
        network(categorical_features=asked).fit(X, y).predict_proba(X)
        for asked in ([False, True], [1], ["code"])
    ]
    array = network(categorical_features=[1]).fit(X.to_numpy(), y).predict_proba(X.to_numpy())
    for out in outs:
        assert np.array_equal(out, array)


def test_names_at_one_time_and_not_at_the_other(numbers):
    X, y = numbers
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    model = network().fit(frame, y)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        assert np.array_equal(model.predict_proba(X), model.predict_proba(frame))

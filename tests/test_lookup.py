"""Short ways of encoding agree with the long one: cells of few rows, tables of integers."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import sk_mtl.data.encoder
from sk_mtl.data import CategoryEncoder, FeatureEncoder, NumberEncoder
from sk_mtl.data.frames import as_table, infer_numbers
from sk_mtl.data.lookup import CELLS, distinct_integers, encode_integers

WORDS = st.sampled_from(["", "a", "a\0", "b", "1", "nan", "ä"])
GAPS = st.sampled_from([None, np.nan, pd.NA])
SMALL = st.integers(-3, 3)
LARGE = st.sampled_from([2**53 + 1, -(2**62), 2**63 - 1])
FLOATS = st.sampled_from([-1.0, -0.0, 0.0, 1.0, 2.5, np.nan])
MIXED = st.one_of(WORDS, GAPS, SMALL, LARGE, FLOATS, st.booleans())


def columns(size: int) -> st.SearchStrategy:
    """Columns of `size` cells in the dtypes that users hold them in, and some of mixed cells."""

    def of(cells, *dtypes):
        rows = st.lists(cells, min_size=size, max_size=size)
        return st.builds(lambda v, d: pd.Series(v, dtype=d), rows, st.sampled_from(dtypes))

    words = st.one_of(WORDS, GAPS)
    return st.one_of(
        of(words, object, "category", "string"),
        of(SMALL, np.int64, np.int8, np.float64, object, "category", "Int64"),
        of(st.one_of(SMALL, st.none()), object, "Int64", "float64"),
        of(st.one_of(SMALL, LARGE), np.int64, object),
        of(FLOATS, np.float64, np.float32, object, "category"),
        of(st.booleans(), bool, object, "category", "boolean"),
        of(st.one_of(st.booleans(), st.none()), object, "boolean"),
        of(MIXED, object),
    )


def encoder_of(categorical):
    """Return an encoder of numbers and categories, not yet fitted."""
    return FeatureEncoder([NumberEncoder(), CategoryEncoder(categorical, 2)])


def outcome(encode):
    """Return what encoding gives, or what it raises."""
    try:
        return [np.asarray(part) for part in encode().values()]
    except (TypeError, ValueError) as error:
        return type(error)


def agree(one, other):
    if isinstance(one, type) or isinstance(other, type):
        return one is other
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, other, strict=True))


@settings(max_examples=200)
@given(st.data(), st.integers(1, 3), st.sampled_from([[], [0], [0, 1]]))
def test_few_rows_are_encoded_like_many(data, n, categorical):
    seen = pd.DataFrame({j: data.draw(columns(6)) for j in range(2)})
    encoder = encoder_of(categorical)
    try:
        encoder.fit(as_table(seen))
    except (TypeError, ValueError):
        return
    rows = pd.DataFrame({j: data.draw(columns(n)) for j in range(2)})
    long = pd.concat([rows] + [rows.iloc[:1]] * CELLS, ignore_index=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No category of X is known")
        expected = outcome(lambda: encoder.transform(as_table(long)))
    if not isinstance(expected, type):
        expected = [part[:n] for part in expected]
    assert agree(outcome(lambda: encoder.transform(as_table(rows))), expected)


@pytest.mark.parametrize("kind", [np.array, sparse.csr_matrix])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_few_rows_of_an_array(monkeypatch, kind, dtype):
    X = np.array([[1, 5, 0], [2, 6, 1], [3, 5, 0], [4, 7, 1]], dtype=dtype)
    encoder = encoder_of([1, 2]).fit(as_table(kind(X)))
    rows = as_table(kind(np.array([[9, 8, 1], [1, 7, 0]], dtype=dtype)))
    few = encoder.transform(rows)
    assert few["categorical"].tolist() == [[1, 3], [4, 2]]
    monkeypatch.setattr(sk_mtl.data.encoder, "CELLS", 0)
    many = encoder.transform(rows)
    assert few["numeric"].dtype == many["numeric"].dtype
    assert agree([few["categorical"]], [many["categorical"]])
    numbers = [found["numeric"] for found in (few, many)]
    dense = [part if kind is np.array else part.toarray() for part in numbers]
    assert agree([dense[0]], [dense[1]])


def test_a_single_row_is_encoded_by_its_cells(monkeypatch):
    X = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"], "c": pd.Categorical(["u", "v"])})
    encoder = encoder_of("from_dtype").fit(as_table(X))
    for cls in (NumberEncoder, CategoryEncoder):
        monkeypatch.setattr(cls, "transform", None)
    parts = encoder.transform(as_table(X.iloc[1:]))
    assert parts["numeric"].tolist() == [[2.0]]
    assert parts["categorical"].tolist() == [[3, 3]]


@given(
    st.lists(st.one_of(SMALL, st.integers(-(2**63), -(2**63) + 9)), min_size=1),
    st.sampled_from([np.int8, np.int64, np.uint8]),
)
def test_distinct_integers(values, dtype):
    column = pd.Series(values, dtype=np.int64).astype(dtype)
    found = distinct_integers(column)
    if found is not None:
        expected = pd.Index(column.drop_duplicates().array).sort_values()
        assert pd.Index(found).equals(expected)
        assert found.dtype == expected.dtype


INT64 = st.integers(-(2**63), 2**63 - 1)


@given(
    st.sets(st.one_of(SMALL, st.integers(2**62, 2**62 + 20)), min_size=1),
    st.lists(st.one_of(SMALL, INT64, st.integers(2**62 - 2, 2**62 + 30)), min_size=1),
)
def test_a_table_of_integers_finds_what_an_index_finds(known, values):
    index, column = pd.Index(sorted(known), dtype=np.int64), pd.Series(values, dtype=np.int64)
    codes = encode_integers(column, index)
    if codes is not None:
        positions = index.get_indexer(pd.Index(column))
        assert codes.tolist() == np.where(positions < 0, 1, positions + 2).tolist()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint32])
def test_narrow_integers_use_the_table(dtype):
    index = pd.Index([3, 5, 120], dtype=np.int64)
    codes = encode_integers(pd.Series([5, 0, 120, 127, 3], dtype=dtype), index)
    assert codes.tolist() == [3, 1, 4, 1, 2]
    assert encode_integers(pd.Series([5, -1]), index.astype(dtype)).tolist() == [3, 1]


def test_no_table_is_made_where_it_would_be_large():
    values = pd.Series(np.arange(100))
    assert encode_integers(values, pd.Index([0, 10**9])) is None
    assert encode_integers(values, pd.Index(np.arange(10**6))) is None
    assert encode_integers(values.astype(np.uint64), pd.Index([1])) is None
    assert encode_integers(infer_numbers(pd.Series([1.0])), pd.Index([1])) is None
    assert encode_integers(values, pd.Index(["a"])) is None
    assert distinct_integers(pd.Series([0, 10**9])) is None
    assert distinct_integers(pd.Series([1], dtype="Int64")) is None
    assert distinct_integers(values[:0]) is None

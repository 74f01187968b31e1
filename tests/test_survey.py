"""Encoders and tasks that learn from a stream: what they would of all tables as one."""

import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from sk_mtl.categorical import Bag, Categories, Hashed
from sk_mtl.data import (
    CategoryEncoder,
    ColumnEncoder,
    FeatureEncoder,
    NumberEncoder,
    survey_categories,
)
from sk_mtl.data import numbers as numbers_file
from sk_mtl.data.frames import ArrayTable, FrameTable, as_table
from sk_mtl.data.lookup import Lookup
from sk_mtl.data.survey import join_tables
from sk_mtl.numeric import ENCODINGS
from sk_mtl.tasks import (
    BinaryTask,
    Column,
    CountTask,
    MulticlassTask,
    OrdinalTask,
    QuantileTask,
    RegressionTask,
    make_tasks,
    make_tasks_stream,
    streamed,
)
from sk_mtl.tasks.reservoir import Reservoir

steady = settings(max_examples=60, deadline=None, derandomize=True, database=None)

seeds = st.integers(0, 2**31 - 2)


# Helpers ------------------------------------------------------------------------------------------


def make_encoder(numeric="standardize", categorical="from_dtype"):
    return FeatureEncoder([NumberEncoder(numeric), CategoryEncoder(categorical)])


def cut(n, rng, most=6):
    """Return runs that n rows are cut into, some of them empty."""
    ends = np.sort(rng.integers(0, n + 1, rng.integers(0, most)))
    return [slice(a, b) for a, b in zip([0, *ends], [*ends, n], strict=True)]


def as_pieces(frame, weight, runs):
    """Yield a frame's rows table by table."""
    for run in runs:
        part = frame.iloc[run] if isinstance(frame, pd.DataFrame) else frame[run]
        yield as_table(part), None if weight is None else weight[run]


def compare(encoder, whole, fresh, *, exactly=False):
    """Check that two encoders have learned the same."""
    ours, theirs = encoder.encoders[0], whole.encoders[0]
    close = assert_array_equal if exactly else lambda a, b: assert_allclose(a, b, 1e-12, 1e-14)
    assert ours.columns_ == theirs.columns_
    close(ours.counts_, theirs.counts_)
    close(ours.means_, theirs.means_)
    close(ours.variances_, theirs.variances_)
    assert ours.constant_ == theirs.constant_
    assert ours.missing_columns_ == theirs.missing_columns_
    assert ours.rounded_ == theirs.rounded_
    assert repr(ours.encodings_) == repr(theirs.encodings_)
    cats, wanted = encoder.encoders[1], whole.encoders[1]
    for one, other in zip(cats.categories_, wanted.categories_, strict=True):
        assert one.tolist() == other.tolist()
        assert list(map(type, one.tolist())) == list(map(type, other.tolist()))
        assert Lookup.of(one).kind == Lookup.of(other).kind
    for name in ("vocabularies_", "slots_", "infrequent_", "dims_", "names_", "poolings_"):
        assert getattr(cats, name) == getattr(wanted, name), name
    for one, other in zip(cats.frozen_, wanted.frozen_, strict=True):
        assert_array_equal(one, other)
    assert repr(cats.given) == repr(wanted.given)
    a, b = encoder.transform(fresh), whole.transform(fresh)
    assert list(a) == list(b)
    assert_array_equal(dense(a["numeric"]), dense(b["numeric"]))
    if hasattr(a["categorical"], "values"):
        assert_array_equal(a["categorical"].codes, b["categorical"].codes)
        for one, other in zip(a["categorical"].values, b["categorical"].values, strict=True):
            assert_array_equal(one, other)
    else:
        assert_array_equal(a["categorical"], b["categorical"])


def dense(block):
    return block.toarray() if sparse.issparse(block) else block


@st.composite
def frames(draw, least=1, most=120):
    """Draw a frame of columns of many kinds, weights or None, and rows that nobody has seen."""
    n, rng = draw(st.integers(least, most)), np.random.default_rng(draw(seeds))

    def column(kind, n):
        if kind == "normal":
            return rng.normal(3, 2, n)
        if kind == "whole":
            return rng.integers(-3, 9, n)
        if kind == "gaps":
            return np.where(rng.random(n) < 0.3, np.nan, rng.integers(0, 5, n) / 4)
        if kind == "late":
            return np.where(np.arange(n) < 0.8 * n, rng.random(n), np.nan)
        if kind == "nothing":
            return np.full(n, np.nan)
        if kind == "constant":
            return np.full(n, 7.25)
        if kind == "strings":
            return rng.choice([*"abcdefgh"], n)
        if kind == "some strings":
            found = rng.choice([*"abcdefgh"], n).astype(object)
            found[rng.random(n) < 0.3] = None
            return found
        if kind == "booleans":
            return rng.random(n) < 0.5
        if kind == "Categorical":
            return pd.Categorical(rng.choice(["x", "y", "z"], n), categories=["z", "y", "x", "w"])
        if kind == "mixed":
            return pd.Series(
                rng.choice(np.array([1, 2, "1", "b", True], dtype=object), n), dtype=object
            )
        return pd.array(rng.integers(0, 99, n), dtype="Int64")

    kinds = ["normal", "whole", "gaps", "late", "nothing", "constant", "strings", "some strings"]
    kinds += ["booleans", "Categorical", "mixed", "Int64"]
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=8, unique=True))
    frame = pd.DataFrame({kind: column(kind, n) for kind in chosen})
    fresh = pd.DataFrame({kind: column(kind, 20) for kind in chosen})
    weight = None if draw(st.booleans()) else rng.integers(0, 4, n).astype(float)
    if weight is not None:
        weight[0] = 1.0
    return frame, weight, fresh, rng


# Encoders -----------------------------------------------------------------------------------------


@steady
@given(frames())
def test_a_stream_teaches_what_the_whole_does(drawn):
    frame, weight, fresh, rng = drawn
    whole = make_encoder().fit(as_table(frame), None, weight)
    runs = cut(len(frame), rng)
    stream = make_encoder().fit_stream(as_pieces(frame, weight, runs))
    compare(stream, whole, as_table(fresh))


@steady
@given(frames(), st.sampled_from([*ENCODINGS, "auto"]))
def test_one_table_teaches_exactly_that(drawn, numeric):
    frame, weight, fresh, _ = drawn
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        whole = make_encoder(numeric).fit(as_table(frame), None, weight)
        stream = make_encoder(numeric).fit_stream([(as_table(frame), weight)])
    compare(stream, whole, as_table(fresh), exactly=True)


@pytest.mark.parametrize("numeric", [*ENCODINGS, "auto", ["standardize", "quantile"]])
@pytest.mark.parametrize("weighted", [False, True])
def test_encodings_see_all_rows_where_the_sample_holds_them(numeric, weighted):
    rng = np.random.default_rng(0)
    n = 4000
    frame = pd.DataFrame({"a": rng.normal(size=n), "b": rng.integers(0, 30, n).astype(float)})
    frame.loc[3500:3600, "b"] = np.nan
    weight = rng.integers(0, 3, n).astype(float) if weighted else None
    whole = make_encoder(numeric).fit(as_table(frame), None, weight)
    runs = [slice(k, k + 700) for k in range(0, n, 700)]
    stream = make_encoder(numeric).fit_stream(as_pieces(frame, weight, runs))
    compare(stream, whole, as_table(frame))


def test_the_rule_of_auto_goes_by_the_rows_of_the_stream():
    """2000 rows make a column of few whole numbers one of values; the sample has 500."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.integers(0, 4, 2400), "b": rng.normal(size=2400)})
    runs = [slice(k, k + 400) for k in range(0, 2400, 400)]
    stream = make_encoder("auto").fit_stream(as_pieces(frame, None, runs), sample_rows=500)
    whole = make_encoder("auto").fit(as_table(frame))
    assert [*stream.spec_] == [*whole.spec_]
    few = make_encoder("auto").fit(as_table(frame.iloc[:1900]))
    assert [*stream.spec_] != [*few.spec_]


def test_quantiles_of_a_sample_are_near_those_of_all():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": np.sort(rng.normal(size=50_000))})  # in order: the worst case
    runs = [slice(k, k + 5000) for k in range(0, 50_000, 5000)]
    stream = make_encoder("robust").fit_stream(as_pieces(frame, None, runs), sample_rows=5000)
    whole = make_encoder("robust").fit(as_table(frame))
    one, other = stream.spec_["numeric_robust"], whole.spec_["numeric_robust"]
    assert_allclose(one.options["center"], other.options["center"], atol=0.06)
    assert_allclose(one.options["scale"], other.options["scale"], rtol=0.08)


def test_rounding_is_that_of_a_table_as_large(monkeypatch):
    monkeypatch.setattr(numbers_file, "LARGE_BYTES", 8 * 3 * 999)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"a": rng.normal(size=1000), "b": rng.integers(0, 9, 1000), "c": 1e4 + rng.random(1000)}
    )
    runs = [slice(k, k + 300) for k in range(0, 1000, 300)]
    for numeric, rounded in {"standardize": [0], "values": []}.items():
        whole = make_encoder(numeric).fit(as_table(frame))
        stream = make_encoder(numeric).fit_stream(as_pieces(frame, None, runs))
        assert stream.encoders[0].rounded_ == whole.encoders[0].rounded_ == rounded
        compare(stream, whole, as_table(frame))
    short = make_encoder().fit_stream(as_pieces(frame.iloc[:999], None, runs))
    assert short.encoders[0].rounded_ == []


@pytest.mark.parametrize("weighted", [False, True])
def test_many_columns_are_read_some_at_a_time(weighted, monkeypatch):
    monkeypatch.setattr(numbers_file, "CHUNK_BYTES", 8 * 3 * 100)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(300, 10)), columns=[*"abcdefghij"])
    frame.loc[250, "e"] = np.nan
    weight = rng.random(300) if weighted else None
    whole = make_encoder(["standardize", "quantile"]).fit(as_table(frame), None, weight)
    runs = [slice(0, 100), slice(100, 220), slice(220, 300)]
    stream = make_encoder(["standardize", "quantile"])
    compare(stream.fit_stream(as_pieces(frame, weight, runs)), whole, as_table(frame))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_arrays_and_sparse_matrices(dtype, form):
    rng = np.random.default_rng(0)
    array = np.where(rng.random((300, 5)) < 0.5, 0, rng.normal(size=(300, 5))).astype(dtype)
    array[:, 3] = rng.integers(0, 6, 300)
    array[290, 1] = np.nan
    X, runs = form(array), [slice(0, 120), slice(120, 130), slice(130, 300)]
    whole = make_encoder(categorical=[3]).fit(as_table(X))
    stream = make_encoder(categorical=[3]).fit_stream(as_pieces(X, None, runs))
    ours, theirs = stream.encoders[0], whole.encoders[0]
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    assert_allclose(ours.means_, theirs.means_, tolerance, tolerance)
    assert_allclose(ours.variances_, theirs.variances_, tolerance, tolerance)
    assert ours.missing_columns_ == theirs.missing_columns_ == [1]
    assert stream.encoders[1].categories_[0].tolist() == whole.encoders[1].categories_[0].tolist()


def test_looking_at_single_values_of_a_sparse_matrix_is_refused():
    X = sparse.csr_array(np.eye(6))
    with pytest.raises(ValueError, match="X is sparse; pass a dense X"):
        make_encoder("quantile", None).fit_stream([(as_table(X), None)])


def test_a_stream_goes_on_where_a_column_has_no_number():
    """scikit-learn's scaler makes NaN of the variance."""
    first = pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": [1.0, 2.0, 3.0]})
    later = pd.DataFrame({"a": [np.nan, np.nan], "b": [4.0, 5.0]})
    both = make_encoder().fit(as_table(pd.concat([first, later])))
    stream = make_encoder().fit_stream([(as_table(first), None), (as_table(later), None)])
    compare(stream, both, as_table(first))
    updated = make_encoder().fit(as_table(first)).update(as_table(later))
    assert_allclose(updated.encoders[0].variances_, both.encoders[0].variances_)
    assert updated.encoders[0].constant_ == [False, False]


# Categories ---------------------------------------------------------------------------------------


RULES = [
    Categories(),
    Categories(max_categories=4),
    Categories(min_frequency=3),
    Categories(min_frequency=0.1),
    Categories(max_categories=5, min_frequency=2),
    Categories(vocabulary="common"),
    Categories(vocabulary="common", max_categories=4),
    Categories(vectors={"a": [1.0, 2.0], "new": [3.0, 4.0]}, min_frequency=3),
    Categories(vectors={"a": [1.0, 2.0]}, trainable=False),
    Hashed(7),
    Bag(separator="|"),
    Bag(separator="|", min_frequency=4),
    Bag(separator="|", n_slots=9),
]


@steady
@given(st.sampled_from(RULES), st.integers(1, 120), seeds, st.booleans())
def test_kinds_of_categories(kind, n, seed, small_steps):
    rng = np.random.default_rng(seed)

    def make(n):
        words = rng.choice([*"abcdefghij"], (n, 2), p=np.arange(10, 0, -1) / 55)
        several = pd.Series(["|".join(pair) for pair in words])
        first = several if kind.pooling else pd.Series(words[:, 0])
        second = pd.Categorical(words[:, 1]) if not kind.pooling else pd.Series(words[:, 1])
        frame = pd.DataFrame({"one": first, "two": second, "number": rng.normal(size=n)})
        return frame.mask(rng.random(frame.shape) < 0.1) if n > 3 else frame

    frame, fresh = make(n), make(15)
    asked = {"one": kind, "two": kind}
    if kind.vectors is not None and (frame["one"].isna().all() or frame["two"].isna().all()):
        return
    with pytest.MonkeyPatch.context() as patch:
        if small_steps:
            patch.setattr(survey_categories, "LEAST", 2)
        whole = make_encoder(categorical=asked).fit(as_table(frame))
        runs = cut(n, rng)
        stream = make_encoder(categorical=asked).fit_stream(as_pieces(frame, None, runs))
    compare(stream, whole, as_table(fresh))


@steady
@given(st.integers(2, 80), seeds, st.sampled_from([None, 4]))
def test_whole_numbers_that_are_floats_in_a_table_with_gaps(n, seed, most):
    rng = np.random.default_rng(seed)
    column = pd.array(rng.integers(0, 30, n), dtype="Int64")
    frame = pd.DataFrame({"id": column}).mask(rng.random((n, 1)) < 0.2)
    asked = {"id": Categories(max_categories=most)}
    whole = make_encoder(categorical=asked).fit(as_table(frame))

    def read(run):  # as a reader that has no whole numbers with gaps
        part = frame["id"].iloc[run]
        return part.to_frame().astype(float if part.hasnans else np.int32)

    parts = [read(run) for run in cut(n, rng)]
    if all(part["id"].dtype == float for part in parts if len(part)):
        return
    stream = make_encoder(categorical=asked).fit_stream((as_table(part), None) for part in parts)
    found, wanted = stream.encoders[1], whole.encoders[1]
    assert found.categories_[0].tolist() == wanted.categories_[0].tolist()
    assert all(type(value) is int for value in found.categories_[0].tolist())
    fresh = as_table(pd.DataFrame({"id": np.arange(35)}))
    assert_array_equal(found.transform(fresh), wanted.transform(fresh))


def test_dictionaries_that_differ_from_table_to_table():
    pa = pytest.importorskip("pyarrow")
    parts = [["b", "a", None], ["c", "c", "a"], [None, None, None], ["d", "b", "a"]]
    tables = [pa.table({"x": pa.array(part, pa.string()).dictionary_encode()}) for part in parts]
    pieces = [as_table(table.to_pandas()) for table in tables]
    pieces[1] = as_table(pd.DataFrame({"x": parts[1]}))  # plain strings in between
    assert isinstance(pieces[0].dtypes[0], pd.CategoricalDtype)
    everything = as_table(pd.DataFrame({"x": [value for part in parts for value in part]}))
    for kind in ("from_dtype", Categories(min_frequency=2)):
        stream = make_encoder(categorical=kind).fit_stream((piece, None) for piece in pieces)
        whole = make_encoder(categorical=kind).fit(everything)
        known = stream.encoders[1].categories_[0]
        assert known.tolist() == whole.encoders[1].categories_[0].tolist()
        for piece in pieces:
            assert_array_equal(
                stream.transform(piece)["categorical"], whole.transform(piece)["categorical"]
            )


def test_booleans_with_gaps_in_some_tables():
    parts = [[True, False], [None, True], [False, False]]
    pieces = [as_table(pd.DataFrame({"x": part})) for part in parts]
    assert [str(piece.dtypes[0]) for piece in pieces] == ["bool", "object", "bool"]
    stream = make_encoder().fit_stream((piece, None) for piece in pieces)
    assert stream.encoders[1].categories_[0].tolist() == [False, True]


def test_fractions_in_a_late_table_are_refused():
    pieces = [pd.DataFrame({"x": [1.0, 2.0]}), pd.DataFrame({"x": [1.0, 2.5]})]
    for kind in (Categories(), Hashed(8)):
        with pytest.raises(ValueError, match=r"'x' is declared categorical.* 2\.5"):
            fit_frames(*pieces, categorical={"x": kind})


def test_too_many_categories_are_refused_by_column(monkeypatch):
    monkeypatch.setattr(survey_categories, "MOST_CATEGORIES", 50)
    monkeypatch.setattr(survey_categories, "LEAST", 8)
    pieces = [
        pd.DataFrame({"few": [1, 2], "id": [f"u{2 * k}", f"u{2 * k + 1}"]}) for k in range(30)
    ]
    tables = [(as_table(piece), None) for piece in pieces]
    with pytest.raises(ValueError, match=r"'id' has more than 50 .*max_categories.*Hashed"):
        make_encoder().fit_stream(tables)
    make_encoder().fit_stream(tables[:25])  # 50 of them
    make_encoder(categorical=Hashed(8)).fit_stream(tables)
    encoder = make_encoder(categorical={"id": Categories(max_categories=9)}).fit_stream(tables)
    assert len(encoder.encoders[1].categories_[0]) == 8


@steady
@given(st.integers(50, 2000), st.integers(3, 40), st.floats(0.5, 3.0), seeds)
def test_no_category_of_its_share_is_lost(n, most, power, seed):
    """What `survey_categories` says of counts, with limits as small as that."""
    rng = np.random.default_rng(seed)
    values = np.minimum(rng.pareto(power, n) * 3, 500).astype(int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(survey_categories, "COUNTED", most)
        patch.setattr(survey_categories, "LEAST", 5)
        tally = survey_categories.Tally(counts=True)
        for run in cut(n, rng, 40):
            tally.add(pd.Series(values[run].astype(str)), "x", run.stop - run.start)
        tally._settle("x")
    true = pd.Series(values.astype(str)).value_counts()
    assert len(tally.index) <= most
    assert tally.floor <= n / (most + 1)
    lost = true[~true.index.isin(tally.index)]
    assert (lost <= tally.floor).all()
    exact = true[tally.index].to_numpy()
    assert (tally.counts <= exact).all()
    assert (exact <= tally.counts + tally.missed).all()
    if true.size <= most:
        assert tally.floor == 0


def test_the_choice_is_exact_or_a_warning_tells(monkeypatch):
    monkeypatch.setattr(survey_categories, "COUNTED", 40)
    monkeypatch.setattr(survey_categories, "LEAST", 10)
    rng = np.random.default_rng(0)
    often = rng.choice([f"often{k}" for k in range(5)], 3000)
    rare = [f"rare{k}" for k in range(1000)]
    values = rng.permutation(np.concatenate([often, rare]))
    tables = [as_table(pd.DataFrame({"x": values[k : k + 100]})) for k in range(0, 4000, 100)]
    encoder = make_encoder(categorical=Categories(max_categories=6))
    encoder.fit_stream((table, None) for table in tables)  # a warning would be an error
    whole = make_encoder(categorical=Categories(max_categories=6))
    whole.fit(as_table(pd.DataFrame({"x": values})))
    known = encoder.encoders[1].categories_[0].tolist()
    assert known == whole.encoders[1].categories_[0].tolist() == sorted(set(often))
    assert encoder.encoders[1].infrequent_ == [True]
    encoder = make_encoder(categorical=Categories(min_frequency=2))
    with pytest.warns(UserWarning, match=r"'x' has so many categories .* may be missing"):
        encoder.fit_stream((table, None) for table in tables)
    assert encoder.encoders[1].infrequent_ == [True]


def test_memory_is_that_of_the_vocabulary():
    """A hundred times as many rows take no more of it."""

    def peak(n_tables):
        rng = np.random.default_rng(0)

        def tables():
            for _ in range(n_tables):
                frame = pd.DataFrame({"a": rng.normal(size=2000), "id": rng.integers(0, 500, 2000)})
                yield as_table(frame.assign(s=("u" + frame["id"].astype(str)))), None

        asked = {"id": Categories(), "s": Categories(min_frequency=3)}
        encoder = make_encoder(["standardize", "quantile"], asked)
        tracemalloc.start()
        encoder.fit_stream(tables(), sample_rows=1000)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(2)
    assert peak(80) < 1.3 * peak(16)


# What is refused ----------------------------------------------------------------------------------


def fit_frames(*frames, **options):
    return make_encoder(**options).fit_stream((as_table(frame), None) for frame in frames)


@pytest.mark.parametrize(
    ("first", "later"),
    [
        ([1, 2], ["a", "b"]),
        (["a", "b"], [1, 2]),
        ([True, False], [1, 2]),
        ([1.5, 2.5], pd.to_datetime(["2020-01-01", "2020-01-02"])),
        ([1, 2], pd.Categorical([1, 2])),
    ],
)
def test_a_column_of_another_kind_is_refused(first, later):
    with pytest.raises(ValueError, match=r"'x' has dtype .* in the first table .* in a later one"):
        fit_frames(pd.DataFrame({"x": first}), pd.DataFrame({"x": later}))


def test_a_column_without_a_value_is_of_any_kind():
    nothing = pd.DataFrame({"x": [None, None], "y": [None, None]})
    some = pd.DataFrame({"x": [1.0, 2.0], "y": ["a", "b"]})
    stream = fit_frames(some, nothing)
    compare(
        stream,
        make_encoder().fit(as_table(pd.concat([some, nothing.astype(some.dtypes)]))),
        as_table(some),
    )


def test_dtypes_of_one_kind_may_change():
    parts = [np.array([1, 2], dtype=dtype) for dtype in (np.int8, np.int64, np.float32, float)]
    stream = fit_frames(*(pd.DataFrame({"x": part}) for part in parts))
    assert stream.encoders[0].means_.tolist() == [1.5]


@pytest.mark.parametrize(
    ("later", "words"),
    [
        (pd.DataFrame({"y": [1.0]}), "has the columns"),
        (pd.DataFrame({"x": [1.0], "y": [1.0]}), "has the columns"),
        (pd.DataFrame({"x": [np.inf]}), "infinity .* in column 'x'"),
        (pd.DataFrame({"x": [1e300]}), "'x' has a variance too large"),
    ],
)
def test_a_later_table_that_does_not_suit(later, words):
    with pytest.raises(ValueError, match=words):
        fit_frames(pd.DataFrame({"x": [1.0, 2.0]}), later)


def test_a_range_too_large_is_seen_over_all_tables():
    parts = [pd.DataFrame({"x": [-1.7e308, 1.0]}), pd.DataFrame({"x": [1.7e308, 2.0]})]
    with pytest.raises(ValueError, match="'x' has a range too large"):
        fit_frames(*parts, numeric="quantile")


def test_no_row_to_learn_from():
    empty = pd.DataFrame({"x": [1.0]}).iloc[:0]
    for tables in ([], [(as_table(empty), None)]):
        with pytest.raises(ValueError, match="no row to learn from"):
            make_encoder().fit_stream(tables)
    with pytest.raises(ValueError, match="all weights of the stream are zero"):
        make_encoder().fit_stream([(as_table(pd.DataFrame({"x": [1.0]})), np.zeros(1))])


def test_unknown_parameters_are_told_before_the_stream_is_read():
    def tables():
        yield as_table(pd.DataFrame({"x": [1.0]})), None
        pytest.fail("read on")

    with pytest.raises(ValueError, match="numeric_features"):
        make_encoder("unheard of").fit_stream(tables())


# Encoders of one's own ----------------------------------------------------------------------------


class Medians(ColumnEncoder):
    """An encoder that knows nothing of streams."""

    part = "medians"

    def choose(self, table):
        return [j for j, name in enumerate(table.names) if str(name).startswith("m")]

    def fit(self, table, rows, weight):
        self.shape_ = table.shape
        self.weight_ = weight
        self.medians_ = [table.column(j).median() for j in self.columns_]

    def transform(self, table):
        return table.block(self.columns_, {})

    def specs(self):
        return {}


def test_an_encoder_of_ones_own_learns_from_a_sample():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"m": rng.normal(size=5000), "s": rng.choice([*"abc"], 5000)})
    frame["c"] = frame["s"].astype("category")
    runs = [slice(k, k + 500) for k in range(0, 5000, 500)]
    for size in (400, 9000):
        own = Medians()
        encoder = FeatureEncoder([NumberEncoder(), CategoryEncoder(), own])
        encoder.fit_stream(as_pieces(frame, None, runs), sample_rows=size)
        assert own.shape_ == (min(size, 5000), 3)
        assert own.weight_ is None
        assert own.medians_[0] == pytest.approx(0, abs=0.15)
    assert own.medians_[0] == frame["m"].median()


def test_a_sample_keeps_no_more_of_a_dictionary_than_it_needs():
    words = [f"w{k}" for k in range(1000)]
    own = Medians()
    encoder = FeatureEncoder([NumberEncoder(), CategoryEncoder(None), own])
    frame = pd.DataFrame({"m": pd.Categorical(words)})
    survey = own.survey(as_table(frame), 5)
    own.columns_ = [0]
    for _ in range(4):
        survey.add(as_table(frame), None)
    assert all(len(t.frame["m"].cat.categories) <= 5 for t in survey.rows._pieces[1:])
    table, _ = survey.rows.result()
    assert len(table) == 5
    assert set(table.column(0)) <= set(words)
    assert encoder.encoders[2] is own


def test_tables_are_joined_in_their_form():
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    joined = join_tables([FrameTable(frame), FrameTable(frame.iloc[:1])])
    pd.testing.assert_frame_equal(joined.frame, frame.iloc[[0, 1, 0]].reset_index(drop=True))
    for form in (np.asarray, sparse.csr_array):
        joined = join_tables([ArrayTable(form(np.eye(3))), ArrayTable(form(np.eye(3)[:1]))])
        assert_array_equal(dense(joined.values), np.eye(3)[[0, 1, 2, 0]])


# The sample ---------------------------------------------------------------------------------------


@steady
@given(st.integers(1, 300), st.integers(1, 60), seeds, st.booleans())
def test_a_sample_is_of_its_size_in_order_and_whatever_the_pieces(n, size, seed, weighted):
    rng = np.random.default_rng(seed)
    values = np.arange(n)
    weight = rng.random(n) if weighted else None

    def draw(runs):
        sample = Reservoir(size, seed=seed)
        for run in runs:
            rows = sample.pick(run.stop - run.start)
            sample.put(values[run][rows], None if weight is None else weight[run][rows])
        return sample.result()

    found, own = draw(cut(n, rng, 20))
    again, _ = draw(cut(n, rng, 3))
    assert_array_equal(found, again)
    assert len(found) == min(n, size)
    assert (np.diff(found) > 0).all()
    assert own is None if weight is None else own.tolist() == weight[found].tolist()


def test_every_row_has_the_same_chance():
    hits = np.zeros(40)
    for seed in range(4000):
        sample = Reservoir(5, seed=seed)
        for start in range(0, 40, 8):
            sample.put(np.arange(start, start + 8)[sample.pick(8)], None)
        hits[sample.result()[0]] += 1
    assert_allclose(hits / 4000, 5 / 40, atol=0.025)


def test_weights_of_some_pieces_only():
    sample = Reservoir(10)
    for weight in (None, np.array([2.0, 3.0])):
        sample.put(np.arange(2)[sample.pick(2)], weight)
    assert sample.result()[1].tolist() == [1, 1, 2, 3]


# Tasks --------------------------------------------------------------------------------------------


def column(name, labels, order=None):
    """Return a column of labels, None where not observed."""
    labels = pd.Series(labels)
    observed = labels.notna().to_numpy()
    return Column(name, labels[observed].to_numpy(), observed, order)


def label_pieces(columns, weights, runs):
    for run in runs:
        found = []
        for one in columns:
            ends = np.concatenate([[0], np.cumsum(one.observed)])
            values = one.values[ends[run.start] : ends[run.stop]]
            found.append(one._replace(values=values, observed=one.observed[run]))
        yield found, None if weights is None else weights[run]


KINDS_TO_DRAW = {
    "binary": ["binary", "classification", "auto", BinaryTask(class_weight="balanced")],
    "words": ["multiclass", "auto", MulticlassTask(class_weight="balanced"), OrdinalTask()],
    "positive": [BinaryTask(positive="no"), BinaryTask(class_weight={"no": 3.0})],
    "whole": ["multiclass", "auto", "ordinal", "regression", CountTask(), MulticlassTask],
    "real": ["regression", "auto", RegressionTask, QuantileTask(quantile=0.7)],
    "amount": ["count", CountTask],
    "constant": ["regression", "count", "quantile"],
    "booleans": ["auto", "binary"],
}


def draw_labels(kind, n, rng):
    return {
        "binary": lambda: rng.integers(0, 2, n).astype(float),
        "words": lambda: rng.choice(np.array([*"abcd"], dtype=object), n),
        "positive": lambda: rng.choice(np.array(["no", "yes"], dtype=object), n),
        "whole": lambda: rng.integers(0, 9, n),
        "real": lambda: rng.normal(50, 3, n),
        "amount": lambda: rng.integers(0, 5, n) * 0.25,
        "constant": lambda: np.full(n, 0.1),
        "booleans": lambda: rng.random(n) < 0.5,
    }[kind]()


def show(tasks):
    """Return what tasks have learned, as something that can be compared."""
    return [(type(task), vars(task)) for task in tasks]


def same_tasks(found, wanted):
    assert [type(task) for task in found] == [type(task) for task in wanted]
    for one, other in zip(found, wanted, strict=True):
        a, b = vars(one), vars(other)
        assert a.keys() == b.keys()
        for name, value in a.items():
            if isinstance(value, float) or name == "_class_weights":
                assert (value is None) == (b[name] is None)
                if value is not None:
                    assert_allclose(value, b[name], 1e-12, 1e-14)
            elif isinstance(value, np.ndarray):
                assert_array_equal(value, b[name])
                assert value.dtype.kind == b[name].dtype.kind
            else:
                assert repr(value) == repr(b[name])


@steady
@given(st.data(), st.integers(30, 150), seeds, st.sampled_from([100_000, 4]), st.booleans())
def test_tasks_of_a_stream_are_those_of_all_labels(data, n, seed, most, weighted):
    rng = np.random.default_rng(seed)
    names = data.draw(st.lists(st.sampled_from([*KINDS_TO_DRAW]), min_size=1, max_size=4))
    kinds = [data.draw(st.sampled_from(KINDS_TO_DRAW[name])) for name in names]
    columns = []
    for k, name in enumerate(names):
        observed = rng.random(n) < rng.choice([1.0, 0.6])
        observed[:20] = True
        columns.append(Column(f"t{k}", draw_labels(name, n, rng)[observed], observed))
    weights = rng.integers(1, 5, (n, len(names))) / 4 if weighted else None
    wanted = make_tasks(columns, kinds, weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streamed, "MOST_LABELS", most)
        found = make_tasks_stream(label_pieces(columns, weights, cut(n, rng)), kinds)
    same_tasks(found, wanted)


@steady
@given(st.integers(5, 60), seeds)
def test_counts_of_labels_weigh_as_rows(n, seed):
    """Without weights a label of three rows counts three times."""
    rng = np.random.default_rng(seed)
    values = rng.choice([0.5, 2.0, 7.25], n, p=[0.8, 0.1, 0.1])
    columns = [Column("a", values, np.ones(n, dtype=bool))]
    (task,) = make_tasks_stream(label_pieces(columns, None, cut(n, rng)), "regression")
    assert task.mean_ == pytest.approx(values.mean(), rel=1e-12)


def whole_numbers(n):
    return [column("a", np.arange(n).repeat(2))]


@pytest.mark.parametrize("most", [100_000, 110])
def test_many_whole_numbers_under_auto(most, monkeypatch):
    monkeypatch.setattr(streamed, "MOST_LABELS", most)
    pieces = [slice(k, k + 10) for k in range(0, 240, 10)]
    with pytest.raises(ValueError, match=r"'a' has \d+ distinct whole numbers"):
        make_tasks_stream(label_pieces(whole_numbers(120), None, pieces), "auto")
    if most > 100:
        with pytest.warns(UserWarning, match="task 'a' are 60 distinct ones"):
            make_tasks_stream(label_pieces(whole_numbers(60), None, pieces[:12]), "auto")


def test_a_fraction_in_a_late_table_makes_values(monkeypatch):
    monkeypatch.setattr(streamed, "MOST_LABELS", 110)
    numbers = np.append(np.arange(200.0), 0.5)
    pieces = [slice(k, min(k + 10, 201)) for k in range(0, 201, 10)]
    (task,) = make_tasks_stream(label_pieces([column("a", numbers)], None, pieces), "auto")
    assert isinstance(task, RegressionTask)
    same_tasks([task], make_tasks([column("a", numbers)], "auto"))


@pytest.mark.parametrize("most", [100_000, 3])
@pytest.mark.parametrize(
    ("labels", "kind", "words"),
    [
        ([1, 1, 1], "classification", "one class only, 1"),
        ([None, None, None], "auto", "no observed label"),
        ([1.0, 2.5, np.inf, 3.5, 4.5], "regression", "infinity"),
        ([1.0, 2.5, 3.5, 4.5, -np.inf], "count", "infinity"),
        ([1.0, 2.5, 3.5, 4.5, 6.5, -2.0], "count", "has the label -2.0"),
        ([-1.7e308, 1.0, 2.0, 3.0, 1.7e308], "regression", "variance too large"),
        ([1.7e308, 1.6e308, 1.5e308, 1.4e308], "count", "mean too large"),
        (["a", "b", "c"], "binary", "has 3 classes"),
        ([0.5, 1.5, 2.5], "classification", "continuous value 0.5"),
        (["a", "b", "c"], "regression", "labels that are no numbers"),
    ],
)
def test_errors_are_those_of_all_labels(labels, kind, words, most, monkeypatch):
    monkeypatch.setattr(streamed, "MOST_LABELS", most)
    columns = [column("a", labels)]
    with pytest.raises(ValueError, match=words):
        make_tasks(columns, kind)
    pieces = [slice(k, k + 1) for k in range(len(labels))]
    with pytest.raises(ValueError, match=words):
        make_tasks_stream(label_pieces(columns, None, pieces), kind)


@pytest.mark.parametrize(
    ("first", "later"),
    [([1, 2], ["a", "b"]), (["a", "b"], [1.0, 2.0]), ([True, False], [1, 2])],
)
def test_labels_of_another_type_are_refused(first, later):
    labels = [([column("a", part)], None) for part in (first, later)]
    with pytest.raises(ValueError, match="task 'a' holds labels of mixed types"):
        make_tasks_stream(labels, "auto")


def test_whole_numbers_with_gaps_in_some_tables():
    labels = [([column("a", part)], None) for part in ([0, 1], [1.0, None], [None, None])]
    (task,) = make_tasks_stream(labels, "auto")
    assert task.classes_.tolist() == [0.0, 1.0]


def test_an_order_is_common_to_all_tables():
    parts = [(["a", "b"], ["b", "a", "c"]), (["c"], ["b", "a", "c"])]
    labels = [([column("size", part, order)], None) for part, order in parts]
    (task,) = make_tasks_stream(labels, "ordinal")
    assert task.order == ["b", "a", "c"]
    labels[1] = ([column("size", ["c"], ["a", "b", "c"])], None)
    for kind in ("ordinal", OrdinalTask, OrdinalTask()):
        with pytest.raises(ValueError, match=r"'size' have the order .* OrdinalTask"):
            make_tasks_stream(labels, kind)
    make_tasks_stream(labels, "multiclass")
    (task,) = make_tasks_stream(labels, OrdinalTask(order=["c", "a", "b"]))
    assert task.order == ["c", "a", "b"]


def test_other_targets_are_refused():
    labels = [([column("a", [0, 1])], None), ([column("b", [0, 1])], None)]
    with pytest.raises(ValueError, match=r"has the tasks \['b'\]"):
        make_tasks_stream(labels, "auto")
    with pytest.raises(ValueError, match="no label to learn from"):
        make_tasks_stream([], "auto")


def test_classes_known_beforehand():
    labels = [([column("a", [1, 2]), column("b", [0.5, 1.5])], None)]
    given = [np.array([1, 2, 3]), None]
    first, second = make_tasks_stream(labels, "auto", given)
    assert first.classes_.tolist() == [1, 2, 3]
    assert second.kind == "regression"


class Median(RegressionTask):
    """A kind that learns from the labels themselves."""

    def fit(self, values, weights, classes):
        self.seen_ = len(values)
        self.weights_ = weights
        super().fit(values, weights, classes)
        self.mean_ = float(np.median(values))
        return self


def test_a_kind_of_ones_own_gets_the_labels_or_a_sample(monkeypatch):
    values = np.random.default_rng(0).exponential(size=2000)
    columns = [column("a", values), column("b", values)]
    pieces = [slice(k, k + 100) for k in range(0, 2000, 100)]
    labels = [*label_pieces(columns, None, pieces)]
    first, second = make_tasks_stream(labels, [Median, "regression"])
    assert first.seen_ == 2000
    assert first.mean_ == np.median(values)
    assert second.mean_ == pytest.approx(values.mean(), rel=1e-12)
    assert (first.weights_ == 1).all()
    monkeypatch.setattr(streamed, "SAMPLED_LABELS", 500)
    (first, _) = make_tasks_stream(labels, [Median(), "regression"])
    assert first.seen_ == 500
    assert first.mean_ == pytest.approx(np.median(values), abs=0.1)


class Halved(RegressionTask):
    """A kind that changes the loss alone."""

    def loss(self, logits, target):
        return super().loss(logits, target) / 2


def test_a_kind_that_learns_as_ours_do_needs_no_sample(monkeypatch):
    monkeypatch.setattr(streamed, "MOST_LABELS", 10)
    monkeypatch.setattr(streamed, "SAMPLED_LABELS", 2)
    values = np.random.default_rng(0).normal(size=300)
    pieces = [slice(k, k + 30) for k in range(0, 300, 30)]
    (task,) = make_tasks_stream(label_pieces([column("a", values)], None, pieces), Halved)
    same_tasks([task], make_tasks([column("a", values)], Halved))


def test_memory_does_not_grow_with_values(monkeypatch):
    monkeypatch.setattr(streamed, "MOST_LABELS", 5000)

    def peak(n_pieces):
        rng = np.random.default_rng(0)
        labels = (([column("a", rng.normal(size=3000))], None) for _ in range(n_pieces))
        tracemalloc.start()
        make_tasks_stream(labels, "regression")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(2)
    assert peak(60) < 1.3 * peak(4)

"""Parquet files: read in bounded memory, and written whole or not at all."""

import datetime
import decimal
import errno
import gc
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs
from sklearn.base import clone

from sk_mtl._checks import ParameterError
from sk_mtl.data import DataFileError, ParquetSource, atomic_parquet, writing
from sk_mtl.data.frames import _from_arrow


def numbers(n, start=0):
    """Return rows that tell their numbers."""
    at = np.arange(start, start + n)
    return pa.table(
        {
            "x": at.astype(np.float32),
            "word": pa.array([f"w{i % 7}" for i in at], pa.string()),
            "w": at + 0.5,
            "y": at % 2,
        }
    )


def write(folder, *sizes, group=10, name="part"):
    """Write files of some sizes, rows numbered through; return them."""
    start, files = 0, []
    for i, n in enumerate(sizes):
        files.append(folder / f"{name}-{i}.parquet")
        pq.write_table(numbers(n, start), files[-1], row_group_size=group)
        start += n
    return files


def source(path, **options):
    return ParquetSource(path, options.pop("targets", "y"), **options)


# What is read -------------------------------------------------------------------------------------


def test_a_file(tmp_path):
    (file,) = write(tmp_path, 25)
    view = source(file, sample_weight="w").open()
    assert (view.n_rows, view.names, view.targets, view.weights) == (
        25,
        ["x", "word"],
        ["y"],
        ["w"],
    )
    assert [tuple(group) for group in view.groups] == [(0, 0, 10, 0), (0, 1, 10, 10), (0, 2, 5, 20)]
    table = view.read()
    assert table.column_names == ["x", "word", "y", "w"]
    assert table.equals(numbers(25).select(table.column_names))
    X, y, weight = view.rows(table)
    pd.testing.assert_frame_equal(X, numbers(25).select(["x", "word"]).to_pandas())
    pd.testing.assert_series_equal(y, numbers(25).to_pandas()["y"])
    np.testing.assert_array_equal(weight, np.arange(25) + 0.5)


def test_targets_and_weights_by_list(tmp_path):
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"x": [1, 2], "a": [0, None], "b": [1, 0], "w": [1, None]}), file)
    view = source(file, targets=["b", "a"], sample_weight=["w", "x"], features=["x2"])
    with pytest.raises(DataFileError, match="no column 'x2'; its columns are"):
        view.open()
    pq.write_table(
        pa.table({"x": [1, 2], "a": [0, None], "b": [1, 0], "w": [1, None], "v": [3, 4]}), file
    )
    view = source(file, targets=["b", "a"], sample_weight=["w", "v"]).open()
    assert view.names == ["x"]
    _, y, weight = view.rows(view.read())
    assert list(y.columns) == ["b", "a"]
    assert y["a"].isna().tolist() == [False, True]
    np.testing.assert_array_equal(weight, [[1, 3], [np.nan, 4]])


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return tmp_path_factory.mktemp("cut")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_streams_are_runs_of_the_groups(folders, data):
    sizes = data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=4).filter(any))
    group = data.draw(st.integers(1, 45))
    window = data.draw(st.integers(1, 50))
    folder = folders / f"{'-'.join(map(str, sizes))}x{group}"
    folder.mkdir(exist_ok=True)
    write(folder, *sizes, group=group)
    view = source(folder, window_rows=window).open()
    n = view.n_rows
    assert n == sum(sizes)
    order = data.draw(st.permutations(range(len(view.groups))))
    order = order[: data.draw(st.integers(0, len(order)))]
    expected = np.concatenate(
        [np.arange(g.first, g.first + g.n_rows) for g in map(view.groups.__getitem__, order)]
        or [np.zeros(0)]
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=5)))
    with view.reader(["x", "word"]) as reader:
        found = []
        for skip, stop in zip([0, *cuts], [*cuts, None], strict=True):
            run = reader.stream(order, skip, None if stop is None else stop - skip)
            part = read_numbers(run, window)
            np.testing.assert_array_equal(part, expected[skip:stop])
            found += part
            again = view.stream(order, skip, None if stop is None else stop - skip, ["x", "word"])
            assert read_numbers(again, window) == part
    np.testing.assert_array_equal(found, expected)


def read_numbers(stream, window):
    """Return the numbers of a stream's rows, which its positions tell too."""
    found = []
    for first, table in stream:
        assert 0 < len(table) <= window
        x = table.column("x").to_pylist()
        assert x == list(range(first, first + len(table)))
        assert table.column("word").to_pylist() == [f"w{int(i) % 7}" for i in x]
        found += x
    return found


def test_a_group_is_decoded_once_by_streams_that_follow(tmp_path, monkeypatch):
    (file,) = write(tmp_path, 1000, group=1000)
    view = source(file, window_rows=100).open()
    decoded = []
    iterate = pq.ParquetFile.iter_batches

    def counted(self, *args, **options):
        for batch in iterate(self, *args, **options):
            decoded.append(len(batch))
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    with view.reader() as reader:
        for skip in range(0, 1000, 80):
            list(reader.stream([0], skip, 80))
        assert sum(decoded) == 1000
        list(reader.stream([0], 80, 80))
        assert sum(decoded) == 1200
    with view.reader() as reader:
        stream = reader.stream([0], 0, 100)
        next(stream)
        stream.close()  # left before its end
        assert read_numbers(reader.stream([0], 50, 100), 100) == list(range(50, 150))


def test_strings_come_as_dictionaries_where_they_repeat(tmp_path):
    file = tmp_path / "rows.parquet"
    n = 2000
    rng = np.random.default_rng(0)
    ids = [f"{i:040x}" for i in rng.permutation(n)]
    table = pa.table(
        {"id": ids, "few": pa.array([f"kind {i % 5}" for i in range(n)], pa.large_string()),
         "y": ["no", "yes"] * (n // 2)}
    )  # fmt: skip
    pq.write_table(table, file, row_group_size=300)
    view = source(file, window_rows=500).open()
    assert view.coded == {"few"}
    for _, part in view.stream():
        assert pa.types.is_dictionary(part.schema.field("few").type)
        assert part.schema.field("id").type == part.schema.field("y").type == pa.string()
    assert view.read().equals(table)
    joined = pa.concat_tables(part for _, part in view.stream())
    assert joined.column("few").to_pylist() == table.column("few").to_pylist()


DTYPES = {
    "int8": pa.array([1, None, 3], pa.int8()),
    "int64": pa.array([2**60 + 1, None, 3]),
    "int32 without gaps": pa.array([1, 2, 3], pa.int32()),
    "uint64": pa.array([2**64 - 1, 0, 1], pa.uint64()),
    "uint16 with gaps": pa.array([None, 0, 1], pa.uint16()),
    "half": pa.array(np.array([1, 2.5, np.nan], np.float16)),
    "float": pa.array([1.5, None, np.nan], pa.float32()),
    "bool": pa.array([True, False, True]),
    "bool with gaps": pa.array([True, None, False]),
    "decimal": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("2.25")]),
    "string": pa.array(["a", None, "b"]),
    "large_string": pa.array(["a", None, "b"], pa.large_string()),
    "string_view": pa.array(["a", None, "b"], pa.string_view()),
    "dictionary": pa.array(["a", None, "b"]).dictionary_encode(),
    "dictionary int8": pa.array(["a", None, "b"]).cast(pa.dictionary(pa.int8(), pa.string())),
    "ordered": pa.DictionaryArray.from_arrays(
        pa.array([1, 0, None], pa.int8()), ["low", "high"], ordered=True
    ),
    "timestamp": pa.array([datetime.datetime(2020, 1, 1)] * 3, pa.timestamp("us")),
    "date": pa.array([datetime.date(2020, 1, 1)] * 3),
    "list": pa.array([[1, 2], None, []]),
    "null": pa.nulls(3),
}


@pytest.mark.parametrize("name", DTYPES)
def test_columns_come_as_from_memory(tmp_path, name):
    file = tmp_path / "rows.parquet"
    table = pa.table({"x": DTYPES[name], "y": [0, 1, 0]})
    pq.write_table(table, file)
    view = source(file).open()
    (tables,) = [part for _, part in view.stream(dictionaries=False)]
    for read in (view.read(), tables):
        pd.testing.assert_frame_equal(_from_arrow(read), _from_arrow(table))
        pd.testing.assert_frame_equal(view.rows(read)[0], _from_arrow(table)[["x"]])


def test_dictionaries_of_integers_and_int96_come_as_the_file_holds_them(tmp_path):
    file = tmp_path / "rows.parquet"
    when = pa.array([datetime.datetime(2020, 1, 1)] * 3, pa.timestamp("ns"))
    table = pa.table({"x": pa.array([5, 6, 5]).dictionary_encode(), "t": when, "y": [0, 1, 0]})
    pq.write_table(table, file, use_deprecated_int96_timestamps=True)
    read = source(file).open().read()
    assert read.schema.field("x").type == pa.int64()  # Parquet keeps dictionaries of strings only
    assert read.column("x").to_pylist() == [5, 6, 5]
    assert _from_arrow(read)["t"].equals(_from_arrow(table)["t"])


def test_a_frame_of_pandas_without_its_index(tmp_path):
    frame = pd.DataFrame({"x": [1, 2, 3], "y": [0, 1, 0]}, index=[7, 8, 9])
    frame.to_parquet(tmp_path / "a.parquet")
    view = source(tmp_path / "a.parquet").open()
    assert view.names == ["x"]
    frame.index.name = "id"
    frame.to_parquet(tmp_path / "b.parquet")
    assert source(tmp_path / "b.parquet").open().names == ["x"]
    view = source(tmp_path / "b.parquet", features=["x", "id"]).open()
    assert view.rows(view.read())[0].to_dict("list") == {"x": [1, 2, 3], "id": [7, 8, 9]}


def test_names_with_dots(tmp_path):
    table = pa.table({"a": [1, 2], "a.b": [3, 4], "s": [{"b": 5}, {"b": 6}], "y": [0, 1]})
    pq.write_table(table, tmp_path / "rows.parquet")
    view = source(tmp_path / "rows.parquet", features=["a.b", "a"]).open()
    assert view.read().equals(table.select(["a.b", "a", "y"]))


# Files --------------------------------------------------------------------------------------------


def test_folders_globs_and_lists(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "_old").mkdir()
    a, b, c = (tmp_path / "in" / name for name in ("a.parquet", "b.parquet", "deep/c.parquet"))
    for i, file in enumerate((a, b, c)):
        pq.write_table(numbers(10, 10 * i), file)
    for hidden in (tmp_path / "_old" / "x.parquet", tmp_path / ".x.parquet"):
        pq.write_table(numbers(99), hidden)
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "in" / "notes.txt").write_text("no rows")

    def files(path, **options):
        return [file.path for file in source(path, **options).open().files]

    everything = [str(a), str(b), str(c)]
    assert files(tmp_path) == files(str(tmp_path) + "/") == everything
    assert files(f"{tmp_path}/in/*.parquet") == everything[:2]
    assert files(f"{tmp_path}/in/[b-z].parquet") == files(f"{tmp_path}/*/[!a].par?uet") == [str(b)]
    assert files(f"{tmp_path}/**/*.parquet") == everything
    assert files(f"{tmp_path}/i*") == everything
    assert files([c, str(a)]) == [str(c), str(a)]
    assert files(tmp_path, filesystem=fs.LocalFileSystem()) == everything
    assert files(f"file://{tmp_path}") == everything
    assert files(tmp_path, filesystem=fsspec.filesystem("file")) == everything
    assert files("in", filesystem=fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())) == [
        "in/a.parquet", "in/b.parquet", "in/deep/c.parquet",
    ]  # fmt: skip
    assert source([c, a]).open().read().equals(pa.concat_tables([numbers(10, 20), numbers(10)]))
    odd = tmp_path / "in" / "a[1].parquet"
    pq.write_table(numbers(1), odd)
    assert files(odd) == [str(odd)]


def test_relative_paths(tmp_path, monkeypatch):
    (file,) = write(tmp_path, 5)
    monkeypatch.chdir(tmp_path)
    for path in (file.name, "*.parquet", "."):
        assert source(path).open().n_rows == 5


@pytest.fixture
def memory():
    remote = fsspec.filesystem("memory")
    yield remote
    remote.rm("/", recursive=True)


@pytest.mark.parametrize("path", ["memory://rows", "memory://rows/*.parquet", "rows"])
def test_a_source_of_fsspec(memory, path):
    for i in range(3):
        with memory.open(f"/rows/{i}.parquet", "wb") as file:
            pq.write_table(numbers(10, 10 * i), file, row_group_size=4)
    view = source(path, filesystem=None if "://" in path else memory).open()
    assert len(view.files) == 3
    assert view.read().equals(numbers(30))
    with pytest.raises(FileNotFoundError, match="no file or folder 'memory://rows/x'"):
        source("memory://rows/x").open()
    with pytest.raises(ValueError, match="different filesystems"):
        source(["memory://rows", "/tmp"]).open()


def test_a_folder_of_uneven_files(tmp_path):
    write(tmp_path, 0, 35, 1, 0, 100)
    view = source(tmp_path, window_rows=16).open()
    assert view.n_rows == 136
    assert view.read().equals(numbers(136))


def test_a_source_is_an_object_like_scikit_learn_s(tmp_path):
    write(tmp_path, 5)
    one = ParquetSource(tmp_path, ["y"], sample_weight="w", random_state=3)
    assert clone(one).get_params() == one.get_params()
    assert repr(one).startswith("ParquetSource(path=")
    assert "window_rows" not in repr(one)
    again = pickle.loads(pickle.dumps(one))
    assert again.open().read().equals(one.open().read())
    assert pickle.loads(pickle.dumps(one.open())).n_rows == 5
    ParquetSource(1, 2, features=3)  # checked when it is opened


# Memory -------------------------------------------------------------------------------------------

PEAK = """
import sys, pyarrow as pa
from sk_mtl.data import ParquetSource
view = ParquetSource(sys.argv[1], "c0", window_rows=65_536).open()
peak, n = 0, 0
for skip in (0, view.n_rows // 2):
    for _, table in view.stream(skip=skip):
        n += len(table)
        del table
del _
print(n, pa.default_memory_pool().max_memory(), pa.total_allocated_bytes())
"""


def test_a_row_group_larger_than_a_window_is_never_held(tmp_path):
    file, n = tmp_path / "one.parquet", 1_000_000
    rng = np.random.default_rng(0)
    columns = {f"c{j}": rng.integers(0, 10_000, n).astype(np.int32) for j in range(20)}
    pq.write_table(pa.table(columns), file, row_group_size=n)
    assert pq.ParquetFile(file).num_row_groups == 1
    done = run_python(PEAK, file)
    rows, peak, left = map(int, done.stdout.split())
    assert rows == 1.5 * n
    assert peak < 40 * 2**20  # 80 MB decoded, 35 MB encoded; two windows are 10 MB
    assert left == 0


def test_nothing_is_left_after_reading(tmp_path):
    write(tmp_path, 20_000, 20_000, group=1_000)
    view = source(tmp_path, window_rows=2_000).open()
    gc.collect()
    before, handles = pa.total_allocated_bytes(), len(os.listdir("/proc/self/fd"))
    rng = np.random.default_rng(0)
    for _ in range(10):
        for _, table in view.stream(rng.permutation(len(view.groups))):
            del table
    stopped = view.stream()
    next(stopped)
    stopped.close()
    gc.collect()
    assert pa.total_allocated_bytes() == before
    assert len(os.listdir("/proc/self/fd")) == handles


def run_python(code, *args):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip


# Mistakes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"targets": "no"}, DataFileError, r"rows.parquet' has no column 'no'; its columns are \["),
        ({"features": ["x", "no"]}, DataFileError, "no column 'no'"),
        ({"sample_weight": "no"}, DataFileError, "no column 'no'"),
        ({"features": "x"}, ParameterError, "`features` must be a list of names"),
        ({"features": []}, ParameterError, "`features` names no column"),
        ({"features": ["x", 1]}, ParameterError, "`features` must hold names of columns, got 1"),
        ({"features": ["x", "x"]}, ParameterError, "`features` names the column 'x' twice"),
        ({"features": ["x", "y"]}, ParameterError, "'y' is in `targets` and in `features`"),
        ({"targets": ["y", "y"]}, ParameterError, "`targets` names the column 'y' twice"),
        ({"targets": 3}, ParameterError, "`targets` must be a list of names"),
        ({"targets": []}, ParameterError, "`targets` names no column"),
        ({"sample_weight": "y"}, ParameterError, "'y' is in `targets` and in `sample_weight`"),
        ({"sample_weight": ["w", "x"]}, ParameterError, "names 2 columns and `targets` 1"),
        ({"sample_weight": "word"}, DataFileError, "sample_weight 'word' has the type string"),
        ({"window_rows": 0}, ParameterError, "`window_rows`"),
        ({"random_state": "x"}, ValueError, "seed"),
        ({"filesystem": "s3"}, TypeError, "`filesystem` must be one of pyarrow or fsspec, got str"),
        ({"targets": ["x", "y", "w", "word"]}, DataFileError, "no column for X beside"),
    ],
)
def test_mistakes_are_told_before_reading(tmp_path, options, error, told):
    pq.write_table(numbers(5), tmp_path / "rows.parquet")
    made = source(tmp_path / "rows.parquet", **options)
    with pytest.raises(error, match=told):
        made.open()


@pytest.mark.parametrize(
    ("path", "error", "told"),
    [
        ("missing.parquet", FileNotFoundError, "There is no file or folder '.*missing.parquet'"),
        ("empty", FileNotFoundError, r"The folder '.*empty' has no file \*.parquet"),
        ("empty/*.parquet", FileNotFoundError, r"No file matches the glob '.*empty/\*.parquet'"),
        ("no/folder/*.parquet", FileNotFoundError, "No file matches"),
        ("part-0.parquet*", None, ""),
    ],
)
def test_paths_that_match_nothing(tmp_path, path, error, told):
    (tmp_path / "empty").mkdir()
    write(tmp_path, 5)
    made = source(str(tmp_path / path))
    if error is None:
        assert made.open().n_rows == 5
        return
    with pytest.raises(error, match=told):
        made.open()


@pytest.mark.parametrize("path", [None, 3, [], [3], "", b"x"])
def test_paths_that_are_none(path):
    with pytest.raises((TypeError, ValueError), match="`path`"):
        source(path).open()


def test_a_file_named_twice(tmp_path):
    (file,) = write(tmp_path, 5)
    with pytest.raises(ValueError, match=r"names the file '.*part-0.parquet' twice"):
        source([file, tmp_path]).open()


def test_no_rows(tmp_path):
    write(tmp_path, 0, 0)
    with pytest.raises(DataFileError, match=r"There are no rows in the 2 files from '.*part-0"):
        source(tmp_path).open()


def test_partitions_are_refused_by_name(tmp_path):
    (tmp_path / "day=1").mkdir()
    write(tmp_path / "day=1", 5)
    with pytest.raises(DataFileError, match="of the partition 'day', which is no column"):
        source(tmp_path).open()
    with pytest.raises(DataFileError, match="'day' is the key of a partition"):
        source(tmp_path, features=["x", "day"]).open()
    assert source(tmp_path, features=["x"]).open().n_rows == 5
    assert source(tmp_path / "day=1").open().n_rows == 5


def test_columns_twice_in_a_file(tmp_path):
    table = pa.table([[1], [2], [0]], names=["x", "x", "y"])
    pq.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(DataFileError, match="has 2 columns 'x'"):
        source(tmp_path).open()


@pytest.mark.parametrize(
    "labels",
    [[[1]], [{"a": 1}], [datetime.datetime(2020, 1, 1)], [b"x"], [None]],
)
def test_labels_of_a_wrong_kind(tmp_path, labels):
    pq.write_table(pa.table({"x": [1], "y": labels}), tmp_path / "rows.parquet")
    with pytest.raises(DataFileError, match=r"The target 'y' has the type .*rows.parquet"):
        source(tmp_path).open()


def test_a_file_that_lacks_a_column(tmp_path):
    write(tmp_path, 5, 5)
    pq.write_table(numbers(5).drop_columns("word"), tmp_path / "part-1.parquet")
    with pytest.raises(DataFileError, match=r"part-1.parquet' has no column 'word'"):
        source(tmp_path).open()


def typed(*kinds):
    return [pa.array(values, kind) for values, kind in kinds]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (([1], pa.int32()), ([2**40], pa.int64()), pa.int64()),
        (([1], pa.uint8()), ([-2], pa.int8()), pa.int16()),
        (([1.5], pa.float32()), ([0.1], pa.float64()), pa.float64()),
        (([1.5], pa.float16()), ([0.5], pa.float32()), pa.float32()),
        (([1], pa.int64()), ([0.5], pa.float32()), pa.float64()),
        (([None], pa.null()), (["a"], pa.string()), pa.string()),
        ((["a"], pa.large_string()), (["b"], pa.string()), pa.large_string()),
        ((["a"], pa.dictionary(pa.int8(), pa.string())), (["b"], pa.string()), pa.string()),
        (
            (["a"], pa.dictionary(pa.int8(), pa.string())),
            (["b"], pa.dictionary(pa.int16(), pa.string())),
            pa.dictionary(pa.int32(), pa.string()),
        ),
        (
            ([decimal.Decimal("1.5")], pa.decimal128(3, 1)),
            ([decimal.Decimal("22.75")], pa.decimal128(5, 2)),
            pa.decimal128(5, 2),
        ),
        ((["1"], pa.string()), ([1], pa.int64()), None),
        (([True], pa.bool_()), ([1], pa.int64()), None),
        (([decimal.Decimal("1.5")], pa.decimal128(3, 1)), ([1.5], pa.float64()), None),
        (([[1]], pa.list_(pa.int64())), ([1], pa.int64()), None),
        (
            (["a"], pa.dictionary(pa.int8(), pa.string(), ordered=True)),
            (["b"], pa.dictionary(pa.int8(), pa.string())),
            None,
        ),
    ],
)
@pytest.mark.parametrize("swap", [False, True])
def test_types_that_change_between_files(tmp_path, one, other, expected, swap):
    pair = typed(one, other)[:: -1 if swap else 1]
    for i, values in enumerate(pair):
        pq.write_table(pa.table({"x": values, "y": [i]}), tmp_path / f"{i}.parquet")
    made = source(tmp_path)
    if expected is None:
        with pytest.raises(DataFileError, match=r"'x' is .* in '.*0.parquet' and .*1.parquet'"):
            made.open()
        return
    table = made.open().read()
    assert table.schema.field("x").type == expected
    assert table.column("x").to_pylist() == [
        value for values in pair for value in values.to_pylist()
    ]
    for _, part in made.open().stream():
        assert part.column("x").to_pylist() in [values.to_pylist() for values in pair]


def test_integers_that_floats_cannot_hold(tmp_path):
    pq.write_table(pa.table({"x": [2**60 + 1], "y": [0]}), tmp_path / "0.parquet")
    pq.write_table(pa.table({"x": [0.5], "y": [1]}), tmp_path / "1.parquet")
    with pytest.raises(
        DataFileError, match=r"0.parquet' .* in the column 'x'.*1152921504606846977"
    ):
        source(tmp_path).open().read()


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no rows at all, but some text", "cut"])
def test_a_damaged_footer(tmp_path, content):
    (file,) = write(tmp_path, 50)
    file.write_bytes(file.read_bytes()[:-20] if content == "cut" else content)
    with pytest.raises(DataFileError, match=r"part-0.parquet' cannot be read as Parquet"):
        source(tmp_path).open()


def damage(file, column):
    """Overwrite a column's pages in the second row group."""
    chunk = pq.ParquetFile(file).metadata.row_group(1).column(column)
    content = bytearray(file.read_bytes())
    start = chunk.data_page_offset
    content[start : start + 20] = b"\xff" * 20
    file.write_bytes(content)


def test_a_damaged_page_is_told_with_file_and_column(tmp_path):
    write(tmp_path, 50, 50)
    damage(tmp_path / "part-1.parquet", 1)
    view = source(tmp_path).open()
    rows = 0
    with pytest.raises(DataFileError, match=r"part-1.parquet' cannot .* in the column 'word'"):  # noqa: PT012
        for _, table in view.stream():
            rows += len(table)
    assert rows == 50
    assert view.read(["x", "y"]).num_rows == 100


def test_a_flipped_bit_is_found_by_the_page_s_checksum(tmp_path):
    file = tmp_path / "rows.parquet"
    table = pa.table({"x": np.arange(1000.0), "y": np.arange(1000) % 2})
    pq.write_table(table, file, compression="none", use_dictionary=False, write_page_checksum=True)
    content = bytearray(file.read_bytes())
    content[content.index(np.float64(500).tobytes()) + 6] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataFileError, match=r"rows.parquet.* in the column 'x'.*CRC|crc"):
        source(file).open().read()


def test_files_that_change_while_they_are_read(tmp_path):
    write(tmp_path, 50)
    view = source(tmp_path).open()
    pq.write_table(numbers(20), tmp_path / "part-0.parquet", row_group_size=5)
    with pytest.raises(DataFileError, match="has other rows than its footer said at first"):
        view.read()
    os.unlink(tmp_path / "part-0.parquet")
    with pytest.raises(FileNotFoundError, match=r"part-0.parquet"):
        view.read()


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r'pip install "sk_mtl\[parquet\]"'):
        source(tmp_path).open()


# Sorted rows --------------------------------------------------------------------------------------


def trends(tmp_path, group=100, **columns):
    n = len(next(iter(columns.values())))
    table = pa.table({"y": np.random.default_rng(5).integers(0, 2, n), **columns})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=group)
    return source(tmp_path, window_rows=300).open()


def test_sorted_columns_are_warned_of(tmp_path):
    at, rng = np.arange(1000), np.random.default_rng(0)
    view = trends(
        tmp_path,
        time=at,
        down=-at / 7,
        day=at // 150,
        word=[f"{i:06d}" for i in at],
        gaps=pa.array([None if i < 200 else i for i in range(1000)]),
        random=rng.normal(size=1000),
        few=rng.integers(0, 3, 1000),
        constant=np.ones(1000),
        missing=pa.nulls(1000, pa.int64()),
        rare=(at > 985).astype(int),
    )
    with pytest.warns(
        UserWarning, match=r"'time' \(ascending\), 'down' \(descending\).*about 3 of"
    ):
        found = view.sorted_columns()
    assert found == {
        "time": "ascending", "down": "descending", "day": "ascending", "word": "ascending",
        "gaps": "ascending",
    }  # fmt: skip


def test_rows_sorted_by_a_label(tmp_path):
    view = trends(tmp_path, x=np.random.default_rng(0).normal(size=1000))
    pq.write_table(
        view.read().sort_by([("y", "descending")]), tmp_path / "rows.parquet", row_group_size=100
    )
    with pytest.warns(UserWarning, match=r"'y' \(descending\)"):
        source(tmp_path, window_rows=300).open().sorted_columns()


@pytest.fixture(scope="module")
def alarms(tmp_path_factory):
    return tmp_path_factory.mktemp("alarms")


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), group=st.integers(4, 100), values=st.integers(1, 1000))
def test_no_false_alarm(alarms, seed, group, values):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, values, 1000)
    view = trends(alarms, group, x=x, z=rng.normal(size=1000), c=np.zeros(1000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert view.sorted_columns() == {}


def test_few_groups_or_a_large_window_are_not_warned_of(tmp_path):
    few = trends(tmp_path, group=150, x=np.arange(1000))
    assert few.sorted_columns() == {}
    trends(tmp_path, x=np.arange(1000))
    whole = source(tmp_path, window_rows=1000).open()
    assert whole.sorted_columns() == {"x": "ascending"}


def test_without_statistics_nothing_is_said(tmp_path):
    table = pa.table({"x": np.arange(1000), "y": np.arange(1000) % 2})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=50, write_statistics=False)
    assert source(tmp_path, window_rows=100).open().sorted_columns() == {}


# Writing ------------------------------------------------------------------------------------------


def test_a_file_is_there_when_it_is_whole(tmp_path):
    file = tmp_path / "out.parquet"
    with atomic_parquet(file, numbers(0).schema, compression="zstd") as writer:
        writer.write(numbers(10))
        assert not file.exists()
        with pytest.raises(FileNotFoundError):  # what is half-written is no data
            source(tmp_path).open()
        writer.write(numbers(10, 10))
        assert writer.n_rows == 20
    assert os.listdir(tmp_path) == ["out.parquet"]
    assert pq.read_table(file).equals(numbers(20))
    assert pq.ParquetFile(file).metadata.row_group(0).column(0).compression == "ZSTD"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("existing", [False, True])
def test_an_interruption_leaves_what_was_there(tmp_path, error, existing):
    file = tmp_path / "out.parquet"
    if existing:
        pq.write_table(numbers(3), file)
    with pytest.raises(error), atomic_parquet(file, numbers(0).schema) as writer:  # noqa: PT012
        writer.write(numbers(10))
        raise error
    assert os.listdir(tmp_path) == (["out.parquet"] if existing else [])
    if existing:
        assert pq.read_table(file).equals(numbers(3))
    with atomic_parquet(file, numbers(0).schema) as writer:
        writer.write(numbers(10))
    assert pq.read_table(file).equals(numbers(10))


def test_a_table_of_another_schema(tmp_path):
    with (
        pytest.raises(ValueError, match="schema"),
        atomic_parquet(tmp_path / "out.parquet", numbers(0).schema) as writer,
    ):
        writer.write(pa.table({"z": [1]}))
    assert os.listdir(tmp_path) == []


def test_a_full_disk(tmp_path, monkeypatch):
    class Full:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, content):
            if self.file.tell() > 5_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.file.write(content)

    opened = writing.Place.open
    monkeypatch.setattr(writing.Place, "open", lambda self: Full(opened(self)))
    file = tmp_path / "out.parquet"
    pq.write_table(numbers(3), file)
    with (
        pytest.raises(OSError, match=r"out.parquet' cannot be written: No space left") as caught,
        atomic_parquet(file, numbers(0).schema) as writer,
    ):
        writer.write(numbers(10_000))
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == ["out.parquet"]
    assert pq.read_table(file).equals(numbers(3))


LIMITED = """
import resource, signal, sys, pyarrow as pa
from sk_mtl.data import atomic_parquet
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
table = pa.table({"x": list(range(20_000))})
try:
    with atomic_parquet(sys.argv[1], table.schema) as writer:
        writer.write(table)
except OSError as error:
    print(type(error).__name__, error.errno, error)
"""


def test_a_file_that_may_not_grow(tmp_path):
    done = run_python(LIMITED, tmp_path / "out.parquet")
    assert done.stdout.startswith(f"OSError {errno.EFBIG} ")
    assert "out.parquet' cannot be written" in done.stdout
    assert os.listdir(tmp_path) == []


KILLED = """
import sys, pyarrow as pa
from sk_mtl.data import atomic_parquet
table = pa.table({"x": list(range(1000))})
with atomic_parquet(sys.argv[1], table.schema) as writer:
    print("begun", flush=True)
    while True:
        writer.write(table)
"""


def test_a_killed_process_leaves_no_file_of_that_name(tmp_path):
    file = tmp_path / "out.parquet"
    pq.write_table(numbers(3), file)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(file)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "begun\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    assert pq.read_table(file).equals(numbers(3))
    assert source(tmp_path).open().n_rows == 3  # what is left is hidden


def test_places_that_cannot_be_written(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match=r"there is no folder '.*missing'; make it first"),
        atomic_parquet(tmp_path / "missing" / "out.parquet", numbers(0).schema),
    ):
        pass
    with (
        pytest.raises(IsADirectoryError, match="is a folder; pass the path of a file"),
        atomic_parquet(tmp_path, numbers(0).schema),
    ):
        pass


def test_a_link_keeps_pointing_to_its_file(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.parquet"
    link.symlink_to(tmp_path / "real" / "out.parquet")
    with atomic_parquet(link, numbers(0).schema) as writer:
        writer.write(numbers(2))
    assert link.is_symlink()
    assert pq.read_table(tmp_path / "real" / "out.parquet").equals(numbers(2))


@pytest.mark.parametrize("by_url", [False, True])
def test_writing_through_fsspec(memory, by_url):
    path, where = ("memory://out/a.parquet", None) if by_url else ("/out/a.parquet", memory)
    for n in (10, 5):  # the second one replaces the first
        with atomic_parquet(path, numbers(0).schema, filesystem=where) as writer:
            writer.write(numbers(n))
        assert memory.ls("/out", detail=False) == ["/out/a.parquet"]
        assert source(path, filesystem=where).open().read().equals(numbers(n))
    with (
        pytest.raises(KeyboardInterrupt),
        atomic_parquet(path, numbers(0).schema, filesystem=where) as writer,
    ):
        raise KeyboardInterrupt
    assert memory.ls("/out", detail=False) == ["/out/a.parquet"]
    assert source(path, filesystem=where).open().n_rows == 5


def test_writing_on_a_filesystem_of_pyarrow(tmp_path):
    where = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    with atomic_parquet("a.parquet", numbers(0).schema, filesystem=where) as writer:
        writer.write(numbers(4))
    assert os.listdir(tmp_path) == ["a.parquet"]
    assert source("a.parquet", filesystem=where).open().n_rows == 4


def test_rows_without_labels(tmp_path):
    write(tmp_path, 5)
    view = source(tmp_path, targets=None, features=["x", "w"]).open()
    assert view.targets == []
    assert view.read().equals(numbers(5).select(["x", "w"]))

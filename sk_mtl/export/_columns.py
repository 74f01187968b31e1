"""From the columns of X, as tensors of a type each, to the parts that a network reads."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sk_mtl.data import CategoryEncoder, NumberEncoder
from sk_mtl.data.lookup import FIRST_KNOWN, MISSING, UNKNOWN, HashLookup, Lookup
from sk_mtl.export._graph import ML, Graph
from sk_mtl.export._program import check_parts

MISSING_STRING = ""
"""The string that stands for a missing value, if nothing else is asked for."""

MISSING_INTEGER = -(2**63)
"""The integer that stands for a missing category among integers and booleans."""

EXACT = float(2**53)
"""Whole numbers up to here are exact as floats."""

BEYOND = float(2**63)
"""The first float that is too large for an int64."""


class Source(NamedTuple):
    """A tensor of some columns of X, side by side: its name, numpy's name of its dtype, width."""

    name: str
    dtype: str
    width: int = 1


class Codes(NamedTuple):
    """The known categories of a column, as a table of ONNX holds them.

    ``kind`` is "string", "int", "float" (whole numbers), "bool" or "none" (no category is known),
    ``keys`` are the categories as strings or integers, ``codes`` the code of each.
    """

    name: Any
    kind: str
    keys: list[Any]
    codes: list[int]


KINDS = {str: "string", int: "int", float: "float", bool: "bool"}


def read_codes(encoder: CategoryEncoder, missing_string: str) -> list[Codes]:
    """Return the known categories of each categorical column.

    Raises
    ------
    ValueError
        If a column's categories have no form in ONNX, by name, with what to do instead.
    """
    looked_up = zip(encoder.names_, encoder.lookups, strict=True)
    return [_read_column(name, lookup, missing_string) for name, lookup in looked_up]


def _read_column(name: Any, lookup: Lookup | HashLookup, missing_string: str) -> Codes:
    if isinstance(lookup, HashLookup):
        raise ValueError(
            f"Column {name!r} is hashed, and ONNX has no such hash; pass Categories() for it in "
            "`categorical_features` and fit anew, or hash it before the model and pass its slot "
            "as an integer category."
        )
    index, n = lookup.index, lookup.size
    codes = [*range(FIRST_KNOWN, n + FIRST_KNOWN)]
    if n == 0:
        return Codes(name, "none", [], [])
    kind = None if lookup.kind is None else KINDS[lookup.kind]
    values = index.tolist()
    if kind is None:
        kinds = sorted({type(value).__name__ for value in values})
        what = f"{' and '.join(kinds)} such as {values[0]!r}"
        raise ValueError(
            f"Column {name!r} has categories of type {what}, and a tensor of ONNX holds strings "
            "alone or integers alone; make strings of them before `fit`."
        )
    if kind == "string":
        if missing_string in values:
            raise ValueError(
                f"Column {name!r} has the category {missing_string!r}, and ONNX has no missing "
                f"strings, so that {missing_string!r} is to stand for one; pass another string as "
                "`missing_string`."
            )
        for value in values:
            _check_utf8(name, value)
        return Codes(name, kind, values, codes)
    keys = [int(value) for value in values]
    wide = [key for key in keys if not MISSING_INTEGER < key < 2**63]
    if wide:
        raise ValueError(
            f"Column {name!r} has the category {wide[0]}, and integers of ONNX end before "
            f"{MISSING_INTEGER} (which stands for a missing one) and 2**63; make strings of them "
            "before `fit`."
        )
    return Codes(name, kind, keys, codes)


def _check_utf8(name: Any, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"Column {name!r} has the category {value!r}, which UTF-8 does not hold; mend it "
            "before `fit`."
        ) from error


# Which types tensors have ---------------------------------------------------------------------


def choose_sources(
    estimator: Any, dtypes: Sequence[Any] | None, codes: list[Codes]
) -> list[Source]:
    """Return the inputs that an estimator's columns come by.

    Parameters
    ----------
    estimator : estimator
        A fitted estimator.
    dtypes : sequence of dtype or None
        Those of the columns of rows as they will come, in the order that `fit` saw; None: not
        given.
    codes : list of Codes
        The categories of the categorical columns.

    Returns
    -------
    list of Source
        One input for each column, by its name, or, if X had no names and holds no strings, a
        single one, "X".
    """
    _, categories = check_parts(estimator, "to_onnx")
    names = estimator._fitted_.encoder.names_
    given = [None] * len(names) if dtypes is None else list(dtypes)
    found = [_number_dtype(dtype) for dtype in given]
    seen = _missing_seen(estimator, categories)
    for j, own, is_missing in zip(categories.columns_, codes, seen, strict=True):
        found[j] = _category_dtype(own, given[j], is_missing)
    unnamed = names == list(range(len(names))) and not hasattr(estimator, "feature_names_in_")
    if unnamed and "string" not in found:
        return [Source("X", _common(found), len(names))]
    named = input_names(names)
    return [Source(name, dtype) for name, dtype in zip(named, found, strict=True)]


def input_names(names: Sequence[Any]) -> list[str]:
    """Return columns' names as those of inputs.

    Raises
    ------
    ValueError
        If one is empty, or is another one's.
    """
    named = [str(name) for name in names]
    for name, text in zip(names, named, strict=True):
        if not text or named.count(text) > 1:
            raise ValueError(
                f"A column is named {name!r}, and inputs of ONNX need names that are not empty "
                "and, as strings, differ from one another; rename it before `fit`."
            )
    return named


def _number_dtype(dtype: Any) -> str:
    """Return the dtype of a numeric column's tensor."""
    return "float32" if dtype is not None and str(dtype).lower() == "float32" else "float64"


def _category_dtype(own: Codes, dtype: Any, is_missing: bool) -> str:
    """Return the dtype of a categorical column's tensor."""
    if own.kind in ("string", "none"):
        return "string"
    kind = getattr(dtype, "kind", "O")
    if kind == "f":
        return _number_dtype(dtype)
    if own.kind == "float":
        return "int64" if kind in "iu" else "float64"
    if own.kind == "bool":
        # A tensor of booleans has no missing value.
        plain = dtype is None and not is_missing
        return "bool" if plain or dtype == np.dtype(bool) else "int64"
    return "int64"


def _common(dtypes: Sequence[str]) -> str:
    """Return the dtype of a tensor that holds columns of several."""
    return dtypes[0] if len(set(dtypes)) == 1 else "float64"


def _missing_seen(estimator: Any, categories: CategoryEncoder) -> list[bool]:
    """Return of each categorical column whether training showed a missing value."""
    if not categories.columns_:
        return []
    block = estimator.module_.embedding.first(CategoryEncoder.part)
    return block.special_seen[categories.vocabularies_, MISSING].tolist()


# Nodes ----------------------------------------------------------------------------------------


def encode(
    graph: Graph,
    estimator: Any,
    sources: Sequence[Source],
    codes: list[Codes],
    missing_string: str = MISSING_STRING,
) -> dict[str, str]:
    """Add the encoder of an estimator to a graph.

    Parameters
    ----------
    graph : Graph
        It gets the nodes.
    estimator : estimator
        A fitted estimator.
    sources : sequence of Source
        Tensors of all columns, (n, width) each, in the order that `fit` saw.
    codes : list of Codes
        The categories of the categorical columns.
    missing_string : str, default=""
        The string that stands for a missing value.

    Returns
    -------
    dict of str to str
        Names of the parts that have columns, (n, F) float64 and (n, C) int64.
    """
    numbers, categories = check_parts(estimator, "ONNX")
    n_given, n_columns = sum(s.width for s in sources), estimator.n_features_in_
    if n_given != n_columns:
        raise ValueError(
            f"The inputs {[source.name for source in sources]} have {n_given} columns, and "
            f"{type(estimator).__name__} was fitted on {n_columns}; give it those."
        )
    parts = {}
    if numbers.columns_:
        parts[NumberEncoder.part] = _numbers(graph, numbers, sources)
    if categories.columns_:
        cells = _cells(graph, sources, categories.columns_)
        columns = [
            _codes(graph, own, cell, dtype, missing_string)
            for own, (cell, dtype) in zip(codes, cells, strict=True)
        ]
        parts[CategoryEncoder.part] = graph.concat(columns)
    return parts


def _located(sources: Sequence[Source], columns: Sequence[int]) -> Iterator[tuple[Source, list]]:
    """Yield the tensors that hold some columns, with the columns' positions in them."""
    start = 0
    for source in sources:
        own = [j - start for j in columns if start <= j < start + source.width]
        if own:
            yield source, own
        start += source.width


def _cells(graph: Graph, sources: Sequence[Source], columns: Sequence[int]) -> list[tuple]:
    """Return each column as a tensor of its own, (n, 1), and its dtype."""
    return [
        (_pick(graph, source, [place]), source.dtype)
        for source, places in _located(sources, columns)
        for place in places
    ]


def _pick(graph: Graph, source: Source, places: list[int]) -> str:
    """Return some columns of a tensor."""
    if places == list(range(source.width)):
        return source.name
    return graph.add("Gather", source.name, graph.constant(np.array(places)), axis=1)


def _numbers(graph: Graph, encoder: NumberEncoder, sources: Sequence[Source]) -> str:
    """Add the numeric columns, (n, F) float64: rounded where `fit` rounded them."""
    picked = []
    for source, places in _located(sources, encoder.columns_):
        if source.dtype == "string":
            raise ValueError(
                f"The input {source.name!r} is of strings, and a column of it was a number at "
                "`fit`; give it as numbers."
            )
        own = _pick(graph, source, places)
        picked.append(own if source.dtype == "float64" else graph.cast(own, "float64"))
    whole = graph.concat(picked)
    if not encoder.rounded_:
        return whole
    # As `sk_mtl.data.numbers._round`: what float32 has not becomes its last number.
    limit = float(np.finfo(np.float32).max)
    top, bottom = graph.constant(np.float64(limit)), graph.constant(np.float64(-limit))
    narrow = graph.cast(graph.cast(whole, "float32"), "float64")
    narrow = graph.add("Where", graph.add("Greater", whole, top), top, narrow)
    narrow = graph.add("Where", graph.add("Less", whole, bottom), bottom, narrow)
    if len(encoder.rounded_) == len(encoder.columns_):
        return narrow
    is_rounded = np.zeros((1, len(encoder.columns_)), dtype=bool)
    is_rounded[0, encoder.rounded_] = True
    return graph.add("Where", graph.constant(is_rounded), narrow, whole)


def _codes(graph: Graph, own: Codes, cell: str, dtype: str, missing_string: str) -> str:
    """Add the codes of a categorical column: (n, 1) of any dtype -> (n, 1) int64."""
    strings = own.kind == "string"
    if own.kind != "none" and strings != (dtype == "string"):
        kind, given = ("strings", dtype) if strings else ("numbers", "strings")
        raise ValueError(
            f"Column {own.name!r} has categories that are {kind}, and its input is of {given}; "
            f"give it as {kind}."
        )
    if dtype == "string":
        keys, codes = [missing_string, *own.keys], [MISSING, *own.codes]
        return _table(graph, cell, {"keys_strings": keys}, codes)
    if dtype.startswith("float"):
        return _float_codes(graph, own, cell, dtype)
    if dtype != "int64":
        cell = graph.cast(cell, "int64")
    return _table(graph, cell, {"keys_int64s": [MISSING_INTEGER, *own.keys]}, [MISSING, *own.codes])


def _table(graph: Graph, cell: str, keys: dict[str, Any], codes: list[int]) -> str:
    return graph.add(
        "LabelEncoder", cell, domain=ML, values_int64s=codes, default_int64=UNKNOWN, **keys
    )


def _float_codes(graph: Graph, own: Codes, cell: str, dtype: str) -> str:
    """Add the codes of whole numbers that come as floats, NaN where missing."""
    wide = [key for key in own.keys if abs(key) > EXACT]
    if wide and own.kind == "int":
        raise ValueError(
            f"Column {own.name!r} has the category {wide[0]}, which a float does not hold, and "
            "its input is of floats; give it as int64."
        )
    if dtype != "float64":
        cell = graph.cast(cell, "float64")
    missing = graph.add("IsNaN", cell)
    # A float of more may stand for several integers: it is none that is known.
    limit = EXACT if own.kind == "int" else BEYOND
    size = graph.add("Abs", cell)
    whole = graph.add("Equal", graph.add("Floor", cell), cell)
    compare = "LessOrEqual" if own.kind == "int" else "Less"
    small = graph.add(compare, size, graph.constant(np.float64(limit)))
    usable = graph.add("And", whole, small)
    safe = graph.add("Where", usable, cell, graph.constant(np.float64(0.0)))
    if own.keys:
        codes = _table(graph, graph.cast(safe, "int64"), {"keys_int64s": own.keys}, own.codes)
    else:
        codes = graph.constant(np.int64(UNKNOWN))
    unknown, absent = (graph.constant(np.int64(code)) for code in (UNKNOWN, MISSING))
    found = graph.add("Where", usable, codes, unknown)
    return graph.add("Where", missing, absent, found)


def as_tensor(values: pd.Series | NDArray, dtype: str, name: str, missing_string: str) -> NDArray:
    """Return a column as a tensor of a dtype, (n, 1), its missing values as ONNX has them.

    Raises
    ------
    ValueError
        If the column holds something of another type, by name.
    """
    series = pd.Series(values).reset_index(drop=True)
    absent = series.isna().to_numpy()
    try:
        if dtype == "string":
            cells = series.astype(object).where(~absent, missing_string).tolist()
            strange = [cell for cell in cells if not isinstance(cell, str)]
            array = np.array(cells, dtype=object)
        elif dtype.startswith("float"):
            array, strange = series.to_numpy(dtype=dtype, na_value=np.nan), []
        else:
            filled = series.astype(object).where(~absent, MISSING_INTEGER).tolist()
            strange = [cell for cell in filled if isinstance(cell, str) or cell != int(cell)]
            if dtype == "bool":
                strange = [cell for cell in filled if cell not in (0, 1)]
            array = np.array([int(cell) for cell in filled]).astype(dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"Column {name!r} cannot be read as {dtype} ({error}).") from error
    if strange:
        raise ValueError(f"Column {name!r} is of {dtype} in the model, and holds {strange[0]!r}.")
    return array[:, None]

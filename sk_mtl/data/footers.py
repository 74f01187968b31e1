"""Footers of Parquet files: which columns there are, of which types, and how rows lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sk_mtl.data.storage import DataFileError, Found, open_parquet

SHORT = 8
"""Bytes of a string on average, as the file encodes it, up to which it is read as a dictionary.

Beyond, most strings stand there once: the file holds no dictionary of all, and coding them string
by string is faster than making one.
"""

FEWEST_GROUPS = 8
"""Row groups from which on a column counts as sorted; fewer may be in order by chance."""


@dataclass
class Footers:
    """What the footers of all files say, see `sk_mtl.data.parquet.ParquetView`.

    ``sizes`` are the numbers of rows of the row groups, by file.
    """

    names: list[str]
    schema: Any
    sizes: list[list[int]]
    coded: frozenset[str]
    trends: dict[str, str]


def read_footers(
    filesystem: Any,
    files: Sequence[Found],
    features: list[str] | None,
    targets: list[str],
    weights: list[str],
) -> Footers:
    """Read the footers of all files and see whether they go together.

    Parameters
    ----------
    filesystem : pyarrow.fs.FileSystem
        Where the files lie.
    files : sequence of Found
        The files.
    features : list of str or None
        Columns of X; None: all others of the first file.
    targets, weights : list of str
        Columns of the labels and of the weights.

    Raises
    ------
    DataFileError
        If they do not.
    """
    import pyarrow

    names: list[str] = []
    types: dict[str, Any] = {}
    sizes: list[list[int]] = []
    for position, file in enumerate(files):
        opened = open_parquet(filesystem, file.path)
        try:
            schema, metadata = opened.schema_arrow, opened.metadata
            if position == 0:
                names = features or _others(schema, {*targets, *weights})
                used = [*names, *targets, *weights]
                scan = Scan(names, targets)
            _check_columns(file, schema, used, chosen=features is not None)
            for name in used:
                kind = plain_type(schema.field(name).type)
                joined = join_types(types.get(name, kind), kind)
                if joined is None:
                    raise DataFileError(
                        f"The column {name!r} is {types[name]} in {files[0].path!r} and {kind} in "
                        f"{file.path!r}; write it with one type."
                    )
                types[name] = joined
            sizes.append([metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)])
            scan.add(metadata, types)
        finally:
            opened.close(force=True)
    _check_roles(files[0], types, targets, weights)
    if not sum(map(sum, sizes)):
        raise DataFileError(f"There are no rows in {_listed(files)}.")
    return Footers(
        names=names,
        schema=pyarrow.schema([(name, types[name]) for name in used]),
        sizes=sizes,
        coded=scan.coded(types),
        trends=scan.trends(),
    )


def _others(schema: Any, taken: set[str]) -> list[str]:
    """Return the columns that have no other role, without the index that pandas wrote."""
    index = (schema.pandas_metadata or {}).get("index_columns", [])
    left_out = taken | {name for name in index if isinstance(name, str)}
    names = [name for name in schema.names if name not in left_out]
    if not names:
        raise DataFileError(
            f"The files have no column for X beside {sorted(taken)}; their columns are "
            f"{_shown(schema.names)}."
        )
    return names


def _check_columns(file: Found, schema: Any, used: list[str], *, chosen: bool) -> None:
    """Raise if a file lacks a column, has it twice, or folders hold what it lacks."""
    for name in used:
        count = schema.names.count(name)
        if count > 1:
            raise DataFileError(f"{file.path!r} has {count} columns {name!r}; rename them.")
        if not count and name in file.keys:
            raise DataFileError(
                f"The column {name!r} is the key of a partition, and stands only in the path of "
                f"{file.path!r}; write it into the files, or leave it out."
            )
        if not count:
            raise DataFileError(
                f"{file.path!r} has no column {name!r}; its columns are {_shown(schema.names)}."
            )
    lost = [key for key in file.keys if key not in schema.names]
    if lost and not chosen:
        raise DataFileError(
            f"{file.path!r} lies in a folder of the partition {lost[0]!r}, which is no column of "
            "the file and would be lost; write it into the files, or name `features` without it."
        )


def _check_roles(
    file: Found, types: dict[str, Any], targets: list[str], weights: list[str]
) -> None:
    """Raise if labels or weights are of a type that they cannot have."""
    for name in targets:
        if family(types[name]) not in LABELS:
            raise DataFileError(
                f"The target {name!r} has the type {types[name]} in {file.path!r}; labels are "
                "numbers, booleans or strings."
            )
    for name in weights:
        if family(types[name]) not in WEIGHTS:
            raise DataFileError(
                f"The sample_weight {name!r} has the type {types[name]} in {file.path!r}; weights "
                "are numbers."
            )


LABELS = ("integer", "float", "decimal", "boolean", "text")
WEIGHTS = ("integer", "float", "decimal")
"""Families of types that labels and weights may be of, see `family`."""


def _shown(names: Sequence[str]) -> str:
    """Return names of columns for a message, the first of many."""
    most = 30
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{list(names[:most])}{more}"


def _listed(files: Sequence[Found]) -> str:
    first = repr(files[0].path)
    return first if len(files) == 1 else f"the {len(files)} files from {first} on"


# Types --------------------------------------------------------------------------------------------


def family(kind: Any) -> str:
    """Return what kind of values a type of Arrow holds; that of its values for a dictionary."""
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_integer(kind):
        return "integer"
    if types.is_floating(kind):
        return "float"
    if types.is_decimal(kind):
        return "decimal"
    if types.is_boolean(kind):
        return "boolean"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    return "null" if types.is_null(kind) else "other"


def plain_type(kind: Any) -> Any:
    """Return a type as tables of a stream have it: codes of dictionaries may grow."""
    import pyarrow

    if pyarrow.types.is_dictionary(kind):
        return pyarrow.dictionary(pyarrow.int32(), kind.value_type, kind.ordered)
    return kind


def join_types(one: Any, other: Any) -> Any:
    """Return the type that holds the values of two, or None if there is none.

    Integers are widened, and floats, and decimals; integers beside floats are float64, as if
    pandas had put the frames together; strings beside dictionaries of them are strings.
    """
    import pyarrow

    if one.equals(other):
        return one
    families = {family(one), family(other)}
    if "null" in families:
        return other if family(one) == "null" else one
    is_dictionary = [pyarrow.types.is_dictionary(kind) for kind in (one, other)]
    if all(is_dictionary):
        if one.ordered != other.ordered:
            return None
        values = join_types(one.value_type, other.value_type)
        return None if values is None else pyarrow.dictionary(pyarrow.int32(), values, one.ordered)
    if any(is_dictionary):
        return join_types(*(getattr(kind, "value_type", kind) for kind in (one, other)))
    if families == {"text"}:
        return pyarrow.large_string()
    if families == {"integer", "float"}:
        return pyarrow.float64()
    if len(families) > 1:
        return None
    fields = [pyarrow.schema([("", kind)]) for kind in (one, other)]
    try:
        return pyarrow.unify_schemas(fields, promote_options="permissive").field(0).type
    except (pyarrow.ArrowTypeError, pyarrow.ArrowInvalid):
        return None


# How rows lie -------------------------------------------------------------------------------------


class Scan:
    """What the statistics of row groups say, read group by group in the order of the rows.

    Parameters
    ----------
    names, targets : list of str
        Columns of X and of y.
    """

    def __init__(self, names: list[str], targets: list[str]) -> None:
        self.n_groups = 0
        self.names = names
        # Columns that may be sorted yet: the first and last ranges of values, and by direction
        # whether they still are. Columns without order drop out within a few groups.
        self.ranges: dict[str, list[tuple[Any, Any]]] = {name: [] for name in [*names, *targets]}
        self.rising = dict.fromkeys(self.ranges, True)
        self.falling = dict.fromkeys(self.ranges, True)
        self.bytes = dict.fromkeys(names, 0)  # of features that are strings
        self.values = dict.fromkeys(names, 0)

    def add(self, metadata: Any, types: dict[str, Any]) -> None:
        """Read the statistics of one file."""
        schema = metadata.schema
        places = {schema.column(j).path: j for j in range(metadata.num_columns)}
        texts = [name for name in self.names if family(types[name]) == "text" and name in places]
        for i in range(metadata.num_row_groups):
            group = metadata.row_group(i)
            if not group.num_rows:
                continue
            self.n_groups += 1
            for name in texts:
                chunk = group.column(places[name])
                if chunk.has_dictionary_page:
                    self.bytes[name] += chunk.total_uncompressed_size
                    self.values[name] += chunk.num_values
            for name in list(self.ranges):
                self._follow(name, group, places.get(name))

    def _follow(self, name: str, group: Any, place: int | None) -> None:
        """See whether a column is still sorted."""
        found = None if place is None else group.column(place).statistics
        if found is None or not found.has_min_max:
            if found is None or found.null_count != group.num_rows:  # unknown; or all are missing
                del self.ranges[name]
            return
        low, high = found.min, found.max
        seen = self.ranges[name]
        if isinstance(low, bytes):  # pyarrow leaves these encoded: half floats, for one
            del self.ranges[name]
            return
        if seen:
            self.rising[name] &= bool(low >= seen[-1][1])
            self.falling[name] &= bool(high <= seen[-1][0])
        self.ranges[name] = [*seen[:1], (low, high)]
        if not (self.rising[name] or self.falling[name]):
            del self.ranges[name]

    def coded(self, types: dict[str, Any]) -> frozenset[str]:
        """Return the features that are better read as dictionaries."""
        import pyarrow

        return frozenset(
            name
            for name in self.names
            if 0 < self.bytes[name] <= SHORT * self.values[name]
            and family(types[name]) == "text"
            and not pyarrow.types.is_dictionary(types[name])
        )

    def trends(self) -> dict[str, str]:
        """Return the columns that are sorted over the row groups, and in which direction."""
        if self.n_groups < FEWEST_GROUPS:
            return {}
        found = {}
        for name, ranges in self.ranges.items():
            if len(ranges) == 2:
                (low, high), (last_low, last_high) = ranges
                if self.rising[name] and last_low > high:
                    found[name] = "ascending"
                elif self.falling[name] and last_high < low:
                    found[name] = "descending"
        return found

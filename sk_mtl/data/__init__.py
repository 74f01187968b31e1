"""From what users pass to batches: one corridor, walked once and downwards.

=================  ================================================================
`parquet`          rows in files: their tables of Arrow, piece by piece; `footers`
                   say what there is, `storage` where it lies, and `writing`
                   writes files
`frames`           any table, array or matrix becomes columns with names
`targets`          labels become columns with names and gaps
`checks`           against what the estimator remembers: names, lengths, weights
`encoder`          columns become parts of rows, one part for each block of the
                   network: `numbers`, `categories` with `vocabularies` and
                   `lookup`
`survey`           what encoders learn of tables that come one after another
`split`            which rows are held out
`rows`, `bags`     parts become tensors, and tensors batches
`windows`          the same for rows that are read anew in every epoch
=================  ================================================================

For authors: a new kind of feature is one `ColumnEncoder` and one `sk_mtl.nn.Block`.
"""

from sk_mtl.data.categories import CategoryEncoder
from sk_mtl.data.checks import (
    Labels,
    check_labels,
    check_rows,
    check_weight,
    resolve_classes,
)
from sk_mtl.data.encoder import BlockSpec, ColumnEncoder, FeatureEncoder
from sk_mtl.data.frames import Table
from sk_mtl.data.numbers import Held, NumberEncoder
from sk_mtl.data.parquet import ParquetSource, ParquetView
from sk_mtl.data.rows import Batch, Batches, Rows
from sk_mtl.data.split import HoldOut, draw_rule, hold_out, row_draws, stream_rule
from sk_mtl.data.storage import DataFileError
from sk_mtl.data.targets import FITTED, Targets, read_targets
from sk_mtl.data.windows import StreamedRows, Windows
from sk_mtl.data.writing import AtomicWriter, atomic_parquet

__all__ = [
    "FITTED",
    "AtomicWriter",
    "Batch",
    "Batches",
    "BlockSpec",
    "CategoryEncoder",
    "ColumnEncoder",
    "DataFileError",
    "FeatureEncoder",
    "Held",
    "HoldOut",
    "Labels",
    "NumberEncoder",
    "ParquetSource",
    "ParquetView",
    "Rows",
    "StreamedRows",
    "Table",
    "Targets",
    "Windows",
    "atomic_parquet",
    "check_labels",
    "check_rows",
    "check_weight",
    "draw_rule",
    "hold_out",
    "read_targets",
    "resolve_classes",
    "row_draws",
    "stream_rule",
]

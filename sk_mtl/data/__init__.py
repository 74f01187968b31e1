"""From what users pass to batches: one corridor, walked once and downwards.

=================  ================================================================
`frames`           any table, array or matrix becomes columns with names
`targets`          labels become columns with names and gaps
`checks`           against what the estimator remembers: names, lengths, weights
`encoder`          columns become parts of rows, one part for each block of the
                   network: `numbers`, `categories` with `vocabularies` and
                   `lookup`
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
from sk_mtl.data.rows import Batch, Batches, Rows
from sk_mtl.data.split import HoldOut, draw_rule, hold_out, stream_rule
from sk_mtl.data.targets import FITTED, Targets, read_targets
from sk_mtl.data.windows import StreamedRows, Windows

__all__ = [
    "FITTED",
    "Batch",
    "Batches",
    "BlockSpec",
    "CategoryEncoder",
    "ColumnEncoder",
    "FeatureEncoder",
    "Held",
    "HoldOut",
    "Labels",
    "NumberEncoder",
    "Rows",
    "StreamedRows",
    "Table",
    "Targets",
    "Windows",
    "check_labels",
    "check_rows",
    "check_weight",
    "draw_rule",
    "hold_out",
    "read_targets",
    "resolve_classes",
    "stream_rule",
]

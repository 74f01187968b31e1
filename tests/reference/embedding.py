"""One row's vector: standardized numbers, indicators of missing ones, embedded categories."""

import torch


def embed(numeric, codes, statistics, missing_columns, tables, order):
    """Vector of one row.

    `statistics` holds (mean, scale, fill) per numeric column, `tables` one matrix per categorical
    column with the rows: missing, unknown, then the known categories; `order` says in which order
    the columns' embeddings stand.
    """
    parts = []
    for value, (mean, scale, fill) in zip(numeric, statistics, strict=True):
        parts.append(fill if torch.isnan(value) else (value - mean) / scale)
    parts.extend(numeric[column].isnan().double() for column in missing_columns)
    for column in order:
        parts.extend(tables[column][int(codes[column])])
    return torch.stack(parts)

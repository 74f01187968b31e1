"""The loss of each task: the weighted mean over the rows whose label is observed."""

import math

import torch


def row_loss(kind, logits, label):
    if kind == "binary":
        p = 1.0 / (1.0 + torch.exp(-logits[0]))
        return -torch.log(p) if label == 1 else -torch.log(1.0 - p)
    if kind == "multiclass":
        return torch.log(sum(torch.exp(z) for z in logits)) - logits[int(label)]
    if kind == "regression":
        return (logits[0] - label) ** 2
    raise ValueError(kind)


def task_losses(kinds, widths, logits, labels, weights=None):
    """Losses of all tasks.

    `logits` holds a flat vector per row, `widths` the number of each task's logits; `labels` and
    `weights` hold a list per row. A label is missing if it is NaN or has weight zero.
    """
    losses, start = [], 0
    for k, (kind, width) in enumerate(zip(kinds, widths, strict=True)):
        numerator, denominator = 0.0 * logits[0][0], 0.0
        for i, row in enumerate(logits):
            weight = 1.0 if weights is None else weights[i][k]
            if weight == 0 or math.isnan(labels[i][k]):
                continue
            numerator = numerator + weight * row_loss(
                kind, row[start : start + width], labels[i][k]
            )
            denominator += weight
        losses.append(numerator / denominator if denominator else numerator)
        start += width
    return losses

"""The loss of each task: the weighted mean over the rows whose label is observed.

A batch gives sums of losses and of weights, and an estimate of the mean over all rows.
"""

import math

import torch


def row_loss(kind, logits, label, **options):
    return LOSSES[kind](logits, label, **options)


def binary(
    logits, label, pos_weight=1.0, focal_gamma=0.0, label_smoothing=0.0, negative_fraction=1.0
):
    p = 1.0 / (1.0 + torch.exp(-(logits[0] - math.log(negative_fraction))))
    positive = label * (1.0 - label_smoothing) + label_smoothing / 2.0
    loss = 0.0 * logits[0]
    if positive > 0:
        loss = loss - pos_weight * positive * (1.0 - p) ** focal_gamma * torch.log(p)
    if positive < 1:
        loss = loss - (1.0 - positive) * p**focal_gamma * torch.log(1.0 - p)
    return loss


def multiclass(logits, label, focal_gamma=0.0, label_smoothing=0.0):
    n_classes = len(logits)
    log_sum = torch.log(sum(torch.exp(z) for z in logits))
    loss = 0.0 * logits[0]
    for c, z in enumerate(logits):
        share = label_smoothing / n_classes
        if c == int(label):
            share += 1.0 - label_smoothing
        if share > 0:
            loss = loss - share * (1.0 - torch.exp(z - log_sum)) ** focal_gamma * (z - log_sum)
    return loss


def ordinal(logits, label):
    """The label is a place in the order; P(y > j) falls from threshold to threshold."""
    threshold, above = logits[0], []
    for j, z in enumerate(logits):
        if j > 0:
            threshold = threshold - torch.log(1.0 + torch.exp(z))
        above.append(1.0 / (1.0 + torch.exp(-threshold)))
    above = [1.0, *above, 0.0]
    return -torch.log(above[int(label)] - above[int(label) + 1])


def regression(logits, label):
    return (logits[0] - label) ** 2


def quantile(logits, label, quantile=0.5):
    if label >= logits[0]:
        return quantile * (label - logits[0])
    return (1.0 - quantile) * (logits[0] - label)


def count(logits, label):
    mean = torch.exp(logits[0])
    if label == 0:
        return mean
    return label * torch.log(label / mean) - label + mean


LOSSES = {
    "binary": binary,
    "multiclass": multiclass,
    "ordinal": ordinal,
    "regression": regression,
    "quantile": quantile,
    "count": count,
}


def task_sums(kinds, widths, logits, labels, weights=None):
    """Sums of the losses, each times its weight, and sums of the weights, of all tasks.

    `logits` holds a flat vector per row, `widths` the number of each task's logits; `labels` and
    `weights` hold a list per row. A label is missing if it is NaN or has weight zero.
    """
    sums, totals, start = [], [], 0
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
        sums.append(numerator)
        totals.append(denominator)
        start += width
    return sums, totals


def task_losses(kinds, widths, logits, labels, weights=None):
    """Mean losses of all tasks over the rows given; zero without a label."""
    sums, totals = task_sums(kinds, widths, logits, labels, weights)
    return [part / total if total else part for part, total in zip(sums, totals, strict=True)]


def mean_weights(labels, weights):
    """Mean weight of each task's label over all rows, a missing one weighing nothing."""
    means = []
    for k in range(len(labels[0])):
        total = 0.0
        for i in range(len(labels)):
            total += 0.0 if math.isnan(labels[i][k]) else weights[i][k]
        means.append(total / len(labels))
    return means


def task_estimates(kinds, widths, logits, labels, weights, means):
    """Estimates from a batch of the mean losses over all rows, of the labels' mean weights."""
    sums, _ = task_sums(kinds, widths, logits, labels, weights)
    return [part / (len(logits) * mean) for part, mean in zip(sums, means, strict=True)]

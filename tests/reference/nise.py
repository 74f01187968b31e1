"""NISE, RecSys 2024: no product has a loss, and rows without a click are their own targets."""

import math

import torch

from reference.escm2 import cross_entropy, sigmoid

PROBABILITIES = True
OWN_LOSS = True
PER_BATCH = True


def bottom(bottom, rows, activation):
    """All towers read the embedding x."""
    return [[x for _ in range(bottom.n_tasks)] for x in rows]


def head(logits):
    """pCTR and pCTR pCVR."""
    click, rate = sigmoid(logits[0]), sigmoid(logits[1])
    return torch.stack([click, click * rate])


def terms(logits, labels, weights, *, training):
    """L_CTR and w L_CVR over one batch; labels are NaN where missing."""
    sums, counts = [0.0, 0.0], [0.0, 0.0]
    for row, (click, conversion), (v, w) in zip(logits, labels, weights, strict=True):
        p_click, p = sigmoid(row[0]), sigmoid(row[1])
        if v == 0 or math.isnan(click):
            continue
        sums[0] = sums[0] + v * cross_entropy(p_click, click)
        counts[0] += v
        if w == 0 or math.isnan(conversion):
            continue
        if click == 1:
            loss = cross_entropy(p, conversion)
        else:
            loss = -p * torch.log(p) - (1.0 - p) * torch.log(1.0 - p)
        sums[1] = sums[1] + w * loss
        counts[1] += w
    first, second = sums[0] / counts[0], sums[1] / counts[1]
    factor = min(first.item() / second.item(), 50.0) if training else 1.0
    return first, factor * second

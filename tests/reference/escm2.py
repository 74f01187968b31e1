"""ESCM2, Wang et al., SIGIR 2022: ESMM, and the risk of the conversion rate over all rows."""

import math

import torch

PROBABILITIES = True
OWN_LOSS = True
VARIANTS = [{"method": "dr"}]


def bottom(bottom, rows, activation):
    """All towers, that of the imputed loss too, read the embedding x."""
    return [[x for _ in range(bottom.n_tasks)] for x in rows]


def head(logits):
    """pCTR and pCTR pCVR; a third output is no probability."""
    click, rate = sigmoid(logits[0]), sigmoid(logits[1])
    return torch.stack([click, click * rate, *logits[2:]])


def sigmoid(z):
    return 1.0 / (1.0 + torch.exp(-z))


def cross_entropy(p, label):
    return -torch.log(p) if label == 1 else -torch.log(1.0 - p)


def terms(logits, labels, weights, method, cvr_weight=0.1, ctcvr_weight=1.0, clip=0.1):
    """L_CTR, and the two losses of the conversion, of which each row has the second's weight.

    `logits` are those of the towers; labels are NaN where missing.
    """
    click_sum, click_weight, sums, weight_of_rows = 0.0, 0.0, [0.0, 0.0], 0.0
    for row, (click, conversion), (v, w) in zip(logits, labels, weights, strict=True):
        p_click, p_rate = sigmoid(row[0]), sigmoid(row[1])
        knows_click = v > 0 and not math.isnan(click)
        if knows_click:
            click_sum = click_sum + v * cross_entropy(p_click, click)
            click_weight += v
        if w == 0 or math.isnan(conversion):
            continue
        weight_of_rows += w
        sums[1] = sums[1] + w * cross_entropy(p_click * p_rate, conversion)
        if not knows_click:
            continue
        propensity = max(p_click.item(), clip)
        delta = cross_entropy(p_rate, conversion)
        if method == "ips":
            if click == 1:
                sums[0] = sums[0] + w * delta / propensity
            continue
        imputed = torch.log(1.0 + torch.exp(row[2]))
        error = imputed
        if click == 1:
            error = error + (delta - imputed) / propensity
            error = error + (delta.detach() - imputed) ** 2 / propensity
        sums[0] = sums[0] + w * error
    second = (cvr_weight * sums[0] + ctcvr_weight * sums[1]) / weight_of_rows
    return click_sum / click_weight, second

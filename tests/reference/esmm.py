"""ESMM, Ma et al., SIGIR 2018: products of probabilities, and a loss on nothing else."""

import torch

PROBABILITIES = True


def bottom(bottom, rows, activation):
    """All towers read the embedding x."""
    return [[x for _ in range(bottom.n_tasks)] for x in rows]


def head(logits):
    """The towers give logits of each step given the one before; the outputs are joint."""
    (row,) = probabilities([logits])
    return torch.stack(row)


def probabilities(logits):
    """p_1, p_1 p_2, p_1 p_2 p_3 and so on, of each row."""
    out = []
    for row in logits:
        joint, product = [], 1.0
        for logit in row:
            product = product * (1.0 / (1.0 + torch.exp(-logit)))
            joint.append(product)
        out.append(joint)
    return out


def loss(logits, labels):
    """BCE(click, pCTR) + BCE(click and conversion, pCTCVR) + ..., each a mean over all rows."""
    total = 0.0
    for row, of_row in zip(probabilities(logits), labels, strict=True):
        for p, y in zip(row, of_row, strict=True):
            total = total - (torch.log(p) if y == 1 else torch.log(1.0 - p))
    return total / len(labels)

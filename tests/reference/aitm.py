"""AITM, Xi et al., KDD 2021: what a step hands on is read from its fused vector."""

import math

import torch
from modules import layers_of

from reference.parts import mixture, mlp


def bottom(bottom, rows, activation):
    networks = [*(layers_of(bottom.before) if bottom.n_tasks > 1 else []), *layers_of(bottom.last)]
    transfers, matrices = [], None
    if bottom.n_tasks > 1:
        transfers = [layers_of(transfer)[0] for transfer in bottom.transfer.transfers]
        matrices = list(bottom.transfer.attention.maps.weight)
    out = []
    for x in rows:
        fused = []
        for t, network in enumerate(networks):
            q = mlp(x, network, activation)
            if t > 0:
                p = mlp(fused[t - 1], transfers[t - 1], activation)
                q = mixture(attention([q, p], matrices), [matrices[2] @ u for u in (q, p)])
            fused.append(q)
        out.append(fused)
    return out


def attention(vectors, matrices):
    """Softmax over the vectors u of <u W1, u W2> / sqrt(H)."""
    scores = []
    for u in vectors:
        key, query = matrices[0] @ u, matrices[1] @ u
        score = 0.0
        for a, b in zip(key, query, strict=True):
            score = score + a * b
        scores.append(score / math.sqrt(len(u)))
    exponentials = [torch.exp(score) for score in scores]
    return [e / sum(exponentials) for e in exponentials]


def penalty(logits, weights, price):
    """Calibrator: the weighted mean over rows of the sum of max(p_t - p_{t-1}, 0)."""
    total, count = 0.0 * logits[0][0], 0.0
    for row, weight in zip(logits, weights, strict=True):
        p = [1.0 / (1.0 + torch.exp(-z)) for z in row]
        for t in range(1, len(p)):
            if p[t] > p[t - 1]:
                total = total + weight * (p[t] - p[t - 1])
        count += weight
    return price * total / count

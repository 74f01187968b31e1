"""MultiTab-Net without attention over rows, token by token and head by head."""

import math

import torch
from modules import layers_of

from reference.parts import linear, mlp

OPTIONS = {"token_width": 12, "n_heads": 4, "hidden_width": 7}
VARIANTS = [{"n_blocks": 2}, {"n_heads": 1, "n_blocks": 3}]


def normalize(vector, norm):
    mean = sum(vector) / len(vector)
    variance = sum((v - mean) ** 2 for v in vector) / len(vector)
    parts = zip(vector, norm.weight[0], norm.bias[0], strict=True)
    return torch.stack([(v - mean) / torch.sqrt(variance + 1e-5) * w + b for v, w, b in parts])


def attend(tokens, block, n_tasks):
    """Return what each token takes of the tokens that it sees: a task of itself and columns."""
    n_heads, width = block.n_heads, len(tokens[0]) // block.n_heads
    normal = [normalize(token, block.attention_norm) for token in tokens]
    out = []
    for i, token in enumerate(normal):
        seen = [j for j in range(len(tokens)) if j == i or j >= n_tasks or i >= n_tasks]
        mixed = []
        for h in range(n_heads):
            head = slice(h * width, (h + 1) * width)
            query = block.query.weight[0][head] @ token
            scores = {}
            for j in seen:
                key = block.key.weight[0][head] @ normal[j]
                scores[j] = torch.exp(sum(query * key) / math.sqrt(width))
            total = sum(scores.values())
            value = block.value.weight[0][head]
            mixed.append(sum(scores[j] / total * (value @ normal[j]) for j in seen))
        out.append(linear(torch.cat(mixed), (block.joined.weight[0], block.joined.bias[0])))
    return out


def bottom(bottom, rows, activation):
    n_tasks, columns = len(bottom.tasks.tokens), bottom.columns
    out = []
    for x in rows:
        tokens = list(bottom.tasks.tokens)
        for places, layer in zip(columns.columns, columns.layers, strict=True):
            for i, of_column in enumerate(places):
                own = torch.stack([x[place] for place in of_column])
                tokens.append(linear(own, (layer.weight[i], layer.bias[i])))
        for block in bottom.blocks:
            (hidden,), last = layers_of(block.mlp), block.output
            taken = attend(tokens, block, n_tasks)
            tokens = [token + more for token, more in zip(tokens, taken, strict=True)]
            for i, token in enumerate(tokens):
                h = mlp(normalize(token, block.mlp_norm), hidden, activation)
                tokens[i] = token + linear(h, (last.weight[0], last.bias[0]))
        out.append(tokens[:n_tasks])
    return out


def by_task(bottom, n_tasks):
    rest = [*bottom.columns.parameters(), *bottom.blocks.parameters()]
    return [[token] for token in bottom.tasks.tokens], rest

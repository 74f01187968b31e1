"""ResFlow, Fu et al., KDD 2024: hidden layers and logits flow from task to task."""

import torch
from modules import layers_of

from reference.parts import mlp

KINDS = ("binary",)
# Of the other kind, ordinal tasks, `tests/test_chain_models.py` says what their logits become.


def bottom(bottom, rows, activation):
    layers = [layers_of(layer) for layer in bottom.layers]
    n_tasks = len(layers[0])
    out = []
    for x in rows:
        inputs = [x for _ in range(n_tasks)]
        for layer in layers:
            outputs = []
            for k in range(n_tasks):
                h = mlp(inputs[k], layer[k], activation)
                outputs.append(h if k == 0 else h + outputs[k - 1])
            inputs = outputs
        out.append(inputs)
    return out


def head(logits):
    """Of binary tasks, which have one logit each."""
    total, out = 0.0, []
    for z in logits:
        total = total + z
        out.append(total)
    return torch.stack(out)

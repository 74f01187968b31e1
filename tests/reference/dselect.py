"""DSelect-k, Hazimeh et al., NeurIPS 2021, section 3.

A gate is a dict of

- ``hidden``: an MLP before the scores, see `reference`,
- ``selectors``: per selector a score for each bit of an expert's number, the most significant one
  first, and a score of the selector itself; a score is (vector, number), an affine function of the
  gate's input, or a number,
- ``n_experts`` and ``gamma``.
"""

import torch


def score(x, given):
    return given[0] @ x + given[1] if isinstance(given, tuple) else given


def smooth_step(t, gamma):
    if t <= -gamma / 2:
        return 0 * t
    if t >= gamma / 2:
        return 0 * t + 1
    return -2 * t**3 / gamma**3 + 3 * t / (2 * gamma) + 0.5


def selector(x, bits, gate):
    """Weights that a selector gives each expert: a product over the bits of the expert's number."""
    weights = []
    for i in range(gate["n_experts"]):
        weight = torch.ones((), dtype=x.dtype)
        for digit, given in zip(format(i, f"0{len(bits)}b"), bits, strict=True):
            step = smooth_step(score(x, given), gate["gamma"])
            weight = weight * (step if digit == "1" else 1 - step)
        weights.append(weight)
    return weights


def selectors(x, gate):
    return [selector(x, bits, gate) for bits, _ in gate["selectors"]]


def gate(x, gate):
    """Weight of each expert: the selectors' weights, by a softmax of the selectors' scores."""
    if gate["n_experts"] == 1:
        return [torch.ones((), dtype=x.dtype)]
    exponentials = [torch.exp(score(x, given)) for _, given in gate["selectors"]]
    total = sum(exponentials)
    found = selectors(x, gate)
    return [
        sum(e / total * of_selector[i] for e, of_selector in zip(exponentials, found, strict=True))
        for i in range(gate["n_experts"])
    ]


def penalty(rows, gates, entropy):
    """Mean over rows of what the selectors of some gates cost, their inputs given row by row."""
    total = 0.0
    for x in rows:
        for of_task in gates:
            n = of_task["n_experts"]
            for weights in selectors(x, of_task):
                for r in weights:
                    total = total - entropy * r * torch.log(r + 1e-6)
                if n not in (1, 2, 4, 8, 16, 32):
                    total = total + 1 / sum(weights)
    return total / len(rows)

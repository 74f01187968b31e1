"""Balancers: the papers' equations in plain numbers, one task after the other.

Losses come as lists of floats, a loss of None being a task without a label in the batch.
"""

import math


def softmax(values):
    total = sum(math.exp(v) for v in values)
    return [math.exp(v) / total for v in values]


class Adam:
    """One number, moved by Adam; weight decay is the caller's."""

    def __init__(self, lr):
        self.lr, self.m, self.v, self.t = lr, 0.0, 0.0, 0

    def step(self, value, gradient):
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * gradient
        self.v = 0.999 * self.v + 0.001 * gradient * gradient
        m_hat = self.m / (1 - 0.9**self.t)
        v_hat = self.v / (1 - 0.999**self.t)
        return value - self.lr * m_hat / (math.sqrt(v_hat) + 1e-8)


def uncertainty(losses, log_variances, regression):
    """The reduced loss, the tasks' weights, and the gradient of the log variances."""
    total, weights, slopes = 0.0, [], []
    for loss, s, real in zip(losses, log_variances, regression, strict=True):
        if loss is None:
            weights.append(None)
            slopes.append(0.0)
            continue
        precision = math.exp(-s) * (0.5 if real else 1.0)
        total += precision * loss + s / 2
        weights.append(precision)
        slopes.append(-precision * loss + 0.5)
    return total, weights, slopes


def dwa(epochs, temperature):
    """The weights after some epochs of mean losses; None where a task had no label."""
    n, rates = len(epochs[0]), []
    for k in range(n):
        seen = [epoch[k] for epoch in epochs if epoch[k] is not None]
        rates.append(seen[-1] / seen[-2] if len(seen) > 1 else 1.0)
    return [n * share for share in softmax([rate / temperature for rate in rates])]


def gls(losses):
    present = [loss for loss in losses if loss is not None]
    mean = math.prod(present) ** (1 / len(present))
    return mean, [None if x is None else mean / (len(present) * x) for x in losses]


def log(losses):
    total = sum(math.log(x + 1e-8) for x in losses if x is not None)
    return total, [None if x is None else 1 / (x + 1e-8) for x in losses]


def stch(losses, nadir, mu):
    """The reduced loss and the weights after the warm-up."""
    n, powers = len(losses), []
    for loss, worst in zip(losses, nadir, strict=True):
        powers.append(0.0 if loss is None else (loss / worst) ** (1 / mu))
    total = n * mu * math.log(sum(powers))
    weights = [
        None if loss is None else n * power / sum(powers) / loss
        for loss, power in zip(losses, powers, strict=True)
    ]
    return total, weights


def famo(pairs, gamma, lr):
    """The weights of each step, from the losses before and after it."""
    n, eps, steps = len(pairs[0][0]), 1e-8, []
    logits, adams = [0.0] * n, [Adam(lr) for _ in range(n)]
    for before, after in pairs:
        present = [k for k in range(n) if before[k] is not None]
        share = dict(zip(present, softmax([logits[k] for k in present]), strict=True))
        c = 1 / sum(share[k] / (before[k] + eps) for k in present)
        steps.append([c * share[k] / (before[k] + eps) if k in share else None for k in range(n)])
        fall = {k: math.log(before[k] + eps) - math.log(after[k] + eps) for k in present}
        moves = []
        for k in present:  # the softmax's Jacobian, entry by entry
            along = 0.0
            for j in present:
                along += share[j] * ((1.0 if j == k else 0.0) - share[k]) * fall[j]
            moves.append(along + gamma * logits[k])
        for k, move in zip(present, moves, strict=True):
            logits[k] = adams[k].step(logits[k], move)
    return steps


def gradnorm(steps, alpha, lr):
    """The weights of each step, and those after the last, from its losses and gradient norms."""
    n = len(steps[0][0])
    weights, first, adams = [1.0] * n, [None] * n, [Adam(lr) for _ in range(n)]
    found = [list(weights)]
    for losses, norms in steps:
        present = [k for k in range(n) if losses[k] is not None]
        for k in present:
            if first[k] is None:
                first[k] = losses[k]
        ratio = {k: losses[k] / first[k] for k in present}
        mean_ratio = sum(ratio.values()) / len(present)
        mean_norm = sum(weights[k] * norms[k] for k in present) / len(present)
        moved = list(weights)
        for k in present:
            distance = weights[k] * norms[k] - mean_norm * (ratio[k] / mean_ratio) ** alpha
            sign = (distance > 0) - (distance < 0)
            moved[k] = max(adams[k].step(weights[k], sign * norms[k]), 1e-3)
        before, after = (sum(w[k] for k in present) for w in (weights, moved))
        weights = [w * before / after if k in present else w for k, w in enumerate(moved)]
        found.append(list(weights))
    return found


def metabalance(steps, target, relax, beta):
    """The combined gradient of one parameter at each step, from each task's (a list of floats)."""
    n = len(steps[0])
    averages, counts, found = [0.0] * n, [0] * n, []
    for gradients in steps:
        for k, gradient in enumerate(gradients):
            if gradient is not None:
                norm = math.sqrt(sum(x * x for x in gradient))
                averages[k] = beta * averages[k] + (1 - beta) * norm
                counts[k] += 1
        m = [a / (1 - beta**c) if c else 0.0 for a, c in zip(averages, counts, strict=True)]
        total = [0.0] * len(next(g for g in gradients if g is not None))
        for k, gradient in enumerate(gradients):
            if gradient is None:
                continue
            ratio = m[target] / m[k] if m[target] > 0 and m[k] > 0 else 1.0
            for i, x in enumerate(gradient):
                total[i] += x * ratio * relax + x * (1 - relax)
        found.append(total)
    return found


def pcgrad(first, second):
    """Two gradients, conflicting parts projected out, summed: the order of two does not matter."""
    dot = sum(x * y for x, y in zip(first, second, strict=True))
    total = []
    for x, y in zip(first, second, strict=True):
        if dot < 0:
            xx = sum(v * v for v in first)
            yy = sum(v * v for v in second)
            total.append((x - dot / yy * y) + (y - dot / xx * x))
        else:
            total.append(x + y)
    return total


def mgda(first, second):
    """The point nearest to zero on the segment between two gradients."""
    difference = [y - x for x, y in zip(first, second, strict=True)]
    length = sum(d * d for d in difference)
    share = sum(y * d for y, d in zip(second, difference, strict=True)) / length
    share = min(max(share, 0.0), 1.0)
    return [share * x + (1 - share) * y for x, y in zip(first, second, strict=True)]

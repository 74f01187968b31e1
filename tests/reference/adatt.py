"""AdaTT, Li et al., KDD 2023: each unit mixes all units' experts, and adds its own by v."""

from modules import gates_of, layers_of, share_out

from reference.parts import gate, mixture, mlp


def units_of(level, n_tasks):
    """Each unit's experts, gate and v; the gate and v are None of a unit without an output."""
    own = layers_of(level.task_experts)
    m = len(own) // n_tasks
    gates = gates_of(level.gates)
    units = []
    for k in range(n_tasks):
        v = [1.0] if level.task_factors is None else list(level.task_factors[k])
        units.append((own[k * m : (k + 1) * m], gates[k], v))
    if level.shared_experts is not None:
        shared = layers_of(level.shared_experts)
        v = [1.0] if level.shared_factors is None else list(level.shared_factors[0])
        units.append((shared, *((gates[-1], v) if len(gates) > n_tasks else (None, None))))
    return units


def bottom(bottom, rows, activation):
    n_tasks = bottom.levels[-1].n_tasks
    levels = [units_of(level, n_tasks) for level in bottom.levels]
    out = []
    for x in rows:
        streams = [x for _ in levels[0]]
        for units in levels:
            values = []
            for stream, (experts, _, _) in zip(streams, units, strict=True):
                values.append([mlp(stream, expert, activation) for expert in experts])
            everything = [value for of_unit in values for value in of_unit]
            fused = []
            for stream, of_unit, (_, weights, v) in zip(streams, values, units, strict=True):
                if weights is not None:
                    mixed = mixture(gate(stream, weights, activation), everything)
                    fused.append(mixed + mixture(v, of_unit))
            streams = fused
        out.append(streams)
    return out


def by_task(bottom, n_tasks):
    of_task, rest, pairs = [[] for _ in range(n_tasks)], [], []
    for level in bottom.levels:
        m = level.n_own // n_tasks
        scores = level.gates.scores.weight
        tasks, shared = scores[:n_tasks], scores[n_tasks:]
        views = [*level.gates.hidden.parameters(), tasks[:, level.n_own :]]
        if level.task_factors is not None:
            views.append(level.task_factors)
        shares = share_out(views, n_tasks)
        own = share_out(list(level.task_experts.parameters()), n_tasks, m)
        # What the shared unit's gate has for a task's experts goes with the task.
        of_shared = [shared[:, k * m : (k + 1) * m] for k in range(n_tasks)]
        for k in range(n_tasks):
            of_task[k] += [*shares[k], *own[k], of_shared[k]]
        pairs.append(tasks[:, : level.n_own].unflatten(1, (n_tasks, m)))
        rest += [p[n_tasks:] for p in level.gates.hidden.parameters()]
        rest.append(shared[:, level.n_own :])
        if level.shared_experts is not None:
            rest += level.shared_experts.parameters()
        if level.shared_factors is not None:
            rest.append(level.shared_factors)
    return of_task, rest, pairs


VARIANTS = [
    {"n_task_experts": m, "n_shared_experts": s}
    for m, s in ((1, 0), (1, 1), (1, 6), (4, 0), (4, 1))
]

"""OMoE, Ma et al., KDD 2018: h = sum over i of g(x)_i f_i(x), the same for all tasks."""

from modules import gates_of, layers_of

from reference.parts import gate, mixture, mlp


def bottom(bottom, rows, activation):
    experts, (only,) = layers_of(bottom.experts), gates_of(bottom.gate)
    out = []
    for x in rows:
        values = [mlp(x, expert, activation) for expert in experts]
        h = mixture(gate(x, only, activation), values)
        out.append([h for _ in range(bottom.n_tasks)])
    return out


def by_task(bottom, n_tasks):
    return [[] for _ in range(n_tasks)], list(bottom.parameters())


# With three, a tower of four units may be dead from the start.
OPTIONS = {"n_experts": 4}

"""ML-MMoE: level l's expert j reads the mixture, by a gate on x, of level l - 1's experts."""

from modules import gates_of, layers_of, share_out

from reference.parts import gate, mixture, mlp


def bottom(bottom, rows, activation):
    levels = [
        (layers_of(experts), gates_of(gates))
        for experts, gates in zip(bottom.experts, bottom.gates, strict=True)
    ]
    out = []
    for x in rows:
        inputs = [x for _ in levels[0][0]]
        for experts, gates in levels:
            values = []
            for z, expert in zip(inputs, experts, strict=True):
                values.append(mlp(z, expert, activation))
            inputs = [mixture(gate(x, of_next, activation), values) for of_next in gates]
        out.append(inputs)
    return out


def by_task(bottom, n_tasks):
    rest = [*bottom.experts.parameters(), *bottom.gates[:-1].parameters()]
    return share_out(list(bottom.gates[-1].parameters()), n_tasks), rest


VARIANTS = [{"n_levels": 1}]
# With three, a tower of four units may be dead from the start.
OPTIONS = {"n_experts": 4}

"""MMoE, Ma et al., KDD 2018: h_k = sum over i of gate_k(x)_i f_i(x)."""

from reference.parts import gate, mixture, mlp


def bottom(rows, experts, gates, activation):
    out = []
    for x in rows:
        values = [mlp(x, expert, activation) for expert in experts]
        out.append([mixture(gate(x, of_task, activation), values) for of_task in gates])
    return out

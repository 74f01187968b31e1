"""MMoE, Ma et al., KDD 2018: h_k = sum over i of gate_k(x)_i f_i(x)."""

from modules import gates_of, layers_of, share_out

from reference.parts import gate, mixture, mlp
from sk_mtl.nn import DSelectK


def bottom(bottom, rows, activation):
    experts, gates = layers_of(bottom.experts), gates_of(bottom.gates)
    out = []
    for x in rows:
        values = [mlp(x, expert, activation) for expert in experts]
        out.append([mixture(gate(x, of_task, activation), values) for of_task in gates])
    return out


def by_task(bottom, n_tasks):
    return share_out(list(bottom.gates.parameters()), n_tasks), list(bottom.experts.parameters())


VARIANTS = [
    {"gate": DSelectK(n_selectors=3, gamma=12.0)},
    {"gate": DSelectK(n_selectors=1, gamma=1.5), "n_experts": 4},
    {"gate": DSelectK(conditioned=False, gamma=2.0), "gate_units": ()},
    {"gate": "dselect_k", "n_experts": 1},
    {"gate": "dselect_k", "n_experts": 2},
]

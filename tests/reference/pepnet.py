"""PEPNet, Chang et al., KDD 2023: EPNet on the embedding, PPNet on each task's hidden layers.

`detach` stands where the definition has sg; the comparison covers gradients.
"""

import torch
from modules import layers_of, share_out

from reference.parts import linear, mlp

OPTIONS = {"gate_width": 10}
# Of X's 14 columns: column 4 has an indicator, 10 and above are categories.
VARIANTS = [
    {"prior_features": [4, 12]},
    {"prior_features": [0, 11], "domain_features": [4, 13]},
    {"domain_features": [True, *[False] * 12, True]},
]
CONSTANT = ("*epnet.scores", "*ppnet.gates.*.scores")  # all factors are 1 at first


def gate_nu(a, gate, activation):
    hidden, (matrix, bias) = gate
    return [2.0 / (1.0 + torch.exp(-z)) for z in matrix @ mlp(a, hidden, activation) + bias]


def gates_in(gates):
    hidden, last = layers_of(gates.hidden), gates.scores
    return [(hidden[i], (last.weight[i], last.bias[i])) for i in range(last.n)]


def scaled(vector, factors):
    return torch.stack([factor * number for factor, number in zip(factors, vector, strict=True)])


def bottom(bottom, rows, activation):
    layers = [layers_of(layer) for layer in bottom.ppnet.layers]
    gates = [gates_in(gate) for gate in bottom.ppnet.gates]
    out = []
    for x in rows:
        prior = [x[place] for place in bottom.prior.tolist()]
        if bottom.epnet is not None:
            domain = [x[place] for place in bottom.domain.tolist()]
            (epnet,) = gates_in(bottom.epnet)
            a = torch.stack([*domain, *x.detach()])
            x = scaled(x, gate_nu(a, epnet, activation))
        a = torch.stack([*prior, *x.detach()])
        of_row = []
        for k in range(len(layers[0])):
            h = x
            for of_layer, of_gate in zip(layers, gates, strict=True):
                h = scaled(
                    activation(linear(h, of_layer[k][0])), gate_nu(a, of_gate[k], activation)
                )
            of_row.append(h)
        out.append(of_row)
    return out


def by_task(bottom, n_tasks):
    rest = [] if bottom.epnet is None else list(bottom.epnet.parameters())
    return share_out(list(bottom.ppnet.parameters()), n_tasks), rest

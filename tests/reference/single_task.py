"""Single-task networks: y_k = tower_k(f_k(x_k)), with x_k = x on a shared embedding."""

from modules import layers_of, share_out

from reference.parts import mlp


def bottom(bottom, rows, activation):
    networks = layers_of(bottom.mlps)
    out = []
    for x in rows:
        of_row = []
        for k, network in enumerate(networks):
            of_row.append(mlp(x[k] if x.ndim == 2 else x, network, activation))
        out.append(of_row)
    return out


def by_task(bottom, n_tasks):
    return share_out(list(bottom.parameters()), n_tasks), []


SHARES_NOTHING = True
VARIANTS = [{"shared_embedding": True}]

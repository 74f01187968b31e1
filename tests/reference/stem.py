"""STEM-Net, Su et al., AAAI 2024: one level; each row has the tasks' vectors, the shared one last.

Forward only: where gradients stop is held by `assert_same_gradients`, since `detach` stands here
where the definition has sg.
"""

from modules import gates_of, layers_of, share_out

from reference.parts import gate, mixture, mlp


def bottom(bottom, rows, activation):
    bottom = bottom.level
    own = [] if bottom.task_experts is None else layers_of(bottom.task_experts)
    shared = [] if bottom.shared_experts is None else layers_of(bottom.shared_experts)
    gates = gates_of(bottom.gates)
    n_tasks = len(gates)
    m = len(own) // n_tasks
    out = []
    for row in rows:
        x, x_shared = row[:-1], row[-1]
        of_row = []
        for k in range(n_tasks):
            weights = gate(x[k] + x_shared, gates[k], activation)
            vectors = []
            for j in range(n_tasks):
                for i in range(m):
                    value = mlp(x[j], own[j * m + i], activation)
                    vectors.append(value if j == k else value.detach())
            vectors.extend(mlp(x_shared, expert, activation) for expert in shared)
            of_row.append(mixture(weights, vectors))
        out.append(of_row)
    return out


def by_task(bottom, n_tasks):
    bottom = bottom.level
    first = next(bottom.task_experts.parameters())
    m = len(first) // n_tasks
    own = share_out(list(bottom.task_experts.parameters()), n_tasks, m)
    scores = bottom.gates.scores.weight
    gates = share_out([*bottom.gates.hidden.parameters(), scores[:, n_tasks * m :]], n_tasks)
    of_task = [[*one, *other] for one, other in zip(own, gates, strict=True)]
    rest = list(bottom.shared_experts.parameters())
    return of_task, rest, [scores[:, : n_tasks * m].unflatten(1, (n_tasks, m))]


VARIANTS = [{"n_task_experts": m, "n_shared_experts": s} for m, s in ((0, 6), (4, 0), (1, 6))]

"""The levels of CGC and PLE, Tang et al., RecSys 2020.

A level is a dict of

- ``task_experts``: per task a list of MLPs,
- ``shared_experts``: a list of MLPs,
- ``task_gates``: a Gate per task, over its own experts first and then the shared ones,
- ``shared_gate``: a Gate over all tasks' experts in task order and then the shared ones, or None.
"""

from reference.parts import gate, mixture, mlp


def extract(streams, shared_stream, level, activation):
    """One level for one row: equations 1 to 6, and the shared gate of section 4.2."""
    shared = [mlp(shared_stream, expert, activation) for expert in level["shared_experts"]]
    everything, fused = [], []
    for stream, experts, of_task in zip(
        streams, level["task_experts"], level["task_gates"], strict=True
    ):
        own = [mlp(stream, expert, activation) for expert in experts]
        fused.append(mixture(gate(stream, of_task, activation), own + shared))
        everything.extend(own)
    if level["shared_gate"] is None:
        return fused, None
    weights = gate(shared_stream, level["shared_gate"], activation)
    return fused, mixture(weights, everything + shared)


def run(rows, levels, activation):
    """Level upon level; all streams enter the first one with x."""
    out = []
    for x in rows:
        streams, shared_stream = [x for _ in levels[0]["task_gates"]], x
        for level in levels:
            streams, shared_stream = extract(streams, shared_stream, level, activation)
        out.append(streams)
    return out

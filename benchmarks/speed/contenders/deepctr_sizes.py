"""The names that deepctr and deepctr-torch share for a network and its sizes."""

from typing import Any

from benchmarks.speed.workloads import Job

TASKS = ("first", "second")


def kind_and_sizes(job: Job) -> tuple[str, dict[str, Any]]:
    """Return a model's name in `models.multitask` and its parameters; CGC is PLE of one level."""
    sizes = job.sizes
    towers = {"tower_dnn_hidden_units": sizes.towers, "task_names": TASKS}
    if job.model == "esmm":
        return "ESMM", towers
    if job.model == "shared_bottom":
        return "SharedBottom", {"bottom_dnn_hidden_units": sizes.bottom, **towers}
    gated = {"expert_dnn_hidden_units": sizes.experts, "gate_dnn_hidden_units": sizes.gates}
    if job.model == "mmoe":
        return "MMOE", {"num_experts": sizes.n_experts, **gated, **towers}
    numbers = {
        "shared_expert_num": sizes.n_shared_experts,
        "specific_expert_num": sizes.n_task_experts,
        "num_levels": sizes.n_levels,
    }
    return "PLE", {**numbers, **gated, **towers}

"""Multi-task neural models of recommender systems, for scikit-learn users.

One class per architecture, each a scikit-learn estimator:

============  =========================================  ==========================
`SingleTask`    a network per task, nothing shared         Caruana 1997
`SharedBottom`  one network, a tower per task              Caruana 1997
`CrossStitch`   networks of tasks, mixed layer by layer    Misra et al., CVPR 2016
`ESMM`          click, then conversion, over all rows      Ma et al., SIGIR 2018
`ESCM2`         ESMM, its conversion rate unbiased         Wang et al., SIGIR 2022
`NISE`          rows without a click are unlabeled         Huang et al., RecSys 2024
`AITM`          each step attends to the step before       Xi et al., KDD 2021
`ResFlow`       layers and logits add up along the steps   Fu et al., KDD 2024
`OMoE`          shared experts, one gate for all           Ma et al., KDD 2018
`MMoE`          shared experts, a gate per task            Ma et al., KDD 2018
`MLMMoE`        several levels of shared experts           Li et al., KDD 2023
`CGC`           experts of each task beside shared ones    Tang et al., RecSys 2020
`PLE`           several such levels                        Tang et al., RecSys 2020
`AdaTT`         each task fuses all experts with its own   Li et al., KDD 2023
`STEM`          embeddings of each task beside shared      Su et al., AAAI 2024
`PEPNet`        columns scale embedding and layers         Chang et al., KDD 2023
`DBMTL`         tasks read the tasks they depend on        Wang et al., 2019
`MultiTabNet`   a token per task attends to columns        Sinodinos et al., AAAI 2026
============  =========================================  ==========================

Beside them:

- `sk_mtl.datasets`: public files and synthetic tasks.
- `sk_mtl.metrics`, `sk_mtl.model_selection`: scorers per task, folds and cross-validation for
  several tasks with missing labels.
- `task_view` (one task as an estimator), `predict_task_proba`, `predict_frame`, `save`: what
  reaches through pipelines and searches.
- `load`, and `save`: files without pickle. `trusted_types`: for skops and MLflow.
  `search_space`: what a search may try.
- `to_onnx`, `to_torch_program`: models for other runtimes, see `sk_mtl.export`.
- `sk_mtl.inspection`: what gates and losses did, and whether tasks conflict.
- `sk_mtl.balancing`: how task losses become gradients.
- `sk_mtl.tasks`: kinds of task; `sk_mtl.numeric`: encodings of numbers; `sk_mtl.categorical`:
  kinds of categories; `sk_mtl.nn`: the networks' parts as plain torch modules; `sk_mtl.data`: from
  what users pass to batches.
- `sk_mtl.base`: what an architecture of one's own builds on.
"""

import importlib
from typing import Any

from sk_mtl import architectures
from sk_mtl._checkpoints import CheckpointError
from sk_mtl._search_space import search_space
from sk_mtl._training import NonFiniteLossError, RankError
from sk_mtl._version import __version__
from sk_mtl._views import TaskView, predict_frame, predict_task_proba, task_view
from sk_mtl.architectures import *  # noqa: F403, so that an architecture is exported once
from sk_mtl.export import to_onnx, to_torch_program
from sk_mtl.persistence import ModelFileError, load, save, trusted_types

__all__ = [
    "CheckpointError",
    "ModelFileError",
    "NonFiniteLossError",
    "RankError",
    "TaskView",
    "__version__",
    "load",
    "predict_frame",
    "predict_task_proba",
    "save",
    "search_space",
    "task_view",
    "to_onnx",
    "to_torch_program",
    "trusted_types",
]
__all__ += [name for name in architectures.__all__ if hasattr(getattr(architectures, name), "fit")]

_SUBMODULES = (
    "architectures", "balancing", "base", "categorical", "data", "datasets", "export", "inspection",
    "metrics", "model_selection", "nn", "numeric", "persistence", "tasks",
)  # fmt: skip


def __dir__() -> list[str]:
    return [*__all__, *_SUBMODULES]


def __getattr__(name: str) -> Any:
    """Import a submodule on access, as scikit-learn does."""
    if name in _SUBMODULES:
        return importlib.import_module(f"sk_mtl.{name}")
    raise AttributeError(f"module 'sk_mtl' has no attribute {name!r}")

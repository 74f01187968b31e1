"""Multi-task neural models of recommender systems, for scikit-learn users.

One class per architecture, each a scikit-learn estimator:

============  =========================================  ==========================
`SharedBottom`  one network, a tower per task              Caruana 1997
`ESMM`          click, then conversion, over all rows      Ma et al., SIGIR 2018
`MMoE`          shared experts, a gate per task            Ma et al., KDD 2018
`CGC`           experts of each task beside shared ones    Tang et al., RecSys 2020
`PLE`           several such levels                        Tang et al., RecSys 2020
============  =========================================  ==========================

Beside them:

- `sk_mtl.datasets`: public files and synthetic tasks.
- `sk_mtl.metrics`, `sk_mtl.model_selection`: scorers per task, folds and cross-validation for
  several tasks with missing labels.
- `task_view` (one task as an estimator), `predict_task_proba`, `predict_frame`, `save`: what
  reaches through pipelines and searches.
- `load`, and `save`: files without pickle. `trusted_types`: for skops and MLflow.
  `search_space`: what a search may try.
- `sk_mtl.inspection`: what gates and losses did, and whether tasks conflict.
- `sk_mtl.balancing`: how task losses become gradients.
- `sk_mtl.tasks`: kinds of task; `sk_mtl.numeric`: encodings of numbers; `sk_mtl.nn`: the
  networks' parts as plain torch modules; `sk_mtl.data`: from what users pass to batches.
- `sk_mtl.base`: what an architecture of one's own builds on.
"""

import importlib
from typing import Any

from sk_mtl._search_space import search_space
from sk_mtl._training import NonFiniteLossError
from sk_mtl._version import __version__
from sk_mtl._views import TaskView, predict_frame, predict_task_proba, task_view
from sk_mtl.architectures import CGC, ESMM, PLE, MMoE, SharedBottom
from sk_mtl.persistence import ModelFileError, load, save, trusted_types

__all__ = [
    "CGC",
    "ESMM",
    "PLE",
    "MMoE",
    "ModelFileError",
    "NonFiniteLossError",
    "SharedBottom",
    "TaskView",
    "__version__",
    "load",
    "predict_frame",
    "predict_task_proba",
    "save",
    "search_space",
    "task_view",
    "trusted_types",
]

_SUBMODULES = (
    "architectures", "balancing", "base", "data", "datasets", "inspection", "metrics",
    "model_selection", "nn", "numeric", "persistence", "tasks",
)  # fmt: skip


def __dir__() -> list[str]:
    return [*__all__, *_SUBMODULES]


def __getattr__(name: str) -> Any:
    """Import a submodule on access, as scikit-learn does."""
    if name in _SUBMODULES:
        return importlib.import_module(f"sk_mtl.{name}")
    raise AttributeError(f"module 'sk_mtl' has no attribute {name!r}")

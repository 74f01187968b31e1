"""Tasks: what a target column means. The only place that knows what a kind of task is.

A task encodes its labels as numbers, turns logits into a loss while training, and turns logits
into probabilities, values and labels afterwards. Nothing else in the package asks a task for its
kind.

- Classes: `BinaryTask`, `MulticlassTask`, `OrdinalTask`; values: `RegressionTask`, `QuantileTask`,
  `CountTask`. An estimator's `task_types` takes them by name, as a class, or as an instance with
  options. ``KINDS`` lists all by name.
- For authors: a new kind is one subclass of `Task`, or of `ClassificationTask`.
"""

from sk_mtl.tasks.base import Column, Task, check_kinds
from sk_mtl.tasks.binary import BinaryTask
from sk_mtl.tasks.chains import complete_chain, looks_negative
from sk_mtl.tasks.choice import (
    KINDS,
    MAX_AUTO_CLASSES,
    declared_kinds,
    find_task_class,
    make_tasks,
    resolve_task_types,
    restore_task,
    with_positive,
)
from sk_mtl.tasks.classification import ClassificationTask
from sk_mtl.tasks.count import CountTask
from sk_mtl.tasks.labels import (
    Sample,
    drawing,
    encode_targets,
    logit_slices,
    sample_labels,
    weigh_labels,
)
from sk_mtl.tasks.links import decision_values, mean_blocks, member_blocks
from sk_mtl.tasks.multiclass import MulticlassTask
from sk_mtl.tasks.ordinal import OrdinalTask
from sk_mtl.tasks.quantile import QuantileTask
from sk_mtl.tasks.regression import RegressionTask
from sk_mtl.tasks.streamed import make_tasks_stream

__all__ = [
    "KINDS",
    "MAX_AUTO_CLASSES",
    "BinaryTask",
    "ClassificationTask",
    "Column",
    "CountTask",
    "MulticlassTask",
    "OrdinalTask",
    "QuantileTask",
    "RegressionTask",
    "Sample",
    "Task",
    "check_kinds",
    "complete_chain",
    "decision_values",
    "declared_kinds",
    "drawing",
    "encode_targets",
    "find_task_class",
    "logit_slices",
    "looks_negative",
    "make_tasks",
    "make_tasks_stream",
    "mean_blocks",
    "member_blocks",
    "resolve_task_types",
    "restore_task",
    "sample_labels",
    "weigh_labels",
    "with_positive",
]

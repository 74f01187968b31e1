"""The scikit-learn face that all architectures share: parameters and fit."""

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, Self

import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from sk_mtl._compat import CallbackSupportMixin, Interval, PageMixin, StrOptions, with_callbacks
from sk_mtl._fitting import FittingMixin, Tasks
from sk_mtl._params import (
    AT_LEAST_ONE,
    AT_LEAST_ZERO,
    NON_EMPTY_UNITS,
    NON_NEGATIVE,
    POSITIVE,
    UNITS,
    Range,
    choose_places,
    document,
    find_callback,
    parameter,
    resolve_tower_units,
)
from sk_mtl._reporting import FitReport
from sk_mtl._training import OPTIMIZERS, SCHEDULES, Objective
from sk_mtl.balancing import BALANCERS, LossBalancer
from sk_mtl.categorical import CategoricalEncoding
from sk_mtl.data import CategoryEncoder, ColumnEncoder, Labels, NumberEncoder, ParquetSource
from sk_mtl.nn import ACTIVATIONS, FeatureEmbedding, MultiTaskModule, Towers, build_interaction
from sk_mtl.numeric import Encoding
from sk_mtl.persistence import PersistenceMixin
from sk_mtl.tasks import BinaryTask, OrdinalTask, Task, check_kinds, resolve_task_types

__all__ = [
    "AT_LEAST_ONE",
    "AT_LEAST_ZERO",
    "NON_EMPTY_UNITS",
    "NON_NEGATIVE",
    "POSITIVE",
    "UNITS",
    "WIDTHS",
    "ArrayLike",
    "BinaryTask",
    "Interval",
    "MultiTaskEstimator",
    "NDArray",
    "Objective",
    "OrdinalTask",
    "Range",
    "StrOptions",
    "Tasks",
    "Units",
    "choose_places",
    "parameter",
]

Units = tuple[int, ...] | list[int]

DEFAULT_TOWER = (32,)

# What a search tries, see `sk_mtl.search_space`.
TOWERS = [(32,), (64,), (64, 32)]
WIDTHS = [(32,), (64,), (128,), (128, 64)]
NUMBERS = ["auto", ("standardize", "quantile"), ("standardize", "piecewise")]


@dataclass(kw_only=True, eq=False, repr=False)
class MultiTaskEstimator(PageMixin, CallbackSupportMixin, PersistenceMixin, FittingMixin):
    """A multi-task network as a scikit-learn estimator: what all architectures share.

    A subclass adds its parameters as fields and builds its bottom; see
    `sk_mtl.architectures.shared_bottom` for the smallest one.

    Parameters
    ----------
    {common_parameters}

    Attributes
    ----------
    {common_attributes}
    """

    tower_units: Any = parameter(DEFAULT_TOWER, tuple, list, dict, search=TOWERS)
    task_types: Any = parameter("auto", str, list, tuple, dict, Task, type)
    categorical_features: Any = parameter(
        "from_dtype", StrOptions({"from_dtype"}), CategoricalEncoding, dict, "array-like", None
    )
    numeric_features: Any = parameter("auto", str, list, tuple, dict, Encoding, search=NUMBERS)
    embedding_dim: Any = parameter(
        8, StrOptions({"auto"}), AT_LEAST_ONE, list, tuple, dict, search=[4, 8, 16]
    )
    interaction: Any = parameter(None, StrOptions({"fm", "cross"}), None)
    n_members: Any = parameter("auto", StrOptions({"auto"}), AT_LEAST_ONE)
    activation: str = parameter("relu", StrOptions(set(ACTIVATIONS)), search=["relu", "silu"])
    dropout: float = parameter(0.1, Interval(Real, 0, 1, closed="left"), search=Range(0.0, 0.4))
    batch_norm: bool = parameter(False, "boolean")
    loss_weights: Any = parameter(None, "array-like", dict, None)
    balancer: Any = parameter("equal", StrOptions(set(BALANCERS)), LossBalancer)
    optimizer: Any = parameter("adam", StrOptions(set(OPTIMIZERS)), type)
    lr: float = parameter(2e-3, POSITIVE, search=Range(5e-4, 5e-3, log=True))
    weight_decay: float = parameter(0.0, NON_NEGATIVE, search=Range(1e-7, 1e-3, log=True))
    sparse_embeddings: Any = parameter("auto", StrOptions({"auto"}), "boolean")
    lr_schedule: str = parameter("cosine", StrOptions(set(SCHEDULES)))
    clip_norm: float | None = parameter(None, POSITIVE, None)
    batch_size: Any = parameter("auto", StrOptions({"auto"}), AT_LEAST_ONE, None)
    max_epochs: int = parameter(6, AT_LEAST_ONE, search=Range(4, 20))
    early_stopping: Any = parameter("auto", StrOptions({"auto"}), "boolean")
    monitor: Any = parameter("valid_loss", str, callable)
    validation_fraction: float | None = parameter(
        None, Interval(Real, 0, 1, closed="neither"), None
    )
    n_iter_no_change: int = parameter(10, AT_LEAST_ONE)
    tol: float = parameter(1e-4, NON_NEGATIVE)
    callbacks: Any = parameter(None, list, tuple, None)
    checkpoint: str | os.PathLike[str] | None = parameter(None, str, os.PathLike, None)
    resume: bool = parameter(False, "boolean")
    warm_start: bool = parameter(False, "boolean")
    device: str = parameter("auto", str)
    dtype: str = parameter("float32", StrOptions({"float32", "float64"}))
    random_state: Any = parameter(None, "random_state")
    verbose: int = parameter(0, "verbose")

    takes: ClassVar[tuple[type[Task], ...]] = (Task,)
    """Kinds of task that the architecture takes."""
    n_tasks: ClassVar[tuple[int, int | None]] = (1, None)
    """How many tasks it takes: the least, and the most or None."""
    _tasks_are: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__doc__ = document(cls.__doc__ or "")

    # What an architecture defines -------------------------------------------------------------

    @abstractmethod
    def _build_bottom(self, in_features: int, n_tasks: int, **network: Any) -> Any:
        """Return the bottom, (B, in_features) -> (B, n_tasks, bottom.out_features).

        With several members `network` holds `n_members`, and the bottom gives a representation of
        each task for each member: (B, n_members * n_tasks, bottom.out_features). `network` holds
        what `_describe` returns, too.
        """

    def _describe(self, tasks: Tasks, columns: dict[Any, list[int]]) -> dict[str, Any]:
        """Return further arguments of `_build_bottom`: what hangs on names of tasks or columns.

        Parameters
        ----------
        tasks : tuple of Task
            The tasks.
        columns : dict of name to list of int
            Where each column of X stands in the bottom's input, by its name or, of X without
            names, its position; in the order of X. `choose_places` reads a parameter by it. What
            ``interaction="fm"`` appends stands behind all columns, and belongs to none.

        Raises
        ------
        ValueError
            If a parameter names what is not there.
        """
        return {}

    def _embedding_copies(self, n_tasks: int) -> tuple[int, bool]:
        """Return how many copies of the embedding belong to a task each, and whether one is shared.

        By default (0, True): there are none, and the bottom takes (B, in_features). Else it takes
        (B, copies, in_features), the shared copy last.
        """
        return 0, True

    def _build_head(self, tasks: Tasks) -> nn.Module | None:
        """Return the head for given tasks, (B, L) -> (B, L), or None for none."""
        return None

    def _build_objective(self, tasks: Tasks) -> Objective:
        """Return what training minimizes: by default a term for each task."""
        return Objective(tasks)

    def _column_encoders(self) -> Sequence[ColumnEncoder]:
        """Return an encoder for each kind of feature, see `sk_mtl.data.FeatureEncoder`."""
        return (
            NumberEncoder(self.numeric_features, exact=self.dtype == "float64"),
            CategoryEncoder(self.categorical_features, self.embedding_dim),
        )

    def _task_kinds(self, names: list[str]) -> list[Any]:
        """Return the kind of each task, as `task_types` has them."""
        return resolve_task_types(self.task_types, names)

    def _check_architecture(self) -> None:
        """Check what constraints on single parameters cannot say."""

    def _check_tasks(self, tasks: Tasks) -> None:
        """Check that the tasks suit the architecture."""
        check_kinds(type(self).__name__, tasks, self.takes, self.n_tasks, self._tasks_are)

    def _complete_labels(
        self, tasks: Tasks, labels: Labels, told: list[int] | None = None
    ) -> Labels:
        """Return the labels with those that others imply.

        Rows whose labels contradict each other give a warning or, where `told` is a list, their
        number is appended to it.
        """
        return labels

    def _tell_contradictions(self, tasks: Tasks, n_rows: int) -> None:
        """Warn of so many rows whose labels contradict each other."""

    def _build_module(
        self,
        tasks: Tasks,
        specs: Any,
        generator: torch.Generator,
        n_members: int = 1,
        columns: Mapping[tuple[str, int], Any] | None = None,
    ) -> MultiTaskModule:
        """Return the network for given tasks and features, its weights drawn from `generator`.

        `columns` names the columns of the parts by part and position; without it they are
        numbered part by part.
        """
        n_extra = self._build_objective(tasks).extra_outputs
        copies = self._embedding_copies(len(tasks) + n_extra)
        embedding = FeatureEmbedding.from_specs(specs, generator, *copies)
        network: dict[str, Any] = {
            "activation": self.activation,
            "dropout": self.dropout,
            "batch_norm": self.batch_norm,
            "generator": generator,
        }
        if n_members > 1:
            network["n_members"] = n_members
        places = embedding.places()
        names = dict(zip(places, range(len(places)), strict=True)) if columns is None else columns
        at = {name: places.get(column, []) for column, name in names.items()}
        width = embedding.out_features
        interaction = build_interaction(self.interaction, width, list(at.values()), generator)
        width = width if interaction is None else interaction.out_features
        more = self._describe(tasks, at)
        bottom = self._build_bottom(width, len(tasks) + n_extra, **network, **more)
        widths = [task.n_logits for task in tasks]
        default: Any = type(self).__dataclass_fields__["tower_units"].default
        units = resolve_tower_units(self.tower_units, [task.name for task in tasks], default)
        units += [units[-1]] * n_extra
        towers = Towers(bottom.out_features, units, widths + [1] * n_extra, **network)
        n_logits = sum(widths) if n_extra else None
        head = self._build_head(tasks)
        return MultiTaskModule(embedding, bottom, towers, head, n_logits, n_members, interaction)

    def set_params(self, **params: Any) -> Self:
        """Set parameters.

        Parameters
        ----------
        **params
            Values by name. ``callbacks__<name>__<option>`` sets an option of a skorch callback, by
            the name that it is passed with, or that of its class.

        Returns
        -------
        self
        """
        nested = {name: value for name, value in params.items() if name.startswith("callbacks__")}
        super().set_params(**{name: params[name] for name in params if name not in nested})
        for name, value in nested.items():
            _, whose, option = [*name.split("__", 2), ""][:3]
            find_callback(self.callbacks, whose).set_params(**{option: value})
        return self

    # Fit --------------------------------------------------------------------------------------

    @with_callbacks
    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: Any = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """Fit the network to all tasks at once.

        Parameters
        ----------
        X : {array-like, dataframe, CSR matrix} of shape (n_samples, n_features), or ParquetSource
            The rows: numbers and categories. A `sk_mtl.data.ParquetSource` names files with
            features, labels and weights; what memory does not hold is read anew in every epoch.
        y : {array-like, series, dataframe} of shape (n_samples,) or (n_samples, n_tasks), \
                default=None
            One column per task. In two dimensions NaN, None and pd.NA are labels that were not
            observed; such a row still trains its other tasks. None for a source only.
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_tasks), default=None
            Weights of rows, or of single labels. Zero equals absence. Only their ratios count.
        X_val, y_val : array-like, default=None
            Rows to validate on, instead of a share of X; `X_val` alone if it is a source.
        sample_weight_val : array-like, default=None
            Weights of these rows or labels.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter, column, label or weight cannot be used, before training; or when a
            task's loss becomes NaN or infinite, or the weights or predictions do
            (`sk_mtl.NonFiniteLossError`). Then the estimator is unfitted or, with `warm_start`,
            as it was. `sk_mtl.CheckpointError` if `resume` cannot go on from what `checkpoint`
            holds.
        OSError
            If the system does not let a checkpoint be written. The ones before are as they were,
            and the estimator is as after another error.
        KeyboardInterrupt
            After a Ctrl-C. The estimator holds what it had learned up to the last whole epoch
            (a network of more than 256 MiB, with its optimizer's state, keeps the steps of the
            interrupted epoch too); without one it is as after another error.
        """
        goes_on = self.warm_start and hasattr(self, "tasks_")
        report = None
        if hasattr(self, "_skl_callbacks"):
            report = FitReport(self, X, y, sample_weight, self.max_epochs)
        validation = self._validation(X_val, y_val, sample_weight_val)
        data = X, y, sample_weight, validation
        return self._fit(data, goes_on=goes_on, epochs=self.max_epochs, report=report)

    def partial_fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        classes: Any = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train one epoch on some rows, going on from where the network stands.

        The first call (or a `fit` before it) decides on tasks, classes and categories. Later
        calls may bring categories, which count as unknown, but no new labels. Means and
        variances of numbers, and what an unknown category reads, are those of all rows so far.
        A call costs its rows, whatever the size of embedding tables with sparse gradients.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`. Weights count beside those of other calls.
        classes : array-like, list of (array-like or None), or dict, default=None
            All labels that may come: for a 1-D y an array, else one per task, None for a
            regression, or by task name. Needed only where the first rows lack some.

        Returns
        -------
        self

        Raises
        ------
        ValueError, KeyboardInterrupt
            As in `fit`. The estimator then is as it was before the call.
        """
        if self.early_stopping is True:
            raise ValueError("partial_fit does not support early_stopping=True; pass False.")
        goes_on = hasattr(self, "tasks_")
        if goes_on and isinstance(X, ParquetSource):
            return self._partial_fit_source(X, y, sample_weight)
        data = X, y, sample_weight, None
        return self._fit(data, goes_on=goes_on, epochs=1, stream=True, classes=classes)

    def _check_any_positive(self, *names: str) -> None:
        """Check that not all of some counts are zero."""
        if not any(getattr(self, name) for name in names):
            raise ValueError(
                f"{' and '.join(f'`{n}`' for n in names)} are both 0; pass at least 1."
            )


MultiTaskEstimator.__doc__ = document(MultiTaskEstimator.__doc__ or "")

"""The scikit-learn face that all architectures share: parameters and fit."""

from abc import abstractmethod
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from sk_mtl._features import FeatureEncoder, Features, FeatureSpec
from sk_mtl._inputs import check_labels, check_rows, check_same_tasks, resolve_classes
from sk_mtl._params import (
    AT_LEAST_ONE,
    AT_LEAST_ZERO,
    NON_EMPTY_UNITS,
    NON_NEGATIVE,
    POSITIVE,
    UNITS,
    check_parameters,
    document,
    parameter,
    resolve_loss_weights,
    resolve_tower_units,
)
from sk_mtl._prediction import Fitted, PredictionMixin, as_object_array
from sk_mtl._reporting import CallbackSupportMixin, FitReport, with_callbacks
from sk_mtl._training import (
    OPTIMIZERS,
    EpochHook,
    MultiTaskLoss,
    MultiTaskNet,
    RestoreBest,
    Rows,
    carry_optimizer_state,
    fit_epochs,
    make_net,
    resolve_device,
)
from sk_mtl.balancing import BALANCERS, LossBalancer
from sk_mtl.nn import ACTIVATIONS, FeatureEmbedding, MultiTaskModule, Towers
from sk_mtl.persistence import PersistenceMixin
from sk_mtl.tasks import Task, encode_targets, make_tasks, sample_labels, weigh_labels

__all__ = [
    "AT_LEAST_ONE",
    "AT_LEAST_ZERO",
    "NON_EMPTY_UNITS",
    "UNITS",
    "ArrayLike",
    "MultiTaskEstimator",
    "NDArray",
    "Tasks",
    "Units",
    "parameter",
]

Units = tuple[int, ...] | list[int]
Tasks = tuple[Task, ...]

DEFAULT_TOWER = (32,)
TRAINING_PARAMETERS = {
    "balancer", "loss_weights", "optimizer", "lr", "weight_decay", "batch_size", "max_epochs",
    "early_stopping", "validation_fraction", "n_iter_no_change", "tol", "callbacks", "warm_start",
    "device", "random_state", "verbose",
}  # fmt: skip
"""Parameters that may change between two fits of a warm start."""


@dataclass(kw_only=True, eq=False, repr=False)
class MultiTaskEstimator(CallbackSupportMixin, PersistenceMixin, PredictionMixin):
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

    tower_units: Any = parameter(DEFAULT_TOWER, tuple, list, dict)
    task_types: Any = parameter("auto", str, list, tuple, dict, Task, type)
    categorical_features: Any = parameter(
        "from_dtype", StrOptions({"from_dtype"}), "array-like", None
    )
    numeric_features: str = parameter("standardize", StrOptions({"standardize", "passthrough"}))
    embedding_dim: Any = parameter("auto", StrOptions({"auto"}), AT_LEAST_ONE, list, tuple, dict)
    activation: str = parameter("relu", StrOptions(set(ACTIVATIONS)))
    dropout: float = parameter(0.0, Interval(Real, 0, 1, closed="left"))
    batch_norm: bool = parameter(False, "boolean")
    loss_weights: Any = parameter(None, "array-like", dict, None)
    balancer: Any = parameter("equal", StrOptions(set(BALANCERS)), LossBalancer)
    optimizer: Any = parameter("adam", StrOptions(set(OPTIMIZERS)), type)
    lr: float = parameter(1e-3, POSITIVE)
    weight_decay: float = parameter(0.0, NON_NEGATIVE)
    batch_size: int | None = parameter(256, AT_LEAST_ONE, None)
    max_epochs: int = parameter(20, AT_LEAST_ONE)
    early_stopping: bool = parameter(False, "boolean")
    validation_fraction: float | None = parameter(
        None, Interval(Real, 0, 1, closed="neither"), None
    )
    n_iter_no_change: int = parameter(10, AT_LEAST_ONE)
    tol: float = parameter(1e-4, NON_NEGATIVE)
    callbacks: Any = parameter(None, list, tuple, None)
    warm_start: bool = parameter(False, "boolean")
    device: str = parameter("auto", str)
    dtype: str = parameter("float32", StrOptions({"float32", "float64"}))
    random_state: Any = parameter(None, "random_state")
    verbose: int = parameter(0, "verbose")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__doc__ = document(cls.__doc__ or "")

    # What an architecture defines -------------------------------------------------------------

    @abstractmethod
    def _build_bottom(self, in_features: int, n_tasks: int, **network: Any) -> Any:
        """Return the bottom, (B, in_features) -> (B, n_tasks, bottom.out_features)."""

    def _build_head(self) -> nn.Module | None:
        """Return the head, (B, L) -> (B, L), or None for none."""
        return None

    def _check_architecture(self) -> None:
        """Check what constraints on single parameters cannot say."""

    def _check_tasks(self, tasks: Tasks, targets: NDArray) -> None:
        """Check that the tasks and their encoded labels suit the architecture."""

    # Fit --------------------------------------------------------------------------------------

    @with_callbacks
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the network to all tasks at once.

        Parameters
        ----------
        X : {array-like, dataframe, CSR matrix} of shape (n_samples, n_features)
            The rows: numbers and categories.
        y : {array-like, series, dataframe} of shape (n_samples,) or (n_samples, n_tasks)
            One column per task. In two dimensions NaN, None and pd.NA are labels that were not
            observed; such a row still trains its other tasks.
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_tasks), default=None
            Weights of rows, or of single labels. Zero equals absence.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter, column, label or weight cannot be used, before training; or when a
            task's loss becomes NaN or infinite (`sk_mtl.NonFiniteLossError`). Then the estimator
            is unfitted or, with `warm_start`, as it was.
        """
        goes_on = self.warm_start and hasattr(self, "net_")
        report = None
        if hasattr(self, "_skl_callbacks"):
            report = FitReport(self, X, y, sample_weight, self.max_epochs)
        return self._fit(
            X, y, sample_weight, goes_on=goes_on, epochs=self.max_epochs, report=report
        )

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: Any = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train one epoch on some rows, going on from where the network stands.

        The first call decides on tasks, classes, categories and the scale of numbers. Later
        calls may bring categories, which count as unknown, but no new labels.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array-like, list of (array-like or None), or dict, default=None
            All labels that may come: for a 1-D y an array, else one per task, None for a
            regression, or by task name. Needed only where the first rows lack some.

        Returns
        -------
        self
        """
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True; pass False.")
        goes_on = hasattr(self, "net_")
        return self._fit(X, y, sample_weight, goes_on=goes_on, epochs=1, classes=classes)

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        goes_on: bool,
        epochs: int,
        classes: Any = None,
        report: FitReport | None = None,
    ) -> Self:
        if goes_on:
            self._check_unchanged()
        else:
            self._forget()
        check_parameters(self)
        self._check_architecture()
        device = resolve_device(self.device)
        try:
            X = check_rows(self, X, reset=not goes_on)
            X, labels = check_labels(y, sample_weight, X, self)
            if goes_on:
                tasks, encoder, seed = self.tasks_, self._fitted_.encoder, self._fitted_.seed
                check_same_tasks(tasks, labels)
            else:
                names = [column.name for column in labels.columns]
                given = resolve_classes(classes, names, labels.single)
                tasks = make_tasks(labels.columns, self.task_types, labels.weight, given)
                encoder = FeatureEncoder(
                    self.categorical_features, self.numeric_features, self.embedding_dim
                )
                seed = int(check_random_state(self.random_state).randint(2**31 - 1))
            targets = encode_targets(tasks, labels.columns)
            self._check_tasks(tasks, targets)
            labels = labels._replace(weight=weigh_labels(tasks, targets, labels.weight))
            if not goes_on:
                encoder.fit(X, labels.row_weight)
            net = self._make_net(tasks, encoder, seed, device, goes_on)
            weight, generator = labels.weight, net.iterator_train__generator
            sample = sample_labels(tasks, targets, weight, generator, at_least_one=not goes_on)
            if sample is not None:
                X, (_, targets, weight) = _safe_indexing(X, sample.rows), sample
            if len(targets) == 0 and report is None:
                return self
            features = encoder.transform(X)
            train, held_out = self._split(features, targets, weight, seed, device)
            fitted = Fitted(encoder, self._copy_params(), seed, labels.single)

            so_far = partial(self._snapshot, fitted, net, tasks)
            hook = None
            if report is not None:
                hook = EpochHook(report.begin_epoch, partial(report.end_epoch, so_far))
            fit_epochs(net, train, held_out, epochs, hook)
        except Exception:
            if not goes_on:
                self._forget()
            raise
        self._publish(fitted, net, tasks)
        if report is not None:
            report.end(so_far)
        return self

    def _make_net(
        self,
        tasks: Tasks,
        encoder: FeatureEncoder,
        seed: int,
        device: torch.device,
        goes_on: bool,
        *,
        trains: bool = True,
    ) -> MultiTaskNet:
        """Return a net ready to train: a new one, or one that goes on from a copy of the last.

        One that is not to train, of an estimator loaded from a file, has a balancer without state.
        """
        old = self.net_ if goes_on else None
        if old is None:
            generator = torch.Generator().manual_seed(seed)
            module = self._build_module(tasks, encoder.spec_, generator)
        else:
            # A copy, so that a fit that fails leaves the estimator as it was.
            generator, module = old.iterator_train__generator, deepcopy(self.module_)
        names = [task.name for task in tasks]
        same = old is not None and repr(self.balancer) == repr(self._fitted_.params["balancer"])
        if old is not None and same and hasattr(old.criterion_.balancer, "names"):
            balancer = deepcopy(old.criterion_.balancer)
        else:
            is_name = isinstance(self.balancer, str)
            balancer = BALANCERS[self.balancer]() if is_name else deepcopy(self.balancer)
            if trains:
                balancer.setup(names, [task.classes_ is None for task in tasks], generator)
        loss_weights = resolve_loss_weights(self.loss_weights, names)
        callbacks = [clone(callback, safe=False) for callback in self.callbacks or ()]
        if self.early_stopping:
            callbacks.insert(0, RestoreBest(self.n_iter_no_change, self.tol))
        net = make_net(
            module,
            MultiTaskLoss(tasks, balancer, loss_weights),
            optimizer=self.optimizer,
            lr=self.lr,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            callbacks=callbacks,
            device=device,
            dtype=getattr(torch, self.dtype),
            generator=generator,
            verbose=self.verbose,
        )
        if old is not None:
            carry_optimizer_state(old, net)
        return net

    def _build_module(
        self, tasks: Tasks, spec: FeatureSpec, generator: torch.Generator
    ) -> MultiTaskModule:
        """Return the network for given tasks and features, its weights drawn from `generator`."""
        embedding = FeatureEmbedding(
            spec.n_numeric,
            spec.n_categories,
            spec.embedding_dims,
            mean=torch.tensor(spec.mean),
            scale=torch.tensor(spec.scale),
            fill=torch.tensor(spec.fill),
            missing_columns=spec.missing_columns,
            generator=generator,
        )
        network: dict[str, Any] = {
            "activation": self.activation,
            "dropout": self.dropout,
            "batch_norm": self.batch_norm,
            "generator": generator,
        }
        bottom = self._build_bottom(embedding.out_features, len(tasks), **network)
        names, widths = [task.name for task in tasks], [task.n_logits for task in tasks]
        units = resolve_tower_units(self.tower_units, names, DEFAULT_TOWER)
        towers = Towers(bottom.out_features, units, widths, **network)
        return MultiTaskModule(embedding, bottom, towers, self._build_head())

    def _split(
        self,
        features: Features,
        targets: NDArray,
        weight: NDArray | None,
        seed: int,
        device: torch.device,
    ) -> tuple[Rows, Rows | None]:
        """Return the rows to train on, and those held out for validation or None."""
        n = len(targets)

        def rows(index: Any) -> Rows:
            part = None if weight is None else weight[index]
            numeric, categorical = features.numeric[index], features.categorical[index]
            dtype = getattr(torch, self.dtype)
            return Rows(numeric, categorical, targets[index], part, dtype=dtype, device=device)

        fraction = self.validation_fraction
        if fraction is None and self.early_stopping:
            fraction = 0.1
        n_held_out = 0 if fraction is None else int(np.ceil(fraction * n))
        if n - n_held_out < (2 if self.batch_norm else 1):
            raise ValueError(
                f"{n} rows are too few: {n_held_out} would be held out (validation_fraction="
                f"{fraction}) and {n - n_held_out} left to train on."
            )
        if n_held_out == 0:
            return rows(slice(None)), None
        order = check_random_state(seed).permutation(n)
        return rows(np.sort(order[n_held_out:])), rows(np.sort(order[:n_held_out]))

    def _publish(self, fitted: Fitted, net: MultiTaskNet, tasks: Tasks) -> None:
        """Set the fitted attributes."""
        self._fitted_ = fitted
        history = pd.DataFrame(net.epochs())
        if hasattr(self, "history_"):
            history = pd.concat([self.history_, history], ignore_index=True)
        history["epoch"] = np.arange(1, len(history) + 1)
        self.history_ = history
        self._describe_tasks(tasks)
        self.net_, self.module_ = net, net.module_

    def _snapshot(self, fitted: Fitted, net: MultiTaskNet, tasks: Tasks) -> dict[str, Any]:
        """Return the fitted attributes that the estimator would have if it stopped now."""
        twin = clone(self)
        twin.n_features_in_ = self.n_features_in_
        if hasattr(self, "feature_names_in_"):
            twin.feature_names_in_ = self.feature_names_in_
        twin._publish(fitted, net, tasks)
        return {name: value for name, value in vars(twin).items() if name.endswith("_")}

    def _describe_tasks(self, tasks: Tasks) -> None:
        """Set the public attributes that follow from tasks and history."""
        self.n_iter_ = len(self.history_)
        self.tasks_ = tasks
        self.task_names_ = [task.name for task in tasks]
        ends = np.cumsum([0 if task.classes_ is None else len(task.classes_) for task in tasks])
        starts = [0, *ends[:-1].tolist()]
        self.task_slices_ = {
            name: slice(start, end)
            for name, start, end in zip(self.task_names_, starts, ends.tolist(), strict=True)
        }
        classes = [task.classes_ for task in tasks if task.classes_ is not None]
        if len(classes) == len(tasks):
            self.classes_ = classes[0] if self._fitted_.single else as_object_array(classes)

    def _copy_params(self) -> dict[str, Any]:
        """Return the parameters, copies of those whose own parameters may be set later."""
        copies = {name: deepcopy(getattr(self, name)) for name in ("task_types", "balancer")}
        return {**self.get_params(deep=False), **copies}

    def _check_unchanged(self) -> None:
        """Refuse to go on with another network than the one fitted."""
        before = self._fitted_.params
        for name, value in self.get_params(deep=False).items():
            if name not in TRAINING_PARAMETERS and repr(before[name]) != repr(value):
                raise ValueError(
                    f"`{name}` was {before[name]!r} at the first fit and is {value!r} now; only "
                    "training parameters may change between fits with warm_start or partial_fit. "
                    "Pass warm_start=False to begin anew."
                )

    def _forget(self) -> None:
        """Drop all fitted attributes."""
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)

    def _check_any_positive(self, *names: str) -> None:
        """Check that not all of some counts are zero."""
        if not any(getattr(self, name) for name in names):
            raise ValueError(
                f"{' and '.join(f'`{n}`' for n in names)} are both 0; pass at least 1."
            )

"""Saving and loading fitted estimators: pickles without torch objects, and files without pickle.

A pickle (joblib's too) holds the weights as numpy arrays, so it depends on no device. `save` and
`load` go through a safetensors file with the rest as JSON in its header: nothing in it is executed.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils.validation import check_is_fitted

from sk_mtl._checks import Options, subclasses
from sk_mtl._files import need_package, read_tensors, write_whole
from sk_mtl._forms import ARRAY, from_json, to_json
from sk_mtl._prediction import Fitted
from sk_mtl._training import (
    available_device,
    get_progress,
    get_seen,
    set_progress,
    set_seen,
)
from sk_mtl._version import __version__
from sk_mtl._views import find_multi_task
from sk_mtl.balancing import LossBalancer
from sk_mtl.data import ColumnEncoder, FeatureEncoder, Held, HoldOut
from sk_mtl.nn import undrawn

__all__ = ["ModelFileError", "load", "save", "trusted_types"]

FORMAT = 2
"""Version of the file format of `save`."""

RUNTIME_ONLY = ("callbacks", "random_state", "balancer", "optimizer", "monitor")
"""Parameters that matter for training only and may hold objects that JSON cannot."""


class ModelFileError(ValueError):
    """A file that `load` cannot take: truncated, altered, or not written by `save`."""


def versions() -> dict[str, str]:
    """Return the versions that a saved estimator depends on."""
    return {
        "sk_mtl": __version__,
        "scikit-learn": sklearn.__version__,
        "torch": torch.__version__.split("+")[0],
    }


def warn_of_other_versions(owner: str, saved: dict[str, str]) -> None:
    """Warn once per package whose version is not the one that saved the estimator."""
    for package, now in versions().items():
        before = saved.get(package, "unknown")
        if before != now:
            warnings.warn(
                InconsistentVersionWarning(
                    estimator_name=f"{owner} (package {package})",
                    current_sklearn_version=now,
                    original_sklearn_version=before,
                ),
                stacklevel=3,
            )


class PersistenceMixin(BaseEstimator):
    """Pickling and saving of a multi-task estimator.

    A pickle of an estimator whose training can go on, with ``warm_start=True`` or after a
    `partial_fit`, keeps the state of optimizer, balancer and random generator too, and goes on
    exactly where it was. Any other keeps the weights, and `save` never keeps more. `callbacks` are
    pickled as they are; ``set_params(callbacks=None)`` leaves them out.
    """

    _epochs_: list[dict[str, Any]]
    _fitted_: Fitted
    callbacks: Any

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        net = state.pop("net_", None)
        if net is not None:
            module = state.pop("module_")
            state["_weights"] = {
                name: tensor.numpy(force=True) for name, tensor in module.state_dict().items()
            }
            state["_versions"] = versions()
            state["_epochs_"] = _columns(self._epochs_)
            # A callback taken out of the parameter since, such as a logger with its connection, is
            # not kept.
            params = self._fitted_.params | {"callbacks": self.callbacks}
            state["_fitted_"] = self._fitted_._replace(params=params)
            goes_on = state.get("warm_start", False) or self._fitted_.streamed
            state["_progress"] = get_progress(net) if goes_on else {"seen": get_seen(net)}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        weights, saved = state.pop("_weights", None), state.pop("_versions", {})
        progress = state.pop("_progress", None)
        super().__setstate__(state)
        if weights is not None:
            warn_of_other_versions(type(self).__name__, saved)
            self._epochs_ = _rows(state["_epochs_"])
            self._restore({name: _own(array) for name, array in weights.items()}, progress)

    def _restore(self, weights: dict[str, torch.Tensor], progress: dict[str, Any] | None) -> None:
        """Build network and net anew from the parameters at `fit`, and fill in the weights."""
        fitted: Any = self._fitted_
        # The parameters as fitted: they may have been set to others since.
        shell = type(self)(**fitted.params)
        training = shell._training(available_device(fitted.params["device"]), 1)
        progress = progress or {}
        goes_on = "optimizer" in progress
        generator = torch.Generator()
        with undrawn():
            net = shell._make_net(
                self.tasks_, fitted, training, generator, goes_on=False, trains=goes_on
            )
        # The tensors themselves become the weights: nothing is copied that is where it belongs.
        net.module_.load_state_dict(weights, assign=torch.device(net.device).type == "cpu")
        net.initialize_module().initialize_optimizer()  # they know the parameters before
        if goes_on:
            set_progress(net, progress)
        else:
            # Going on repeats no order of rows that training has seen.
            generator.manual_seed(fitted.seed + len(self._epochs_))
            if "seen" in progress:
                set_seen(net, progress["seen"])
        self.net_, self.module_ = net, net.module_.eval()

    def save(self, path: str | Path) -> None:
        """Save the fitted estimator without pickle: weights as safetensors, the rest as JSON.

        Parameters
        ----------
        path : str or Path
            File to write, by custom ``*.safetensors``. Needs the package safetensors.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If classes, categories or a parameter are of a type that JSON has no form for.

        Warns
        -----
        UserWarning
            If `callbacks`, `random_state`, `optimizer` or `monitor` is an object, or `balancer`
            one that sk_mtl does not list or that holds objects: it is left out, and `load` gives
            the parameter its default. Predictions do not depend on them.

        See Also
        --------
        sk_mtl.load : Read the file.
        """
        check_is_fitted(self)
        need_package()
        tensors = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in self.module_.state_dict().items()
        }
        config = json.dumps(_describe(self, tensors), allow_nan=True)
        write_whole(Path(path), config, tensors)


def save(estimator: Any, path: str | Path) -> None:
    """Save the fitted sk_mtl estimator that a pipeline, a search or the like holds.

    Parameters
    ----------
    estimator : estimator
        A fitted sk_mtl estimator, or one that holds one.
    path : str or Path
        File to write, see `MultiTaskEstimator.save`.

    Warns
    -----
    UserWarning
        If `estimator` is not the sk_mtl estimator itself: what stands around it, such as the steps
        before it in a pipeline, is not in the file. `load` gives an estimator that takes what
        these steps make of X.
    """
    model = find_multi_task(estimator)
    if model is not estimator:
        warnings.warn(
            f"The file holds the {type(model).__name__} alone, nothing else of the "
            f"{type(estimator).__name__}; keep its other steps by joblib or skops, and hand the "
            "loaded estimator what they make of X.",
            UserWarning,
            stacklevel=2,
        )
    model.save(path)


def trusted_types() -> list[str]:
    """Return the types of sk_mtl that a fitted estimator may hold, by their full names.

    skops, and MLflow that uses it, load no type that they have not been told to trust. Types of
    one's own (an architecture, a kind of task) are among them once their module is imported.

    Returns
    -------
    list of str
        For ``skops.io.load(path, trusted=...)`` and
        ``mlflow.sklearn.log_model(..., skops_trusted_types=...)``. It holds the types of sk_mtl,
        and of what is built on it, only.

    Examples
    --------
    >>> import sk_mtl
    >>> "sk_mtl.architectures.mmoe.MMoE" in sk_mtl.trusted_types()
    True
    """
    families = (PersistenceMixin, Options, LossBalancer, ColumnEncoder)
    types = {cls for family in families for cls in subclasses(family)}
    types |= {Fitted, FeatureEncoder, HoldOut, Held}
    return sorted(f"{cls.__module__}.{cls.__qualname__}" for cls in types)


def load(path: str | Path) -> Any:
    """Load an estimator that `save` wrote. Nothing in the file is executed.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    estimator
        Fitted; its predictions equal those of the one saved. On a machine without the device it
        was trained on it warns and uses the CPU.

    Raises
    ------
    ModelFileError
        If the file is truncated, altered or foreign.
    FileNotFoundError
        If there is no such file.
    """
    need_package()
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    try:
        config, tensors = read_tensors(path)
        return _rebuild(json.loads(config), tensors)
    except Exception as error:  # whatever a damaged file leads to, the user hears one thing
        raise ModelFileError(
            f"{str(path)!r} is no intact file of sk_mtl's `save` "
            f"({type(error).__name__}: {error}). Save the estimator again."
        ) from error


def _describe(estimator: Any, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Return everything but the weights, in JSON's types; long arrays go to the tensors."""
    arrays: dict[str, torch.Tensor] = {}
    fitted, params = estimator._fitted_, {}
    for name, value in fitted.params.items():
        try:
            params[name] = to_json(value, arrays)
        except TypeError:
            if name not in RUNTIME_ONLY:
                raise
            warnings.warn(
                f"`{name}` is left out of the file: {value!r} has no form in JSON.",
                UserWarning,
                stacklevel=3,
            )
    encoder = {
        one.part: {
            name: to_json(value, arrays) for name, value in vars(one).items() if name.endswith("_")
        }
        for one in fitted.encoder.encoders
    }
    tasks = [to_json(task, arrays) for task in estimator.tasks_]
    tensors.update(arrays)
    return {
        "format": FORMAT,
        "class": type(estimator).__name__,
        "versions": versions(),
        "params": params,
        "names": to_json(fitted.encoder.names_),
        "encoder": encoder,
        "tasks": tasks,
        "seed": fitted.seed,
        "single": fitted.single,
        "weight_scale": fitted.weight_scale,
        "hold_out": None if fitted.hold_out is None else _rule_to_json(fitted.hold_out),
        "n_members": fitted.n_members,
        "seen": get_seen(estimator.net_),
        "n_features_in_": estimator.n_features_in_,
        "feature_names_in_": to_json(getattr(estimator, "feature_names_in_", None)),
        "history": to_json(_columns(estimator._epochs_)),
    }


def _find_class(name: str) -> type[Any]:
    """Return the imported estimator class of a name; a file can bring none of its own."""
    for cls in subclasses(PersistenceMixin):
        if cls.__name__ == name:
            return cls
    raise ValueError(f"unknown architecture {name!r}; import the module that defines it first")


def _rebuild(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Any:
    """Return the estimator that a file describes."""
    if config["format"] != FORMAT:
        raise ValueError(f"format {config['format']}, this version reads {FORMAT}")
    architecture = _find_class(config["class"])
    warn_of_other_versions(config["class"], config["versions"])
    params = {name: from_json(value, tensors) for name, value in config["params"].items()}
    estimator = architecture(**params)
    params = estimator.get_params(deep=False)
    encoder = FeatureEncoder(estimator._column_encoders())
    encoder.names_ = from_json(config["names"])
    for one in encoder.encoders:
        for name, value in config["encoder"][one.part].items():
            setattr(one, name, from_json(value, tensors))
    estimator.n_features_in_ = config["n_features_in_"]
    if config["feature_names_in_"] is not None:
        estimator.feature_names_in_ = from_json(config["feature_names_in_"])
    estimator._fitted_ = Fitted(
        encoder,
        params,
        config["seed"],
        config["single"],
        config["weight_scale"],
        None if config["hold_out"] is None else _rule_from_json(config["hold_out"]),
        n_members=config.get("n_members", 1),
    )
    estimator._epochs_ = _rows(from_json(config["history"]))
    estimator._describe_tasks(tuple(from_json(task, tensors) for task in config["tasks"]))
    weights = {name: _own(tensor) for name, tensor in tensors.items() if ARRAY not in name}
    estimator._restore(weights, {"seen": config["seen"]})
    return estimator


def _rule_to_json(rule: HoldOut) -> dict[str, Any]:
    """Return the rule by which rows are held out, in JSON's types."""
    return {**rule._asdict(), "held": np.frombuffer(rule.held, dtype=np.int64).tolist()}


def _rule_from_json(rule: dict[str, Any]) -> HoldOut:
    """Undo `_rule_to_json`."""
    order, limits = tuple(rule["order"]), tuple(rule["limits"])
    held = np.array(rule["held"], dtype=np.int64).tobytes()
    return HoldOut(**{**rule, "order": order, "limits": limits, "held": held})


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return rows of numbers as columns, None where a row lacks one."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _rows(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Undo `_columns`."""
    names = list(columns)
    found = zip(*columns.values(), strict=True)
    return [
        {name: value for name, value in zip(names, row, strict=True) if value is not None}
        for row in found
    ]


LARGE = 2**25
"""Bytes from which on a tensor is an embedding table: it is looked up, and no matrix product."""


def _own(tensor: NDArray | torch.Tensor) -> torch.Tensor:
    """Return an array or tensor as a tensor that may be written and lies as torch's own do.

    Products of matrices at other addresses differ in the last bit. Large ones are not copied
    unless they must be, such as memory-mapped ones.
    """
    if isinstance(tensor, np.ndarray):
        tensor = torch.from_numpy(tensor if tensor.flags.writeable else tensor.copy())
    return tensor if tensor.nbytes >= LARGE or tensor.data_ptr() % 64 == 0 else tensor.clone()

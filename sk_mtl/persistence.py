"""Saving and loading fitted estimators: pickles without torch objects, and files without pickle.

A pickle (joblib's too) holds the weights as numpy arrays, so it depends on no device. `save` and
`load` go through a safetensors file with the rest as JSON in its header: nothing in it is executed.
"""

import hashlib
import json
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils.validation import check_is_fitted

from sk_mtl._checks import subclasses
from sk_mtl._prediction import Fitted
from sk_mtl._training import (
    available_device,
    get_progress,
    get_seen,
    set_progress,
    set_seen,
)
from sk_mtl._version import __version__
from sk_mtl.balancing import BALANCERS, LossBalancer
from sk_mtl.data import FeatureEncoder, HoldOut
from sk_mtl.nn import undrawn
from sk_mtl.numeric import Encoding, find_encoding_class
from sk_mtl.tasks import Task, find_task_class, restore_task

FORMAT = 2
"""Version of the file format of `save`."""

LONG, ARRAY = 1000, "array/"
"""Entries from which on an array is a tensor of the file, and how its name begins."""

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
    exactly where it was. Any other keeps the weights, and `save` never keeps more.
    """

    _epochs_: list[dict[str, Any]]

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
        save_file = _safetensors().torch.save_file
        tensors = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in self.module_.state_dict().items()
        }
        config = json.dumps(_describe(self, tensors), allow_nan=True)
        metadata = {"sk_mtl": config, "sha256": _digest(config, tensors)}
        save_file(tensors, str(path), metadata=metadata)


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
    safetensors = _safetensors()
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = metadata["sk_mtl"]
        if metadata["sha256"] != _digest(config, tensors):
            raise ValueError("its checksum does not fit its content")
        return _rebuild(json.loads(config), tensors)
    except Exception as error:  # whatever a damaged file leads to, the user hears one thing
        raise ModelFileError(
            f"{str(path)!r} is no intact file of sk_mtl's `save` "
            f"({type(error).__name__}: {error}). Save the estimator again."
        ) from error


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError(
            'save and load need the package safetensors: pip install "sk_mtl[save]".'
        ) from error
    return safetensors


def _digest(config: str, tensors: dict[str, torch.Tensor]) -> str:
    """Return a checksum over everything in the file that counts."""
    digest = hashlib.sha256(config.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _to_json(value: Any, arrays: dict[str, torch.Tensor] | None = None) -> Any:
    """Return a value in JSON's types; others keep what they are by a tag.

    Parameters
    ----------
    value : object
        The value.
    arrays : dict of str to Tensor, optional
        What gets long arrays of numbers and of strings: in JSON they would be large and slow.
    """
    to = partial(_to_json, arrays=arrays)
    if isinstance(value, pd.Index | np.ndarray):
        kind = "index" if isinstance(value, pd.Index) else "array"
        # An array of objects stays one, strings or not; any dtype of strings is "str".
        is_object = value.dtype == object
        is_text = not is_object and pd.api.types.is_string_dtype(value.dtype)
        node: dict[str, Any] = {"type": kind, "dtype": "str" if is_text else str(value.dtype)}
        if arrays is not None and value.ndim == 1 and len(value) >= LONG:
            parts = _to_tensors(value)
            if parts is not None:
                node["tensors"] = [f"{ARRAY}{len(arrays) + k}" for k in range(len(parts))]
                arrays.update(zip(node["tensors"], parts, strict=True))
                return node
        return {**node, "items": [to(item) for item in value.tolist()]}
    if isinstance(value, tuple):
        return {"type": "tuple", "items": [to(item) for item in value]}
    if isinstance(value, list):
        return [to(item) for item in value]
    if isinstance(value, dict):
        pairs = [[to(key), to(item)] for key, item in value.items()]
        return {"type": "dict", "items": pairs}
    if isinstance(value, np.generic):
        return to(value.item())
    if isinstance(value, LossBalancer) and type(value) in _balancer_classes().values():
        params = [[key, to(item)] for key, item in value.get_params(deep=False).items()]
        return {"type": "balancer", "class": type(value).__name__, "items": params}
    if isinstance(value, Task):
        state = [[key, to(item)] for key, item in vars(value).items()]
        return {"type": "task", "class": type(value).__name__, "items": state}
    if isinstance(value, Encoding):
        params = [[key, to(item)] for key, item in value.get_params().items()]
        return {"type": "encoding", "class": type(value).__name__, "items": params}
    if isinstance(value, type) and issubclass(value, Task):
        return {"type": "kind", "items": value.__name__}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"{type(value).__name__} {value!r} has no form in JSON; use joblib.dump for this estimator."
    )


def _to_tensors(values: pd.Index | NDArray) -> list[torch.Tensor] | None:
    """Return numbers as one tensor, strings as their bytes and lengths, None for all else."""
    if isinstance(values.dtype, np.dtype) and values.dtype.kind in "iuf":
        return [torch.from_numpy(np.array(values))]
    items = values.tolist()
    if not all(type(item) is str for item in items):
        return None
    texts = [item.encode("utf-8", "surrogatepass") for item in items]
    lengths = torch.tensor([len(text) for text in texts], dtype=torch.int64)
    return [
        torch.frombuffer(bytearray(b"".join(texts)) or bytearray(1), dtype=torch.uint8),
        lengths,
    ]


def _from_tensors(tensors: list[torch.Tensor]) -> Any:
    """Undo `_to_tensors`: an array, or a list of strings."""
    if len(tensors) == 1:
        return tensors[0].numpy()
    text, ends = tensors[0].numpy().tobytes(), tensors[1].cumsum(0).tolist()
    return [
        text[start:end].decode("utf-8", "surrogatepass")
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]


def _from_json(value: Any, arrays: dict[str, torch.Tensor] | None = None) -> Any:
    """Undo `_to_json`."""
    back = partial(_from_json, arrays=arrays)
    if isinstance(value, list):
        return [back(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value["type"] in ("index", "array"):
        if "tensors" in value:
            items = _from_tensors([(arrays or {})[name] for name in value["tensors"]])
        else:
            items = back(value["items"])
        if value["type"] == "index":
            return pd.Index(items, dtype=None if value["dtype"] == "str" else value["dtype"])
        return np.array(items, dtype=object if value["dtype"] == "object" else value["dtype"])
    items = value["items"]
    match value["type"]:
        case "tuple":
            return tuple(back(items))
        case "dict":
            return {back(key): back(item) for key, item in items}
        case "balancer":
            cls = _balancer_classes()[value["class"]]
            return cls(**{key: back(item) for key, item in items})
        case "task":
            return restore_task(value["class"], {key: back(item) for key, item in items})
        case "encoding":
            make = find_encoding_class(value["class"])
            return make(**{key: back(item) for key, item in items})
        case "kind":
            return find_task_class(items)
        case other:
            raise ValueError(f"unknown type {other!r}")


def _balancer_classes() -> dict[str, type[LossBalancer]]:
    """Return the classes of the listed balancers by name."""
    classes = (type(make()) for make in BALANCERS.values())
    return {cls.__name__: cls for cls in classes}


def _describe(estimator: Any, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Return everything but the weights, in JSON's types; long arrays go to the tensors."""
    arrays: dict[str, torch.Tensor] = {}
    fitted, params = estimator._fitted_, {}
    for name, value in fitted.params.items():
        try:
            params[name] = _to_json(value)
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
            name: _to_json(value, arrays) for name, value in vars(one).items() if name.endswith("_")
        }
        for one in fitted.encoder.encoders
    }
    tasks = [_to_json(task, arrays) for task in estimator.tasks_]
    tensors.update(arrays)
    return {
        "format": FORMAT,
        "class": type(estimator).__name__,
        "versions": versions(),
        "params": params,
        "names": _to_json(fitted.encoder.names_),
        "encoder": encoder,
        "tasks": tasks,
        "seed": fitted.seed,
        "single": fitted.single,
        "weight_scale": fitted.weight_scale,
        "hold_out": None if fitted.hold_out is None else _rule_to_json(fitted.hold_out),
        "n_members": fitted.n_members,
        "seen": get_seen(estimator.net_),
        "n_features_in_": estimator.n_features_in_,
        "feature_names_in_": _to_json(getattr(estimator, "feature_names_in_", None)),
        "history": _to_json(_columns(estimator._epochs_)),
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
    params = {name: _from_json(value) for name, value in config["params"].items()}
    estimator = architecture(**params)
    params = estimator.get_params(deep=False)
    encoder = FeatureEncoder(estimator._column_encoders())
    encoder.names_ = _from_json(config["names"])
    for one in encoder.encoders:
        for name, value in config["encoder"][one.part].items():
            setattr(one, name, _from_json(value, tensors))
    estimator.n_features_in_ = config["n_features_in_"]
    if config["feature_names_in_"] is not None:
        estimator.feature_names_in_ = _from_json(config["feature_names_in_"])
    estimator._fitted_ = Fitted(
        encoder,
        params,
        config["seed"],
        config["single"],
        config["weight_scale"],
        None if config["hold_out"] is None else _rule_from_json(config["hold_out"]),
        n_members=config.get("n_members", 1),
    )
    estimator._epochs_ = _rows(_from_json(config["history"]))
    estimator._describe_tasks(tuple(_from_json(task, tensors) for task in config["tasks"]))
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

"""Values in JSON's types, and back: what a saved estimator holds beside its weights."""

from functools import partial
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from sk_mtl._checks import Options, subclasses
from sk_mtl.balancing import BALANCERS, LossBalancer
from sk_mtl.categorical import CategoricalEncoding, read_vectors
from sk_mtl.numeric import Encoding, find_encoding_class
from sk_mtl.tasks import Task, find_task_class, restore_task

LONG, ARRAY = 1000, "array/"
"""Entries from which on an array is a tensor of the file, and how its name begins."""


def to_json(
    value: Any, arrays: dict[str, torch.Tensor] | None = None, *, tensors: bool = False
) -> Any:
    """Return a value in JSON's types; others keep what they are by a tag.

    Parameters
    ----------
    value : object
        The value.
    arrays : dict of str to Tensor, optional
        What gets long arrays of numbers and of strings: in JSON they would be large and slow.
    tensors : bool, default=False
        Whether it gets tensors, too; else they have no form.
    """
    to = partial(to_json, arrays=arrays, tensors=tensors)
    if tensors and arrays is not None and isinstance(value, torch.Tensor):
        name = f"{ARRAY}{len(arrays)}"
        arrays[name] = value
        return {"type": "tensor", "items": name}
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, pd.Index | np.ndarray):
        kind = "index" if isinstance(value, pd.Index) else "array"
        # An array of objects stays one, strings or not; any dtype of strings is "str".
        is_object = value.dtype == object
        is_text = not is_object and pd.api.types.is_string_dtype(value.dtype)
        node: dict[str, Any] = {"type": kind, "dtype": "str" if is_text else str(value.dtype)}
        if arrays is not None and len(value) >= LONG:
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
    if isinstance(value, LossBalancer) and type(value) in balancer_classes().values():
        params = [[key, to(item)] for key, item in value.get_params(deep=False).items()]
        return {"type": "balancer", "class": type(value).__name__, "items": params}
    if isinstance(value, Task):
        state = [[key, to(item)] for key, item in vars(value).items()]
        return {"type": "task", "class": type(value).__name__, "items": state}
    if isinstance(value, Encoding):
        params = [[key, to(item)] for key, item in value.get_params().items()]
        return {"type": "encoding", "class": type(value).__name__, "items": params}
    if isinstance(value, CategoricalEncoding) and value.vectors is not None:
        keys, values = read_vectors(value.vectors)
        rest = [[k, to(item)] for k, item in value.get_params().items() if k != "vectors"]
        vectors = {"keys": to(_as_array(keys)), "values": to(values)}
        return {"type": "object", "class": type(value).__name__, "items": rest, **vectors}
    if isinstance(value, Options) or hasattr(value, "_build_bottom"):
        params = [[key, to(item)] for key, item in value.get_params(deep=False).items()]
        return {"type": "object", "class": type(value).__name__, "items": params}
    if isinstance(value, type) and issubclass(value, Task):
        return {"type": "kind", "items": value.__name__}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"{type(value).__name__} {value!r} has no form in JSON; use joblib.dump for this estimator."
    )


def _as_array(items: list[Any]) -> NDArray:
    """Return keys as an array: of integers if all are, else of objects."""
    if all(type(item) is int and -(2**63) <= item < 2**63 for item in items):
        return np.array(items, dtype=np.int64)
    return np.fromiter(items, dtype=object, count=len(items))


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


def from_json(value: Any, arrays: dict[str, torch.Tensor] | None = None) -> Any:
    """Undo `to_json`."""
    back = partial(from_json, arrays=arrays)
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
            cls = balancer_classes()[value["class"]]
            return cls(**{key: back(item) for key, item in items})
        case "task":
            return restore_task(value["class"], {key: back(item) for key, item in items})
        case "encoding":
            make = find_encoding_class(value["class"])
            return make(**{key: back(item) for key, item in items})
        case "object":
            make = find_options_class(value["class"])
            params = {key: back(item) for key, item in items}
            if "keys" in value:
                params["vectors"] = dict(
                    zip(back(value["keys"]).tolist(), back(value["values"]), strict=True)
                )
            return make(**params)
        case "tensor":
            return (arrays or {})[items]
        case "kind":
            return find_task_class(items)
        case other:
            raise ValueError(f"unknown type {other!r}")


def find_options_class(name: str) -> Any:
    """Return the imported class of a name whose objects are parameters: options, or a bottom's."""
    bottoms = (cls for cls in subclasses(BaseEstimator) if hasattr(cls, "_build_bottom"))
    for cls in (*subclasses(Options), *bottoms):
        if cls.__name__ == name:
            return cls
    raise ValueError(f"unknown class {name!r}; import the module that defines it first")


def balancer_classes() -> dict[str, type[LossBalancer]]:
    """Return the classes of the listed balancers by name."""
    classes = (type(make()) for make in BALANCERS.values())
    return {cls.__name__: cls for cls in classes}

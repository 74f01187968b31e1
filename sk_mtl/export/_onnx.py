"""Fitted estimators and pipelines as models of ONNX: columns of X in, predictions out."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import sklearn
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.pipeline import Pipeline

from sk_mtl._version import __version__
from sk_mtl.data import CategoryEncoder, check_rows
from sk_mtl.data.frames import is_frame, to_pandas
from sk_mtl.export._columns import (
    MISSING_INTEGER,
    MISSING_STRING,
    Source,
    as_tensor,
    choose_sources,
    encode,
    read_codes,
)
from sk_mtl.export._graph import ML, ML_OPSET, OPSET, Graph, element_type, import_onnx
from sk_mtl.export._program import check_parts, find_fitted

KEY = "sk_mtl"
"""Under which a model holds what is said of it, as JSON."""

MOST_BYTES = 2**31 - 2**20
"""Bytes of constants up to which a file holds them itself: ONNX's files end at 2 GiB."""


def to_onnx(
    estimator: Any,
    path: str | Path | None = None,
    *,
    X: ArrayLike | None = None,
    missing_string: str = MISSING_STRING,
    target_opset: int = OPSET,
) -> Any:
    """Turn a fitted estimator, or a pipeline that ends in one, into one model of ONNX.

    Parameters
    ----------
    estimator : estimator, Pipeline or search
        A fitted sk_mtl estimator; a fitted pipeline whose last step is one and whose other steps
        skl2onnx converts; or a fitted search over either, of which the best estimator is taken.
    path : str or Path, default=None
        Where to write the model. Weights of more than 2 GiB go to a second file beside it, with
        ".data" behind its name.
    X : {array-like, dataframe} of shape (n_samples, n_features), default=None
        Some rows such as `predict` takes; names and dtypes are read, and no value. They say which
        types inputs have; a pipeline needs them. None: the types below.
    missing_string : str, default=""
        The string that stands for a missing value in inputs of strings: a tensor of ONNX has no
        missing strings. Of a pipeline it counts where strings reach the estimator itself.
    target_opset : int, default=18
        Version of ONNX's operators, from 18 on.

    Returns
    -------
    onnx.ModelProto
        The model, checked by `onnx.checker`.

        Inputs: of an estimator fitted on a DataFrame one for each column, by its name, of shape
        (n, 1). Numbers are float64 (float32 if they are so in `X`), NaN where missing. Categories
        that are strings are strings; whole numbers int64 (floats if they are floats in `X` or were
        at `fit`), booleans bool, or int64 where missing ones were seen at `fit` or X's column is of
        another dtype. -2**63 stands for a missing value in int64. If `fit` saw no names and no
        strings, there is one input, ``X``, (n, n_features) of floats. `onnx_inputs` makes these
        tensors from rows.

        Outputs: one for each task, by its name, float64: (n, n_classes) probabilities in the order
        of the sorted classes, or (n, 1) values; the mean over the members. If an input has a task's
        name, the output's is that with "_predicted" behind it.

        ``metadata_props`` hold JSON under "sk_mtl": tasks with kinds, classes and outputs, the
        columns of X, what stands for missing values, and versions.

    Raises
    ------
    ImportError
        If onnx or onnxscript is not installed, for a pipeline also skl2onnx.
    TypeError
        If `estimator` is of another kind.
    ValueError
        If a column has no form in ONNX, by its name: hashed ones, bags, categories of several
        types or of one that is neither string nor whole number nor boolean, and "" as a category;
        if a pipeline comes without `X`, or its steps join columns of several dtypes; if
        `target_opset` is below 18.

    Notes
    -----
    The model checks nothing: what `predict` refuses, such as infinity, gives some number. A value
    counts as it comes, so that "3" is unknown where the categories are 3 and 4.

    Examples
    --------
    >>> from sk_mtl import MMoE, to_onnx
    >>> from sk_mtl.datasets import make_census_like
    >>> X, Y = make_census_like(300, random_state=0)
    >>> model = to_onnx(MMoE(max_epochs=1, random_state=0).fit(X, Y))
    >>> [given.name for given in model.graph.input][:3]
    ['age', 'education_years', 'hours_per_week']
    >>> [found.name for found in model.graph.output]
    ['high_income', 'married', 'log_wage']
    """
    import_onnx()
    if isinstance(target_opset, bool) or not isinstance(target_opset, int) or target_opset < OPSET:
        raise ValueError(f"`target_opset` is {target_opset!r}; pass an integer from {OPSET} on.")
    steps, last = _unwrap(estimator)
    estimator = find_fitted(last)
    if steps:
        from sk_mtl.export._skl2onnx import convert_pipeline

        model, columns = convert_pipeline(steps, estimator, X, missing_string, target_opset)
        describe(model, estimator, columns, missing_string)
    else:
        model = _convert(estimator, X, missing_string, target_opset)
    if not _is_large(model):  # the checker reads what can be one file
        _check(model)
    if path is not None:
        _write(model, Path(path))
    return model


def _unwrap(estimator: Any) -> tuple[list[Any], Any]:
    """Return the steps before the last estimator that pipelines and searches hold, and it."""
    steps: list[Any] = []
    while isinstance(estimator, Pipeline) or hasattr(estimator, "best_estimator_"):
        if isinstance(estimator, Pipeline):
            *before, (_, estimator) = estimator.steps
            steps += [step for _, step in before if step is not None and step != "passthrough"]
        else:
            estimator = estimator.best_estimator_
    return steps, estimator


def _is_large(model: Any) -> bool:
    """Whether a model's constants are too many bytes for one file."""
    return sum(len(one.raw_data) for one in model.graph.initializer) > MOST_BYTES


def _check(model: Any) -> None:
    """Check a model, and that the types of its tensors fit."""
    onnx = import_onnx()
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.shape_inference.InferenceError as error:
        raise ValueError(
            f"Types of tensors do not fit in what was converted ({error}). Give columns that one "
            "step of a pipeline reads together one dtype, such as float64, in `X` and at `fit`."
        ) from error


def _convert(estimator: Any, X: Any, missing_string: str, opset: int) -> Any:
    """Return the model of an estimator."""
    names = estimator._fitted_.encoder.names_
    table = None if X is None else check_rows(estimator, X, names)
    dtypes = None if table is None else table.dtypes
    codes = read_codes(categories_of(estimator), missing_string)
    sources = choose_sources(estimator, dtypes, codes)
    outputs = output_names(estimator, [source.name for source in sources])
    graph = Graph(f"{KEY}/")
    parts = encode(graph, estimator, sources, codes, missing_string)
    blocks = graph.add_network(estimator, parts, opset)
    for block, output in zip(blocks, outputs.values(), strict=True):
        graph.add("Identity", block, output=output)
    return make_model(estimator, graph, sources, missing_string, opset)


def categories_of(estimator: Any) -> CategoryEncoder:
    """Return the encoder of the categorical columns."""
    return check_parts(estimator, "to_onnx")[1]


def output_names(estimator: Any, inputs: Sequence[str]) -> dict[str, str]:
    """Return the name of each task's output, by the task's name."""
    taken, found = set(inputs), {}
    for task in estimator.task_names_:
        name = task
        while name in taken or not name:
            name += "_predicted"
        taken.add(name)
        found[task] = name
    return found


def describe(model: Any, estimator: Any, inputs: Mapping[str, list], missing_string: str) -> None:
    """Write into a model what made it, and what its inputs and outputs mean."""
    outputs = output_names(estimator, list(inputs))
    tasks = [
        {
            "name": task.name,
            "kind": task.kind,
            "output": outputs[task.name],
            "classes": None if task.classes_ is None else task.classes_.tolist(),
        }
        for task in estimator.tasks_
    ]
    versions = {
        "sk_mtl": __version__,
        "scikit-learn": sklearn.__version__,
        "torch": str(torch.__version__),
    }
    said = {
        "class": type(estimator).__name__,
        "tasks": tasks,
        "inputs": inputs,
        "missing_string": missing_string,
        "missing_integer": MISSING_INTEGER,
        "versions": versions,
    }
    import_onnx().helper.set_model_props(model, {KEY: json.dumps(said, default=str)})
    model.producer_name, model.producer_version = KEY, __version__


def make_model(
    estimator: Any, graph: Graph, sources: Sequence[Source], missing_string: str, opset: int
) -> Any:
    """Return a model of a graph whose outputs are those of the tasks."""
    helper = import_onnx().helper
    names = estimator._fitted_.encoder.names_
    columns = {source.name: [name] for source, name in zip(sources, names, strict=False)}
    if len(sources) == 1:
        columns = {sources[0].name: list(names)}
    outputs = output_names(estimator, list(columns)).values()
    widths = [1 if task.classes_ is None else len(task.classes_) for task in estimator.tasks_]
    make = helper.make_tensor_value_info
    inputs = [make(s.name, element_type(s.dtype), ["n", s.width]) for s in sources]
    found = [
        make(name, element_type("float64"), ["n", width])
        for name, width in zip(outputs, widths, strict=True)
    ]
    body = helper.make_graph(graph.nodes, KEY, inputs, found, graph.constants)
    versions = [helper.make_opsetid("", opset), helper.make_opsetid(ML, ML_OPSET)]
    ir_version = helper.find_min_ir_version_for(versions, ignore_unknown=True)
    model = helper.make_model(body, opset_imports=versions, ir_version=ir_version)
    describe(model, estimator, columns, missing_string)
    return model


def _write(model: Any, path: Path) -> None:
    """Write a model whole or not at all, its constants beside it if they are too many bytes."""
    onnx = import_onnx()
    with TemporaryDirectory(dir=path.parent) as folder:
        part = Path(folder) / path.name
        if _is_large(model):
            beside = onnx.ModelProto()  # saving takes the constants out of what it saves
            beside.CopyFrom(model)
            where = f"{path.name}.data"
            onnx.save_model(beside, str(part), save_as_external_data=True, location=where)
            onnx.checker.check_model(str(part))
        else:
            onnx.save_model(model, str(part))
        for file in sorted(Path(folder).iterdir(), reverse=True):  # the model last
            os.replace(file, path.parent / file.name)


def onnx_inputs(model: Any, X: ArrayLike) -> dict[str, NDArray]:
    """Return rows as the tensors that a model takes which `to_onnx` made.

    Parameters
    ----------
    model : onnx.ModelProto or onnxruntime.InferenceSession
        The model, or a session that runs it.
    X : {array-like, dataframe} of shape (n_samples, n_features)
        Rows such as `predict` takes. A dataframe's columns are found by their names.

    Returns
    -------
    dict of str to ndarray of shape (n_samples, width)
        A tensor for each input, with missing values as the model has them.

    Raises
    ------
    ValueError
        If the model is none of `to_onnx`, or X lacks a column or holds what its input cannot.

    Examples
    --------
    >>> import onnxruntime
    >>> from sk_mtl import MMoE, to_onnx
    >>> from sk_mtl.datasets import make_census_like
    >>> from sk_mtl.export import onnx_inputs
    >>> X, Y = make_census_like(300, random_state=0)
    >>> model = to_onnx(MMoE(max_epochs=1, random_state=0).fit(X, Y))
    >>> session = onnxruntime.InferenceSession(model.SerializeToString())
    >>> [block.shape for block in session.run(None, onnx_inputs(session, X[:4]))]
    [(4, 2), (4, 2), (4, 1)]
    """
    said, dtypes = _read(model)
    frame = to_pandas(X) if is_frame(X) else pd.DataFrame(np.asarray(X))
    columns = [name for names in said["inputs"].values() for name in names]
    if len(frame.columns) == len(columns) and not is_frame(X):
        frame.columns = pd.Index(columns)
    missing = [name for name in columns if name not in frame]
    if missing:
        raise ValueError(
            f"X has no column {missing[0]!r}, which the model takes; its columns are "
            f"{frame.columns.tolist()}."
        )
    string = said["missing_string"]
    return {
        one: np.hstack([as_tensor(frame[name], dtypes[one], name, string) for name in names])
        for one, names in said["inputs"].items()
        if one in dtypes
    }


def _read(model: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what a model says of itself, and the dtypes of its inputs."""
    if hasattr(model, "get_modelmeta"):
        texts = model.get_modelmeta().custom_metadata_map
        types = {"tensor(float)": "float32", "tensor(double)": "float64"}
        dtypes = {
            one.name: types.get(one.type, one.type[len("tensor(") : -1])
            for one in model.get_inputs()
        }
    else:
        helper = import_onnx().helper
        texts = {one.key: one.value for one in getattr(model, "metadata_props", ())}
        dtypes = {
            one.name: _dtype_name(helper, one.type.tensor_type.elem_type)
            for one in getattr(getattr(model, "graph", None), "input", ())
        }
    if KEY not in texts:
        raise ValueError(
            f"{type(model).__name__} is no model that `sk_mtl.to_onnx` made; pass one, or a "
            "session of onnxruntime that runs one."
        )
    return json.loads(texts[KEY]), dtypes


def _dtype_name(helper: Any, element: int) -> str:
    dtype = helper.tensor_dtype_to_np_dtype(element)
    return "string" if dtype.kind == "O" else str(dtype)

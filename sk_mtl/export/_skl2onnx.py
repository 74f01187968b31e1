"""Our estimators inside what skl2onnx converts: a parser, shapes, and a converter."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import make_pipeline

from sk_mtl._checks import subclasses
from sk_mtl.base import MultiTaskEstimator
from sk_mtl.data.frames import is_frame, to_pandas
from sk_mtl.export._columns import MISSING_STRING, Source, encode, input_names, read_codes
from sk_mtl.export._graph import ML, OPSET, Graph
from sk_mtl.export._program import check_parts, find_fitted
from sk_mtl.tasks import Task

OPTIONS = {"zipmap": [True, False], "by_task": [True, False], "missing_string": None}
"""Options of the converter. skl2onnx itself sets "zipmap", which changes nothing here."""


def import_skl2onnx() -> Any:
    """Import skl2onnx with the modules that are used here."""
    try:
        import skl2onnx
        import skl2onnx.common.data_types
    except ImportError as error:
        raise ImportError(
            "Pipelines are converted by skl2onnx; install it by `pip install sk_mtl[onnx]`."
        ) from error
    return skl2onnx


def register_converters() -> None:
    """Let skl2onnx convert our estimators, alone and as steps of what else it converts.

    `to_onnx` calls it by itself. Call it before `skl2onnx.to_onnx` or `convert_sklearn`, and once
    more after defining an architecture of one's own.

    Raises
    ------
    ImportError
        If skl2onnx is not installed.

    Notes
    -----
    A converted estimator takes all columns that it was fitted on, in their order, in tensors of
    any number and width: strings, integers, booleans, floats, see `to_onnx`.

    Its outputs follow skl2onnx: ``label``, (n,) or with several tasks with classes (n, K), if the
    labels of all are strings or all are numbers (whole ones and booleans as int64), and
    ``probabilities``, (n, n_columns), as `predict_proba` has them; ``variable``, (n, V), holds the
    tasks with values side by side. What a kind of task does not give is not there. Numbers are
    float64 if the first input is, else float32; there is no ZipMap.

    Options, ``options={id(estimator): {...}}``: ``by_task=True`` makes an output for each task
    instead, as `to_onnx` has them; ``missing_string`` is the string that stands for a missing one.

    Examples
    --------
    >>> import skl2onnx
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sk_mtl import MMoE
    >>> from sk_mtl.datasets import make_correlated_tasks
    >>> from sk_mtl.export import register_converters
    >>> X, Y = make_correlated_tasks(300, random_state=0)[:2]
    >>> pipeline = make_pipeline(StandardScaler(), MMoE(max_epochs=1, random_state=0)).fit(X, Y)
    >>> register_converters()
    >>> model = skl2onnx.to_onnx(pipeline, X[:1], target_opset=18)
    >>> [found.name for found in model.graph.output]
    ['variable']
    """
    skl2onnx = import_skl2onnx()
    for cls in subclasses(MultiTaskEstimator):
        skl2onnx.update_registered_converter(
            cls, f"SkMtl{cls.__name__}", _set_shapes, _convert, parser=_parse, options=OPTIONS
        )


def convert_pipeline(
    steps: Sequence[Any], estimator: Any, X: Any, missing_string: str, opset: int
) -> tuple[Any, dict[str, list]]:
    """Return the model of steps and an estimator: outputs by task; and its inputs' columns."""
    from sk_mtl.export._onnx import output_names

    if X is None:
        raise ValueError(
            "A pipeline's inputs are known by rows such as it predicts: pass some as `X`, such as "
            "to_onnx(pipeline, X=X_train[:10])."
        )
    skl2onnx = import_skl2onnx()
    register_converters()
    kinds = skl2onnx.common.data_types
    types = {
        "float32": kinds.FloatTensorType,
        "float64": kinds.DoubleTensorType,
        "int64": kinds.Int64TensorType,
        "bool": kinds.BooleanTensorType,
        "string": kinds.StringTensorType,
    }
    columns, dtypes = _inputs(X)
    initial = [(name, types[dtypes[name]]([None, len(own)])) for name, own in columns.items()]
    names = output_names(estimator, list(columns)).values()
    model = skl2onnx.to_onnx(
        make_pipeline(*steps, estimator),
        initial_types=initial,
        final_types=[(name, None) for name in names],
        target_opset={"": opset, ML: ML_FOR_PIPELINES},
        options={id(estimator): {"by_task": True, "missing_string": missing_string}},
    )
    return model, columns


ML_FOR_PIPELINES = 3
"""Version of the operators for categories."""


def _inputs(X: Any) -> tuple[dict[str, list], dict[str, str]]:
    """Return the columns of a pipeline's inputs, and the inputs' dtypes."""
    if not is_frame(X):
        array = np.asarray(X)
        return {"X": [*range(array.shape[1])]}, {"X": _dtype(pd.Series(array.ravel()), "X")}
    frame = to_pandas(X)
    names = frame.columns.tolist()
    columns = {text: [name] for text, name in zip(input_names(names), names, strict=True)}
    return columns, {text: _dtype(frame[name], text) for text, (name,) in columns.items()}


def _dtype(values: pd.Series, name: str) -> str:
    """Return the dtype of an input by a column of rows."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = pd.Series(values.cat.categories)
    kinds = pd.api.types
    if kinds.is_bool_dtype(values.dtype):
        return "bool"
    if kinds.is_integer_dtype(values.dtype):
        return "int64"
    if kinds.is_float_dtype(values.dtype):
        return "float32" if str(values.dtype).lower() == "float32" else "float64"
    found = kinds.infer_dtype(values, skipna=True)
    if found in ("string", "empty"):
        return "string"
    raise ValueError(
        f"Column {name!r} has dtype {values.dtype} and holds {found}; give it as strings, "
        "numbers or booleans."
    )


# What skl2onnx calls ----------------------------------------------------------------------------


class _Layout:
    """The outputs of a converted estimator: what each is, by the tasks that it holds."""

    def __init__(self, estimator: Any) -> None:
        tasks: tuple[Task, ...] = find_fitted(estimator).tasks_
        self.tasks = tasks
        self.classes = [k for k, task in enumerate(tasks) if task.classes_ is not None]
        self.values = [k for k, task in enumerate(tasks) if task.classes_ is None]
        self.labels = [_labels(tasks[k]) for k in self.classes]
        kinds = {labels.dtype.kind for labels in self.labels}
        self.names = ["label"] if len(kinds) == 1 else []
        self.names += ["probabilities"] if self.classes else []
        self.names += ["variable"] if self.values else []

    @property
    def has_strings(self) -> bool:
        """Whether labels are strings."""
        return self.labels[0].dtype.kind == "O"

    def width(self, k: int) -> int:
        """Return the number of columns of a task's block."""
        classes = self.tasks[k].classes_
        return 1 if classes is None else len(classes)


def _labels(task: Task) -> Any:
    """Return a task's classes as int64, or as strings in an array of objects."""
    assert task.classes_ is not None
    if task.classes_.dtype.kind in "biuf":
        return task.classes_.astype(np.int64)
    return task.classes_.astype(str).astype(object)


def _options(scope: Any, estimator: Any) -> dict[str, Any]:
    known = {"by_task": False, "missing_string": MISSING_STRING}
    found: dict[str, Any] = scope.get_options(estimator, known, fail=False) or known
    return found


def _parse(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    """Declare the operator of an estimator, and its outputs."""
    kinds = import_skl2onnx().common.data_types
    operator = scope.declare_local_operator(f"SkMtl{type(model).__name__}", model)
    operator.inputs = inputs
    layout, real = _Layout(model), kinds.guess_tensor_type(inputs[0].type)
    if _options(scope, model)["by_task"]:
        names, real = [task.name for task in layout.tasks], kinds.DoubleTensorType()
    else:
        names = layout.names
    for name in names:
        # Shapes and the type of labels follow in `_set_shapes`.
        operator.outputs.append(scope.declare_local_variable(name, type(real)()))
    return operator.outputs


def _set_shapes(operator: Any) -> None:
    """Set the types and shapes of the outputs."""
    kinds = import_skl2onnx().common.data_types
    estimator, layout = operator.raw_operator, _Layout(operator.raw_operator)
    if _options(operator.scope_inst, estimator)["by_task"]:
        for k, output in enumerate(operator.outputs):
            output.set_type(kinds.DoubleTensorType([None, layout.width(k)]))
        return
    for name, output in zip(layout.names, operator.outputs, strict=True):
        if name == "label":
            several = [len(layout.classes)] if len(layout.classes) > 1 else []
            kind = kinds.StringTensorType if layout.has_strings else kinds.Int64TensorType
            output.set_type(kind([None, *several]))
        else:
            own = layout.classes if name == "probabilities" else layout.values
            output.set_type(type(output.type)([None, sum(map(layout.width, own))]))


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Add the nodes of an estimator to what skl2onnx builds."""
    kinds = import_skl2onnx().common.data_types
    estimator, layout = operator.raw_operator, _Layout(operator.raw_operator)
    options = _options(scope, estimator)
    opset = container.target_opset_any_domain("")
    if opset < OPSET:
        raise ValueError(
            f"`target_opset` is {opset}, and {type(estimator).__name__} needs {OPSET} or above."
        )
    types = {
        kinds.FloatTensorType: "float32",
        kinds.DoubleTensorType: "float64",
        kinds.Int64TensorType: "int64",
        kinds.Int32TensorType: "int32",
        kinds.BooleanTensorType: "bool",
        kinds.StringTensorType: "string",
    }
    sources = []
    for given in operator.inputs:
        dtype, width = types.get(type(given.type)), (given.type.shape or [None])[-1]
        if dtype is None or not isinstance(width, int):
            raise ValueError(
                f"The input {given.raw_name!r} of {type(estimator).__name__} is {given.type}; it "
                "takes tensors of strings, integers, booleans and floats with a known number of "
                "columns."
            )
        sources.append(Source(given.full_name, dtype, width))
    graph = Graph(scope.get_unique_variable_name("sk_mtl") + "/")
    codes = read_codes(check_parts(estimator, "skl2onnx")[1], options["missing_string"])
    parts = encode(graph, estimator, sources, codes, options["missing_string"])
    blocks = graph.add_network(estimator, parts, opset)
    outputs = [output.full_name for output in operator.outputs]
    if options["by_task"]:
        for block, output in zip(blocks, outputs, strict=True):
            graph.add("Identity", block, output=output)
    else:
        for name, output in zip(layout.names, operator.outputs, strict=True):
            if name == "label":
                _add_labels(graph, layout, blocks, output.full_name)
            else:
                own = layout.classes if name == "probabilities" else layout.values
                joined = graph.concat([blocks[k] for k in own])
                dtype = "float64" if isinstance(output.type, kinds.DoubleTensorType) else "float32"
                graph.cast(joined, dtype, output.full_name)
    container.nodes.extend(graph.nodes)
    container.initializers.extend(graph.constants)
    container.node_domain_version_pair_sets.add(("", opset))
    if any(node.domain == ML for node in graph.nodes):
        version = min(ML_FOR_PIPELINES, container.target_opset_any_domain(ML))
        container.node_domain_version_pair_sets.add((ML, version))


def _add_labels(graph: Graph, layout: _Layout, blocks: list[str], output: str) -> None:
    """Add the most probable class of each task with classes, (n,) or (n, K)."""
    several = int(len(layout.classes) > 1)
    found = []
    for k, labels in zip(layout.classes, layout.labels, strict=True):
        place = graph.add("ArgMax", blocks[k], axis=1, keepdims=several)
        found.append(graph.add("Gather", graph.constant(labels), place, axis=0))
    graph.add("Identity", graph.concat(found), output=output)

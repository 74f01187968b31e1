"""Graphs of ONNX: nodes added one by one, and a network's nodes among them."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from sk_mtl.data import CategoryEncoder, NumberEncoder
from sk_mtl.export._program import TaskNetwork, any_batch, example, in_evaluation, on_cpu

OPSET = 18
"""The version of ONNX's operators that is written by default, and the lowest."""

ML, ML_OPSET = "ai.onnx.ml", 3
"""Domain of the operators for categories, and their version."""


def import_onnx() -> Any:
    """Import onnx with the modules that are used here."""
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
        import onnx.shape_inference
        import onnxscript  # noqa: F401, torch.onnx imports it
    except ImportError as error:
        raise ImportError(
            "Models are written with onnx and onnxscript; install them by "
            "`pip install sk_mtl[onnx]`."
        ) from error
    return onnx


class Graph:
    """Nodes and constants, all with names that begin alike.

    Parameters
    ----------
    prefix : str
        What names begin with.

    Attributes
    ----------
    nodes : list of NodeProto
        The nodes, each after those that it reads.
    constants : list of TensorProto
        The constants.
    """

    def __init__(self, prefix: str) -> None:
        self.onnx, self.prefix = import_onnx(), prefix
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(
        self, kind: str, *inputs: str, output: str = "", domain: str = "", **attributes: Any
    ) -> str:
        """Add a node with one output, and return the output's name."""
        name = f"{self.prefix}{kind}_{len(self.nodes)}"
        output = output or name
        make = self.onnx.helper.make_node
        self.nodes.append(make(kind, inputs, [output], name=name, domain=domain, **attributes))
        return output

    def constant(self, values: ArrayLike) -> str:
        """Add a constant, and return its name."""
        array = np.asarray(values)
        array = array.astype(object) if array.dtype.kind in "OU" else array
        name = f"{self.prefix}constant_{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def cast(self, tensor: str, to: str, output: str = "") -> str:
        """Add a cast to a dtype that numpy and ONNX both have, by numpy's name."""
        return self.add("Cast", tensor, output=output, to=element_type(to))

    def concat(self, tensors: Sequence[str]) -> str:
        """Set tensors side by side."""
        return tensors[0] if len(tensors) == 1 else self.add("Concat", *tensors, axis=1)

    def add_network(self, estimator: Any, parts: dict[str, str], opset: int) -> list[str]:
        """Add the network of an estimator, and return the names of its tasks' blocks.

        Parameters
        ----------
        estimator : estimator
            A fitted estimator.
        parts : dict of str to str
            Names of the tensors of its parts, by name of the part; one without columns is not
            there.
        opset : int
            Version of ONNX's operators.
        """
        inner = export_network(estimator, list(parts), opset)
        own = f"{self.prefix}network/"
        rename(inner, own)
        for part, name in parts.items():
            self.add("Identity", name, output=own + part)
        is_wide = next(estimator.module_.parameters()).dtype == torch.float64
        for node in inner.node:
            _close_gaps(node)
            if is_wide and node.op_type in NARROW:
                self._add_narrow(node)
            else:
                self.nodes.append(node)
        self.constants += inner.initializer
        return [output.name for output in inner.output]

    def _add_narrow(self, node: Any) -> None:
        """Add a node that reads float64 and computes in float32."""
        (given,), (output,) = node.input, node.output
        node.input[0] = self.cast(given, "float32")
        node.output[0] = f"{output}/narrow"
        self.nodes.append(node)
        self.cast(node.output[0], "float64", output)


NARROW = ("Erf", "Gelu")
"""Operators that ONNX Runtime has in float32 only."""


def element_type(dtype: str) -> int:
    """Return ONNX's number of a dtype."""
    onnx = import_onnx()
    if dtype == "string":
        return int(onnx.TensorProto.STRING)
    return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


class _Outputs(nn.Module):
    """A network that takes the parts with columns only, and returns its blocks as a tuple."""

    def __init__(self, network: TaskNetwork, present: Sequence[str]) -> None:
        super().__init__()
        self.network, self.present = network, tuple(present)

    def forward(self, *parts: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(self.present, parts, strict=True))
        for name, dtype in DTYPES.items():
            if name not in given:
                given[name] = parts[0].new_zeros(parts[0].shape[0], 0, dtype=dtype)
        return tuple(self.network(**given).values())


DTYPES = {NumberEncoder.part: torch.float64, CategoryEncoder.part: torch.int64}
"""The parts of a row, and what they hold."""


def export_network(estimator: Any, present: Sequence[str], opset: int) -> Any:
    """Return a network as a graph of ONNX: parts in, a block for each task out."""
    network = on_cpu(estimator)
    parts = {name: part for name, part in example(estimator).items() if name in present}
    shapes = (tuple(any_batch(parts)[name] for name in present),)
    with in_evaluation(network), _quiet():
        program = torch.onnx.export(
            _Outputs(network, present).eval(),
            tuple(parts[name] for name in present),
            input_names=list(present),
            output_names=[f"block_{k}" for k in range(len(estimator.tasks_))],
            dynamic_shapes=shapes,
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    versions = {one.domain: one.version for one in model.opset_import}
    if versions.get("") != opset or model.functions:
        raise RuntimeError(
            f"torch.onnx wrote the operators {versions} with {len(model.functions)} functions, "
            f"and operators of version {opset} alone were asked for; try another `target_opset`."
        )
    return model.graph


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what torch.onnx says of itself, and nothing else."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # that torchvision is not installed
    try:
        with warnings.catch_warnings():
            # torch copies what torch deprecates, and names the free axis of both inputs once.
            warnings.filterwarnings("ignore", ".isinstance.treespec, LeafSpec", FutureWarning)
            warnings.filterwarnings("ignore", "# The axis name.*will not be used", UserWarning)
            yield
    finally:
        logger.setLevel(level)


def _close_gaps(node: Any) -> None:
    """Let a node have no input that is left out, which skl2onnx takes for one that is missing."""
    while node.input and not node.input[-1]:
        node.input.pop()
    if node.op_type == "Clip" and len(node.input) == 3 and not node.input[1]:
        node.op_type = "Min"
        del node.input[1]


def rename(graph: Any, prefix: str) -> None:
    """Let all names of a graph begin alike, and drop what only a reader of torch needs."""

    def of(names: Any) -> list[str]:
        return [prefix + name if name else name for name in names]

    for node in graph.node:
        inputs, outputs = of(node.input), of(node.output)
        node.ClearField("input")
        node.ClearField("output")
        node.input.extend(inputs)
        node.output.extend(outputs)
        node.name = prefix + node.name
        node.ClearField("metadata_props")  # lines of source files
        node.ClearField("doc_string")
        for attribute in node.attribute:
            if attribute.HasField("g"):
                rename(attribute.g, prefix)
    for one in (*graph.initializer, *graph.input, *graph.output):
        one.name = prefix + one.name
    graph.ClearField("value_info")

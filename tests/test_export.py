"""Networks leave Python: `torch.export` and ONNX, for batches of any size."""

import numpy as np
import pytest
import torch
from conftest import everywhere, make_table, small
from torch.testing import assert_close

from sk_mtl import SharedBottom
from sk_mtl.data import check_rows

EXAMPLE = slice(3, 8)
"""The rows that are traced."""

BATCHES = [slice(0, 1), slice(7, 9), slice(0, 64), slice(64, 72)]
"""Other numbers of rows, 1 included."""

TABLE = make_table(72)


def inputs_of(model, X):
    """Return what a network takes: numbers and codes, some missing or unknown."""
    parts = model._fitted_.encoder.transform(check_rows(model, X, model._fitted_.encoder.names_))
    return torch.from_numpy(parts["numeric"]), torch.from_numpy(parts["categorical"])


def network(cls, X=TABLE.X, **params):
    """Return a trained network and rows for it."""
    model = small(cls, **{"embedding_dim": 3, **params}).fit(X, TABLE.targets(cls))
    rows = X.copy()
    if "city" in X:
        rows.loc[[3, 10], "city"] = "Atlantis"
    numbers, codes = inputs_of(model, rows)
    if "age" in X:
        assert numbers.isnan().any()
    if "city" in X:
        assert {0, 1} < set(codes.flatten().tolist())
    return model.module_, (numbers, codes)


def cut(rows, where):
    return tuple(part[where] for part in rows)


def dynamic():
    """Return shapes whose number of rows is free."""
    n = torch.export.Dim("n")
    return {"numeric": {0: n}, "categorical": {0: n}}


def check_export(module, rows, strict):
    """Check that the exported program gives what the network gives, for any number of rows."""
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    program = torch.export.export(
        module, cut(rows, EXAMPLE), dynamic_shapes=dynamic(), strict=strict
    ).module()
    for where in BATCHES:
        part = cut(rows, where)
        assert_close(program(*part), module(*part), rtol=1e-5, atol=1e-6)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def check_onnx(module, rows):
    """Check that onnxruntime gives what the network gives, for any number of rows."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    program = torch.onnx.export(
        module, cut(rows, EXAMPLE), dynamo=True, dynamic_shapes=dynamic(), verbose=False
    )
    onnx.checker.check_model(program.model_proto)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [given.name for given in session.get_inputs()]
    for where in BATCHES:
        part = cut(rows, where)
        given = dict(zip(("numeric", "categorical"), map(torch.Tensor.numpy, part), strict=True))
        (found,) = session.run(None, {name: given[name] for name in names})
        expected = module(*part).detach().numpy()
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strict", [False, True])
@everywhere
def test_export(cls, strict):
    check_export(*network(cls), strict)


# torch.onnx copies tree specs, and Python's copying calls what torch itself deprecates.
@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning")
# Both inputs have the same free axis; torch.onnx says that it writes its name only once.
@pytest.mark.filterwarnings("ignore:# The axis name.*will not be used:UserWarning")
@everywhere
def test_onnx(cls):
    check_onnx(*network(cls))


LAYERS = {
    "batch norm and dropout": {"batch_norm": True, "dropout": 0.1},
    "tables of several widths": {"embedding_dim": {"city": 2, "student": 3}},
    "sparse tables": {"sparse_embeddings": True},
    "float64": {"dtype": "float64"},
}


@pytest.mark.parametrize("params", LAYERS.values(), ids=LAYERS.keys())
def test_layers(params):
    check_export(*network(SharedBottom, **params), strict=False)


@pytest.mark.parametrize("columns", [["age", "hours"], ["city", "student"]], ids=str)
def test_one_sort_of_column(columns):
    check_export(*network(SharedBottom, TABLE.X[columns]), strict=False)


def test_dropout_is_off_in_what_is_exported():
    module, rows = network(SharedBottom, dropout=0.5)
    example = cut(rows, EXAMPLE)
    program = torch.export.export(module, example, dynamic_shapes=dynamic()).module()
    assert torch.equal(program(*example), program(*example))

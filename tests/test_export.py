"""Networks leave Python: `torch.export` for batches of any size, and the encoder by itself."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import by_pickle, everywhere, make_table, small
from scipy import sparse
from sklearn.base import clone
from torch.testing import assert_close

from sk_mtl import MMoE, SharedBottom, to_torch_program
from sk_mtl.categorical import Bag, Hashed

EXAMPLE = slice(3, 8)
"""The rows that are traced."""

BATCHES = [slice(0, 1), slice(7, 9), slice(0, 64), slice(64, 72)]
"""Other numbers of rows, 1 included."""

TABLE = make_table(72)


def tensors(parts):
    """Return encoded rows as tensors."""
    return {name: torch.from_numpy(part) for name, part in parts.items()}


def network(cls, X=TABLE.X, **params):
    """Return a trained estimator and rows for its network: some missing or unknown."""
    model = small(cls, **{"embedding_dim": 3, **params}).fit(X, TABLE.targets(cls))
    rows = X.copy()
    if "city" in X:
        rows.loc[[3, 10], "city"] = "Atlantis"
    parts = tensors(model.encoder_.transform(rows))
    if "age" in X:
        assert parts["numeric"].isnan().any()
    if "city" in X:
        special = {0} if "categorical_features" in params else {0, 1}  # a hash knows all
        assert special < set(parts["categorical"].flatten().tolist())
    return model, rows, parts


def cut(parts, where):
    return {name: part[where] for name, part in parts.items()}


def check_program(model, rows, parts):
    """Check that the program gives what the estimator predicts, for any number of rows."""
    before = {name: tensor.clone() for name, tensor in model.module_.state_dict().items()}
    run = to_torch_program(model).module()
    for where in BATCHES:
        found = run(**cut(parts, where))
        assert list(found) == model.task_names_
        assert {block.dtype for block in found.values()} == {torch.float64}
        for name, proba in model.predict_task_proba(rows[where]).items():
            assert_close(found[name].numpy(), proba, rtol=0, atol=1e-6)
        values = model.predict(rows[where])
        for k, task in enumerate(model.tasks_):
            if task.classes_ is None:
                expected = values[:, [k]].astype(float)
                assert_close(found[task.name].numpy(), expected, rtol=1e-5, atol=1e-5)
    for name, tensor in model.module_.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@everywhere
def test_program(cls):
    check_program(*network(cls))


@everywhere
def test_strict_export_of_the_network(cls):
    model, _, parts = network(cls)
    n = torch.export.Dim("n")
    shapes = {"numeric": {0: n}, "categorical": {0: n}}
    example = tuple(cut(parts, EXAMPLE).values())
    program = torch.export.export(model.module_, example, dynamic_shapes=shapes, strict=True)
    for where in BATCHES:
        some = tuple(cut(parts, where).values())
        assert_close(program.module()(*some), model.module_(*some), rtol=1e-5, atol=1e-6)


LAYERS = {
    "batch norm and dropout": {"batch_norm": True, "dropout": 0.1},
    "tables of several widths": {"embedding_dim": {"city": 2, "student": 3}},
    "sparse tables": {"sparse_embeddings": True},
    "hashed": {"categorical_features": {"city": Hashed(5)}},
    "float64": {"dtype": "float64"},
    "members": {"n_members": 3},
}


@pytest.mark.parametrize("params", LAYERS.values(), ids=LAYERS.keys())
def test_layers(params):
    check_program(*network(MMoE, **params))


@pytest.mark.parametrize("columns", [["age", "hours"], ["city", "student"]], ids=str)
def test_one_sort_of_column(columns):
    check_program(*network(SharedBottom, TABLE.X[columns]))


def test_dropout_is_off_in_what_is_exported():
    model, _, parts = network(SharedBottom, dropout=0.5)
    model.module_.train()
    run = to_torch_program(model).module()
    assert model.module_.training
    assert torch.equal(run(**parts)["wage"], run(**parts)["wage"])


def test_a_program_is_written_and_read(tmp_path):
    model, rows, parts = network(SharedBottom)
    torch.export.save(to_torch_program(model), tmp_path / "model.pt2")
    run = torch.export.load(tmp_path / "model.pt2").module()
    assert_close(run(**parts)["level"].numpy(), model.predict_task_proba(rows)["level"])


def test_what_a_program_does_not_take_is_named():
    X = pd.DataFrame({"x": np.arange(20.0), "tags": [["a"], ["b", "a"]] * 10})
    model = small(SharedBottom, categorical_features={"tags": Bag()}, max_epochs=1)
    model.fit(X, [0, 1] * 10)
    with pytest.raises(ValueError, match="'tags' is a Bag: to_torch_program takes one"):
        to_torch_program(model)
    with pytest.raises(TypeError, match="TaskView is no sk_mtl estimator"):
        to_torch_program(model.task_view(0))


# The encoder by itself ----------------------------------------------------------------------------


def check_encoder(model, rows):
    """Check that encoded rows give the network's logits, and are of the dtypes that it says."""
    parts = model.encoder_.transform(rows)
    assert parts["numeric"].dtype == np.float64
    assert parts["categorical"].dtype == np.int64
    with torch.no_grad():
        logits = model.module_.eval()(**tensors(parts))
    assert_close(logits.to(torch.float64), model._logits(rows), rtol=1e-5, atol=1e-6)
    return parts


@pytest.mark.parametrize("n", [1, 3, 72])
def test_encoded_rows_are_what_the_network_takes(n):
    model = small(SharedBottom, n_members=2).fit(TABLE.X, TABLE.Y)
    parts = check_encoder(model, TABLE.X[:n])
    assert parts["numeric"].shape == (n, 2)
    assert np.array_equal(parts["numeric"], TABLE.X[["age", "hours"]][:n], equal_nan=True)
    assert model.encoder_.columns == {
        "numeric": ["age", "hours"],
        "categorical": ["city", "student"],
    }
    shuffled = TABLE.X[["student", "age", "city", "hours"]][:n]
    for name, part in model.encoder_.transform(shuffled).items():
        assert np.array_equal(part, parts[name], equal_nan=True)


def test_codes_are_positions_of_categories():
    model = small(SharedBottom).fit(TABLE.X, TABLE.Y)
    known = model.encoder_.categories
    assert known["city"].tolist() == ["Bern", "Cluj", "Oslo", "Riga"]
    rows = TABLE.X.assign(city=TABLE.X["city"].where(TABLE.X["city"] != "Oslo", "Rome"))
    codes = model.encoder_.transform(rows)["categorical"]
    for row, (city, student) in enumerate(zip(rows["city"], rows["student"], strict=True)):
        code = 0 if pd.isna(city) else 1
        code = 2 + known["city"].tolist().index(city) if city in known["city"].tolist() else code
        assert codes[row].tolist() == [code, 2 + known["student"].tolist().index(student)]


@pytest.mark.parametrize("form", [np.array, np.float32, sparse.csr_matrix])
def test_rows_of_every_form(form):
    X = np.random.default_rng(0).normal(size=(30, 3)).round(1)
    model = small(SharedBottom).fit(form(X), [0, 1] * 15)
    parts = check_encoder(model, form(X))
    expected = X.astype(np.float32) if form is np.float32 else X
    assert np.array_equal(parts["numeric"], expected)
    assert parts["categorical"].shape == (30, 0)
    assert model.encoder_.columns == {"numeric": [0, 1, 2], "categorical": []}


def test_rounded_numbers_come_as_the_network_was_trained_on(monkeypatch):
    monkeypatch.setattr("sk_mtl.data.numbers.LARGE_BYTES", 0)
    X = TABLE.X.assign(age=TABLE.X["age"] + 1e-9)
    model = small(SharedBottom).fit(X, TABLE.Y)
    parts = check_encoder(model, X)
    assert np.array_equal(parts["numeric"][:, 0], X["age"].astype("float32"), equal_nan=True)


def test_bags_are_what_the_network_takes():
    X = pd.DataFrame({"x": np.arange(20.0), "tags": [["a"], ["b", "a"]] * 10})
    model = small(SharedBottom, categorical_features={"tags": Bag()}).fit(X, [0, 1] * 10)
    parts = model.encoder_.transform(X)
    with torch.no_grad():
        logits = model.module_.eval()(torch.from_numpy(parts["numeric"]), parts["categorical"])
    assert_close(logits.to(torch.float64), model._logits(X), rtol=1e-5, atol=1e-6)


def test_the_encoder_checks_rows_as_predict_does():
    model = small(SharedBottom)
    with pytest.raises(AttributeError, match="not fitted: it has no encoder_"):
        _ = model.encoder_
    model.fit(TABLE.X, TABLE.Y)
    for bad in (TABLE.X.drop(columns="age"), TABLE.X[:0], TABLE.X.assign(age=np.inf)):
        messages = set()
        for method in (model.predict, model.encoder_.transform):
            with pytest.raises(ValueError, match=r".") as caught:
                method(bad)
            messages.add(str(caught.value))
        assert len(messages) == 1
    with pytest.warns(UserWarning, match="No category of X is known.*'city'"):
        model.encoder_.transform(TABLE.X.assign(city="Rome"))


def test_the_encoder_is_no_state():
    model = small(SharedBottom).fit(TABLE.X, TABLE.Y)
    assert "encoder_" not in vars(model)
    assert not hasattr(clone(model), "encoder_")
    expected = model.encoder_.transform(TABLE.X)
    for twin in (by_pickle(model), copy.deepcopy(model)):
        for name, part in twin.encoder_.transform(TABLE.X).items():
            assert np.array_equal(part, expected[name], equal_nan=True)
    assert repr(model.encoder_) == "RowEncoder(SharedBottom)"

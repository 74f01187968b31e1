"""PEPNet: factors of 1 at first, what its gates read and train, and names of columns."""

import modules
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import small
from modules import build_module, make_inputs, make_module, randn, randomize
from torch.testing import assert_close

from sk_mtl import PEPNet
from sk_mtl.architectures import PEPNetBottom, SingleTaskBottom
from sk_mtl.nn import FactorGates

EXACT = {"rtol": 1e-10, "atol": 1e-10}
D, K = 11, 3
PRIOR, DOMAIN = [1, 4, 5], [0, 7]
SIZES = {"units": (9, 8), "gate_units": (5,), "activation": "tanh", "generator": None}


def make_bottom(domain=DOMAIN, **given):
    bottom = PEPNetBottom(D, K, prior=PRIOR, domain=domain, **{**SIZES, **given})
    return randomize(bottom)


def factors_of(bottom):
    return [part for part in bottom.modules() if isinstance(part, FactorGates)]


def close_gates(bottom):
    """Set the last layer of every gate to zero, as it is at first."""
    with torch.no_grad():
        for gate in factors_of(bottom):
            gate.scores.weight.zero_()
            gate.scores.bias.zero_()


@pytest.mark.parametrize("domain", [None, [0]])
def test_every_factor_is_one_at_first(domain):
    module = build_module(PEPNet, ("binary",) * K, domain_features=domain)
    seen = []
    for gate in factors_of(module):
        gate.register_forward_hook(lambda _m, _i, out: seen.append(out))
    numeric, codes = make_inputs(7)
    module(numeric.float(), codes)
    assert len(seen) == 2 + (domain is not None)
    assert all((factors == 1.0).all() for factors in seen)


@pytest.mark.parametrize("domain", [[], DOMAIN])
def test_with_closed_gates_it_is_single_task(domain):
    bottom, x = make_bottom(domain), randn(7, D)
    close_gates(bottom)
    single = SingleTaskBottom(D, K, units=(9, 8), activation="tanh").double()
    ours = [p for layer in bottom.ppnet.layers for p in layer.parameters()]
    with torch.no_grad():
        for theirs, own in zip(single.parameters(), ours, strict=True):
            theirs.copy_(own)
    assert_close(bottom(x), single(x), **EXACT)


def test_factors_stay_between_zero_and_two():
    gates = randomize(FactorGates(K, D, 6, (5,)), std=30.0)
    factors = gates(randn(50, D))
    assert factors.shape == (50, K, 6)
    assert (factors >= 0).all()
    assert (factors <= 2).all()
    assert factors.min() < 0.1
    assert factors.max() > 1.9  # NextRec's last gate has a scale of 1


def through_gates(bottom, x, which):
    """Return the gradient that reaches x through the factors of some gates, and no other way."""
    found = []

    def keep(_module, _inputs, out):
        found.append(out)
        return out.detach()

    handles = [gate.register_forward_hook(keep) for gate in which]
    bottom(x)
    for handle in handles:
        handle.remove()
    return [modules.gradients(out, [x], randn(*out.shape, seed=1))[0] for out in found]


def test_only_prior_columns_learn_through_the_gates_of_layers():
    bottom, x = make_bottom([]), randn(7, D).requires_grad_()
    for found in through_gates(bottom, x, list(bottom.ppnet.gates)):
        reached = (found != 0).any(0)
        assert reached.nonzero().flatten().tolist() == PRIOR


def test_only_domain_columns_learn_through_the_gate_of_the_embedding():
    bottom, x = make_bottom(), randn(7, D).requires_grad_()
    (found,) = through_gates(bottom, x, [bottom.epnet])
    assert (found != 0).any(0).nonzero().flatten().tolist() == DOMAIN


def test_gates_of_layers_stop_the_scaled_embedding():
    """They read x' without moving the gate that scaled it, and the prior as it stands in x."""
    bottom, x = make_bottom(), randn(7, D).requires_grad_()
    seen = []
    for gate in bottom.ppnet.gates:
        gate.register_forward_hook(lambda _m, args, out: seen.append((args[0], out)))
    bottom(x)
    scaled = bottom.epnet(torch.cat([x[:, DOMAIN], x], 1)) * x.unsqueeze(1)
    for steering, factors in seen:
        assert_close(steering[:, 0], torch.cat([x[:, PRIOR], scaled[:, 0]], 1), **EXACT)
        found = modules.gradients(factors, list(bottom.epnet.parameters()), randn(*factors.shape))
        assert all((part == 0).all() for part in found)
        (of_x,) = modules.gradients(factors, [x], randn(*factors.shape))
        assert (of_x != 0).any(0).nonzero().flatten().tolist() == PRIOR


def test_a_stopped_prior_would_be_noticed():
    """MMLRec and NextRec stop the prior's gradient too."""
    bottom, x = make_bottom([]), randn(7, D).requires_grad_()
    for gate in bottom.ppnet.gates:
        gate.register_forward_pre_hook(lambda _m, args: (args[0].detach(),))
    assert not any(found.any() for found in through_gates(bottom, x, list(bottom.ppnet.gates)))


def test_the_first_layer_reads_an_unscaled_input():
    bottom, x = make_bottom([]), randn(7, D)
    seen = []
    bottom.ppnet.layers[0].register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    bottom(x)
    assert_close(seen[0].squeeze(1), x, **EXACT)


def test_layers_and_their_gates_are_own_and_the_embeddings_gate_is_shared():
    module = make_module(PEPNet, kinds=("binary",) * K, domain_features=[0])
    shared = {id(p) for p in module.shared_parameters()}
    expected = [*module.embedding.parameters(), *module.bottom.epnet.parameters()]
    assert shared == {id(p) for p in expected}
    logits = module(*make_inputs(7))
    for parameter in module.bottom.own_parameters():
        for k in range(K):
            (found,) = modules.gradients(logits[:, k], [parameter], randn(7))
            assert [bool((piece != 0).any()) for piece in found] == [j == k for j in range(K)]


# Columns ------------------------------------------------------------------------------------------


def moved_places(model, X, column, value):
    """Return the places of the embedding that a change of one column moves."""
    changed = X.copy()
    changed[column] = value
    embedding = model.module_.embedding

    def embed(rows):
        parts = model._fitted_.encoder.transform(model._read_rows(rows))
        return embedding({name: torch.as_tensor(part) for name, part in parts.items()})

    with torch.no_grad():
        return (embed(X) != embed(changed)).any(0).nonzero().flatten().tolist()


@pytest.mark.parametrize(
    "asked",
    [["city", "age"], [2, 0], [True, False, True, False], np.array(["age", "city"])],
    ids=["names", "indices", "mask", "array"],
)
def test_columns_are_named_as_categories_are(table, asked):
    model = small(PEPNet, prior_features=asked, domain_features=["student"]).fit(table.X, table.Y)
    bottom, X = model.module_.bottom, table.X.head(20)
    X = X.assign(age=X["age"].fillna(30.0), city="Bern")
    of_age, of_city = moved_places(model, X, "age", np.nan), moved_places(model, X, "city", "Oslo")
    assert len(of_age) == 2  # the number, and the mark of missing ones
    assert bottom.prior.tolist() == sorted([*of_age, *of_city])
    student = bottom.domain.tolist()
    assert student == moved_places(model, X.assign(student=True), "student", False)


def test_all_columns_steer_by_default(table):
    bottom = small(PEPNet).fit(table.X, table.Y).module_.bottom
    assert bottom.prior.tolist() == list(range(bottom.ppnet.layers[0].layers[0].in_features))
    assert bottom.epnet is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prior_features": ["town"]}, "`prior_features` names 'town', which is no column of X"),
        ({"domain_features": ["town"]}, "`domain_features` names 'town', which is no column"),
        ({"prior_features": []}, "`prior_features` has no column; pass columns, or 'all'"),
        (
            {"domain_features": []},
            "`domain_features` has no column; pass columns, or None for none",
        ),
        ({"prior_features": [False] * 4}, "`prior_features` has no column"),
        ({"prior_features": [True]}, "`prior_features` is a mask of 1 entries and X has 4"),
        ({"prior_features": [4]}, "`prior_features` has the index 4 and X has 4 columns"),
        ({"prior_features": [-1]}, "`prior_features` has the index -1"),
        ({"prior_features": None}, "'prior_features' parameter"),
        ({"prior_features": "none"}, "'prior_features' parameter"),
    ],
)
def test_columns_that_are_not_there(table, given, message):
    model = small(PEPNet, **given)
    with pytest.raises(ValueError, match=message):
        model.fit(table.X, table.Y)
    assert not hasattr(model, "module_")


def test_names_of_an_array():
    model = small(PEPNet, prior_features=["age"])
    with pytest.raises(ValueError, match="`prior_features` names 'age' and X has no column names"):
        model.fit(randn(20, 3).numpy(), [0, 1] * 10)
    bottom = small(PEPNet, prior_features=[2]).fit(randn(20, 3).numpy(), [0, 1] * 10).module_.bottom
    assert bottom.prior.tolist() == [2]


def test_one_row_of_one_column():
    """MMLRec's `.squeeze()` breaks a batch of one."""
    X = pd.DataFrame({"a": randn(20).numpy()})
    model = small(PEPNet, gate_width=1, bottom_units=(1,), domain_features=["a"])
    model.fit(X, [0, 1] * 10)
    assert model.predict(X[:1]).shape == (1,)

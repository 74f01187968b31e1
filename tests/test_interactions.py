"""Products of columns before the bottom: equations, identities, and where they stand."""

import copy
import pickle

import modules
import numpy as np
import pytest
import torch
from conftest import everywhere, make_table, small
from modules import N_FEATURES, build_module, kinds_for, make_inputs, make_module, randn, randomize
from torch.testing import assert_close

import sk_mtl
from sk_mtl import ESMM, STEM, MMoE, MultiTabNet, PEPNet, SharedBottom
from sk_mtl.nn import ColumnTokens, CrossNetwork, FMInteraction

EXACT = {"rtol": 1e-10, "atol": 1e-10}
D = 9
COLUMNS = [[0], [3, 4, 5], [1], [2, 6], [7, 8]]
KINDS = ["fm", "cross"]
TABLE = make_table()


# Equations ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_cross_equals_the_papers_sum(n_layers):
    cross, rows = randomize(CrossNetwork(D, n_layers)), randn(7, D).requires_grad_()
    expected = []
    for first in rows:
        x = first
        for layer in range(n_layers):
            new = []
            for i in range(D):
                z = cross.bias[layer][i] + sum(cross.weight[layer][i][j] * x[j] for j in range(D))
                new.append(first[i] * z + x[i])
            x = torch.stack(new)
        expected.append(x)
    actual, expected = cross(rows), torch.stack(expected)
    assert_close(actual, expected, **EXACT)
    sources = [rows, *cross.parameters()]
    assert_close(
        modules.gradients(actual, sources, randn(7, D, seed=1)),
        modules.gradients(expected, sources, randn(7, D, seed=1)),
        **EXACT,
    )


def test_cross_without_weights_is_the_identity():
    cross, x = CrossNetwork(D).double(), randn(7, D)
    with torch.no_grad():
        cross.weight.zero_()
    assert (cross.bias == 0).all()
    assert torch.equal(cross(x), x)


def test_cross_multiplies_by_the_input_and_not_by_the_layer_below():
    """A cross layer multiplies x_0: two layers give products of three numbers, not of four."""
    cross = randomize(CrossNetwork(D))
    with torch.no_grad():
        cross.bias.zero_()
    x, t = randn(D), 1e6
    assert_close(cross(t * x) / t**3, cross(t**2 * x) / t**6, rtol=1e-4, atol=1e-9)


def vectors_of(fm, x):
    """Return the vector of each column of one row, by the column's own matrix."""
    found = []
    for places, layer in zip(fm.vectors.columns, fm.vectors.layers, strict=True):
        for weight, of_column in zip(layer.weight, places, strict=True):
            found.append(weight @ torch.stack([x[place] for place in of_column]))
    return found


def test_fm_equals_the_sum_over_pairs():
    fm, rows = randomize(FMInteraction(D, COLUMNS, 4)), randn(7, D).requires_grad_()
    expected = []
    for x in rows:
        vectors, total = vectors_of(fm, x), 0.0
        assert len(vectors) == len(COLUMNS)
        for i in range(len(vectors)):
            for j in range(i + 1, len(vectors)):
                total = total + vectors[i] * vectors[j]
        expected.append(torch.cat([x, total]))
    actual, expected = fm(rows), torch.stack(expected)
    assert actual.shape == (7, fm.out_features) == (7, D + 4)
    assert_close(actual, expected, **EXACT)
    sources = [rows, *fm.parameters()]
    assert_close(
        modules.gradients(actual, sources, randn(7, D + 4, seed=1)),
        modules.gradients(expected, sources, randn(7, D + 4, seed=1)),
        **EXACT,
    )


def test_fm_has_no_biases_and_no_squares():
    """Of a single column that is not zero nothing is left: no bias, no square, no first order."""
    fm = randomize(FMInteraction(D, COLUMNS, 4))
    assert all(layer.bias is None for layer in fm.vectors.layers)
    for column in COLUMNS:
        x = torch.zeros(7, D).double()
        x[:, column] = randn(7, len(column))
        assert_close(fm(x)[:, D:], torch.zeros(7, 4).double(), **EXACT)


def test_fm_of_a_column_without_a_place_and_of_places_without_a_column():
    fm = FMInteraction(3, [[0], []], 4)
    assert fm.vectors.n_tokens == 2  # the first, and places 1 and 2 together
    with pytest.raises(ValueError, match="interaction='fm' multiplies columns, and X has 1"):
        FMInteraction(3, [[0, 1, 2]], 4)


@pytest.mark.parametrize("make", [lambda: CrossNetwork(D), lambda: FMInteraction(D, COLUMNS)])
def test_copies_pass_one_by_one(make):
    part, x = randomize(make()), randn(7, 3, D)
    expected = torch.stack([part(x[:, k]) for k in range(3)], dim=1)
    assert_close(part(x), expected, **EXACT)
    assert part(x[:0]).shape == (0, 3, part.out_features)


@pytest.mark.parametrize("make", [CrossNetwork, lambda d, **g: FMInteraction(d, COLUMNS, **g)])
def test_weights_come_from_the_generator(make):
    state = torch.get_rng_state()
    one, same, other = (make(D, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    for a, b, c in zip(one.parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c) == (not a.any())


# In the network -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@everywhere
def test_every_architecture_takes_interactions(cls, kind):
    module = make_module(cls, interaction=kind)
    plain = make_module(cls)
    assert plain.interaction is None
    copies = modules.copies_of(module.embedding)
    x = randn(7, len(copies), N_FEATURES) if module.embedding.n_own else randn(7, N_FEATURES)
    numeric, codes = make_inputs(7)
    seen = []
    module.bottom.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    logits = module(numeric, codes)
    embedded = module.embedding(modules.parts_of((numeric, codes)))
    assert_close(seen[0], module.interaction(embedded), **EXACT)
    assert seen[0].shape[1:] == (*x.shape[1:-1], module.interaction.out_features)
    assert logits.shape == plain(numeric, codes).shape
    for i in range(7):
        assert_close(module(numeric[i : i + 1], codes[i : i + 1]), logits[i : i + 1], **EXACT)
    found = modules.gradients(logits, list(module.interaction.parameters()), randn(*logits.shape))
    assert all(gradient.any() for gradient in found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cls", [SharedBottom, STEM])
def test_their_weights_are_shared_and_decay(cls, kind):
    module = make_module(cls, kinds=("binary",) * 3, interaction=kind)
    ids = {id(p) for p in module.interaction.parameters()}
    assert ids <= {id(p) for p in module.shared_parameters()}
    undecayed = {id(p) for p in module.undecayed_parameters()}
    names = {n for n, p in module.interaction.named_parameters() if id(p) in undecayed}
    assert names == ({"bias"} if kind == "cross" else set())


@pytest.mark.parametrize("kind", KINDS)
def test_members_share_them_as_they_do_the_embedding(kind):
    pair = make_module(MMoE, kinds=("binary",) * 3, n_members=2, interaction=kind)
    alone = make_module(MMoE, kinds=("binary",) * 3, seed=1, interaction=kind)
    inputs = make_inputs(7)
    for m in range(2):
        state = {
            name: tensor
            if name.startswith(("embedding.", "interaction."))
            else tensor.unflatten(0, (2, -1))[m]
            for name, tensor in pair.state_dict().items()
        }
        alone.load_state_dict(state)
        assert_close(pair(*inputs)[:, 3 * m : 3 * m + 3], alone(*inputs), **EXACT)


def test_columns_keep_their_places():
    """What "fm" appends belongs to no column, and PEPNet's gates do not count it as one."""
    kinds = ("binary",) * 2
    with_fm = build_module(PEPNet, kinds, prior_features=[4, 12], interaction="fm").bottom
    plain = build_module(PEPNet, kinds, prior_features=[4, 12]).bottom
    assert torch.equal(with_fm.prior, plain.prior)
    tokens = build_module(MultiTabNet, kinds, interaction="fm").bottom.columns
    columns = build_module(MultiTabNet, kinds).bottom.columns
    assert isinstance(tokens, ColumnTokens)
    assert tokens.n_tokens == columns.n_tokens + 1
    assert [*range(N_FEATURES, N_FEATURES + 8)] in [c for alike in tokens.columns for c in alike]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cls", [MMoE, STEM])
def test_compiles_without_graph_breaks(cls, kind):
    module, inputs = make_module(cls, interaction=kind), make_inputs(7)
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    assert_close(compiled(*inputs), module(*inputs), **EXACT)


def test_none_leaves_initial_weights_as_they_were():
    first, second = (build_module(MMoE, kinds_for(MMoE, 3), **given) for given in ({}, {}))
    other = build_module(MMoE, kinds_for(MMoE, 3), interaction="cross")
    modules_of = [name for name, _ in first.named_modules()]
    assert "interaction" not in modules_of
    assert "interaction" in [name for name, _ in other.named_modules()]
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


# The estimator ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cls", [SharedBottom, STEM, ESMM])
def test_fit_predict_and_copies(cls, kind, tmp_path):
    target = TABLE.targets(cls)
    model = small(cls, interaction=kind, n_members=2).fit(TABLE.X, target)
    expected = model.predict_proba(TABLE.X)
    path = tmp_path / "model.skmtl"
    sk_mtl.save(model, path)
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), sk_mtl.load(path)):
        assert (twin.predict_proba(TABLE.X) == expected).all()
    model.partial_fit(TABLE.X, target)
    assert (model.predict_proba(TABLE.X) != expected).any()


@pytest.mark.parametrize("kind", KINDS)
def test_interactions_learn_a_product(kind):
    X = randn(400, 2).numpy()
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    given = {"max_epochs": 60, "lr": 0.02, "bottom_units": (2,), "tower_units": ()}
    scores = [
        small(SharedBottom, interaction=given_kind, **given).fit(X, y).score(X, y)
        for given_kind in (None, kind)
    ]
    assert scores[0] < 0.8 < 0.9 < scores[1]


def test_fm_needs_two_columns():
    model = small(SharedBottom, interaction="fm")
    with pytest.raises(ValueError, match="interaction='fm' multiplies columns, and X has 1"):
        model.fit(randn(20, 1).numpy(), [0, 1] * 10)
    assert not hasattr(model, "module_")


def test_other_names_are_refused():
    with pytest.raises(ValueError, match="'interaction' parameter of SharedBottom"):
        small(SharedBottom, interaction="dcn").fit(randn(20, 2).numpy(), [0, 1] * 10)


def test_of_a_bottom_it_is_passed_to_the_estimator_itself():
    model = ESMM(bottom=MMoE(interaction="fm"))
    with pytest.raises(ValueError, match="interaction='fm', which counts for nothing there"):
        model.fit(TABLE.X, TABLE.chain)


def test_cross_layers_of_very_wide_rows_are_refused():
    X = np.zeros((20, 5001))
    X[0] = 1.0
    with pytest.raises(ValueError, match=r"rows have 5001 numbers; at most 5000 are taken"):
        small(SharedBottom, interaction="cross").fit(X, np.arange(20) % 2)

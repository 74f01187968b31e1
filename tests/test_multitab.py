"""MultiTab-Net: who attends to whom, what columns become, and that rows stay apart."""

import modules
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import small
from modules import make_inputs, make_module, randn, randomize
from torch.testing import assert_close

from sk_mtl import MultiTabNet
from sk_mtl.architectures import MultiTabNetBottom
from sk_mtl.nn import ColumnTokens, EncoderBlock

EXACT = {"rtol": 1e-10, "atol": 1e-10}
D, K = 11, 3
COLUMNS = [[0], [3, 4, 5], [1], [2, 6], [8, 9, 10]]  # 7 belongs to none
SIZES = {"token_width": 12, "n_heads": 3, "hidden_width": 7, "activation": "tanh"}


def make_bottom(**given):
    given = {"columns": COLUMNS, "n_blocks": 1, **SIZES, **given}
    return randomize(MultiTabNetBottom(D, K, **given))


# Columns ------------------------------------------------------------------------------------------


def test_a_number_becomes_its_multiple_of_a_vector_and_a_bias():
    tokens = randomize(ColumnTokens(2, [[1], [0]], 5))
    x = randn(7, 2)
    (layer,) = tokens.layers
    for token, place in enumerate((1, 0)):
        a, b = layer.weight[token, :, 0], layer.bias[token]
        assert_close(tokens(x)[:, 0, token], x[:, place : place + 1] * a + b, **EXACT)


def test_every_place_is_read_by_one_token():
    tokens = randomize(ColumnTokens(D, COLUMNS, 5))
    x = randn(7, D).requires_grad_()
    assert tokens(x).shape == (7, 1, 6, 5)
    read = []
    for token in range(6):
        (found,) = modules.gradients(tokens(x)[:, 0, token], [x], randn(7, 5))
        read.append((found != 0).any(0).nonzero().flatten().tolist())
    assert sorted(read) == sorted([*COLUMNS, [7]])


def test_biases_do_not_start_from_zero():
    tokens = ColumnTokens(D, COLUMNS, 16, generator=torch.Generator().manual_seed(0))
    assert all((layer.bias != 0).all() for layer in tokens.layers)
    assert all(layer.bias.abs().max() <= 0.25 for layer in tokens.layers)


def test_columns_without_places_and_without_columns():
    tokens = ColumnTokens(2, [[], [0, 1]], 5)
    assert tokens.n_tokens == 1
    empty = ColumnTokens(0, [], 5, n_members=2)
    assert empty(torch.zeros(7, 0)).shape == (7, 2, 0, 5)


# Attention ----------------------------------------------------------------------------------------


def reads(bottom, x):
    """Return which tasks' tokens each task's output hangs on."""
    out = bottom(x)
    parameter = bottom.tasks.tokens
    found = [modules.gradients(out[:, k], [parameter], randn(7, 12))[0] for k in range(K)]
    return [(gradient != 0).any(1).tolist() for gradient in found]


def test_tasks_do_not_attend_to_each_other():
    assert reads(make_bottom(), randn(7, D)) == torch.eye(K, dtype=torch.bool).tolist()


def test_tasks_meet_in_the_columns_of_several_blocks():
    assert reads(make_bottom(n_blocks=2), randn(7, D)) == [[True] * K] * K


def test_a_mask_that_is_left_out_would_be_noticed():
    bottom = make_bottom()
    bottom.mask.zero_()
    assert reads(bottom, randn(7, D)) != torch.eye(K, dtype=torch.bool).tolist()


@pytest.mark.parametrize("n_blocks", [1, 2])
@pytest.mark.parametrize("training", [False, True])
def test_the_mask_holds_in_training_and_in_evaluation(n_blocks, training):
    bottom, seen = make_bottom(n_blocks=n_blocks).train(training), []
    bottom.blocks[-1].register_forward_pre_hook(lambda _m, args: seen.append(args[1]))
    bottom(randn(7, D))
    assert seen[0].shape == (K, K + 6)
    others = ~torch.eye(K, dtype=torch.bool)
    assert (seen[0][:, :K][others] == -torch.inf).all()
    assert (seen[0][:, K:] == 0).all()
    assert (seen[0].diagonal() == 0).all()


def test_own_parameters_are_the_tokens_of_tasks_that_do_not_meet():
    for n_blocks in (1, 2):
        module = make_module(MultiTabNet, kinds=("binary",) * K, n_blocks=n_blocks)
        shared = {id(p) for p in module.shared_parameters()}
        assert (id(module.bottom.tasks.tokens) in shared) == (n_blocks == 2)
        assert all(id(p) in shared for p in module.bottom.blocks.parameters())


def test_without_attention_to_columns_outputs_are_constant():
    bottom = make_bottom()
    bottom.mask[:, K:] = -torch.inf
    out = bottom(randn(7, D))
    assert_close(out, out[:1].expand_as(out), **EXACT)
    assert not torch.allclose(make_bottom()(randn(7, D)), out)


def test_columns_may_stand_in_any_order():
    bottom, x = make_bottom(), randn(7, D)
    order = torch.tensor([2, 4, 0, 3, 1, 5])
    other = make_bottom()
    permute = other.columns.forward
    other.columns.forward = lambda x: permute(x).index_select(2, order)
    assert_close(other(x), bottom(x), **EXACT)


def test_rows_do_not_attend_to_each_other():
    """The authors' row attention makes a prediction hang on the batch; it is left out."""
    bottom, x = make_bottom(n_blocks=2), randn(7, D).requires_grad_()
    (found,) = modules.gradients(bottom(x)[2], [x], randn(K, 12))
    assert (found != 0).any(1).tolist() == [i == 2 for i in range(7)]


def test_a_block_is_torchs_pre_norm_encoder_layer():
    ours = randomize(EncoderBlock(12, 3, 7, activation="gelu"))
    theirs = torch.nn.TransformerEncoderLayer(
        12, 3, 7, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).double()
    with torch.no_grad():
        projections = [ours.query, ours.key, ours.value]
        theirs.self_attn.in_proj_weight.copy_(torch.cat([p.weight[0] for p in projections]))
        theirs.self_attn.in_proj_bias.zero_()
        (hidden,) = ours.mlp.layers[:1]
        pairs = [
            (theirs.self_attn.out_proj, ours.joined),
            (theirs.linear1, hidden),
            (theirs.linear2, ours.output),
            (theirs.norm1, ours.attention_norm),
            (theirs.norm2, ours.mlp_norm),
        ]
        for to, given in pairs:
            to.weight.copy_(given.weight[0])
            to.bias.copy_(given.bias[0])
    tokens, mask = randn(7, 9, 12), torch.zeros(9, 9).double()
    mask[:K, :K].fill_(-torch.inf).fill_diagonal_(0.0)
    expected = theirs(tokens, src_mask=mask)
    assert_close(ours(tokens.unsqueeze(2), mask).squeeze(2), expected, **EXACT)
    assert_close(ours(tokens.unsqueeze(2), mask[:K]).squeeze(2), expected[:, :K], **EXACT)


# The estimator ------------------------------------------------------------------------------------


def test_a_token_for_each_column(table):
    bottom = small(MultiTabNet).fit(table.X, table.Y).module_.bottom
    assert bottom.columns.n_tokens == 4
    sizes = [len(alike[0]) for alike in bottom.columns.columns]
    assert sizes[0] == 1  # hours
    assert 2 in sizes  # age, and the mark of missing ones
    module = make_module(MultiTabNet)
    assert module.bottom.columns.n_tokens == modules.N_NUMERIC + len(modules.N_CATEGORIES)
    assert module(*make_inputs(7)).isfinite().all()


def test_weight_decay_leaves_tokens_and_scales_alone():
    module = make_module(MultiTabNet)
    spared = {id(p) for p in module.undecayed_parameters()}
    decayed = {name for name, p in module.bottom.named_parameters() if id(p) not in spared}
    assert decayed == {
        *(f"columns.layers.{i}.weight" for i in range(4)),
        *(f"blocks.0.{name}.weight" for name in ("query", "key", "value", "joined", "output")),
        "blocks.0.mlp.layers.0.weight",
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_heads": 3}, "`token_width`=16 is no multiple of `n_heads`=3"),
        ({"token_width": 1, "n_heads": 1}, "'token_width' parameter"),
    ],
)
def test_heads_share_the_width(given, message):
    with pytest.raises(ValueError, match=message):
        MultiTabNet(**given).fit(randn(8, 2).numpy(), [0, 1] * 4)


def test_too_many_columns_are_refused():
    X = pd.DataFrame(np.zeros((8, 1001)))
    with pytest.raises(ValueError, match="X has 1001 columns and MultiTabNet takes 1000"):
        small(MultiTabNet).fit(X.to_numpy(), [0, 1] * 4)

"""Encodings of numbers: against scikit-learn and rtdl_num_embeddings, and on columns that hurt."""

import copy
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import by_pickle, everywhere, make_table, small
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.preprocessing import QuantileTransformer, RobustScaler
from torch.testing import assert_close

import sk_mtl
from sk_mtl import MMoE, SharedBottom
from sk_mtl.data import FeatureEncoder, NumberEncoder
from sk_mtl.data.frames import as_table
from sk_mtl.nn import NumbersBlock
from sk_mtl.nn.blocks import find_block
from sk_mtl.nn.blocks.grid import Grid
from sk_mtl.nn.blocks.quantiles import normal_score
from sk_mtl.numeric import (
    ENCODINGS,
    Encoding,
    ExactValues,
    Passthrough,
    Periodic,
    PiecewiseLinear,
    QuantileNormal,
    RobustClip,
    Standardize,
    choose_encodings,
)
from sk_mtl.numeric.learned import Column, read_columns

rtdl = pytest.importorskip("rtdl_num_embeddings")

RNG = np.random.default_rng(0)
NAMES = list(ENCODINGS)
LEARNED = [name for name in NAMES if name not in ("standardize", "passthrough")]
named = pytest.mark.parametrize("name", NAMES)
learned = pytest.mark.parametrize("name", LEARNED)


def build(encoding, values, weight=None, seed=0, **options):
    """Return the block of an encoding that has learned from values, in float64."""
    learned = encoding.fit(np.asarray(values, dtype=np.float64), weight)
    generator = torch.Generator().manual_seed(seed)
    return find_block(encoding.kind)(**learned, **options, generator=generator).double().eval()


def run(block, values):
    """Return the vectors of values, (n, F) or (n,)."""
    part = torch.as_tensor(np.asarray(values, dtype=np.float64))
    with torch.no_grad():
        return block.embed(block.prepare(part if part.ndim == 2 else part[:, None])).numpy()


def draws(n=500, columns=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, columns))


# Against other packages ---------------------------------------------------------------------------


@pytest.mark.parametrize("n_quantiles", [7, 100, 333])
def test_quantile_normal_is_that_of_scikit_learn(n_quantiles):
    X = np.column_stack([RNG.normal(size=500), RNG.standard_cauchy(500), RNG.integers(0, 20, 500)])
    theirs = QuantileTransformer(
        n_quantiles=n_quantiles, output_distribution="normal", subsample=None
    ).fit(X)
    block = build(QuantileNormal(n_quantiles, ties="ends"), X)
    new = np.vstack([X, np.random.default_rng(1).normal(0, 5, (300, 3)), X.min(0), X.max(0)])
    new[3, 1] = np.nan
    new[-1] += 100
    expected = theirs.transform(new)
    expected[3, 1] = theirs.transform(np.nanmedian(X, axis=0)[None])[0, 1]
    assert_allclose(run(block, new), expected, atol=1e-6)


def test_ties_at_the_ends_read_their_middle():
    """As TabM's noise makes it: 90 % of zeros are no extreme."""
    x = np.r_[np.zeros(900), np.arange(1, 101)]
    block = build(QuantileNormal(), x[:, None])
    assert run(block, [0.0])[0, 0] == pytest.approx(-0.126, abs=0.1)
    assert run(block, [-1.0])[0, 0] == pytest.approx(-5.2, abs=0.01)
    noisy = QuantileTransformer(n_quantiles=33, output_distribution="normal", subsample=None).fit(
        x[:, None] + RNG.normal(0, 1e-5, (1000, 1))
    )
    grid = np.array([0.0, 5.0, 50.0, 90.0])[:, None]
    assert_allclose(run(block, grid), noisy.transform(grid), atol=0.15)


def test_number_of_quantiles():
    for n, expected in [(50, 10), (3000, 100), (60_000, 1000)]:
        (knots,) = QuantileNormal().fit(draws(n, 1))["knots"]
        assert len(knots) == expected


@pytest.mark.parametrize("limit", [None, 3.0])
def test_robust_is_that_of_scikit_learn(limit):
    X = np.column_stack([RNG.normal(5, 3, 400), RNG.standard_cauchy(400)])
    X[::7, 0] = np.nan
    z = RobustScaler().fit_transform(X)
    expected = np.nan_to_num(z if limit is None else z / np.sqrt(1 + (z / limit) ** 2))
    assert_allclose(run(build(RobustClip(limit), X), X), expected, atol=1e-9)


def test_robust_falls_back_on_half_the_range():
    x = np.r_[np.zeros(98), 4.0, 8.0]
    assert_allclose(run(build(RobustClip(None), x[:, None]), [0.0, 8.0])[:, 0], [0, 2])
    far = run(build(RobustClip(), x[:, None]), [1e300, -1e300, 1e9])[:, 0]
    assert_allclose(far, [3, -3, 3])


@pytest.mark.filterwarnings("ignore:The .* feature has just two bin edges")
@pytest.mark.parametrize("n_bins", [2, 5, 48])
def test_bins_are_those_of_rtdl(n_bins):
    X = np.column_stack([draws(), RNG.integers(0, 3, 500), np.r_[np.zeros(480), np.arange(20)]])
    theirs = rtdl.compute_bins(torch.from_numpy(X), n_bins)
    ours = PiecewiseLinear(n_bins).fit(X)["edges"]
    for a, b in zip(ours, theirs, strict=True):
        assert_allclose(a, b.numpy(), atol=1e-5)  # their shares are float32


def edges_of(encoding, x):
    return encoding.fit(np.asarray(x, dtype=np.float64)[:, None])["edges"][0]


def test_bins_of_distinct_values():
    x = np.r_[np.zeros(900), np.arange(100)]
    assert len(edges_of(PiecewiseLinear(10), x)) < 5
    assert_allclose(edges_of(PiecewiseLinear(9, bins="distinct"), x), np.arange(0, 100, 11))
    assert_allclose(edges_of(PiecewiseLinear(99, bins="distinct"), x), np.arange(100))
    mixed = edges_of(PiecewiseLinear(10, bins="mixed"), x)
    assert 5 < len(mixed) <= 11


@pytest.mark.filterwarnings("ignore:The .* feature has just two bin edges")
def test_piecewise_is_that_of_rtdl():
    X = np.column_stack([draws(400), RNG.integers(0, 2, 400), RNG.integers(0, 6, 400)])
    encoding = PiecewiseLinear(8, embedding_dim=5, number="standardize")
    block = build(encoding, X)
    bins = [torch.as_tensor(edges) for edges in encoding.fit(X)["edges"]]
    theirs = rtdl.PiecewiseLinearEmbeddings(bins, 5, activation=False, version="B").double()
    n_bins, most = [len(edges) - 1 for edges in bins], block.weight.shape[1]
    assert theirs.linear.weight.shape == block.weight.shape
    with torch.no_grad():
        block.weight.normal_(generator=torch.Generator().manual_seed(1))
        for j, n in enumerate(n_bins):  # theirs has a column's last bin at the end of all
            theirs.linear.weight[j, : n - 1] = block.weight[j, : n - 1]
            theirs.linear.weight[j, most - 1] = block.weight[j, n - 1]
        # Their linear part is of the plain number.
        center, scale = block.number.center, block.number.scale
        theirs.linear0.weight.copy_(block.slope / scale[:, None])
        theirs.linear0.bias.copy_(block.bias - block.slope * (center / scale)[:, None])
    new = np.vstack([X, np.random.default_rng(2).uniform(X.min(0), X.max(0), (200, 5))])
    # theirs keeps bins as float32 until it is cast
    assert_allclose(run(block, new), theirs(torch.from_numpy(new)).detach().flatten(1), atol=1e-4)
    # The encoding itself: the bins below are full, the own bin in part.
    bin_, passed = block.bins(block.clean(torch.from_numpy(new)))
    ours = [
        (torch.arange(n) < bin_[:, [j]]) + (torch.arange(n) == bin_[:, [j]]) * passed[:, [j]]
        for j, n in enumerate(n_bins)
    ]
    encoded = rtdl.PiecewiseLinearEncoding(bins).double()(torch.from_numpy(new))
    assert_allclose(torch.cat(ours, dim=1), encoded, atol=1e-5)


def test_piecewise_starts_as_a_line_and_stays_flat_outside():
    X = draws(300, 2)
    block = build(PiecewiseLinear(6, embedding_dim=3, number="standardize"), X)
    z = (X - X.mean(0)) / X.std(0)
    line = (block.bias + block.slope * torch.from_numpy(z).unsqueeze(2)).detach().flatten(1)
    assert_allclose(run(block, X), line, atol=1e-12)
    with torch.no_grad():
        block.weight.normal_(generator=torch.Generator().manual_seed(1))
        block.slope.zero_()
    assert_array_equal(run(block, X.max(0)[None]), run(block, X.max(0)[None] + 1e6))
    assert_array_equal(run(block, X.min(0)[None]), run(block, X.min(0)[None] - 1e6))


def test_gradients_of_piecewise_are_those_of_the_plain_formula():
    X = draws(60, 2)
    block = build(PiecewiseLinear(4, embedding_dim=3), X)
    part = torch.from_numpy(X)
    with torch.no_grad():
        block.weight.normal_(generator=torch.Generator().manual_seed(1))
    bin_, passed = block.bins(block.clean(part))
    places = torch.arange(block.weight.shape[1])
    own = (places == bin_.unsqueeze(2)) * passed.unsqueeze(2)
    hot = (places < bin_.unsqueeze(2)) + own
    z = block.number.numbers(block.clean(part))
    plain = (
        block.bias + block.slope * z.unsqueeze(2) + torch.einsum("bfk,fkd->bfd", hot, block.weight)
    )
    weights = torch.randn(60, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = torch.autograd.grad((plain.flatten(1) * weights).sum(), list(block.parameters()))
    vectors = block.embed(block.prepare(part))
    found = torch.autograd.grad((vectors * weights).sum(), list(block.parameters()))
    assert_close(found, expected)


def test_periodic_is_that_of_rtdl():
    X = draws(100)
    theirs = rtdl.PeriodicEmbeddings(
        3, 5, n_frequencies=4, frequency_init_scale=1.0, activation=False, lite=False
    ).double()
    block = build(Periodic(n_frequencies=8, embedding_dim=6, number="standardize"), X)
    with torch.no_grad():  # the sine is a cosine of another phase
        block.frequency.copy_(theirs.periodic.weight.repeat(1, 2))
        block.phase.copy_(torch.tensor([0.0, -np.pi / 2]).repeat_interleave(4).expand(3, 8))
        block.weight.copy_(theirs.linear.weight)
        block.bias.copy_(theirs.linear.bias)
    z = (X - X.mean(0)) / X.std(0)
    vectors = run(block, X).reshape(100, 3, 6)
    assert_allclose(vectors[:, :, :5], theirs(torch.from_numpy(z)).detach(), atol=1e-6)
    assert_allclose(vectors[:, :, 5], z, atol=1e-12)


def test_inverse_of_the_normal_distribution(monkeypatch):
    share = torch.cat(
        [torch.linspace(1e-7, 1 - 1e-7, 5001), torch.logspace(-7, -1, 99), torch.tensor([0.5])]
    ).double()
    expected = torch.special.ndtri(share)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert_allclose(normal_score(share), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("sizes", [[1], [1, 2, 3], [8, 16, 17], [1000, 3]])
def test_both_searches_find_the_same(sizes, monkeypatch):
    edges = [np.sort(np.random.default_rng(k).normal(size=k)) for k in sizes]
    grid = Grid(edges)
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(50, len(sizes))) * 2)
    x[: min(sizes)] = torch.tensor([[own[k] for own in edges] for k in range(min(sizes))])[:50]
    x[0], x[1] = -1e300, 1e300
    expected = np.column_stack(
        [np.searchsorted(own, x[:, j].numpy(), side="right") for j, own in enumerate(edges)]
    )
    assert_array_equal(grid(x), expected)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert_array_equal(grid(x), expected)


# Quantiles with weights ---------------------------------------------------------------------------


def test_quantiles_are_numpys():
    x = np.sort(RNG.integers(0, 50, 97).astype(float))
    p = np.linspace(0, 1, 31)
    assert_allclose(Column(x, None).quantiles(p), np.quantile(x, p), atol=1e-12)
    weight = RNG.integers(1, 5, 97).astype(float)
    repeated = np.repeat(x, weight.astype(int))
    expected = np.quantile(repeated, p, method="averaged_inverted_cdf")
    assert_allclose(Column(x, weight).quantiles(p), expected)
    assert_allclose(Column(x, weight / 7).quantiles(p), expected)


def flatten(found):
    """Return all that an encoding has learned as numbers."""
    if isinstance(found, dict):
        return np.concatenate([flatten(value) for value in found.values()])
    if isinstance(found, list | tuple):
        return np.concatenate([flatten(value) for value in found] or [np.zeros(0)])
    return np.zeros(0) if found is None or isinstance(found, str) else np.ravel(found).astype(float)


@learned
def test_a_weight_of_zero_equals_absence(name):
    X = draws(300).round(1)
    X[::5, 1] = np.nan
    weight = (np.arange(300) % 3 > 0) * 0.5
    encoding = ENCODINGS[name]()
    assert_array_equal(flatten(encoding.fit(X, weight)), flatten(encoding.fit(X[weight > 0], None)))


@pytest.mark.parametrize("name", ["quantile", "robust", "piecewise"])
def test_weights_count(name):
    X = np.arange(200.0)[:, None]
    found = ENCODINGS[name]().fit(X, np.where(X[:, 0] < 100, 9.0, 1.0))
    assert found["fill"][0] == pytest.approx(55, abs=2)


def test_quantiles_of_very_many_rows_are_taken_of_some():
    X = draws(1000, 1)
    (some,) = read_columns(X, None, most=200)
    assert len(some.values) == 200
    (again,) = read_columns(X, None, most=200)
    assert_array_equal(some.values, again.values)


# What users pass ----------------------------------------------------------------------------------


def encoder_of(asked, X, weight=None):
    return FeatureEncoder([NumberEncoder(asked)]).fit(as_table(X), None, weight)


def blocks_of(asked, X):
    """Return kind and columns of each block."""
    specs = encoder_of(asked, X).spec_
    return {name: (spec.kind, spec.options.get("columns")) for name, spec in specs.items()}


FRAME = pd.DataFrame(draws(60), columns=["a", "b", "c"])


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("standardize", {"numeric": ("numbers", None)}),
        ("passthrough", {"numeric": ("numbers", None)}),
        (Passthrough(), {"numeric": ("numbers", None)}),
        ("quantile", {"numeric_quantile": ("quantiles", None)}),
        (
            ["standardize", Periodic(8)],
            {"numeric": ("numbers", None), "numeric_periodic": ("periodic", None)},
        ),
        (
            {"b": "quantile"},
            {"numeric": ("numbers", [0, 2]), "numeric_quantile": ("quantiles", [1])},
        ),
        (
            {0: ["standardize", "values"], "c": "passthrough"},
            {
                "numeric": ("numbers", [0, 1]),
                "numeric_values": ("values", [0]),
                "numeric_passthrough": ("numbers", [2]),
            },
        ),
        (
            {"a": Periodic(8), "b": Periodic(4), "c": Periodic(8)},
            {"numeric_periodic": ("periodic", [0, 2]), "numeric_periodic_2": ("periodic", [1])},
        ),
        (
            {"a": "passthrough", "b": "auto", "c": "standardize"},
            {"numeric": ("numbers", [0]), "numeric_standardize": ("numbers", [1, 2])},
        ),
    ],
    ids=str,
)
def test_forms(asked, expected):
    assert blocks_of(asked, FRAME) == expected


def test_positions_in_an_array():
    expected = {"numeric": ("numbers", [0, 2]), "numeric_robust": ("scaled", [1])}
    assert blocks_of({1: "robust"}, FRAME.to_numpy()) == expected


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("log", r"`numeric_features` is 'log'; pass 'auto', one of \['standardize'"),
        (["standardize", "log"], r"is \['standardize', 'log'\]; pass"),
        (["auto", "quantile"], "pass 'auto', one of"),
        ({"a": 3}, "of column 'a' is 3; pass"),
        ({"a": Periodic}, "an instance of a class of sk_mtl.numeric"),
        ([], "is empty; pass one"),
        ({"a": ()}, "of column 'a' is empty"),
        ({"d": "quantile"}, r"names 'd', which is no column of X; its columns are \['a'"),
        ({7: "quantile"}, "names 7, which is no column"),
        ({True: "quantile"}, "names True, which is no column"),
        ({"city": "quantile"}, r"names 'city', which is a categorical column; the numeric ones"),
        ({"a": "quantile", 0: "values"}, "names column 'a' twice"),
        (["values", ExactValues()], r"has ExactValues\(\) twice"),
        (QuantileNormal(1), "`numeric_features__n_quantiles` must be .* at least 2, got 1"),
        (QuantileNormal(ties="none"), "`numeric_features__ties` must be one of"),
        (RobustClip(0), "`numeric_features__limit` must be .* above 0, got 0"),
        (PiecewiseLinear(0), "`numeric_features__n_bins`"),
        (PiecewiseLinear(embedding_dim=True), "`numeric_features__embedding_dim`"),
        (PiecewiseLinear(bins="tree"), "`numeric_features__bins` must be one of"),
        (PiecewiseLinear(number="log"), "`numeric_features__number`"),
        (Periodic(0), "`numeric_features__n_frequencies`"),
        (Periodic(sigma=-1.0), "`numeric_features__sigma` must be .* above 0, got -1.0"),
        (Periodic(embedding_dim=1), "`numeric_features__embedding_dim` must be .* at least 2"),
        (ExactValues(0), "`numeric_features__max_values`"),
        (ExactValues(min_count=0), "`numeric_features__min_count`"),
        (ExactValues(embedding_dim=0), '`numeric_features__embedding_dim`.*or pass "auto"'),
        (ExactValues(dropout=1.0), "`numeric_features__dropout` must be .* below 1, got 1.0"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_named(asked, message):
    model = small(SharedBottom, numeric_features=asked)
    X = FRAME.assign(city="x")
    with pytest.raises(ValueError, match=message):
        model.fit(X, (X["a"] > 0).astype(int))
    with pytest.raises(ValueError, match="numeric_features"):
        small(SharedBottom, numeric_features=7).fit(X, (X["a"] > 0).astype(int))


def test_options_are_parameters():
    model = SharedBottom(numeric_features=PiecewiseLinear(8))
    assert model.get_params()["numeric_features__n_bins"] == 8
    model.set_params(numeric_features__bins="distinct")
    assert (
        repr(model) == "SharedBottom(numeric_features=PiecewiseLinear(n_bins=8, bins='distinct'))"
    )
    with pytest.raises(ValueError, match="has no option 'sigma'; it has"):
        model.set_params(numeric_features__sigma=1)
    twin = clone(model)
    assert twin.numeric_features is not model.numeric_features
    assert repr(twin) == repr(model)
    listed = clone(SharedBottom(numeric_features=["standardize", Periodic(3)]))
    assert repr(listed.numeric_features) == "['standardize', Periodic(n_frequencies=3)]"


def test_what_was_passed_is_copied_at_fit():
    asked = PiecewiseLinear(4)
    model = small(SharedBottom, numeric_features=asked, warm_start=True, max_epochs=1)
    y = (FRAME["a"] > 0).astype(int)
    model.fit(FRAME, y)
    before = model.predict_proba(FRAME)
    model.fit(FRAME, y)
    asked.n_bins = 9
    assert model._fitted_.params["numeric_features"].n_bins == 4
    with pytest.raises(ValueError, match="`numeric_features` was PiecewiseLinear"):
        model.fit(FRAME, y)
    assert before.shape == model.predict_proba(FRAME).shape


@pytest.mark.parametrize("name", ["standardize", "passthrough"])
def test_affine_numbers_are_what_they_were(name):
    """One block under the old name, its options and tensors those of an encoder of its own."""
    X = draws(80)
    X[::4, 1] = np.nan
    options = encoder_of(name, X).spec_["numeric"].options
    block = NumbersBlock(**options)
    assert set(block.state_dict()) == {"mean", "scale", "held", "fill", "missing_columns"}
    z = torch.as_tensor((X - np.nanmean(X, 0)) / np.nanstd(X, 0) if name == "standardize" else X)
    fill = 0.0 if name == "standardize" else np.nanmean(X[:, 1])
    expected = torch.cat([z.nan_to_num(fill), z[:, [1]].isnan()], dim=1).float()
    assert_close(block.prepare(torch.from_numpy(X)), expected)
    same = encoder_of(dict.fromkeys(range(3), name), X).spec_["numeric"].options
    assert flatten(same).tobytes() == flatten(options).tobytes()


def test_indicators_stand_once():
    X = draws(50)
    X[::4, :2] = np.nan
    specs = encoder_of({0: ["values", "robust", "quantile"], 1: ["values"]}, X).spec_
    marks = {name: spec.options.get("missing_columns") for name, spec in specs.items()}
    assert marks == {
        "numeric": [], "numeric_values": None, "numeric_robust": [0], "numeric_quantile": [],
    }  # fmt: skip


# Exact values -------------------------------------------------------------------------------------


def test_known_values():
    x = np.r_[np.repeat([5.0, 1.0, 9.0], [5, 3, 3]), 2.5, np.nan][:, None]
    known = {
        ExactValues(): [1, 2.5, 5, 9],
        ExactValues(min_count=2): [1, 5, 9],
        ExactValues(max_values=2): [1, 5],
    }
    for encoding, expected in known.items():
        assert encoding.fit(x)["values"][0].tolist() == expected
    assert ExactValues().fit(x)["embedding_dims"] == [4]
    assert ExactValues(embedding_dim=7).fit(x)["embedding_dims"] == [7]


def test_unknown_values_read_the_mean_of_what_was_seen():
    x = np.repeat([1.0, 2.0], [30, 10])
    y = (x > 1).astype(int)
    model = small(SharedBottom, numeric_features=ExactValues(embedding_dim=3)).fit(x[:, None], y)
    table = model.module_.embedding.blocks["numeric_values"].tables[0].detach()
    mean = (30 * table[2] + 10 * table[3]) / 40
    assert_allclose(table[0], mean, atol=1e-6)
    assert_allclose(table[1], mean, atol=1e-6)
    proba = model.predict_proba(np.array([[1.5], [77.0], [np.nan]]))
    assert_allclose(proba[1:], proba[:1].repeat(2, axis=0), rtol=1e-6)


def test_rare_values_train_the_unknown_one_and_missing_ones_their_own():
    x = np.r_[np.repeat([1.0, 2.0], 20), np.arange(100, 120), np.full(20, np.nan)]
    y = np.repeat([0, 1, 2, 3], [20, 20, 20, 20])
    model = small(
        SharedBottom,
        numeric_features=ExactValues(min_count=2),
        activation="silu",
        max_epochs=60,
        lr=0.05,
    ).fit(x[:, None], y)
    assert model.predict(np.array([[1.0], [2.0], [1e6], [np.nan]])).tolist() == [0, 1, 2, 3]


def test_spikes_are_learned():
    """Single values mean something: standardized numbers cannot tell them apart in few epochs."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 60, 1500).astype(float)
    y = np.isin(x, rng.permutation(60)[:30]).astype(int)
    params = {"max_epochs": 8, "lr": 0.02}
    plain = small(SharedBottom, **params).fit(x[:, None], y)
    exact = small(SharedBottom, numeric_features="values", **params).fit(x[:, None], y)
    assert exact.score(x[:, None], y) > 0.99 > 0.8 > plain.score(x[:, None], y)


def test_dropout_of_values():
    block = build(ExactValues(embedding_dim=3, dropout=0.5), draws(40, 2).round(), seed=1)
    with torch.no_grad():
        for table in block.tables:
            table.fill_(1.0)
    part = torch.from_numpy(draws(400, 2).round())
    assert (block.embed(block.prepare(part)) == 1).all()
    vectors = block.train().embed(block.prepare(part)).detach().view(400, 2, 3)
    assert (vectors == vectors[:, :, :1]).all()  # a column's vector is there or not
    assert set(vectors.flatten().tolist()) == {0.0, 2.0}
    assert vectors.mean() == pytest.approx(1, abs=0.1)


def test_dropout_of_values_is_seeded(table):
    params = {"numeric_features": ExactValues(dropout=0.3)}
    a, b = (small(SharedBottom, **params).fit(table.X, table.Y).predict(table.X) for _ in "ab")
    assert_array_equal(a, b)


@pytest.mark.parametrize("sparse_embeddings", [False, True])
def test_values_in_a_stream(sparse_embeddings):
    """What an unknown value reads is the mean of all rows of the stream."""
    rng = np.random.default_rng(0)
    x, first = rng.integers(0, 6, 90).astype(float), np.arange(6.0)
    model = small(
        SharedBottom,
        numeric_features=ExactValues(embedding_dim=4),
        sparse_embeddings=sparse_embeddings,
        dtype="float64",
    )
    rows = np.r_[first, x]
    for start in range(0, 96, 24):
        part = rows[start : start + 24]
        model.partial_fit(part[:, None], (part > 2).astype(int), classes=[0, 1])
    block = model.module_.embedding.blocks["numeric_values"]
    table, counts = block.tables[0].detach().numpy(), np.bincount(rows.astype(int))
    assert_allclose(table[1], (counts[:, None] * table[2:]).sum(0) / 96, atol=1e-9)
    with pytest.raises(ValueError, match="label 7"):
        model.partial_fit(rows[:5, None], [7, 0, 1, 0, 1])


# Columns that hurt --------------------------------------------------------------------------------


def hard(n=240, seed=0):
    """Return a frame of columns that break encodings, and labels."""
    rng = np.random.default_rng(seed)
    step = np.nextafter(0.1, 1)
    X = pd.DataFrame(
        {
            "plain": rng.normal(size=n),
            "gaps": np.where(rng.random(n) < 0.3, np.nan, rng.normal(size=n)),
            "empty": np.full(n, np.nan),
            "constant": np.full(n, 3.5),
            "huge_constant": np.full(n, 1e300),
            "step": np.where(np.arange(n) % 2 == 0, 0.1, step),
            "two": np.where(rng.random(n) < 0.5, 1.0, 2.0),
            "rarely": np.where(np.arange(n) % 50 == 0, 1.0, 0.0),
            "time": 1.7e9 + rng.normal(size=n),
            "ids": (2**53 + 2 * rng.integers(0, 50, n)).astype(np.int64),
            "tails": np.exp(rng.normal(0, 20, n)),
            "tiny": rng.normal(size=n) * 1e-300,
            "count": rng.integers(0, 7, n),
        }
    )
    Y = pd.DataFrame({"up": (X["plain"] > 0).astype(int), "value": X["plain"] + X["two"]})
    return X, Y


def outputs(model, X):
    return np.hstack([model.predict_proba(X), model.predict(X)[:, 1:]]).astype(float)


@named
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_hard_columns(name, dtype):
    X, Y = hard()
    model = small(SharedBottom, numeric_features=[name] if name != "passthrough" else "passthrough")
    if name == "passthrough":
        X = X.drop(columns=["huge_constant", "tails", "time", "ids"])
    if name == "standardize":
        X = X.drop(columns=["huge_constant"])
    model.set_params(dtype=dtype, max_epochs=2).fit(X, Y)
    found = outputs(model, X)
    assert np.isfinite(found).all()
    one_by_one = np.vstack([outputs(model, X.iloc[[k]]) for k in range(30)])
    assert_allclose(one_by_one, found[:30], rtol=1e-4, atol=1e-6)
    assert_allclose(outputs(model, X.iloc[:50]), found[:50], rtol=1e-4, atol=1e-6)
    gone = X.copy().astype(float)
    gone.loc[:, :] = np.nan
    assert np.isfinite(outputs(model, gone)).all()


@learned
@pytest.mark.parametrize("far", [1e9, -1e9, 1e300, -1e300])
def test_values_beyond_the_range(name, far):
    X, Y = hard()
    model = small(SharedBottom, numeric_features=name, max_epochs=2).fit(X, Y)
    beyond = X.astype(float)
    beyond.loc[:, :] = far
    with pytest.warns(UserWarning, match="column 'empty' had no value"):
        assert np.isfinite(outputs(model, beyond)).all()


@learned
def test_columns_that_were_constant_are_held(name):
    X, Y = hard()
    model = small(SharedBottom, numeric_features=name, max_epochs=2).fit(X, Y)
    other = X.assign(constant=-7.0, huge_constant=0.0, step=2.0)
    if name == "values":  # unknown values read the mean of what was seen
        other["step"] = X["step"]
    with pytest.warns(UserWarning, match="column 'constant' had only the value 3.5"):
        found = outputs(model, other)
    assert_allclose(found, outputs(model, X), rtol=1e-5, atol=1e-6)


@learned
def test_time_stamps_keep_their_digits(name):
    seconds = np.random.default_rng(0).normal(size=400).round(1)
    X, y = (1.7e9 + seconds)[:, None], (seconds > 0).astype(int)
    model = small(SharedBottom, numeric_features=name, lr=0.05, max_epochs=30).fit(X, y)
    assert model.score(X, y) > 0.97


def test_infinite_numbers_are_refused():
    X, Y = hard()
    with pytest.raises(ValueError, match=r"infinity.*'plain'"):
        small(SharedBottom, numeric_features="quantile").fit(X.assign(plain=np.inf), Y)
    wide = X.assign(plain=np.where(np.arange(240) % 2, 1.5e308, -1.5e308))
    with pytest.raises(ValueError, match="'plain' has a range too large"):
        small(SharedBottom, numeric_features="quantile").fit(wide, Y)


@learned
def test_a_sparse_x_is_refused(name):
    X, Y = draws(60), FRAME[["a"]].gt(0).astype(int).assign(b=FRAME["b"])
    with pytest.raises(ValueError, match="X is sparse; pass a dense X"):
        small(SharedBottom, numeric_features=name).fit(sparse.csr_matrix(X), Y)
    model = small(SharedBottom, numeric_features=name).fit(X, Y)
    for call in (model.predict, lambda rows: model.partial_fit(rows, Y)):
        with pytest.raises(ValueError, match="X is sparse; pass a dense X"):
            call(sparse.csr_matrix(X))
    mixed = {0: "passthrough", 1: "standardize", 2: "standardize"}
    model = small(SharedBottom, numeric_features=mixed).fit(sparse.csr_matrix(X), Y)
    assert_allclose(outputs(model, sparse.csr_matrix(X)), outputs(model, X), rtol=1e-6)


def test_heavy_tails_are_learned():
    rng = np.random.default_rng(0)
    amounts = np.exp(rng.normal(0, 6, 600))
    X, y = amounts[:, None], (np.log(amounts) > 0).astype(int)
    params = {"max_epochs": 20, "lr": 0.02}
    plain = small(SharedBottom, **params).fit(X, y)
    assert plain.score(X, y) < 0.8
    for encoding in ("quantile", "robust", PiecewiseLinear(number="quantile")):
        model = small(SharedBottom, numeric_features=encoding, **params).fit(X, y)
        assert model.score(X, y) > 0.95


def test_shuffled_rows_and_weights_of_one():
    X, _ = hard()
    for name in LEARNED:
        a = encoder_of(name, X).spec_[f"numeric_{name}"].options
        order = np.random.default_rng(1).permutation(len(X))
        b = encoder_of(name, X.iloc[order], np.full(len(X), 0.7)).spec_[f"numeric_{name}"].options
        assert_array_equal(flatten(a), flatten(b))


# In estimators ------------------------------------------------------------------------------------

ALL = ["standardize", "quantile", "robust", "piecewise", "periodic", "values"]


@everywhere
def test_side_by_side(cls, table):
    model = small(cls, numeric_features=ALL).fit(table.X, table.targets(cls))
    names = ["numeric", *(f"numeric_{name}" for name in ALL[1:]), "categorical"]
    assert model.module_.embedding.names == names
    assert np.isfinite(model.predict_proba(table.X)).all()
    twin = by_pickle(model)
    assert_array_equal(twin.predict_proba(table.X), model.predict_proba(table.X))
    again = copy.deepcopy(model)
    assert_array_equal(again.predict_proba(table.X), model.predict_proba(table.X))


FORMS = [*LEARNED, ALL, "auto", {"age": ["standardize", Periodic(3)], "hours": ExactValues(5)}]


@pytest.mark.parametrize("asked", FORMS, ids=str)
def test_saved_and_loaded(asked, table, tmp_path):
    pytest.importorskip("safetensors")
    model = small(MMoE, numeric_features=asked).fit(table.X, table.Y)
    model.save(tmp_path / "m")
    again = sk_mtl.load(tmp_path / "m")
    assert_array_equal(again.predict(table.X), model.predict(table.X))
    assert repr(again) == repr(model)
    other = table.X.assign(age=1e6, hours=11.5)
    assert_array_equal(again.predict(other), model.predict(other))
    again.partial_fit(table.X, table.Y)


@pytest.mark.parametrize("asked", FORMS, ids=str)
def test_streams(asked, table):
    """Standardized numbers follow the stream; what the others have learned stays."""
    model = small(SharedBottom, numeric_features=asked)
    for start in range(0, 120, 40):
        rows = slice(start, start + 40)
        model.partial_fit(table.X[rows], table.Y[rows])
        if start == 0:
            before = {n: b.clone() for n, b in model.module_.named_buffers()}
            first = model._fitted_.encoder.encoders[0].encodings_
    after = dict(model.module_.named_buffers())
    assert model._fitted_.encoder.encoders[0].encodings_ is first
    for name, tensor in before.items():
        if "fill" in name or "table" in name or "edges" in name:
            assert torch.equal(tensor, after[name]), name
    twin = by_pickle(model)
    for one in (model, twin):
        one.partial_fit(table.X, table.Y)
    assert_array_equal(twin.predict(table.X), model.predict(table.X))


def test_early_stopping_and_warm_start(table):
    model = small(SharedBottom, numeric_features=ALL, early_stopping=True, warm_start=True)
    model.fit(table.X, table.Y).fit(table.X, table.Y)
    assert np.isfinite(model.predict_proba(table.X)).all()


def dynamic():
    n = torch.export.Dim("n")
    return {"numeric": {0: n}, "categorical": {0: n}}


def exported(asked, dtype):
    table = make_table(72)
    model = small(SharedBottom, numeric_features=asked, dtype=dtype).fit(table.X, table.Y)
    rows = table.X.copy()
    rows.loc[[3, 10], "age"] = [1e6, np.nan]
    parts = model._fitted_.encoder.transform(as_table(rows))
    return model.module_, tuple(torch.from_numpy(parts[n]) for n in ("numeric", "categorical"))


@pytest.mark.parametrize(
    ("asked", "dtype", "strict"),
    [
        *((name, "float32", False) for name in LEARNED),
        (ALL, "float32", True),
        (ALL, "float64", False),
    ],
    ids=str,
)
def test_export(asked, dtype, strict):
    module, rows = exported(asked, dtype)
    program = torch.export.export(
        module, tuple(p[3:8] for p in rows), dynamic_shapes=dynamic(), strict=strict
    ).module()
    for where in (slice(0, 1), slice(0, 72)):
        part = tuple(p[where] for p in rows)
        assert_close(program(*part), module(*part), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning")
@pytest.mark.filterwarnings("ignore:# The axis name.*will not be used:UserWarning")
def test_onnx():
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    module, rows = exported(ALL, "float32")
    program = torch.onnx.export(
        module, tuple(p[3:8] for p in rows), dynamo=True, dynamic_shapes=dynamic(), verbose=False
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    for where in (slice(0, 1), slice(0, 72)):
        part = tuple(p[where] for p in rows)
        given = dict(zip(("numeric", "categorical"), (p.numpy() for p in part), strict=True))
        (found,) = session.run(None, given)
        assert_allclose(found, module(*part).detach().numpy(), rtol=1e-4, atol=1e-5)


@learned
def test_learned_numbers_keep_their_precision(name):
    """A module that is cast to float32 still finds the bins of time stamps."""
    x = (1.7e9 + np.arange(100.0))[:, None]
    block = build(ENCODINGS[name](), x).float()
    assert len(np.unique(run(block, x), axis=0)) > 90
    assert run(block, x).dtype == np.float32
    assert len(np.unique(run(copy.deepcopy(block), x), axis=0)) > 90


def test_an_encoding_of_ones_own(table):
    class Sign(Encoding):
        """The sign of a number."""

        name = "test_sign"
        kind = "scaled"

        def fit(self, values, weight=None):
            n = values.shape[1]
            fixed = {"center": np.zeros(n), "scale": np.full(n, 1e-9), "limit": 1.0}
            return {**fixed, "fill": np.zeros(n), "held": [False] * n}

    model = small(SharedBottom, numeric_features=Sign()).fit(table.X, table.Y)
    block = model.module_.embedding.blocks["numeric_test_sign"]
    assert_allclose(run(block, [[-5.0, 3.0]])[0, :2], [-1, 1])


# "auto" -------------------------------------------------------------------------------------------


def chosen(values, weight=None):
    return {repr(encoding): places for encoding, places in choose_encodings(values, weight)}


def test_the_rule_of_auto():
    rng = np.random.default_rng(0)
    n = 4000
    X = np.column_stack(
        [
            rng.normal(size=n), rng.integers(0, 2, n), rng.integers(0, 9, n),
            rng.integers(0, 150, n), rng.integers(0, 10**6, n), np.full(n, np.nan),
            rng.integers(0, 9, n) / 2, np.full(n, 3.0),
        ]
    )  # fmt: skip
    X[::3, 3] = np.nan
    assert chosen(X) == {
        "Standardize()": list(range(8)),
        "QuantileNormal()": [0, 3, 4],
        "ExactValues(embedding_dim=8)": [2, 3],
    }
    assert chosen(X[:600]) == {"Standardize()": list(range(8)), "QuantileNormal()": [0, 3, 4]}
    assert chosen(X[:400]) == {"Standardize()": list(range(8))}
    assert chosen(X, (np.arange(n) < 400).astype(float)) == {"Standardize()": list(range(8))}


def test_the_rule_looks_at_some_of_many_rows():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 50, 150_000), rng.integers(0, 10**5, 150_000)])
    assert chosen(X.astype(float))["ExactValues(embedding_dim=8)"] == [0]


def test_the_rule_wants_rows_for_every_value():
    x = np.zeros((4000, 1))
    x[:399, 0] = 1 + np.arange(399) % 39
    assert "ExactValues(embedding_dim=8)" not in chosen(x)
    x[399:400] = 5
    assert chosen(x)["ExactValues(embedding_dim=8)"] == [0]


def test_auto_in_an_estimator():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"x": rng.normal(size=2000), "code": rng.integers(0, 40, 2000)})
    y = ((X["code"] % 2) == (X["x"] > 0)).astype(int)
    model = small(SharedBottom, numeric_features="auto", max_epochs=10, lr=0.01).fit(X, y)
    names = ["numeric", "numeric_quantile", "numeric_values", "categorical"]
    assert model.module_.embedding.names == names
    assert model.score(X, y) > 0.95
    model = small(SharedBottom, numeric_features="auto").fit(X.to_numpy(), y)
    with pytest.raises(ValueError, match="X is sparse"):
        model.predict(sparse.csr_matrix(X.to_numpy()))


def test_auto_standardizes_a_sparse_matrix():
    X, Y = (
        sparse.csr_matrix(np.random.default_rng(0).integers(0, 9, (3000, 2))),
        np.arange(3000) % 2,
    )
    model = small(SharedBottom, numeric_features="auto").fit(X, Y)
    assert list(model.module_.embedding.blocks) == ["numeric", "categorical"]


def test_nothing_warns():
    X, Y = hard()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small(SharedBottom, numeric_features=["robust", "values"]).fit(X, Y)


def test_no_numeric_column():
    X = pd.DataFrame({"city": ["x", "y"] * 20})
    for asked in FORMS[:-1]:
        model = small(SharedBottom, numeric_features=asked).fit(X, [0, 1] * 20)
        assert list(model.module_.embedding.blocks) == ["numeric", "categorical"]


def test_equal_encodings_are_one_block():
    assert isinstance(ENCODINGS["standardize"](), Standardize)
    blocks = blocks_of({"a": RobustClip(3.0), "b": "robust", "c": RobustClip(2)}, FRAME)
    assert blocks == {
        "numeric_robust": ("scaled", [0, 1]), "numeric_robust_2": ("scaled", [2]),
    }  # fmt: skip

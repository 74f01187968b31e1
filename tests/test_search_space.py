"""What a search over parameters may try."""

from dataclasses import dataclass, fields

import numpy as np
import optuna
import pytest
from conftest import ESTIMATORS, everywhere, make_table, small
from scipy import sparse
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import ParameterSampler, RandomizedSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sk_mtl import ESMM, MMoE, SharedBottom, search_space
from sk_mtl.base import Range, parameter

TABLE = make_table()
COMMON = {
    "activation", "dropout", "embedding_dim", "lr", "max_epochs", "numeric_features",
    "tower_units", "weight_decay",
}  # fmt: skip
OWN = {
    "SharedBottom": {"bottom_units"},
    "ESMM": set(),
    "MMoE": {"n_experts", "expert_units", "expert_balance"},
    "CGC": {"n_task_experts", "n_shared_experts", "expert_units", "expert_balance"},
    "PLE": {"n_task_experts", "n_shared_experts", "expert_units", "expert_balance"},
}


def searched(cls):
    """Return what the class declares for its parameters."""
    return {f.name: f.metadata["search"] for f in fields(cls) if f.metadata["search"] is not None}


@pytest.mark.parametrize("name", OWN)
def test_names(name):
    cls = {cls.__name__: cls for cls in ESTIMATORS}[name]
    assert set(search_space(cls())) == COMMON | OWN[name]


def test_of_a_bottom_what_counts_there_is_searched():
    own = {f"bottom__{name}" for name in OWN["MMoE"]}
    model = ESMM(bottom=MMoE(), max_epochs=1, n_members=1)
    assert set(search_space(model)) == COMMON | own
    space = search_space(make_pipeline(StandardScaler(), model))
    assert set(space) == {f"esmm__{name}" for name in COMMON | own}
    step = Pipeline([("bottom", MMoE())])
    assert set(search_space(step)) == {f"bottom__{name}" for name in COMMON | OWN["MMoE"]}
    (draw,) = ParameterSampler(search_space(model), 1, random_state=0)
    clicks = np.tile([[0, 0], [1, 0], [1, 1]], (20, 1))
    model.set_params(**draw | {"max_epochs": 1}).fit(TABLE.X[:60], clicks)
    assert model.bottom.n_experts == draw["bottom__n_experts"]


@everywhere
def test_common_parameters_are_searched(cls):
    assert set(search_space(cls())) >= COMMON


@everywhere
def test_each_default_is_among_what_is_tried(cls):
    defaults = cls().get_params(deep=False)
    for name, what in searched(cls).items():
        if isinstance(what, list):
            assert defaults[name] in what, name
        elif name != "weight_decay":  # zero has no logarithm
            assert what.low <= defaults[name] <= what.high, name


@everywhere
def test_random_draws_fit(cls):
    space = search_space(cls())
    for params in ParameterSampler(space, 3, random_state=0):
        model = (
            small(cls).set_params(**{**params, "max_epochs": 1}).fit(TABLE.X, TABLE.targets(cls))
        )
        assert np.isfinite(model.predict_proba(TABLE.X)).all()


@everywhere
def test_draws_keep_to_the_ranges_and_use_all_of_them(cls):
    drawn = list(ParameterSampler(search_space(cls()), 300, random_state=0))
    for name, what in searched(cls).items():
        values = [params[name] for params in drawn]
        if isinstance(what, list):
            assert {str(v) for v in values} == {str(v) for v in what}, name
            continue
        assert what.low <= min(values) <= max(values) <= what.high, name
        if isinstance(what.low, int):
            assert set(values) == set(range(what.low, what.high + 1)), name
        else:
            middle = np.sqrt(what.low * what.high) if what.log else (what.low + what.high) / 2
            assert 0.4 < np.mean(np.array(values) < middle) < 0.6, name


def test_in_a_search_of_a_pipeline():
    model = make_pipeline(StandardScaler(), small(MMoE))
    X, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 2
    space = search_space(model)
    assert all(name.startswith("mmoe__") for name in space)
    search = RandomizedSearchCV(model, space, n_iter=4, cv=2, random_state=0).fit(X, y)
    assert search.best_params_.keys() == space.keys()
    assert len(search.cv_results_["params"]) == 4


def test_inside_other_estimators():
    inside = TransformedTargetRegressor(small(SharedBottom))
    assert "regressor__lr" in search_space(inside)


@pytest.mark.parametrize("thing", [LinearRegression(), "SharedBottom", None])
def test_without_one_of_ours(thing):
    with pytest.raises(TypeError, match="holds no sk_mtl estimator; pass one"):
        search_space(thing)


def test_sparse_rows_with_the_entry_removed():
    X = sparse.random_array((60, 5), density=0.5, rng=np.random.default_rng(0), format="csr")
    model = small(SharedBottom)
    space = search_space(model)
    del space["numeric_features"]
    search = RandomizedSearchCV(model, space, n_iter=2, cv=2, random_state=0, error_score="raise")
    search.fit(X, np.arange(60) % 2)


def test_a_class_of_ones_own_says_what_to_try():
    @dataclass(kw_only=True, eq=False, repr=False)
    class Wide(SharedBottom):
        """One more parameter."""

        width: float = parameter(2.0, search=Range(1.0, 4.0))

    assert search_space(Wide())["width"].support() == (1.0, 4.0)


# Optuna -------------------------------------------------------------------------------------------


def study():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), direction="maximize")


@everywhere
def test_optuna(cls):
    Y, tried = TABLE.targets(cls), []

    def objective(trial):
        model = small(cls).set_params(**search_space(cls(), trial)).set_params(max_epochs=1)
        tried.append(model.get_params(deep=False))
        return model.fit(TABLE.X, Y).score(TABLE.X, Y)

    found = study()
    found.optimize(objective, n_trials=3)
    # The best trial gives back what was tried, tuples as tuples.
    best = search_space(cls(), found.best_trial)
    assert best.keys() == search_space(cls()).keys()
    then = tried[found.best_trial.number]
    assert {n: v for n, v in best.items() if n != "max_epochs"} == {
        n: then[n] for n in best if n != "max_epochs"
    }


def test_optuna_draws_what_scikit_learn_draws_from():
    found = study()
    drawn = [search_space(MMoE(), found.ask()) for _ in range(200)]
    for name, what in searched(MMoE).items():
        values = [params[name] for params in drawn]
        if isinstance(what, list):
            assert all(v in what for v in values)
            assert len({str(v) for v in values}) == len(what)
        else:
            assert what.low <= min(values) <= max(values) <= what.high, name

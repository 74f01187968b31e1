"""scikit-learn's estimator checks over every public estimator and every face of it.

A *face* is what `task_types` makes of an estimator: a classifier, a regressor, or neither before
`fit`. By default every face of SharedBottom runs, and one face of each other estimator, which its
place in the list decides; the rest is marked slow.
"""

import numpy as np
import pytest
from conftest import ANY_TASK, ESTIMATORS, any_task, everywhere, is_chain, small, takes_anything
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

from sk_mtl import SharedBottom

FACES = ("classification", "regression", "auto")

BLOCKS = (
    "wants predict_proba of several outputs as a list or (n, n_outputs); here it is the tasks' "
    "column blocks, side by side"
)
ROUNDING = "float32 products round differently in batches of other sizes"
BATCHES = "a weight of k equals k copies of a row only if all rows are one batch"

EXPECTED_FAILURES = {
    # what fails: (the instances it fails for, why)
    "check_classifier_multioutput": (lambda e: is_classifier(e), BLOCKS),
    "check_methods_subset_invariance": (lambda e: e.dtype == "float32", ROUNDING),
    "check_sample_weight_equivalence_on_dense_data": (lambda e: e.batch_size is not None, BATCHES),
    "check_sample_weight_equivalence_on_sparse_data": (lambda e: e.batch_size is not None, BATCHES),
}


def expected_failures(estimator):
    """Return the checks that must fail, with the reason of each."""
    return {
        check: reason
        for check, (concerns, reason) in EXPECTED_FAILURES.items()
        if concerns(estimator)
    }


def in_batches(cls, face):
    """Return an estimator as users have it: float32, mini-batches.

    As a regression the rounding shows in some machines' last digit only, neither surely right nor
    surely wrong; so that face computes in float64. `test_subset_invariance_in_float32` is for it.
    """
    dtype = "float64" if face == "regression" else "float32"
    return small(
        cls, task_types=face, tower_units=(16,), max_epochs=8, lr=0.03, batch_size=16, dtype=dtype
    )


def exact(cls, face):
    """Return an estimator that keeps every promise to the last digit."""
    params = {"dtype": "float64", "batch_size": None, "max_epochs": 20, "lr": 0.05}
    return small(cls, task_types=face, tower_units=(16,), **params)


DEFAULT = [
    *(make(SharedBottom, face) for face in FACES for make in (in_batches, exact)),
    *(
        exact(cls, FACES[place % 3])
        for place, cls in enumerate(cls for cls in ANY_TASK if cls is not SharedBottom)
    ),
]


def full_matrix():
    """Return the instances that only the slow run checks."""
    every = [make(cls, f) for cls in ANY_TASK for f in FACES for make in (in_batches, exact)]
    default = set(map(repr, DEFAULT))
    return [estimator for estimator in every if repr(estimator) not in default]


@parametrize_with_checks(DEFAULT, expected_failed_checks=expected_failures)
def test_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(full_matrix(), expected_failed_checks=expected_failures)
def test_checks_of_the_full_matrix(estimator, check):
    check(estimator)


PARTICULAR = [cls for cls in ESTIMATORS if not takes_anything(cls)]
"""Those that take some kinds or numbers of tasks only, such as the steps of a chain."""


def test_every_estimator_is_checked():
    # Those that do not take any task are left out: scikit-learn's checks fit single outputs,
    # several classes and continuous values. The tests of `PARTICULAR` stand in for them.
    checked = {type(estimator) for estimator in [*DEFAULT, *full_matrix()]}
    assert checked == set(ESTIMATORS) - set(PARTICULAR)
    assert set(map(type, DEFAULT)) == checked


@pytest.mark.parametrize("face", FACES)
@any_task
def test_subset_invariance_in_float32(cls, face, table):
    X, y = table.X, table.Y["wage" if face == "regression" else "level"]
    model = small(cls, task_types=face).fit(X, y)
    methods = ["predict"] if face == "regression" else ["predict_proba", "decision_function"]
    for method in methods:
        whole = getattr(model, method)(X)
        by_row = [getattr(model, method)(X.iloc[i : i + 1]) for i in range(10)]
        np.testing.assert_allclose(np.concatenate(by_row), whole[:10], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cls", PARTICULAR)
class TestParticularTasks:
    def test_clone_and_params(self, cls, table):
        model = small(cls, lr=0.02, tower_units=[(8,), (4,)], random_state=1)
        assert clone(model).get_params() == model.get_params()
        assert repr(clone(model.fit(table.X, table.chain))) == repr(model)
        assert not hasattr(clone(model), "module_")
        assert model.set_params(max_epochs=3) is model
        assert model.get_params()["max_epochs"] == 3

    def test_no_constructor_changes_what_it_stores(self, cls):
        units = [[8], [4]]
        assert cls(tower_units=units).tower_units is units

    def test_tags(self, cls):
        tags = get_tags(cls())
        assert tags.estimator_type == "classifier"
        assert is_classifier(cls())
        assert not is_regressor(cls())
        assert tags.target_tags.required
        assert tags.target_tags.multi_output
        assert tags.input_tags.sparse
        assert tags.input_tags.allow_nan
        assert tags.input_tags.categorical
        assert tags.regressor_tags is None
        assert not tags.non_deterministic

    def test_repr(self, cls):
        name = cls.__name__
        assert repr(cls()) == f"{name}()"
        assert repr(cls(lr=0.1)) == f"{name}(lr=0.1)"
        assert name in cls()._repr_html_()

    def test_fit_returns_self_and_keeps_the_parameters(self, cls, table):
        model = small(cls)
        before = model.get_params()
        assert model.fit(table.X, table.chain) is model
        assert model.get_params() == before

    def test_inputs_stay_as_they_were(self, cls, table):
        X, Y = table.X.copy(), table.chain.copy()
        small(cls).fit(X, Y).predict(X)
        assert X.equals(table.X)
        assert Y.equals(table.chain)

    def test_refuses_other_kinds(self, cls, table):
        with pytest.raises(ValueError, match=f"{cls.__name__} takes .*'(level|wage)'"):
            small(cls).fit(table.X, table.Y)


@pytest.mark.parametrize("cls", [cls for cls in PARTICULAR if is_chain(cls)])
def test_a_chain_refuses_one_task(cls, table):
    with pytest.raises(ValueError, match=r"needs (at least|exactly) two tasks"):
        small(cls).fit(table.X, table.chain["click"])


@everywhere
@pytest.mark.parametrize(
    ("task_types", "classifier", "regressor"),
    [
        ("auto", False, False),
        ("classification", True, False),
        ("binary", True, False),
        (["binary", "multiclass"], True, False),
        ("regression", False, True),
        (["regression", "regression"], False, True),
        (["binary", "regression"], False, False),
        ({"a": "binary"}, False, False),  # other tasks may be anything
    ],
)
def test_type_before_fit(cls, task_types, classifier, regressor):
    model = cls(task_types=task_types)
    if is_chain(cls):  # whatever is declared, it takes no other
        classifier, regressor = True, False
    assert (is_classifier(model), is_regressor(model)) == (classifier, regressor)


@pytest.mark.parametrize(
    ("names", "classifier", "regressor"),
    [
        (["income", "level"], True, False),
        (["wage"], False, True),
        (["income", "wage"], False, False),
    ],
)
def test_type_after_fit(names, classifier, regressor, table):
    y = table.Y[names] if len(names) > 1 else table.Y[names[0]]
    model = small(SharedBottom).fit(table.X, y)
    assert (is_classifier(model), is_regressor(model)) == (classifier, regressor)

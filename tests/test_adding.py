"""Adding an architecture, as the developers' page has it: a bottom, an estimator and a reference.

This file is all three: the architecture's module and its reference. The tests are those that
every architecture meets.
"""

import sys
from dataclasses import dataclass

import pytest
import test_architectures as architectures
import test_estimator_contract as contract
import test_members as members
import test_mistakes as mistakes
from conftest import by_pickle, takes_anything
from modules import layers_of, share_out
from reference.parts import mlp
from torch import nn

from sk_mtl import base
from sk_mtl.nn import StackedMLP, repeat_per_task

# The architecture ---------------------------------------------------------------------------------


class ResidualBottom(nn.Module):
    """A network for all tasks, and one of each task that adds to it: (B, D) -> (B, M * K, H)."""

    def __init__(self, in_features, n_tasks, *, units, **network):
        super().__init__()
        self.n_tasks = n_tasks
        self.shared = StackedMLP(1, in_features, units, **network)
        self.own = StackedMLP(n_tasks, in_features, units, **network)
        self.out_features = self.own.out_features

    def forward(self, x):
        return repeat_per_task(self.shared(x), self.n_tasks) + self.own(x)

    def own_parameters(self):
        return self.own.parameters()


@dataclass(kw_only=True, eq=False, repr=False)
class Residual(base.MultiTaskEstimator):
    r"""Each task adds to what all share.

    Parameters
    ----------
    residual_units : tuple of int, default=(64,)
        Widths of the networks' layers.
    {common_parameters}

    Attributes
    ----------
    {common_attributes}

    Notes
    -----
    .. math:: y_k = t_k(f(x) + f_k(x))
    """

    residual_units: base.Units = base.parameter((64,), base.NON_EMPTY_UNITS)

    def _build_bottom(self, in_features, n_tasks, **network):
        return ResidualBottom(in_features, n_tasks, units=self.residual_units, **network)


# Its reference ------------------------------------------------------------------------------------


def bottom(bottom, rows, activation):
    (shared,), own = layers_of(bottom.shared), layers_of(bottom.own)
    out = []
    for x in rows:
        h = mlp(x, shared, activation)
        out.append([h + mlp(x, of_task, activation) for of_task in own])
    return out


def by_task(bottom, n_tasks):
    return share_out(list(bottom.own.parameters()), n_tasks), list(bottom.shared.parameters())


OPTIONS = {"residual_units": (8,)}
VARIANTS = [{"residual_units": (5, 6)}]


# What every architecture meets --------------------------------------------------------------------


class LosesTheSharedPart(Residual):
    """The mistake that the reference must find."""

    def _build_bottom(self, *args, **network):
        bottom = super()._build_bottom(*args, **network)
        bottom.forward = bottom.own.forward
        return bottom


class Unwritten(Residual):
    """An architecture in a file of its own, and no reference of its own."""

    __module__ = "sk_mtl.architectures.unwritten"


@pytest.fixture(autouse=True)
def _reference(monkeypatch):
    monkeypatch.setitem(sys.modules, f"reference.{__name__}", sys.modules[__name__])


def test_its_reference_is_found():
    assert takes_anything(Residual)
    architectures.test_every_architecture_has_a_reference(Residual)
    with pytest.raises(AssertionError, match=r"write tests/reference/unwritten\.py"):
        architectures.test_every_architecture_has_a_reference(Unwritten)


def test_it_must_say_what_belongs_to_a_task(monkeypatch):
    monkeypatch.delitem(globals(), "by_task")
    with pytest.raises(AssertionError, match=r"has no by_task\(bottom, n_tasks\)"):
        architectures.test_every_architecture_has_a_reference(Residual)
    monkeypatch.setitem(globals(), "ORDERED", True)
    architectures.test_every_architecture_has_a_reference(Residual)
    monkeypatch.setitem(globals(), "ORDRED", True)
    with pytest.raises(AssertionError, match=r"nothing reads .*ORDRED"):
        architectures.test_every_architecture_has_a_reference(Residual)


@pytest.mark.parametrize(
    "test",
    [architectures.test_bottom_equals_reference, architectures.test_module_equals_reference],
)
def test_it_equals_its_reference(test):
    cases = [case.values for case in architectures.cases(Residual)]
    assert len(cases) == 2 * 24
    for case in cases:
        test(*case)
    mistaken = architectures.cases(LosesTheSharedPart)[0].values
    with pytest.raises(AssertionError, match="not close"):
        test(*mistaken)


@pytest.mark.parametrize(
    "test",
    [
        architectures.test_generator_reaches_every_dropout_layer,
        architectures.test_state_dict_round_trip,
        architectures.test_deepcopy_is_independent,
        architectures.test_compiles_without_graph_breaks,
        architectures.test_memorizes_64_rows,
        architectures.test_experts_gates_and_towers_differ_after_construction,
        architectures.test_construction_draws_from_the_generator_only,
        mistakes.test_nothing_shared_is_forgotten,
        mistakes.test_training_step_departs_from_the_loss,
    ],
)
def test_it_keeps_what_every_architecture_keeps(test):
    test(Residual)


def test_its_tasks_can_be_permuted():
    for order in ((1, 2, 0), (2, 1, 0)):
        architectures.test_permuting_tasks_permutes_outputs_only(Residual, order)


def test_its_parameters_are_trained_and_shared_as_it_says():
    architectures.test_every_parameter_gets_a_gradient(Residual, "tanh", ())
    architectures.test_rows_are_independent(Residual, training=True)
    mistakes.test_what_one_task_owns_counts_as_shared(Residual, {})
    members.test_outputs_are_those_of_the_members(Residual, {}, 3, training=True)


@pytest.mark.parametrize(
    "test",
    [
        contract.test_all_binary_tasks,
        contract.TestMixedTasks().test_blocks,
        contract.TestMixedTasks().test_learns_every_task,
        contract.TestSampleWeight().test_weights_equal_copies,
        contract.test_the_loss_of_a_task_is_the_mean_over_its_labels,
        contract.test_tower_units_per_task,
        contract.test_warm_start_goes_on,
        contract.test_fits_in_threads_equal_fits_in_a_row,
    ],
)
def test_it_keeps_the_contract(test, table):
    test(Residual, table)


def test_a_copy_of_it_predicts_the_same(table, tmp_path):
    contract.test_a_copy_predicts_the_same_bits(Residual, by_pickle, table, tmp_path)
    contract.test_a_pickle_holds_no_object_of_torch(Residual, 2)

"""Parameters: how they are declared, what they may be, and their documentation, written once."""

import re
from collections.abc import Mapping
from dataclasses import field, fields
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np

from sk_mtl._checks import per_task, weights_per_task
from sk_mtl._compat import Interval, InvalidParameterError, validate_parameter_constraints
from sk_mtl.data.checks import choose_columns


class Range(NamedTuple):
    """Numbers from `low` to `high`, both included if whole; even in logarithm if `log`."""

    low: float
    high: float
    log: bool = False


def parameter(default: Any, *constraints: Any, search: Range | list[Any] | None = None) -> Any:
    """Declare an estimator's parameter: default, scikit-learn constraints, what a search tries.

    `search` is a range of numbers or a list of choices; see `sk_mtl.search_space`.
    """
    return field(default=default, metadata={"constraints": list(constraints), "search": search})


def check_parameters(estimator: Any) -> None:
    """Check every parameter of an estimator against its constraints.

    Raises
    ------
    InvalidParameterError
        A ValueError that names the parameter, what it must be and what it was.
    """
    owner, given = type(estimator).__name__, estimator.get_params(deep=False)
    constraints = {f.name: f.metadata["constraints"] for f in fields(estimator)}
    for name, rules in constraints.items():
        broken = _broken_rule(rules, given[name])
        if broken is not None:
            raise InvalidParameterError(
                f"The {name!r} parameter of {owner} must be {broken}. Got {given[name]!r} instead."
            )
        if isinstance(rules[0], UnitsRule):
            del given[name]
    validate_parameter_constraints(constraints, given, caller_name=owner)


def _broken_rule(rules: list[Any], value: Any) -> str | None:
    """Return the rule that a value breaks, of those that scikit-learn has no constraint for."""
    if isinstance(rules[0], UnitsRule):
        return None if rules[0].allows(value) else str(rules[0])
    if isinstance(value, bool | np.bool_) and any(isinstance(rule, Interval) for rule in rules):
        return "a number, not a bool"
    return None


def same(one: Any, other: Any) -> bool:
    """Whether two values of a parameter are the same: compared entry by entry, not as they print.

    Objects with parameters of their own (kinds of task, balancers, estimators) are the same if
    they are of one class and their parameters are the same.
    """
    if one is other:
        return True
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return _same_arrays(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        alike = type(one) is type(other) and len(one) == len(other)
        return alike and all(map(same, one, other))
    if type(one) is not type(other):
        return False
    if hasattr(one, "get_params") and not isinstance(one, type):
        return same(one.get_params(deep=False), other.get_params(deep=False))
    try:
        if hasattr(one, "equals"):  # a dataframe
            return bool(one.equals(other))
        return bool(one == other) or (one != one and other != other)
    except (TypeError, ValueError, RuntimeError):  # a comparison that gives no single answer
        return False


def _same_arrays(one: Any, other: Any) -> bool:
    if not (isinstance(one, np.ndarray) and isinstance(other, np.ndarray)):
        return False
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return all(map(same, one.ravel().tolist(), other.ravel().tolist()))


def find_callback(callbacks: Any, name: str) -> Any:
    """Return the callback of a name: the one it was passed with, or that of its class.

    Raises
    ------
    ValueError
        If there is none, or more than one.
    """
    pairs = [
        one if isinstance(one, tuple) else (type(one).__name__, one) for one in callbacks or ()
    ]
    found = [callback for known, callback in pairs if known == name]
    if len(found) != 1:
        raise ValueError(
            f"`callbacks` has {len(found)} callbacks named {name!r}; those that it has are "
            f"{[known for known, _ in pairs]}."
        )
    return found[0]


class UnitsRule:
    """A tuple or list of positive integers; scikit-learn has no constraint for it."""

    def __init__(self, *, may_be_empty: bool) -> None:
        self.may_be_empty = may_be_empty

    def allows(self, value: Any) -> bool:
        """Whether `value` keeps to the rule."""
        return is_units(value) and (self.may_be_empty or len(value) > 0)

    def __str__(self) -> str:
        return f"a {'' if self.may_be_empty else 'non-empty '}tuple or list of positive integers"


def is_units(value: Any) -> bool:
    """Whether a value is a tuple, list or array of positive integers, the widths of layers."""
    if not isinstance(value, tuple | list | np.ndarray):
        return False
    return all(isinstance(v, int | np.integer) and not isinstance(v, bool) and v > 0 for v in value)


UNITS = UnitsRule(may_be_empty=True)
NON_EMPTY_UNITS = UnitsRule(may_be_empty=False)
AT_LEAST_ZERO = Interval(Integral, 0, None, closed="left")
AT_LEAST_ONE = Interval(Integral, 1, None, closed="left")
POSITIVE = Interval(Real, 0, None, closed="neither")
NON_NEGATIVE = Interval(Real, 0, None, closed="left")

COMMON_PARAMETERS = """\
tower_units : tuple of int, list of tuples or dict, default=(32,)
    Widths of the towers' hidden layers: one tuple for all tasks, or one per task as a list of
    tuples or a dict by task name (tasks not named get the default). Empty: a linear tower.
task_types : str, Task, type, list or dict, default="auto"
    What each task is: one kind for all tasks, one per task as a list, or by task name ("auto"
    for those not named). A kind is "auto", "classification" ("binary" or "multiclass", as the
    labels are), "binary", "multiclass", "ordinal" (classes in an order), "regression",
    "quantile" (the median), "count" (numbers of at least zero), or a class of `sk_mtl.tasks`,
    or an instance with options such as ``BinaryTask(class_weight="balanced")``. Instances are
    copied at `fit`; options of one for all tasks can be set as ``task_types__<option>``. "auto"
    takes strings, categories, booleans and whole numbers for classes, and numbers with
    fractional parts for regression. More than 100 distinct whole numbers are an error under
    "auto".
categorical_features : "from_dtype", None, array-like, kind or dict, default="from_dtype"
    Which columns are categorical: those of a dataframe with dtype category, string, object or
    bool ("from_dtype"); none; or a bool mask, indices or names. Unseen and missing categories
    have embeddings of their own. An array has no categorical columns under "from_dtype",
    unless it has dtype object: then its columns' contents decide. An instance of a class of
    `sk_mtl.categorical` says how those of "from_dtype" are taken:
    ``Categories(min_frequency=5)``, ``Hashed()`` for ids without end, ``Bag()`` for cells that
    hold several categories. A dict gives one, or None for the default, by column (name or
    position): the columns that it names are categorical, the others go by dtype. Instances are
    copied at `fit`; options of one for all columns can be set as
    ``categorical_features__<option>``.
numeric_features : str, Encoding, list or dict, default="auto"
    How the other columns enter the network: "standardize" (by mean and variance at `fit`),
    "passthrough" (as they are), "quantile" (normal scores of ranks), "robust" (by quartiles,
    squashed far out), "piecewise", "periodic" (embeddings), "values" (distinct values as
    categories), or an instance of a class of `sk_mtl.numeric` with options. A list of several
    sets them side by side; a dict gives either by column, by name or position, and columns that
    it does not name are standardized. "auto" chooses by the rows, see
    `sk_mtl.numeric.choose_encodings`; of a sparse X it standardizes all, and of a stream it
    looks at the first part. Instances are copied at `fit`; options of one for all columns can
    be set as ``numeric_features__<option>``. Missing numbers take the mean or the median, and a
    column that has some at `fit` gets an indicator beside it. All by name but the first two
    take a dense X.
embedding_dim : int, "auto", list or dict, default=8
    Width of the categories' embeddings: for all columns, or per column as a list or a dict by
    name ("auto" for those not named). "auto" grows with the number of categories, from 4 to 64
    in powers of two. Columns that share a vocabulary have one width, and given vectors theirs.
interaction : {"fm", "cross"} or None, default=None
    Products of columns before the bottom, with weights that all tasks share. "fm" appends the
    second-order term of a factorization machine (`sk_mtl.nn.FMInteraction`), 8 numbers, of all
    columns; "cross" passes the columns through two cross layers of DCN-v2
    (`sk_mtl.nn.CrossNetwork`), after which a column's numbers hold something of all columns.
n_members : int or "auto", default="auto"
    Number of whole networks (experts, gates, towers) on one shared embedding. They start from
    different weights and train at once on the mean of their losses; predicted is the mean of
    their probabilities and values. ``predict(X, members=True)`` and ``predict_proba(X,
    members=True)`` show each. "auto": four up to 10,000 rows, else one; one in `partial_fit`.
activation : str, default="relu"
    Activation of hidden layers: "relu", "gelu", "silu", "tanh", "elu", "selu", "leaky_relu"
    or "sigmoid".
dropout : float, default=0.1
    Probability of dropping a hidden unit of experts, bottoms and towers in training.
batch_norm : bool, default=False
    Whether hidden layers of experts, bottoms and towers are batch-normalized. Gates never are.
loss_weights : list of float or dict, default=None
    Fixed factors of the tasks' losses, per task or by task name (1 for those not named). The
    loss is the sum over tasks. Regression losses are in units of the target's variance, those
    of quantiles in its standard deviation, of counts in its mean.
balancer : str or LossBalancer, default="equal"
    How the task losses become one gradient; "equal" is their (weighted) sum. A name in
    `sk_mtl.balancing.BALANCERS`, or an instance, whose parameters are ``balancer__...``.
optimizer : str or subclass of torch.optim.Optimizer, default="adam"
    "adam", "adamw", "sgd", "adagrad" or "rowwise_adagrad", or a class that takes dense gradients
    and does not evaluate the loss itself. "rowwise_adagrad" is for large tables: those with sparse
    gradients (see `sparse_embeddings`) are moved by Adagrad with one number of state per slot, 10
    times `lr` being its learning rate, and all else by Adam, which keeps two numbers per weight.
lr : float, default=2e-3
    Learning rate.
lr_schedule : str, default="cosine"
    How the learning rate moves in a `fit`: "constant"; "cosine", down to zero along a cosine by
    the last of `max_epochs`; "one-cycle", up and down again with `lr` as the highest; "plateau",
    to 0.3 of itself whenever the validation loss has not fallen for three epochs. `partial_fit`
    keeps it constant.
clip_norm : float, default=None
    Greatest length of a step's gradient; a longer one is shortened. None: any length. Gradients
    of sparse embeddings are shortened with the others and do not count in the length.
weight_decay : float, default=0.0
    L2 penalty (decoupled with "adamw") on weight matrices; not on biases, embeddings and the
    scales of batch normalization.
sparse_embeddings : "auto" or bool, default="auto"
    Whether a step touches only those slots of embedding tables that its rows read. The cost of
    a step then does not grow with the table, and Adam is "lazy": the moments of slots that a
    batch does not read stay as they are. "auto": tables with more than 50,000 slots. Only with
    an optimizer by name.
batch_size : int, "auto" or None, default="auto"
    Rows per step; None: all rows in one batch. "auto" goes by the rows to train on: 4 up to 300
    of them, 8 up to 1,400, 16 up to 2,800, 32 up to 6,000, 64 up to 12,000, 128 up to 30,000,
    256 up to 200,000, then 1024; in `partial_fit` 256.
max_epochs : int, default=6
    Passes over the data at most.
early_stopping : bool or "auto", default="auto"
    Whether to hold out rows, stop when what `monitor` watches on them no longer improves, and
    restore the best epoch: its weights, and the state of optimizer and balancer. With
    `warm_start` the state that a fit begins with is the first to beat. "auto": above 10,000
    rows, as scikit-learn's boosters do, and not in `partial_fit`. Six epochs, the default, are
    fewer than `n_iter_no_change`: all are run then, and the best one is kept.
monitor : str or callable, default="valid_loss"
    What early stopping watches: "valid_loss", the sum of the tasks' validation losses times
    `loss_weights`, whatever the balancer does; "valid_loss_<task>", that of one task; or a
    scorer such as ``sk_mtl.metrics.task_scorer("roc_auc", "click")``, the greater the better,
    recorded as ``valid_score``.
validation_fraction : float, default=None
    Share of rows held out. None: 0.1 with early stopping, else nothing. Given, the validation
    losses are recorded in `history_` even without early stopping. Of every task with two labels
    or more there are some on either side, and a later fit with `warm_start` holds out the same
    rows: a row's position decides. Rows passed to `fit` as `X_val` take their place.
n_iter_no_change : int, default=10
    Epochs without an improvement of at least `tol` before early stopping ends training.
tol : float, default=1e-4
    Smallest change of what `monitor` watches that counts as an improvement.
callbacks : list, default=None
    skorch callbacks, or (name, callback) pairs. `fit` uses these objects themselves, so what they
    recorded can be read from them; a search gives each of its fits a copy.
checkpoint : str or Path, default=None
    A folder for the state of `fit`: weights, optimizer, balancer, generators, history and position
    go to a new file there after every epoch (of rows that memory does not hold, at most every
    half minute within one, too), and the last two files stay. They are safetensors files with JSON
    in their header (extra ``save``) of three times the weights' size under Adam, six times while
    early stopping holds a better epoch. While `fit` runs no other may write there, and neither
    `partial_fit` nor a fit that goes on by `warm_start` writes any.
resume : bool, default=False
    Whether `fit` goes on from the last whole file in `checkpoint`: killed at any moment and run
    again, it ends on a CPU with the same bits as without the kill. Without files it begins, and
    a fit that has ended is returned as it was, so that one script can be run again and again.
    Other rows or parameters than those of the files are an error; more `max_epochs` are not, with
    the schedules "constant" and "plateau". A seed drawn for ``random_state=None`` is used again.
    `callbacks` begin anew. False: `fit` begins anew, and replaces the files with its own.
warm_start : bool, default=False
    Whether `fit` goes on from the weights of the last one; X and y must have the same columns
    and classes.
device : str, default="auto"
    Where to train and predict: a torch device such as "cpu" or "cuda:0"; "auto" takes a GPU if
    there is one.
dtype : {"float32", "float64"}, default="float32"
    Precision of the network.
random_state : int, RandomState instance or None, default=None
    Seed of initial weights, held-out rows, order of rows, sampled labels and dropout. The same
    integer gives the same bits on the same machine and number of threads.
verbose : int, default=0
    Above 0, a line per epoch: the losses, those of the first four tasks, and seconds; and what
    early stopping did."""

COMMON_ATTRIBUTES = """\
tasks_ : tuple of Task
    The tasks, fitted.
task_names_ : list of str
    Their names: the columns of a DataFrame y, else "y", or "task_0", "task_1", ...
classes_ : ndarray
    With a 1-D y the sorted classes. With a 2-D y an object array that holds each task's
    classes. Absent if a task has no classes.
task_slices_ : dict of str to slice
    The columns of `predict_proba` that belong to each task; an empty slice without classes.
n_features_in_ : int
    Number of columns of X.
feature_names_in_ : ndarray of str
    Names of the columns, if X had names that are all strings.
n_iter_ : int
    Number of epochs run.
history_ : DataFrame
    A row per epoch: ``train_loss``, ``valid_loss`` (sums over tasks, times `loss_weights`),
    ``train_loss_<task>``, ``valid_loss_<task>``, ``weight_<task>`` (the balancer's, mean over
    the steps), and ``dur``, in seconds.
net_ : skorch.NeuralNet
    The net that trained the network.
module_ : torch.nn.Module
    The network: numbers and category codes to logits.
encoder_ : RowEncoder
    ``encoder_.transform(X)`` gives these numbers and codes, as arrays by name."""


def document(doc: str) -> str:
    """Fill the common parts into a class's docstring, without parameters that it has itself."""
    entries = re.split(r"\n(?=\w)", COMMON_PARAMETERS)
    others = [entry for entry in entries if f"\n    {entry.partition(' : ')[0]} : " not in doc]
    common = {"parameters": "\n".join(others), "attributes": COMMON_ATTRIBUTES}
    for name, text in common.items():
        doc = doc.replace(f"{{common_{name}}}", text.replace("\n", "\n    "))
    return doc


def resolve_loss_weights(value: Any, names: list[str]) -> list[float] | None:
    """Return one finite, non-negative weight per task, or None for all one."""
    return None if value is None else weights_per_task("loss_weights", value, names)


def resolve_tower_units(value: Any, names: list[str], default: tuple) -> list[tuple[int, ...]]:
    """Return the widths of each task's tower."""
    # A list with a tuple in it is one per task; with numbers only it is one for all.
    differ = isinstance(value, Mapping) or any(np.iterable(entry) for entry in value)
    units = per_task(value, names, "tower_units", default) if differ else [value] * len(names)
    for name, widths in zip(names, units, strict=True):
        if not is_units(widths):
            raise ValueError(
                f"`tower_units` of task {name!r} must be {UNITS}, got {widths!r}; pass one tuple "
                "for all tasks, a list of tuples, or a dict by task name."
            )
    return [tuple(int(width) for width in widths) for widths in units]


def choose_places(
    parameter_name: str, asked: Any, columns: Mapping[Any, list[int]], remedy: str
) -> list[int]:
    """Return the places of the columns that a parameter asks for; of None none.

    Parameters
    ----------
    parameter_name : str
        Name of the parameter.
    asked : "all", array-like or None
        The columns, as `categorical_features` takes them: names, positions or a mask.
    columns : mapping of name to list of int
        The places of each column of X, in X's order.
    remedy : str
        What else to pass instead of no column.

    Raises
    ------
    ValueError
        If a column is unknown or has no places of its own, or there is none.
    """
    if asked is None:
        return []
    everything = isinstance(asked, str) and asked == "all"
    chosen = names = list(columns)
    if not everything:
        named = not all(isinstance(name, Integral) for name in names)
        chosen = [names[j] for j in choose_columns(parameter_name, asked, names, named=named)]
    bare = [column for column in chosen if not columns[column]]
    if bare and not everything:
        raise ValueError(
            f"`{parameter_name}` names {bare[0]!r}, which has no numbers of its own before the "
            "bottom; leave it out."
        )
    if not chosen:
        raise ValueError(f"`{parameter_name}` has no column; pass columns, or {remedy}.")
    return sorted(place for column in chosen for place in columns[column])

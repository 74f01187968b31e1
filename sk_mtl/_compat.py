"""scikit-learn's private names, and what older versions lack: imported here and nowhere else."""

import inspect
from collections.abc import Callable
from typing import Any

from sklearn.metrics import make_scorer
from sklearn.metrics._scorer import _BaseScorer
from sklearn.model_selection._split import _BaseKFold
from sklearn.utils import _safe_indexing
from sklearn.utils._metadata_requests import MetadataRequest
from sklearn.utils._param_validation import (
    Interval,
    InvalidParameterError,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.validation import _check_sample_weight

from sk_mtl._version import SITE

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9 has no callbacks to report to

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing: this scikit-learn has no callbacks."""

    def with_callbacks(method: Callable) -> Callable:
        """Return the method as it is."""
        return method


class PageMixin:
    """The question mark of an estimator's HTML view leads to its page of the API reference.

    Of a class outside of this package it leads nowhere.
    """

    _doc_link_module = "sk_mtl"
    _doc_link_template = f"{SITE}/api/generated/sk_mtl.{{estimator_name}}.html"


def with_labels(scorer: Any, labels: Any) -> Any:
    """Return a scorer of probabilities that knows all classes, also those that no row has.

    Scorers of predicted classes, those whose metric takes no ``labels``, and callables that are no
    scorers of scikit-learn come back as they are.
    """
    if not isinstance(scorer, _BaseScorer) or "labels" in scorer._kwargs:
        return scorer
    if scorer._response_method == "predict":
        return scorer
    if "labels" not in inspect.signature(scorer._score_func).parameters:
        return scorer
    return make_scorer(
        scorer._score_func,
        response_method=scorer._response_method,
        greater_is_better=scorer._sign > 0,
        **scorer._kwargs,
        labels=labels,
    )


__all__ = [
    "CallbackSupportMixin",
    "Interval",
    "InvalidParameterError",
    "MetadataRequest",
    "PageMixin",
    "StrOptions",
    "_BaseKFold",
    "_check_sample_weight",
    "_safe_indexing",
    "validate_parameter_constraints",
    "with_callbacks",
    "with_labels",
]

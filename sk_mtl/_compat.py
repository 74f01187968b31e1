"""scikit-learn's private names, and what older versions lack: imported here and nowhere else."""

from collections.abc import Callable

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

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9 has no callbacks to report to

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing: this scikit-learn has no callbacks."""

    def with_callbacks(method: Callable) -> Callable:
        """Return the method as it is."""
        return method


__all__ = [
    "CallbackSupportMixin",
    "Interval",
    "InvalidParameterError",
    "MetadataRequest",
    "StrOptions",
    "_BaseKFold",
    "_check_sample_weight",
    "_safe_indexing",
    "validate_parameter_constraints",
    "with_callbacks",
]

"""How much each step of a chain leans on the step before it."""

from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from sk_mtl._training import predict_logits
from sk_mtl.base import MultiTaskEstimator
from sk_mtl.data import Rows
from sk_mtl.nn import StepTransfer


def transfer_weights(estimator: MultiTaskEstimator, X: ArrayLike) -> dict[str, NDArray]:
    """Return the weights of a step's own network and of what the step before hands on, by row.

    Parameters
    ----------
    estimator : MultiTaskEstimator
        A fitted `AITM` of two tasks or more.
    X : {array-like, dataframe, CSR matrix} of shape (n_samples, n_features)
        Rows as the estimator takes them (in a pipeline: transformed by the steps before).

    Returns
    -------
    dict of str to ndarray of shape (n_samples, 2)
        By the name of each task but the first: the attention on the task's own network, and on
        the task before. Rows sum to one. Of several members they are means.

    Raises
    ------
    ValueError
        If the network has no such attention.

    Examples
    --------
    >>> from sk_mtl import AITM
    >>> from sk_mtl.datasets import make_click_conversion
    >>> from sk_mtl.inspection import transfer_weights
    >>> world = make_click_conversion(500, random_state=0)
    >>> model = AITM(max_epochs=2, random_state=0).fit(world.data, world.target)
    >>> {name: weights.shape for name, weights in transfer_weights(model, world.data).items()}
    {'conversion': (500, 2)}
    """
    check_is_fitted(estimator)
    # A copy that shares the weights: hooks on the network itself would see what other threads
    # predict meanwhile.
    module: Any = estimator.module_
    tensors = [*module.parameters(), *module.buffers()]
    twin = deepcopy(module, {id(tensor): tensor for tensor in tensors})
    transfers = [part for part in twin.modules() if isinstance(part, StepTransfer)]
    if not transfers:
        raise ValueError(
            f"This {type(estimator).__name__} has no attention between steps; pass an AITM of two "
            "tasks or more."
        )
    seen: list[NDArray] = []  # of each batch one step after the other, (B,) each
    transfers[0].attention.share.register_forward_hook(
        lambda _module, _inputs, out: seen.append(out.numpy(force=True).mean(axis=1))
    )
    table = estimator._read_rows(X)
    rows = Rows(estimator._fitted_.encoder.transform(table), device=estimator.net_.device)
    predict_logits(twin, rows)
    names = estimator.task_names_[1:]
    own = {name: np.concatenate(seen[k :: len(names)]) for k, name in enumerate(names)}
    return {name: np.column_stack([share, 1 - share]) for name, share in own.items()}

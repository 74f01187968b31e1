"""ESMM: a chain of conversions, learned over all impressions."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sk_mtl._chains import ChainEstimator
from sk_mtl.base import ArrayLike, NDArray
from sk_mtl.nn import ProbabilityChain, chain_rates


class SharedEmbeddingBottom(nn.Module):
    """The bottom that does nothing: all towers read the shared embedding itself.

    Parameters
    ----------
    in_features : int
        Width D of the input.
    n_tasks : int
        Number of tasks K.
    n_members : int, default=1
        Number M of members.

    Notes
    -----
    Shape: (B, D) -> (B, M * K, D)
    """

    one_representation = True

    def __init__(self, in_features: int, n_tasks: int, *, n_members: int = 1) -> None:
        super().__init__()
        self.n_tasks, self.n_members, self.out_features = n_tasks, n_members, in_features

    def forward(self, x: Tensor) -> Tensor:
        """Return the embedding once per task."""
        return x.unsqueeze(1).expand(-1, self.n_members * self.n_tasks, -1)


@dataclass(kw_only=True, eq=False, repr=False)
class ESMM(ChainEstimator):
    r"""Entire space multi-task model (ESMM): click, then conversion, over all impressions.

    `y` holds one column per step of a chain: click, click-and-conversion, and so on; a row that
    has come to a step has come to all before it. One tower per step gives the probability of that
    step *given the one before*; the network's outputs are their products, and only these have a
    loss. So the conversion rate given a click is learned from all impressions rather than from
    clicked ones only, which frees it of the clicks' selection bias. `predict_conversion_rate`
    returns it.

    Parameters
    ----------
    positive : label, list or dict, default=None
        The class that says "reached", such as "click": one label for all tasks, or one per task
        as a list or a dict by name. None: the second class in sorted order, of booleans True.
    {common_parameters}

    Attributes
    ----------
    {common_attributes}

    Notes
    -----
    .. math::
        p_{CTCVR} = p_{CTR}\; p_{CVR}, \qquad
        L = \sum_i \mathrm{BCE}(y_i, p_{CTR,i}) + \sum_i \mathrm{BCE}(y_i z_i, p_{CTCVR,i})

    with the click y and the conversion z, both sums over all impressions (as means here). The
    product is taken in logit space, see `sk_mtl.nn.logit_of_product`.

    All tasks must be binary, in the order of the chain. There are at least two of them. A label
    that was not observed is known where the others imply it: without a click there was no
    conversion, and a conversion had a click. Rows whose labels contradict that are trained as they
    are, with one warning that counts them.

    References
    ----------
    X. Ma et al., "Entire Space Multi-Task Model: An Effective Approach for Estimating Post-Click
    Conversion Rate", SIGIR 2018, equations 2 to 4, arXiv 1804.07931.

    Examples
    --------
    >>> from sk_mtl import ESMM
    >>> from sk_mtl.datasets import make_click_conversion
    >>> world = make_click_conversion(500, random_state=0)
    >>> model = ESMM(max_epochs=2, random_state=0).fit(world.data, world.target)
    >>> model.predict_conversion_rate(world.data).shape
    (500,)
    """

    def _build_bottom(self, in_features: int, n_tasks: int, **network: Any) -> nn.Module:
        return SharedEmbeddingBottom(in_features, n_tasks, n_members=network.get("n_members", 1))

    def _build_head(self) -> nn.Module:
        return ProbabilityChain()

    def predict_conversion_rate(self, X: ArrayLike) -> NDArray:
        """Predict the probability of each step given the step before it.

        Parameters
        ----------
        X : {array-like, dataframe, sparse matrix} of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_tasks - 1)
            With two tasks pCVR, the probability of a conversion given a click, for every row,
            clicked or not. With more, one column for each step after the first. Of several
            members it is the mean probability over that of the step before.
        """
        steps = self._logits(X, "tower_logits").unflatten(1, (self.module_.n_members, -1))
        rates = chain_rates(steps).numpy()[:, 1:]
        return rates[:, 0] if rates.shape[1] == 1 else rates

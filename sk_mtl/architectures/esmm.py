"""ESMM: a chain of conversions, learned over all impressions."""

from dataclasses import dataclass

from sk_mtl._chains import ConversionEstimator


@dataclass(kw_only=True, eq=False, repr=False)
class ESMM(ConversionEstimator):
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
    bottom : estimator, default=None
        The architecture before the towers, such as ``MMoE(n_experts=4)``: of this estimator only
        the parameters of its bottom count. None, as in the paper: the towers read the shared
        embedding itself.
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

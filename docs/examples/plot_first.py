"""
A first model
=============

Placeholder.
"""

from sk_mtl import MMoE
from sk_mtl.datasets import make_census_like
from sk_mtl.inspection import LossDisplay

X, Y = make_census_like(1000, random_state=0)
model = MMoE(n_experts=4, max_epochs=3, random_state=0).fit(X, Y)
LossDisplay.from_estimator(model)

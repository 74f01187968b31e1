"""
Watch the training
==================

Three tasks share one network. Their losses fall at different rates, and the best epoch for one
task need not be the best for another. :class:`~sk_mtl.inspection.LossDisplay` shows each task's
learning curve and the epoch that early stopping kept;
:class:`~sk_mtl.inspection.BalanceDisplay` shows how a balancer weighed the tasks meanwhile.
"""

# sphinx_gallery_thumbnail_number = 1

import matplotlib.pyplot as plt

from sk_mtl import MMoE
from sk_mtl.datasets import make_census_like
from sk_mtl.inspection import BalanceDisplay, LossDisplay

X, Y = make_census_like(2000, random_state=0)
Y.head(3)

# %%
# Learning curves
# ---------------
# With ``early_stopping=True`` a tenth of the rows is held out. Solid lines are the losses of the
# rows trained on, dashed lines those of the rows held out. The dotted line is the epoch whose
# weights the model has now: the one with the lowest sum of the tasks' losses on the rows held out.

settings = {
    "n_experts": 4,
    "n_members": 1,
    "max_epochs": 10,
    "lr": 0.003,
    "lr_schedule": "constant",
    "early_stopping": True,
    "n_iter_no_change": 10,
    "random_state": 0,
}
model = MMoE(**settings).fit(X, Y)
LossDisplay.from_estimator(model)

# %%
# Axes of their own
# -----------------
# Curves that would look flat beside the others' get axes of their own. ``by_task`` asks for them
# in any case. Where the dashed line turns up while the solid one still falls, the task overfits;
# the tasks need not turn at the same epoch.

LossDisplay.from_estimator(model, by_task=True)

# %%
# The balancer's weights
# ----------------------
# "gradnorm" moves the weights so that the tasks train at similar rates, "uncertainty" learns a
# weight per task. A line is one task's weight in each epoch, the mean over the epoch's steps. The
# losses above do not depend on these weights, so runs with different balancers can be compared.

_, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
for ax, balancer in zip(axes, ["gradnorm", "uncertainty"], strict=True):
    balanced = MMoE(balancer=balancer, **settings).fit(X, Y)
    BalanceDisplay.from_estimator(balanced, ax=ax)

"""
Which expert does what
======================

A gate says, for every row, how much a task takes from each expert. Averaged over all rows the
weights often look nearly even. By the values of a column they do not: then one sees what the
experts are for. :class:`~sk_mtl.inspection.GateDisplay` draws both,
:class:`~sk_mtl.inspection.ExpertUseDisplay` shows which experts are used at all.
"""

# sphinx_gallery_thumbnail_number = 2

from sk_mtl import PLE, MMoE
from sk_mtl.datasets import fetch_adult
from sk_mtl.inspection import ExpertUseDisplay, GateDisplay
from sk_mtl.nn import DSelectK

X, Y = fetch_adult(return_X_y=True)
X, Y = X[:12_000], Y[:12_000]
model = MMoE(n_experts=4, max_epochs=4, random_state=0).fit(X, Y)

# %%
# Averaged over all rows
# ----------------------
# A row of the picture is a task's gate, and sums to one. Even use of four experts is 0.25.

GateDisplay.from_estimator(model, X)

# %%
# By a column's values
# --------------------
# The same weights, averaged over the rows with each value of a column. Numbers with many values
# are cut at quantiles; in brackets stands how many rows there are. The gates have learned that
# young people are a case of their own. In place of a column's name any array with a value for each
# row will do, such as a label, or the day of a visit.

GateDisplay.from_estimator(model, X, by="age", n_values=6)

# %%
# Levels
# ------
# PLE has experts of each task beside shared ones, and several levels of them. Gray is what a
# gate does not read: another task's experts.

layered = PLE(
    n_task_experts=2,
    n_shared_experts=2,
    max_epochs=3,
    random_state=0,
)
layered.fit(X, Y)
GateDisplay.from_estimator(layered, X)

# %%
# Dead experts
# ------------
# A sparse gate, DSelect-k, chooses few experts. Here each task chooses two of eight, the same ones
# for all rows, and ``entropy`` makes it settle on them. So four experts at least are used by no
# gate: they cost time and memory, and do nothing. They are marked "dead". The parameter
# ``expert_balance`` keeps experts alive.

gate = DSelectK(n_selectors=2, conditioned=False, entropy=0.1)
sparse = MMoE(n_experts=8, gate=gate, max_epochs=4, random_state=0).fit(X, Y)
ExpertUseDisplay.from_estimator(sparse, X)

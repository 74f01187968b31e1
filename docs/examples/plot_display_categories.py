"""
What categories have become
===========================

A network turns each category into a vector, and learns the vectors with the tasks. Categories
that it treats alike end up close. :func:`~sk_mtl.inspection.embedding_neighbors` names them,
:class:`~sk_mtl.inspection.EmbeddingDisplay` draws them in the plane in which they differ most.
"""

# sphinx_gallery_thumbnail_number = 1

from sk_mtl import STEM, MMoE
from sk_mtl.datasets import fetch_adult
from sk_mtl.inspection import EmbeddingDisplay, embedding_neighbors

X, Y = fetch_adult(return_X_y=True)
X, Y = X[:15_000], Y[:15_000]
model = MMoE(n_experts=4, max_epochs=5, random_state=0).fit(X, Y)

# %%
# Neighbors of one category
# -------------------------
# The cosine of the angle between the vectors; one means the same direction.

embedding_neighbors(model, "occupation", "Exec-managerial", n_neighbors=3)

# %%
# All of them in a picture
# ------------------------
# Lines lead to the neighbors, which are close among all dimensions; in the plane they need not
# be. The colors are a number for each category, here the share of high incomes. The first
# component mostly follows it: this is what the network uses occupations for.

by_occupation = Y.groupby(X["occupation"], observed=True)
share = by_occupation["income"].mean()
EmbeddingDisplay.from_estimator(
    model,
    "occupation",
    category="Exec-managerial",
    n_neighbors=3,
    values=share.rename("share of incomes above 50K"),
)

# %%
# A vector for each task
# ----------------------
# :class:`~sk_mtl.STEM` has vectors of each task's own. For *never_married* the same occupations
# lie in another order. Categories without a number are gray: here those of less than 50 rows,
# whose vectors have seen too little to mean much.

own = STEM(max_epochs=3, random_state=0).fit(X, Y)
share = by_occupation["never_married"].mean()[by_occupation.size() >= 50]
EmbeddingDisplay.from_estimator(
    own,
    "occupation",
    task="never_married",
    values=share.rename("share of never married"),
)

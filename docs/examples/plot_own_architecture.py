"""
An architecture of one's own
============================

A bottom, which is a torch module, and an estimator with its parameters: 60 lines, and the class
is searched, drawn, saved and cross-validated like the others.
"""

# %%
# The idea
# --------
# A network that all tasks share, a small one of each task's own, and per task and unit a gate that
# says how much of each passes. A bottom turns rows, (B, D), into one representation per task,
# (B, K, H); embeddings before it and towers after it are there already. `~sk_mtl.nn.StackedMLP`
# computes several networks at once, and members too: M networks of K tasks come as (B, M * K, H).
#
# .. math:: h_k = g_k(x) \odot f(x) + (1 - g_k(x)) \odot f_k(x), \qquad y_k = t_k(h_k)

from dataclasses import dataclass

from torch import nn

from sk_mtl import base
from sk_mtl.nn import StackedMLP, repeat_per_task


class BlendBottom(nn.Module):
    """A shared network and one per task, blended unit by unit."""

    def __init__(self, in_features, n_tasks, *, units, own_units, **network):
        super().__init__()
        self.n_tasks = n_tasks
        self.shared = StackedMLP(1, in_features, units, **network)
        self.own = StackedMLP(
            n_tasks, in_features, (*own_units, units[-1]), **network
        )
        sigmoid = network | {"activation": "sigmoid", "dropout": 0.0}
        self.gates = StackedMLP(n_tasks, in_features, (units[-1],), **sigmoid)
        self.out_features = units[-1]

    def forward(self, x):
        gate, shared = self.gates(x), self.shared(x)
        shared = repeat_per_task(shared, self.n_tasks)
        return gate * shared + (1 - gate) * self.own(x)

    def own_parameters(self):
        """Return what a single task's loss reaches, for balancers."""
        yield from self.own.parameters()
        yield from self.gates.parameters()


@dataclass(kw_only=True, eq=False, repr=False)
class Blend(base.MultiTaskEstimator):
    """Each task blends what all share with its own.

    Parameters
    ----------
    bottom_units : tuple of int, default=(128, 64)
        Widths of the shared network's layers.
    own_units : tuple of int, default=(16,)
        Widths of the hidden layers of each task's own network.
    {common_parameters}

    Attributes
    ----------
    {common_attributes}
    """

    bottom_units: base.Units = base.parameter(
        (128, 64), base.NON_EMPTY_UNITS, search=[(64,), (128, 64), (256, 64)]
    )
    own_units: base.Units = base.parameter(
        (16,), base.NON_EMPTY_UNITS, search=[(8,), (16,), (32,)]
    )

    def _build_bottom(self, in_features, n_tasks, **network):
        units = {"units": self.bottom_units, "own_units": self.own_units}
        return BlendBottom(in_features, n_tasks, **units, **network)


# %%
# A picture of it
# ---------------
# `~sk_mtl.inspection.draw` measures which part reads which, so it knows nothing of this class in
# advance.

from sk_mtl.inspection import draw

draw(Blend(), tasks=["click", "buy"])

# %%
# In a search
# -----------
# It has its parameters, its share of the common ones (``lr``, ``balancer``, ``n_members``, ...) and
# a search space. Of the amount one label in ten is known, as in :doc:`plot_search_architectures`.

import numpy as np
import pandas as pd
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from sk_mtl import SharedBottom, SingleTask, search_space
from sk_mtl.datasets import make_census_like
from sk_mtl.metrics import task_scorer
from sk_mtl.model_selection import MultiTaskStratifiedKFold

X, Y = make_census_like(3000, random_state=0)
Y["log_wage"] = Y["log_wage"].where(
    np.random.default_rng(0).random(len(Y)) < 0.1
)

metrics = {"high_income": "roc_auc", "married": "roc_auc", "log_wage": "r2"}
common = {"n_members": 1, "random_state": 0}
candidates = {
    "SingleTask": SingleTask(**common),
    "SharedBottom": SharedBottom(**common),
    "Blend": Blend(**common),
}
search = GridSearchCV(
    Pipeline([("model", Blend())]),
    {"model": list(candidates.values())},
    scoring={
        task: task_scorer(metric, task) for task, metric in metrics.items()
    },
    refit=False,
    cv=MultiTaskStratifiedKFold(3, shuffle=True, random_state=0),
).fit(X, Y)
found = pd.DataFrame(search.cv_results_, index=list(candidates))
found[[f"mean_test_{task}" for task in metrics]].round(4)

# %%
# By the folds:

import matplotlib.pyplot as plt

figure, axes = plt.subplots(
    1, 3, figsize=(8, 3), sharey=True, layout="constrained"
)
for ax, (task, metric) in zip(axes, metrics.items(), strict=True):
    folds = found[[f"split{fold}_test_{task}" for fold in range(3)]].to_numpy()
    for fold, color in enumerate(("#E69F00", "#56B4E9", "#009E73")):
        look = {"color": color, "label": f"fold {fold + 1}"}
        ax.plot(folds[:, fold], found.index, "o", **look)
    look = {"color": "black", "markersize": 16, "label": "mean"}
    ax.plot(folds.mean(axis=1), found.index, "|", **look)
    ax.set(title=task, xlabel={"roc_auc": "AUC", "r2": "R²"}[metric])
    ax.grid(axis="x", alpha=0.3)
    ax.margins(y=0.15)
axes[0].invert_yaxis()
figure.legend(
    *axes[0].get_legend_handles_labels(), ncols=4, loc="outside lower center"
)

# %%
# What a random search or Optuna would try of its own parameters:

own = {
    name: what
    for name, what in search_space(Blend()).items()
    if name in vars(Blend)
}
own

# %%
# To put it into the package: :doc:`/developers/architecture`. An objective of one's own:
# :doc:`/developers/objective`.

"""
Search over architectures
=========================

An architecture is a class, so the last step of a pipeline can be searched like any parameter:
`~sklearn.model_selection.GridSearchCV` fits each, with the same preprocessing and the same folds,
and keeps a score per task.
"""

# %%
# A pipeline with a step to exchange
# ----------------------------------
# Two binary tasks and an amount, and of the amount only one label in ten: a task of few labels is
# where sharing can help. The transformer hands on a frame, so that categories arrive as categories
# and are embedded; `~sklearn.preprocessing.OneHotEncoder` in its place works too.

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import QuantileTransformer

from sk_mtl import PLE, MMoE, SharedBottom, SingleTask
from sk_mtl.datasets import make_census_like

X, Y = make_census_like(2500, random_state=0)
rare = np.random.default_rng(0).random(len(Y)) < 0.1
Y["log_wage"] = Y["log_wage"].where(rare)

numbers = X.select_dtypes("number").columns
words = X.select_dtypes("category").columns
normal = QuantileTransformer(n_quantiles=200, output_distribution="normal")
columns = ColumnTransformer(
    [("numbers", normal, numbers), ("words", "passthrough", words)]
)
pipeline = Pipeline([("columns", columns), ("model", MMoE())])
pipeline.set_output(transform="pandas")

# %%
# The grid
# --------
# The key is the name of the step. Each candidate is one network (``n_members=1``), so that
# architectures are compared and not averages over members. `SingleTask` shares nothing and is what
# sharing is measured against.

single = {"n_members": 1, "random_state": 0}
grid = {
    "model": [
        SingleTask(**single),
        SharedBottom(**single),
        MMoE(**single),
        PLE(**single),
    ]
}

# %%
# A score per task, and a function that says which candidate wins: the one with the best mean.

import pandas as pd
from sklearn.model_selection import GridSearchCV

from sk_mtl.metrics import task_scorer
from sk_mtl.model_selection import MultiTaskStratifiedKFold

metrics = {"high_income": "roc_auc", "married": "roc_auc", "log_wage": "r2"}


def best_mean(results):
    """Return the position of the candidate with the best mean over tasks."""
    return sum(results[f"mean_test_{task}"] for task in metrics).argmax()


search = GridSearchCV(
    pipeline,
    grid,
    scoring={
        task: task_scorer(metric, task) for task, metric in metrics.items()
    },
    refit=best_mean,
    cv=MultiTaskStratifiedKFold(3, shuffle=True, random_state=0),
).fit(X, Y)

# %%
# What it found
# -------------

found = pd.DataFrame(search.cv_results_)
found["architecture"] = [
    type(model).__name__ for model in found["param_model"]
]
found = found.set_index("architecture")
found[[f"mean_test_{task}" for task in metrics]].round(3)

# %%
# Each fold as a dot, the mean as a bar. Folds differ more than architectures do, and all
# architectures have the same folds: compare dots of one color.

import matplotlib.pyplot as plt

figure, axes = plt.subplots(
    1, 3, figsize=(8, 3.4), sharey=True, layout="constrained"
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
# The winner, fitted to all rows, is the search itself.

search.best_params_

# %%
# A search over the parameters of one architecture: :doc:`plot_optuna` and :doc:`/guide/tuning`.

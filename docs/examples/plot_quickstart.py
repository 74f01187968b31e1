"""
From a CSV file to a model: tuned, explained, saved
===================================================

A table that nobody has prepared, two labels in it, and a model of both. Copy this page, put
your own file in place of ``shop.csv``, and name your own columns.
"""

# %%
# The file
# --------
# This cell stands in for your file: it writes customers of a shop, with text, numbers, dates and
# gaps. Skip it.

# sphinx_gallery_thumbnail_number = 2
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

rng = np.random.default_rng(0)
n = 3000
age = rng.integers(18, 85, n)
visits = rng.poisson(6, n)
plan = rng.choice(["basic", "family", "student"], n, p=[0.5, 0.3, 0.2])
town = rng.choice([f"town {k}" for k in range(30)], n)
days = rng.integers(0, 2000, n)
loyal = (
    0.8 * (plan == "family")
    + days / 1000
    - 0.15 * np.abs(age - 45) / 10
    + np.sin(age / 9)
)
loyal += 0.3 * np.sqrt(visits) * (plan != "student")
stays = loyal + rng.logistic(size=n) > 2
spent = np.exp(
    3 + 0.4 * loyal + 0.06 * visits + 0.3 * rng.normal(size=n)
).round(2)
shop = pd.DataFrame(
    {
        "age": np.where(rng.random(n) < 0.1, np.nan, age),
        "visits": visits,
        "plan": plan,
        "town": np.where(rng.random(n) < 0.05, None, town),
        "since": pd.Timestamp("2020-01-01")
        + pd.to_timedelta(2000 - days, unit="D"),
        "stays": np.where(stays, "yes", "no"),
        "spent": np.where(rng.random(n) < 0.2, np.nan, spent),
    }
)
folder = Path(tempfile.mkdtemp())
shop.to_csv(folder / "shop.csv", index=False)

# %%
# Read it
# -------
# ``stays`` has two classes, ``spent`` is an amount, and a fifth of the amounts is missing. Those
# rows stay: they still teach the other task.

frame = pd.read_csv(folder / "shop.csv")
frame.head()

# %%
# Text columns are embedded and numbers are scaled by the estimator, gaps included. A date is text
# too, and as a category it would say nothing of a new day: make a number of it. A column that
# names the row, such as a customer's number, is to be dropped. For numbers as text and for free
# text see :doc:`features </guide/features>`.

frame["days"] = (
    pd.Timestamp("2025-07-01") - pd.to_datetime(frame["since"])
).dt.days
targets = ["stays", "spent"]
X, Y = frame.drop(columns=[*targets, "since"]), frame[targets]

# %%
# A first model
# -------------
# ``task_types`` says what each label is. By default it is guessed from the labels; whole numbers
# are where a guess goes wrong most often.

from sklearn.model_selection import train_test_split

from sk_mtl import SharedBottom
from sk_mtl.metrics import multi_task_report

X_train, X_test, Y_train, Y_test = train_test_split(X, Y, random_state=0)
kinds = {"stays": "binary", "spent": "regression"}
first = SharedBottom(task_types=kinds, random_state=0).fit(X_train, Y_train)
multi_task_report(Y_test, first, X_test)[
    ["kind", "n_labels", "roc_auc", "accuracy", "r2"]
]

# %%
# Is that good? Ask boosted trees, one model per label.

from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.metrics import r2_score, roc_auc_score

words = {"plan": "category", "town": "category"}
known_train, known_test = Y_train["spent"].notna(), Y_test["spent"].notna()
classes = HistGradientBoostingClassifier(random_state=0)
classes.fit(X_train.astype(words), Y_train["stays"])
amounts = HistGradientBoostingRegressor(random_state=0)
amounts.fit(X_train[known_train].astype(words), Y_train["spent"][known_train])
found_classes = classes.predict_proba(X_test.astype(words))[:, 1]
found_amounts = amounts.predict(X_test[known_test].astype(words))
trees = {
    "stays, AUC": roc_auc_score(Y_test["stays"], found_classes),
    "spent, R²": r2_score(Y_test["spent"][known_test], found_amounts),
}
pd.Series(trees, name="boosted trees").round(3).to_frame()

# %%
# Tune it
# -------
# `sk_mtl.search_space` names what is worth trying, and any entry may be replaced: here smaller
# networks and fewer epochs, so that the page is built in time. One score decides: the mean of AUC
# and R². The folds hold every label, and every gap, in its share. ``n_members=1`` trains one
# network per candidate where the default averages four: the search takes less time, and its
# winner is fitted with four.

from sklearn.model_selection import RandomizedSearchCV

from sk_mtl import search_space
from sk_mtl.metrics import multi_task_scorer
from sk_mtl.model_selection import MultiTaskStratifiedKFold

metrics = {"stays": "roc_auc", "spent": "r2"}
single = SharedBottom(task_types=kinds, n_members=1, random_state=0)
space = search_space(single)
space |= {"bottom_units": [(64,), (128, 64)], "max_epochs": [4, 6, 8]}
search = RandomizedSearchCV(
    single,
    space,
    n_iter=5,
    scoring=multi_task_scorer(metrics),
    cv=MultiTaskStratifiedKFold(2, shuffle=True, random_state=0),
    refit=False,
    random_state=0,
)
search.fit(X_train, Y_train)
model = SharedBottom(
    task_types=kinds, random_state=0, **search.best_params_
).fit(X_train, Y_train)

# %%
# On rows that neither the search nor the fit has seen:

from sk_mtl.metrics import task_scorer

scores = pd.DataFrame({"first model": {}, "tuned": {}}, dtype=float)
for task, metric in metrics.items():
    score = task_scorer(metric, task)
    name = {"roc_auc": "AUC", "r2": "R²"}[metric]
    scores.loc[f"{task}, {name}"] = [
        score(first, X_test, Y_test),
        score(model, X_test, Y_test),
    ]
scores.assign(**{"boosted trees": trees}).round(3)

# %%
# How it learned
# --------------

from sk_mtl.inspection import LossDisplay

LossDisplay.from_estimator(model)

# %%
# What it looks at
# ----------------
# Shuffle a column and see what the score loses: about nothing if the task does not need it.
# `sk_mtl.task_view` gives one task as an ordinary classifier or regressor, so scikit-learn's own
# tools work.

import matplotlib.pyplot as plt
from sklearn.inspection import permutation_importance

from sk_mtl import task_view

figure, axes = plt.subplots(
    1, 2, figsize=(8, 3.2), sharey=True, layout="constrained"
)
for ax, (task, metric), color in zip(
    axes, metrics.items(), ("#0072B2", "#E69F00"), strict=True
):
    seen = Y_test[task].notna()
    loss = permutation_importance(
        task_view(model, task),
        X_test[seen],
        Y_test[task][seen],
        scoring=metric,
        n_repeats=5,
        random_state=0,
    )
    ax.barh(
        X.columns,
        loss.importances_mean,
        xerr=loss.importances_std,
        color=color,
    )
    ax.set(
        title=task,
        xlabel={"roc_auc": "loss of AUC", "r2": "loss of R²"}[metric],
    )

# %%
# Save it, load it, use it
# ------------------------
# The file is safetensors and JSON: nothing in it is executed. `sk_mtl.predict_frame` gives named
# columns and keeps the index.

from sk_mtl import load, predict_frame, save

save(model, folder / "shop.safetensors")
again = load(folder / "shop.safetensors")
new = predict_frame(again, X_test.head())
new.join(predict_frame(again, X_test.head(), "predict_proba").round(3))

# %%
# Next: :doc:`which architecture </architectures/index>`, :doc:`more on tuning </guide/tuning>`,
# :doc:`traps </guide/pitfalls>`.

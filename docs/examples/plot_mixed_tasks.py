"""
Five kinds of label in one fit
==============================

A class of two, a class of three, an amount, a count and a quantile, each with gaps of its own, in
one network. Every task has its own loss, its own way back to labels, and its own measures.
"""

# %%
# Orders of a shop
# ----------------
# Made here, so that the truth is known: some columns, and five labels that depend on them. Of
# every label a fifth is missing.

import numpy as np
import pandas as pd

rng = np.random.default_rng(0)
n = 8000
X = pd.DataFrame(
    {
        "age": rng.integers(18, 80, n),
        "distance_km": rng.gamma(2.0, 30.0, n).round(1),
        "weekday": rng.choice(["mon", "tue", "wed", "thu", "fri", "sat", "sun"], n),
        "category": rng.choice([f"category {k}" for k in range(12)], n),
        "member": rng.random(n) < 0.4,
    }
)
taste = np.sin(1.7 * X["category"].str[9:].astype(int))
weekend = X["weekday"].isin(["sat", "sun"])
interest = taste + 0.8 * X["member"] - ((X["age"] - 40) / 25) ** 2 + 0.5 * weekend
channels = np.stack(
    [1.2 - X["age"] / 30 + interest, X["age"] / 30 - 1.2, 0.5 * weekend], axis=1
)
Y = pd.DataFrame(
    {
        "returned": np.where(rng.logistic(size=n) > 1 + interest, "yes", "no"),
        "channel": np.take(
            ["app", "phone", "web"], (channels + rng.gumbel(size=(n, 3))).argmax(1)
        ),
        "basket": np.exp(3.5 + 0.4 * interest + 0.3 * rng.normal(size=n)).round(2),
        "visits": rng.poisson(np.exp(0.5 + 0.6 * interest)),
        "delivery_days": 1 + rng.exponential(0.5 + X["distance_km"] / 60 + weekend),
    }
)
Y = Y.mask(rng.random(Y.shape) < 0.2)
Y.head()

# %%
# One estimator
# -------------
# Two kinds are guessed rightly from the labels, "yes" and "no" and the channels; an amount is too.
# A count and a quantile have to be told. The promise "arrives within so many days" should hold
# nine times in ten: that is the 0.9 quantile, not the mean.

from sklearn.model_selection import train_test_split

from sk_mtl import CGC
from sk_mtl.metrics import multi_task_report
from sk_mtl.tasks import QuantileTask

kinds = {
    "returned": "binary",
    "channel": "multiclass",
    "basket": "regression",
    "visits": "count",
    "delivery_days": QuantileTask(quantile=0.9),
}
X_train, X_test, Y_train, Y_test = train_test_split(X, Y, random_state=0)
model = CGC(task_types=kinds, random_state=0).fit(X_train, Y_train)
report = multi_task_report(Y_test, model, X_test)
report.round(3).astype(object).where(report.notna(), "")

# %%
# Predictions have the types of the labels; a frame keeps them.

from sk_mtl import predict_frame

predicted = predict_frame(model, X_test)
predicted.head()

# %%
# Does each do what it says?
# --------------------------
# Each task beside what was observed, in ten groups of equal size by what was predicted: the share
# of "yes", the mean amount, the mean count, and how often the promise was kept. Of the channels
# each row sums to one.

import matplotlib.pyplot as plt
from sklearn.metrics import ConfusionMatrixDisplay

BLUE, ORANGE = "#0072B2", "#D55E00"
figure, axes = plt.subplots(2, 3, figsize=(8, 5.4), layout="constrained")
yes = predict_frame(model, X_test, "predict_proba")["returned=yes"]
drawn = {
    "returned": (
        yes,
        Y_test["returned"].eq("yes"),
        "probability of yes",
        "share of yes",
    ),
    "basket": (predicted["basket"], Y_test["basket"], "predicted", "mean observed"),
    "visits": (predicted["visits"], Y_test["visits"], "predicted", "mean observed"),
}
for ax, (task, (guess, observed, x, y)) in zip(
    axes.flat[:3], drawn.items(), strict=True
):
    seen = Y_test[task].notna()
    groups = pd.qcut(guess[seen], 10, labels=False)
    means = guess[seen].groupby(groups).mean(), observed[seen].groupby(groups).mean()
    ends = means[0].min(), means[0].max()
    ax.plot(ends, ends, color="#999999", linestyle="--")
    ax.plot(*means, "o", color=BLUE)
    ax.set(title=task, xlabel=x, ylabel=y)

seen = Y_test["delivery_days"].notna()
promise, days = predicted["delivery_days"][seen], Y_test["delivery_days"][seen]
groups = pd.qcut(promise, 10, labels=False)
ax = axes[1, 0]
ax.axhline(0.9, color="#999999", linestyle="--")
ax.plot(
    promise.groupby(groups).mean(),
    (days <= promise).groupby(groups).mean(),
    "o",
    color=ORANGE,
)
ax.set(
    title="delivery_days", xlabel="promised days", ylabel="promise kept", ylim=(0.5, 1)
)

seen = Y_test["channel"].notna()
ConfusionMatrixDisplay.from_predictions(
    Y_test["channel"][seen],
    predicted["channel"][seen],
    normalize="true",
    cmap="cividis",
    colorbar=False,
    ax=axes[1, 1],
)
axes[1, 1].set(title="channel")

# The losses have different scales; each task's is drawn as a share of its first.
history = model.history_
for task, mark in zip(
    model.task_names_, ("-", "--", ":", "-.", (0, (1, 3))), strict=True
):
    losses = history[f"train_loss_{task}"]
    axes[1, 2].plot(
        history["epoch"], losses / losses.iloc[0], linestyle=mark, label=task
    )
axes[1, 2].set(title="training", xlabel="epoch", ylabel="loss / first loss")
axes[1, 2].legend(fontsize=8)

# %%
# All kinds and their options: :doc:`/guide/targets`. Weights of tasks and balancers:
# :doc:`/guide/balancing`.

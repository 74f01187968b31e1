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
        "weekday": rng.choice(
            ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], n
        ),
        "category": rng.choice([f"category {k}" for k in range(12)], n),
        "member": rng.random(n) < 0.4,
    }
)
taste = np.sin(1.7 * X["category"].str[9:].astype(int))
weekend = X["weekday"].isin(["sat", "sun"])
interest = (
    taste + 0.8 * X["member"] - ((X["age"] - 40) / 25) ** 2 + 0.5 * weekend
)
channels = np.stack(
    [1.2 - X["age"] / 30 + interest, X["age"] / 30 - 1.2, 0.5 * weekend],
    axis=1,
)
Y = pd.DataFrame(
    {
        "returned": np.where(rng.logistic(size=n) > 1 + interest, "yes", "no"),
        "channel": np.take(
            ["app", "phone", "web"],
            (channels + rng.gumbel(size=(n, 3))).argmax(1),
        ),
        "basket": np.exp(
            3.5 + 0.4 * interest + 0.3 * rng.normal(size=n)
        ).round(2),
        "visits": rng.poisson(np.exp(0.5 + 0.6 * interest)),
        "delivery_days": 1
        + rng.exponential(0.5 + X["distance_km"] / 60 + weekend),
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
report.round(3).astype(object).where(report.notna(), "").T

# %%
# Predictions have the types of the labels; a frame keeps them.

from sk_mtl import predict_frame

predicted = predict_frame(model, X_test)
predicted.head()

# %%
# Does each do what it says?
# --------------------------
# Test rows in ten groups of equal size by what was predicted: the share of "yes", the mean basket
# and the mean number of visits should be what was said.

import matplotlib.pyplot as plt

BLUE, ORANGE, GRAY = "#0072B2", "#D55E00", "#999999"
observed = Y_test.assign(returned=Y_test["returned"].map({"yes": 1, "no": 0}))
guessed = predicted.assign(
    returned=predict_frame(model, X_test, "predict_proba")["returned=yes"]
)


def by_tenths(guess, values):
    """Return the means of both in ten groups of rows, by the guess."""
    groups = pd.qcut(guess, 10, labels=False)
    return guess.groupby(groups).mean(), values.groupby(groups).mean()


figure, axes = plt.subplots(1, 3, figsize=(8, 3), layout="constrained")
for ax, task in zip(axes, ["returned", "basket", "visits"], strict=True):
    seen = observed[task].notna()
    said, was = by_tenths(guessed[task][seen], observed[task][seen])
    ax.plot(said, said, color=GRAY, linestyle="--")
    ax.plot(said, was, "o", color=BLUE)
    ax.set(title=task, xlabel="mean predicted")
axes[0].set_ylabel("mean observed")

# %%
# The promised days should be kept nine times in ten, for near and for far customers; the upper band
# is weekends. Of the channels, "web" is mostly taken for "phone"; each row of the square sums to 1.

from sklearn.metrics import ConfusionMatrixDisplay

figure, axes = plt.subplots(1, 3, figsize=(8, 3), layout="constrained")
seen = Y_test["delivery_days"].notna()
promised, days = guessed["delivery_days"][seen], Y_test["delivery_days"][seen]
distance = X_test["distance_km"][seen]
axes[0].plot(distance, days, ".", color=BLUE, alpha=0.3, label="observed")
axes[0].plot(distance, promised, ".", color=ORANGE, label="promised")
axes[0].set(xlabel="distance_km", ylabel="days", xlim=(0, 200), ylim=(0, 16))
axes[0].set_title("delivery_days")
axes[0].legend(markerscale=2)

said, kept = by_tenths(promised, days <= promised)
axes[1].axhline(0.9, color=GRAY, linestyle="--")
axes[1].plot(said, kept, "o", color=ORANGE)
axes[1].set(xlabel="days promised", ylabel="promises kept", ylim=(0.5, 1))
axes[1].set_title("delivery_days")

seen = Y_test["channel"].notna()
ConfusionMatrixDisplay.from_predictions(
    Y_test["channel"][seen],
    predicted["channel"][seen],
    normalize="true",
    cmap="cividis",
    colorbar=False,
    ax=axes[2],
)
axes[2].set(xlabel="predicted", ylabel="observed")
axes[2].set_title("channel")

# %%
# All kinds and their options: :doc:`/guide/targets`. Weights of tasks and balancers:
# :doc:`/guide/balancing`.

"""
Optuna: search, and stop early what falls behind
================================================

`sk_mtl.search_space` lets a trial of Optuna choose the parameters. skorch's callbacks report a
score after every epoch, and a pruner ends the trials that fall behind.
"""

# %%
# The objective
# -------------
# ``validation_fraction`` holds out rows; `~skorch.callbacks.EpochScoring` scores one task on them
# after each epoch; ``SkorchPruningCallback`` reports it, and raises if the trial is to end.
# The number of epochs is fixed, so that all trials can be compared epoch by epoch.

import optuna
from optuna_integration import SkorchPruningCallback
from skorch.callbacks import EpochScoring

from sk_mtl import SharedBottom, search_space
from sk_mtl.datasets import make_census_like
from sk_mtl.metrics import task_scorer

X, Y = make_census_like(3000, random_state=0)
X_test, Y_test = make_census_like(3000, random_state=1)
married = task_scorer("roc_auc", "married")
model = SharedBottom(n_members=1, random_state=0)


def objective(trial):
    """Return the AUC on the rows held out after the last epoch."""
    candidate = model.set_params(**search_space(model, trial))
    candidate.set_params(
        max_epochs=8,
        batch_size=64,
        early_stopping=False,
        validation_fraction=0.25,
        callbacks=[
            EpochScoring(married, name="auc", lower_is_better=False),
            SkorchPruningCallback(trial, "auc"),
        ],
    )
    return candidate.fit(X, Y).history_["auc"].iloc[-1]


# %%
# Ten trials
# ----------
# From the fourth trial and the third epoch on, a trial ends if it is below the median of those
# before it at the same epoch.

optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(
    direction="maximize",
    sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=5),
    pruner=optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=2),
)
study.optimize(objective, n_trials=10)
table = study.trials_dataframe(attrs=("value", "state", "params"))
table.columns = table.columns.str.removeprefix("params_")
shown = ["value", "state", "lr", "dropout", "bottom_units", "numeric_features"]
table[shown].round(4)

# %%
# What the trials did
# -------------------
# Optuna keeps what was reported after each epoch. A cross is where a trial was ended.

import matplotlib.pyplot as plt

looks = {
    "best": {"color": "#0072B2", "marker": "o", "linewidth": 3, "zorder": 3},
    "ran to the end": {"color": "#56B4E9", "marker": "o"},
    "ended early": {"color": "#D55E00", "marker": "x"},
}
figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
for trial in study.trials:
    if trial.state == optuna.trial.TrialState.PRUNED:
        kind = "ended early"
    else:
        kind = "best" if trial == study.best_trial else "ran to the end"
    epochs, scores = zip(*trial.intermediate_values.items(), strict=True)
    epochs = [epoch + 1 for epoch in epochs]
    ax.plot(epochs, scores, markevery=[-1], markersize=8, **looks[kind])
for kind, look in looks.items():
    ax.plot([], [], label=kind, **look)
ax.set(xlabel="epoch", ylabel="AUC of married, rows held out")
ax.legend()

# %%
# The best, with all rows and four members
# ----------------------------------------

best = search_space(model, study.best_trial) | {"max_epochs": 8}
final = SharedBottom(batch_size=64, random_state=0, **best).fit(X, Y)
default = SharedBottom(random_state=0).fit(X, Y)
{
    "default": round(married(default, X_test, Y_test), 4),
    "best trial": round(married(final, X_test, Y_test), 4),
}

# %%
# Several processes share a study through its ``storage=``. More on spaces and times:
# :doc:`/guide/tuning`; clusters: :doc:`/guide/deployment`.

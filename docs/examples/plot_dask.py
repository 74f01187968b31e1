"""
Dask: a search on a cluster, rows scored in partitions
======================================================

A search of scikit-learn runs on the workers of a Dask cluster through joblib, and a fitted
estimator scores a Dask frame partition by partition.
"""

# %%
# A cluster
# ---------
# This one lives in threads of this process, so that it starts and ends quickly. In a script of
# your own take ``LocalCluster(n_workers=4, threads_per_worker=1)`` below
# ``if __name__ == "__main__":``, or the address of a cluster: ``Client("tcp://...")``. Everything
# below stays as it is.

from dask.distributed import Client, LocalCluster

cluster = LocalCluster(
    n_workers=2,
    threads_per_worker=1,
    processes=False,
    dashboard_address=None,
)
client = Client(cluster)

# %%
# The search
# ----------
# Each fit is a task of the cluster. ``parallel_config`` is all that tells joblib so.

import pandas as pd
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV

from sk_mtl import SharedBottom
from sk_mtl.datasets import make_census_like

X, Y = make_census_like(3000, random_state=0)
model = SharedBottom(n_members=1, max_epochs=4, batch_size=64, random_state=0)
grid = {"bottom_units": [(64,), (256, 128)], "dropout": [0.0, 0.3]}
with parallel_config("dask"):
    search = GridSearchCV(model, grid, cv=3).fit(X, Y)

# %%

found = pd.DataFrame(search.cv_results_)
params = ["param_bottom_units", "param_dropout"]
found[[*params, "mean_test_score", "std_test_score"]].round(4)

# %%
# The folds of each candidate:

import matplotlib.pyplot as plt

figure, ax = plt.subplots(figsize=(8, 2.6), layout="constrained")
labels = [
    f"{p['bottom_units']}, dropout {p['dropout']}" for p in found["params"]
]
for fold, color in enumerate(("#E69F00", "#56B4E9", "#009E73")):
    look = {"color": color, "label": f"fold {fold + 1}"}
    ax.plot(found[f"split{fold}_test_score"], labels, "o", **look)
look = {"color": "black", "markersize": 16, "label": "mean"}
ax.plot(found["mean_test_score"], labels, "|", **look)
ax.set(xlabel="mean over tasks of accuracy and R²")
ax.grid(axis="x", alpha=0.3)
ax.margins(y=0.15)
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))

# %%
# Scoring a frame
# ---------------
# `sk_mtl.predict_frame` gives named columns and keeps the index. ``meta`` tells Dask what comes
# out: the predictions of no rows.

import dask.dataframe as dd

from sk_mtl import predict_frame

frame = dd.from_pandas(X, npartitions=4)  # or dd.read_parquet("s3://...")
scored = frame.map_partitions(
    lambda part: predict_frame(search, part, "predict_proba"),
    meta=predict_frame(search, X[:0], "predict_proba"),
)
scored.compute().head().round(3)  # or scored.to_parquet("s3://...")

# %%
# The cluster ends, and its workers with it.

client.close()
cluster.close()

# %%
# Ray, Spark and a server: :doc:`/guide/deployment`.

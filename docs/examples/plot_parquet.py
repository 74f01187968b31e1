"""
From Parquet files, with checkpoints
====================================

Rows that need not fit into memory: an estimator reads Parquet files in windows, keeps its state
in a folder, goes on after it was stopped, and writes its predictions to a file.
"""

# %%
# Some files
# ----------
# Three parts of a table, and one of rows to be predicted. Row groups are what is read in random
# order, so they should be much smaller than a window.

import tempfile
from pathlib import Path

import pandas as pd

from sk_mtl.datasets import make_census_like

folder = Path(tempfile.mkdtemp())
X, Y = make_census_like(24_000, random_state=0)
for part in range(4):
    rows = slice(6000 * part, 6000 * (part + 1))
    table = X[rows] if part == 3 else X[rows].join(Y[rows])
    name = "new.parquet" if part == 3 else f"train-{part}.parquet"
    table.to_parquet(folder / name, row_group_size=500)
sorted(path.name for path in folder.iterdir())

# %%
# A source
# --------
# It names the files and the columns of the labels. ``window_rows`` is what lies in memory at once;
# the default, 262,144, would hold all of these rows.

from sk_mtl.data import ParquetSource

source = ParquetSource(
    folder / "train-*.parquet", targets=list(Y), window_rows=4000
)
source.open().n_rows

# %%
# Train, be stopped, go on
# ------------------------
# With ``checkpoint=`` the state is kept after every epoch, and ``resume=True`` goes on from it. A
# callback plays the part of whatever may stop a run: it raises in the third of eight epochs.

from skorch.callbacks import Callback

from sk_mtl import MMoE


class Stopped(Exception):
    """What a killed process would be."""


class StopAfter(Callback):
    """Raise after some epochs."""

    def __init__(self, epochs):
        self.epochs = epochs

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.epochs:
            raise Stopped


settings = {
    "batch_size": 256,
    "max_epochs": 8,
    "n_members": 1,
    "random_state": 0,
    "checkpoint": folder / "state",
    "resume": True,
}
try:
    MMoE(callbacks=[StopAfter(3)], **settings).fit(source)
except Stopped:
    files = sorted(path.name for path in folder.glob("state/*.safetensors"))
    print("stopped; in the folder:", *files)

# %%
# The same script, run again. Two epochs are read from the folder, the others are trained:

model = MMoE(**settings).fit(source)
model.history_[["epoch", "train_loss", "valid_loss"]].round(4)

# %%
# Stopped or not, the result is the same, bit for bit:

whole = MMoE(**settings | {"checkpoint": None, "resume": False}).fit(source)
rows, _, _ = source.open().rows(source.open().read())
bool((whole.predict_proba(rows) == model.predict_proba(rows)).all())

# %%

import matplotlib.pyplot as plt

history = model.history_
figure, ax = plt.subplots(figsize=(8, 3.4), layout="constrained")
looks = {"train_loss": ("o-", "#0072B2"), "valid_loss": ("s--", "#D55E00")}
for column, (mark, color) in looks.items():
    ax.plot(history["epoch"], history[column], mark, color=color, label=column)
ax.axvline(2.5, color="#999999", linestyle=":", label="gone on from here")
ax.set(xlabel="epoch", ylabel="loss, sum over tasks")
ax.legend()

# %%
# Predictions, from file to file
# ------------------------------
# In the order of the rows, with the columns that are asked for. The file gets its name when it is
# whole.

new = ParquetSource(folder / "new.parquet", targets=None, window_rows=4000)
model.predict_source(
    new, folder / "predictions.parquet", columns=["age", "region"]
)
pd.read_parquet(folder / "predictions.parquet").head()

# %%
# Clouds, several processes and the cost of it all: :doc:`/guide/large`.

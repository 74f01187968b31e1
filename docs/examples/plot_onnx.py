"""
ONNX: the same model without Python
===================================

`sk_mtl.to_onnx` writes one file with the encoder, the network and the links. ONNX Runtime reads
it from many languages, and answers a single row in a fraction of the time.
"""

# %%
# A model, and its file
# ---------------------

import tempfile
from pathlib import Path

from sk_mtl import MMoE, to_onnx
from sk_mtl.datasets import make_census_like

X, Y = make_census_like(5000, random_state=0)
model = MMoE(max_epochs=4, random_state=0).fit(X, Y)
path = Path(tempfile.mkdtemp()) / "census.onnx"
to_onnx(model, path)
print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")

# %%
# What goes in and what comes out
# -------------------------------
# One input for each column, one output for each task, by their names.

import onnxruntime
import pandas as pd

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1  # one request, one thread
session = onnxruntime.InferenceSession(
    path, options, providers=["CPUExecutionProvider"]
)
ports = [("input", port) for port in session.get_inputs()]
ports += [("output", port) for port in session.get_outputs()]
pd.DataFrame(
    [(way, port.name, port.type, port.shape) for way, port in ports]
).set_axis(["", "name", "type", "shape"], axis=1)

# %%
# The same numbers
# ----------------
# `~sk_mtl.export.onnx_inputs` makes the tensors from a frame; a client in another language fills
# them itself.

import numpy as np

from sk_mtl.export import onnx_inputs

outputs = [port.name for port in session.get_outputs()]
found = dict(
    zip(outputs, session.run(None, onnx_inputs(session, X)), strict=True)
)
differences = {
    task: np.abs(found[task] - block).max()
    for task, block in model.predict_task_proba(X).items()
}
pd.Series(differences, name="largest difference of a probability").map(
    "{:.0e}".format
).to_frame()

# %%
# How long a row takes
# --------------------
# `predict_proba` reads and checks a frame in each call. ONNX Runtime gets tensors that are made
# already, and that is a part of the difference. The times are those of the machine that built this
# page.

import time

import matplotlib.pyplot as plt
import torch

threads = torch.get_num_threads()
torch.set_num_threads(1)


def measure(call, *args, repeats):
    """Return the milliseconds of each of some calls."""
    times = []
    for _ in range(repeats + 3):
        start = time.perf_counter()
        call(*args)
        times.append(1000 * (time.perf_counter() - start))
    return np.array(times[3:])


sizes = (1, 100, 5000)
frames, tensors = [], []
for n in sizes:
    n_times = 100 if n < 5000 else 10
    rows = onnx_inputs(session, X[:n])
    frames.append(measure(model.predict_proba, X[:n], repeats=n_times))
    tensors.append(measure(session.run, None, rows, repeats=n_times))
ways = {"predict_proba of a frame": frames, "ONNX Runtime": tensors}
torch.set_num_threads(threads)

figure, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
looks = zip(ways.items(), ("s-", "o-"), ("#D55E00", "#0072B2"), strict=True)
for (name, times), mark, color in looks:
    medians = [np.median(of_size) for of_size in times]
    labels = [f"{median:.3g}" for median in medians]
    ax.plot(sizes, medians, mark, color=color, label=name)
    ax.plot([], [], " ", label=f"   {', '.join(labels)} ms")
ax.set(xscale="log", yscale="log", xticks=sizes, xticklabels=map(str, sizes))
ax.set(xlabel="rows in a call", ylabel="milliseconds of a call")
ax.grid(alpha=0.3)
ax.legend()

# %%
# Measured with care, on one and two threads: :doc:`the study </results/serving>`. Pipelines, other
# runtimes and what is refused: :doc:`/guide/export`.

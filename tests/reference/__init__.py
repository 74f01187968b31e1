"""The papers' equations as loops over rows, tasks, experts and levels.

They are written from the papers, not from `sk_mtl`: torch only for its autograd, one vector at a
time, nothing batched, stacked or broadcast. Weights come as plain nested lists:

=========  =====================================================================
Layer      (W, b), with W of shape (out, in)
MLP        list of Layer, an activation after each
Gate       (MLP of the hidden layers, W), the last layer linear without a bias
Tower      (MLP of the hidden layers, Layer)
Level      dict, see `reference.extraction`
=========  =====================================================================
"""

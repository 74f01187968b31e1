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

An architecture's reference has the name of its module: that of `sk_mtl/architectures/mmoe.py` is
`mmoe.py`. The tests find it by that name, and read from it:

``bottom(bottom, rows, activation)``
    Required. `bottom` is our module, which the helpers of `tests/modules.py` take apart into plain
    lists (`layers_of`, `gates_of`, ...); `rows` is a list of B vectors, (D,) each, or (c, D) of an
    estimator with c embedding copies; `activation` is a function. Returns the vector of each task
    of each row, ``[[vector, ...], ...]``.
``by_task(bottom, n_tasks)``
    Required unless the order of tasks means something. Returns the views of the bottom's
    parameters that belong to each task, a list per task in one order for all, and a list of the
    rest; each number in exactly one view. By it the tests permute the tasks. A third list, if
    need be, holds views whose first two axes are tasks both, such as what one takes of another.
``ORDERED = True``
    In place of `by_task`: the order of tasks means something. Of a chain this is known.
``head(logits)``
    What the head makes of the flat logits of one row's towers. Default: nothing.
``PROBABILITIES = True``
    Our logits are to be compared as probabilities, which `head` returns.
``OPTIONS = {...}``
    Constructor arguments in tests, where a default is too large or does not suit.
``VARIANTS = [{...}, ...]``
    Further constructor arguments, over which the comparison with the reference runs too.
``KINDS = (...)``
    Kinds of task in tests of the network, where what the estimator takes may not be mixed freely.
``UNTRAINED = (...)``
    Patterns (as of `fnmatch`) of names of parameters that a loss may leave without a gradient. A
    comment says why.
``CONSTANT = (...)``
    Patterns of names of `StackedLinear` layers that start from a constant, as the paper has it.
``MEMORIZED = 0.1``
    What may be left of the training loss of 64 rows after 250 epochs, as a share of the first.
``SHARES_NOTHING = True``
    No parameter of the bottom or the embedding serves two tasks.
``OWN_LOSS = True``
    The terms of its objective are not each task's loss over that task's labels.
``PER_BATCH = True``
    A step's loss is no sum over its rows: means over batches of two sizes differ.
"""

"""Into production: fitted networks for other runtimes.

- `to_torch_program`: a `torch.export` program, encoded rows in, every task's predictions out.
- ``estimator.encoder_``: columns to encoded rows, for a runtime of one's own.
"""

from sk_mtl.export._program import to_torch_program

__all__ = ["to_torch_program"]

"""Into production: fitted networks for other runtimes.

- `to_onnx`: one model of ONNX, columns of X in, every task's predictions out; `onnx_inputs` makes
  its tensors from rows. `register_converters` lets skl2onnx convert our estimators.
- `to_torch_program`: a `torch.export` program, encoded rows in, every task's predictions out.
- ``estimator.encoder_``: columns to encoded rows, for a runtime of one's own.
"""

from sk_mtl.export._onnx import onnx_inputs, to_onnx
from sk_mtl.export._program import to_torch_program
from sk_mtl.export._skl2onnx import register_converters

__all__ = ["onnx_inputs", "register_converters", "to_onnx", "to_torch_program"]

"""Where to train and predict."""

import os
import warnings

import torch


def resolve_device(device: str) -> torch.device:
    """Return the torch device of a name, "auto" being the GPU if there is one."""
    if device == "auto":
        return _own_gpu(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        torch.empty(0, device=device)
        return _own_gpu(torch.device(device))
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"`device` is {device!r}, which this machine does not offer ({error}); pass 'auto' or "
            "'cpu'."
        ) from error


def _own_gpu(device: torch.device) -> torch.device:
    """Return the GPU of a process of torchrun, where a device names none: each has its own.

    One that the script has set as torch's current device stays. Untested on a GPU so far.
    """
    local = os.environ.get("LOCAL_RANK")
    if device.type != "cuda" or device.index is not None or local is None:
        return device
    if torch.cuda.current_device() != 0:
        return device
    return torch.device("cuda", int(local) % torch.cuda.device_count())


def available_device(device: str) -> torch.device:
    """Return `resolve_device`'s device, or with a warning the CPU where that is not to be had."""
    try:
        return resolve_device(device)
    except ValueError as error:
        warnings.warn(f"{error} Using the CPU.", UserWarning, stacklevel=2)
        return torch.device("cpu")


def place_of_rows(n_bytes: int, device: torch.device) -> torch.device:
    """Return where rows of a size are to live: on the device, if it has the room, or the host.

    Half of a GPU's free memory is left to the network. Untested on a GPU so far.
    """
    if device.type == "cuda" and 2 * n_bytes > torch.cuda.mem_get_info(device)[0]:
        return torch.device("cpu")
    return device

"""How a training run ends before its last epoch: our own signal, and the user's Ctrl-C."""

import signal
import threading
from types import FrameType
from typing import Any


class StopTraining(Exception):
    """Ends training at once; the epoch that it interrupts does not count."""


class NonFiniteLossError(ValueError):
    """A task's loss became NaN or infinite, or weights and predictions did."""


class RankError(RuntimeError):
    """Another process of the same fit has failed, or is lost; the message says which, and why."""


class Interrupts:
    """Tell a Ctrl-C from a callback that raises KeyboardInterrupt.

    To raise KeyboardInterrupt is skorch's way for a callback to end training. A Ctrl-C comes
    through a signal handler, which is watched while the block runs; it can only come to the main
    thread. The handler that stood before is called as ever.

    Attributes
    ----------
    seen : bool
        Whether there was a Ctrl-C.
    """

    def __init__(self) -> None:
        self.seen = False
        self._before: Any = None

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if callable(before):
                self._before = before
                signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: Any) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.seen = True
        self._before(number, frame)

"""Ctrl-C, SIGTERM and SIGHUP: every command ends of them in the same way, and nobody is born in the middle of one."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 128 + signal.SIGINT  # what a shell gives for Ctrl-C


class _StopSignals:
    """Whether an ending was asked for, how many blocks hold such back, and whether one waits for their end."""

    def __init__(self) -> None:
        self.told = False
        self.blocks = 0
        self.waits = False

    def tell(self, number: int, frame: FrameType | None) -> None:
        leave_terminal(number)
        self.told = True
        if self.blocks:
            self.waits = True
        else:
            signal.default_int_handler(number, frame)


_stop_signals = _StopSignals()


def run_main(command: Callable[[], int], said: str = "") -> int:
    """Run a command and return its exit code: INTERRUPTED, with the line `said`, when one of STOP_SIGNALS ended it.

    Each becomes KeyboardInterrupt wherever the command is, so that what holds something cleans up. Ctrl-C and SIGTERM
    count although the process that started it in the background had them ignored. Call it in the main thread.
    """
    _stop_signals.told = False
    try:
        for number in stop_signals():
            signal.signal(number, _stop_signals.tell)
        return command()
    except KeyboardInterrupt:
        if said:
            print(said, file=sys.stderr)
    except Exception as error:
        if not _stop_signals.told:
            raise
        # A library may have made it of the interrupt (matplotlib's import does), or it hit what was cleaning up.
        print(f"interrupted, and then {type(error).__name__}: {error}", file=sys.stderr)
    return INTERRUPTED


def stop_signals() -> list[signal.Signals]:
    """Return the STOP_SIGNALS that end a command here: SIGHUP only where it is not ignored, as nohup has it."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [number for number in STOP_SIGNALS if number != signal.SIGHUP or not ignored]


def leave_terminal(number: int) -> None:
    """Point stdout and stderr at /dev/null if the signal is SIGHUP: the terminal is gone, and writing to it fails."""
    if number == signal.SIGHUP:
        # It comes from the shell, and again from the kernel once the shell has ended: that is not a second Ctrl-C.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(null, stream)
        os.close(null)


@contextlib.contextmanager
def block_signals(*numbers: signal.Signals) -> Iterator[None]:
    """Block STOP_SIGNALS within the `with` statement.

    Programs started in it keep `numbers` (default: STOP_SIGNALS) blocked.

    Between the start of a program and the note of its name an interrupt would leave a program that nobody knows.
    """
    # The mask is this thread's alone: a library's thread takes the signal all the same, and Python tells us.
    _stop_signals.blocks += 1
    try:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers or STOP_SIGNALS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    finally:
        _stop_signals.blocks -= 1
        if _stop_signals.waits and not _stop_signals.blocks:
            _stop_signals.waits = False
            raise KeyboardInterrupt

"""Run a program that is killed as soon as its parent dies: `python -IS die_with_parent.py PROGRAM ARGS...`.

The program takes over this process, so pid and parent stay. Standard library only, to start fast. A preexec function
would do the same, but is unsafe in a process with threads, and the JVM, which starts its workers itself, has none.
"""

import ctypes
import os
import signal
import sys

PARENT = "SERVEPATH_PARENT_PID"  # who our parent must be; descendants that run through here find our own pid in it
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Request SIGKILL from the kernel for when the thread that started us ends, then become the program."""
    expected = int(os.environ[PARENT])
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != expected:  # it died before the call above
        sys.exit(1)
    # The supervisor blocks the signals it waits for, and masks are inherited.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.environ[PARENT] = str(os.getpid())
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - no shell wanted


if __name__ == "__main__":
    main()

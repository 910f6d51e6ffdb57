"""`python -m servepath.cli MODULE WORD ...`: as `python -m MODULE WORD ...`, but quiet when Ctrl-C ends it.

For those who start programs with Ctrl-C blocked (demo): it is let through as soon as it can be taken without a
traceback, which the imports of a module alone would print for half a second.
"""

import runpy
import signal
import sys
from types import TracebackType

from servepath.cli.signals import STOP_SIGNALS


def main() -> None:
    """Run the module that the first argument names, with the others."""
    usual = sys.excepthook

    def quiet(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            usual(kind, error, traceback)

    sys.excepthook = quiet
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

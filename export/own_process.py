"""A part of an export in a process of its own: frameworks change a process for whatever comes after them in it."""

import subprocess
import sys
from collections.abc import Sequence

from servepath.cli.children import ending_with_us, run_and_wait

# It has nothing to clean up, and many a runtime does not notice Ctrl-C.
CLEANUP_S = 1.0


def run(module: str, words: Sequence[str], limit_s: float) -> tuple[int, str]:
    """Run `python -m MODULE`, which ends with us at the latest; return its exit code and the last line that it said.

    Raises TimeoutExpired after `limit_s` seconds.
    """
    command, environment = ending_with_us([sys.executable, "-m", module, *words])
    code, said = run_and_wait(
        command,
        environment=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        limit_s=limit_s,
        cleanup_s=CLEANUP_S,
    )
    return code, next(reversed(said.strip().splitlines()), "")

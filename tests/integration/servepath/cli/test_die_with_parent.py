"""A program started through the shim dies with its parent, and so does one that it starts through the shim."""

import os
import signal
import subprocess
import sys
import textwrap

import psutil

from servepath.cli import die_with_parent
from tests.limits import LONG_S

SHIM = [sys.executable, "-IS", die_with_parent.__file__]
# Starts a child through the shim, prints its pid and waits; given a level, the child does the same.
PARENT = textwrap.dedent(
    """
    import os, subprocess, sys, time
    shim, level = sys.argv[1], int(sys.argv[2])
    os.environ.setdefault("SERVEPATH_PARENT_PID", str(os.getpid()))
    print(os.getpid(), flush=True)
    if level:
        me = [sys.executable, "-c", sys.argv[3], shim, str(level - 1), sys.argv[3]]
        subprocess.Popen([sys.executable, "-IS", shim, *me])
    time.sleep(100)
    """
)


def test_killing_the_first_process_kills_the_whole_line() -> None:
    command = [sys.executable, "-c", PARENT, die_with_parent.__file__, "2", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        processes = [psutil.Process(int(first.stdout.readline())) for _ in range(3)]
        assert [process.ppid() for process in processes[1:]] == [process.pid for process in processes[:-1]]
        first.send_signal(signal.SIGKILL)
        gone, alive = psutil.wait_procs(processes, timeout=LONG_S)
        assert (len(gone), alive) == (3, [])


def test_a_program_whose_parent_is_already_gone_never_starts() -> None:
    stranger = {**os.environ, die_with_parent.PARENT: "1"}
    result = subprocess.run([*SHIM, "echo", "started"], env=stranger, capture_output=True, check=False, timeout=LONG_S)
    assert (result.returncode, result.stdout) == (1, b"")

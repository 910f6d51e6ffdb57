"""Memory and CPU of a real tree of processes whose use is known."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from loadtest.cost.figures import MIB
from loadtest.cost.process_tree import Cpu, pss_bytes

# Burns in a thread that ends, says its pid and the CPU it had, and goes on sleeping.
BURN = """
import os, subprocess, sys, threading, time
def burn():
    while time.process_time() < 0.3: pass
if len(sys.argv) > 1:
    subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE)
thread = threading.Thread(target=burn); thread.start(); thread.join()
print(os.getpid(), time.process_time_ns(), flush=True)
sys.stdin.read()
"""
# Writes to 64 MiB, then forks: both processes have all of it.
SHARE = """
import os, sys
kept = bytearray(b"x" * (64 * 2**20))
child = os.fork()
if child: print(os.getpid(), child, flush=True)
sys.stdin.read()
"""
BYTES_OF_PYTHON = 30 * MIB


@contextmanager
def running(code: str, *command: str) -> Iterator["subprocess.Popen[str]"]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", code, *command], text=True, **pipes)
    try:
        yield process
    finally:
        process.communicate()  # its standard input ends, and so do both


def test_cpu_is_that_of_all_processes_their_ended_threads_included() -> None:
    with running(BURN, BURN) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().split() for _ in range(2)]
        cpu = Cpu([int(pid) for pid, _ in lines])
        used_ns, said_ns = cpu.read_ns(), sum(int(ns) for _, ns in lines)
        assert said_ns >= 600_000_000
        assert said_ns <= used_ns < said_ns + 200_000_000
    assert cpu.read_ns() >= used_ns  # both have ended


def test_pss_counts_a_shared_page_once() -> None:
    with running(SHARE) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        both, one = pss_bytes(pids), pss_bytes(pids[:1])
        assert 64 * MIB <= both < 64 * MIB + 2 * BYTES_OF_PYTHON
        assert 32 * MIB <= one < 32 * MIB + BYTES_OF_PYTHON

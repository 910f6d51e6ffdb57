"""What is found out of servers' conditions and of the generator's own."""

import os
import socket
import subprocess
import sys

from loadtest import host, server
from tests.limits import LONG_S

UNKNOWN = {"cpu_model": "unknown", "cpu_quota": "unknown", "threads": "unknown"}


def test_a_server_on_this_machine_is_found_by_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        found = server.describe(f"127.0.0.1:{listening.getsockname()[1]}")
    assert found["cpu_model"] == host.cpu_model()
    assert found["threads"].startswith(f"{len(os.sched_getaffinity(0))} CPUs")
    assert found["cpu_quota"] == "none" or found["cpu_quota"].endswith(" cores")


def test_fewer_cpus_and_thread_variables_are_seen() -> None:
    code = "import os, socket; os.sched_setaffinity(0, {0}); s = socket.create_server(('127.0.0.1', 0)); "
    code += "print(s.getsockname()[1], flush=True); input()"
    environment = {**os.environ, "OMP_NUM_THREADS": "3"}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        assert server.describe(f"localhost:{int(child.stdout.readline())}")["threads"] == "1 CPUs, OMP_NUM_THREADS=3"
        child.communicate("\n")


def test_of_a_server_elsewhere_and_of_a_port_that_nobody_holds_nothing_is_known() -> None:
    assert server.describe("192.0.2.1:80") == UNKNOWN
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    assert server.describe(f"127.0.0.1:{port}") == UNKNOWN


def test_the_generator_says_truly_how_it_is_scheduled() -> None:
    code = "import os; from loadtest.priority import keep_on_time; print(keep_on_time(), os.sched_getscheduler(0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=LONG_S)
    said, _, policy = done.stdout.strip().rpartition(" ")
    assert (said == "real-time scheduling") == (int(policy) == os.SCHED_RR)

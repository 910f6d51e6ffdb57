import os
import subprocess
from pathlib import Path

from deploy.engine.network import docker_rules, program_of

# As `iptables -S` printed it while Debian's dockerd 20.10.24 ran, shortened; the rule for port 22 is somebody else's.
LISTING = """\
-P INPUT ACCEPT
-P FORWARD DROP
-N DOCKER
-N DOCKER-USER
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A FORWARD -j DOCKER-USER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A DOCKER-USER -j RETURN
"""


def test_every_rule_of_docker_goes_before_its_chains_and_nothing_else_goes() -> None:
    assert docker_rules(LISTING) == [
        ["-D", "FORWARD", "-j", "DOCKER-USER"],
        ["-D", "FORWARD", "-i", "docker0", "!", "-o", "docker0", "-j", "ACCEPT"],
        ["-D", "DOCKER-USER", "-j", "RETURN"],
        ["-X", "DOCKER"],
        ["-X", "DOCKER-USER"],
    ]


def test_without_docker_there_is_nothing_to_remove() -> None:
    assert docker_rules("-P INPUT ACCEPT\n-A INPUT -j DROP\n") == []


def test_a_process_has_a_program_until_it_ends_though_nobody_has_waited_for_it() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"it has begun\n")
        process.stdout.readline()
        place = Path(f"/proc/{process.pid}")
        assert program_of(place) == "cat"
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert (place.exists(), program_of(place)) == (True, "")
    assert program_of(place) == ""

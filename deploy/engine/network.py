"""What dockerd does to a machine's network, remembered before and undone after: bridge, packet filter, forwarding."""

import json
import shutil
import subprocess
from pathlib import Path

from deploy.engine.client import EngineError
from servepath.artifacts.atomic import write_file

BRIDGE = "docker0"
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
ROUTES = Path("/proc/net/route")
LINKS = Path("/sys/class/net")
TABLES = ("filter", "nat")
COMMAND_S = 20.0


def mtu() -> int:
    """Return the largest packet of the link that the default route goes through; 1500 where there is none."""
    for line in ROUTES.read_text().splitlines()[1:]:
        link, destination, *_ = line.split()
        if destination == "00000000":
            return int((LINKS / link / "mtu").read_text())
    return 1500


def remember(file: Path) -> None:
    """Write down what `undo` needs; nothing when a bridge is there already: then it is not ours to undo."""
    if not (LINKS / BRIDGE).exists():
        state = {"forwarding": FORWARDING.read_text().strip(), "policy": _policy()}
        write_file(file, json.dumps(state))


def undo(file: Path) -> None:
    """Remove Docker's bridge, rules and chains, and set back what was remembered, unless another dockerd needs them."""
    if not file.exists() or _another_runs():
        return
    state = json.loads(file.read_text())
    for table in TABLES:
        _remove_rules(table)
    _run("iptables", "-P", "FORWARD", state["policy"])
    if (LINKS / BRIDGE).exists():
        _run("ip", "link", "delete", BRIDGE)
    FORWARDING.write_text(state["forwarding"])
    file.unlink()


def docker_rules(listing: str) -> list[list[str]]:
    """Return the commands that delete Docker's rules, then its chains, from the output of `iptables -S`."""
    lines = [line.split() for line in listing.splitlines() if "docker" in line.lower()]
    rules = [["-D", *words[1:]] for words in lines if words[0] == "-A"]
    chains = [words[1] for words in lines if words[0] == "-N"]
    return rules + [["-X", chain] for chain in chains]


def _another_runs() -> bool:
    return any(program_of(process) == "dockerd" for process in Path("/proc").glob("[0-9]*"))


def program_of(process: Path) -> str:
    """Return the name of the program of a process in /proc; "" for one that has ended, waited for or not."""
    try:
        return Path((process / "cmdline").read_text().partition("\0")[0]).name
    except OSError:
        return ""


def _remove_rules(table: str) -> None:
    for words in docker_rules(_run("iptables", "-t", table, "-S")):
        _run("iptables", "-t", table, *words)


def _policy() -> str:
    if shutil.which("iptables") is None:
        return "ACCEPT"
    return _run("iptables", "-S", "FORWARD").split()[2]


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    if done.returncode:
        raise EngineError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout

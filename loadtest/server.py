"""What a server on this machine may use of it: found by the port it listens on. Elsewhere it is unknown."""

import ipaddress
import math
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from servepath.cli.cores import cpu_model, cpu_quota
from servepath.protocols import tuned
from servepath.protocols.addresses import host_port, socket_path
from servepath.protocols.tuned import Tuned, TunedError

UNKNOWN = "unknown"
# What tells numerical libraries how many threads to take; each server also has settings of its own in its code.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


NOTHING_KNOWN = dict.fromkeys(("cpu_model", "cpu_quota", "threads"), UNKNOWN)


def describe(address: str) -> dict[str, str]:
    """Return cpu_model, cpu_quota (in cores) and threads of the server at HOST:PORT, or "unknown" three times."""
    try:
        process = _listening(address)
        if process is not None:
            return {"cpu_model": cpu_model(), "cpu_quota": _quota(process), "threads": _threads(process)}
    except (psutil.Error, OSError):
        pass  # it has just ended, or is another user's
    return NOTHING_KNOWN


def tuned_files(address: str) -> dict[str, Tuned] | None:
    """Return the tuned settings that the server at HOST:PORT was started with, by path; None where that is unknown."""
    try:
        process = _listening(address)
        folder = process.environ().get(tuned.VARIABLE) if process else None
        return None if process is None else tuned.in_use(Path(folder) if folder else None)
    except (psutil.Error, OSError, TunedError):
        return None


def _listening(address: str) -> psutil.Process | None:
    if path := socket_path(address):
        holders = {item.pid for item in psutil.net_connections("unix") if str(item.laddr) == str(path)} - {None}
        return psutil.Process(min(pid for pid in holders if pid)) if holders else None
    name, port = host_port(address)
    if not _is_here(name):
        return None
    found = [
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and tuple(connection.laddr)[1:] == (port,) and connection.pid
    ]
    return psutil.Process(min(found)) if found else None


def _is_here(name: str) -> bool:
    try:
        return ipaddress.ip_address(socket.gethostbyname(name)).is_loopback
    except (OSError, ValueError):
        return name == "::1"


def _threads(process: psutil.Process) -> str:
    environment: Mapping[str, str] = process.environ()
    limits = [f"{name}={environment[name]}" for name in THREAD_VARIABLES if name in environment]
    return ", ".join([f"{len(process.cpu_affinity() or [])} CPUs", *limits])


def _quota(process: psutil.Process) -> str:
    quota = cpu_quota(process.pid)
    return "none" if quota is None else f"{quota:g} cores"


def cores(addresses: Sequence[str]) -> float | None:
    """Return how many cores the servers at these addresses may use together, or None where one of them is not seen."""
    allowed: set[int] = set()
    processes: list[int] = []
    try:
        for address in addresses:
            process = _listening(address)
            if process is None:
                return None
            allowed |= set(process.cpu_affinity() or ())
            processes.append(process.pid)
        quota = cpu_quota(*processes)
    except (psutil.Error, OSError):
        return None
    return min(float(len(allowed)), math.inf if quota is None else quota) or None

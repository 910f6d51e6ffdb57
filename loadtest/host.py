"""Where a run took place: enough to compare it with another, no names of hosts or people."""

import os
import platform
from importlib import metadata
from pathlib import Path

import psutil

PACKAGES = ("locust", "gevent", "grpcio", "protobuf", "numpy", "pyarrow")


def describe() -> dict[str, object]:
    """Give CPU, cores, memory in bytes, operating system, Python and the generator's packages."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "os": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())

"""Where a run took place: enough to compare it with another, no names of hosts or people."""

import itertools
import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from servepath.cli.cores import cpu_model

PACKAGES = ("locust", "gevent", "grpcio", "protobuf", "numpy", "pyarrow")
CLOCK_READINGS = 1000


def describe() -> dict[str, object]:
    """Return CPU, cores, memory in bytes, operating system, Python and the generator's packages."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "os": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


def temperatures() -> dict[str, float] | None:
    """Return the hottest reading of each sensor in degrees Celsius, or None where there is no sensor."""
    sensors: dict[str, list[Any]] = getattr(psutil, "sensors_temperatures", dict)()
    return {name: max(reading.current for reading in readings) for name, readings in sensors.items()} or None


def clock() -> dict[str, object]:
    """Return the generator's clock: its source, the resolution it claims and the smallest step it was seen to make."""
    info = time.get_clock_info("perf_counter")
    moments = [time.perf_counter_ns() for _ in range(CLOCK_READINGS)]
    steps = [after - before for before, after in itertools.pairwise(moments) if after > before]
    try:
        source = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource").read_text().strip()
    except OSError:
        source = info.implementation
    return {
        "source": source,
        "monotonic": info.monotonic,
        "resolution_ns": info.resolution * 1e9,
        "smallest_step_ns": min(steps, default=None),
    }

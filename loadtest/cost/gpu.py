"""What NVIDIA's management library (NVML) says of the GPUs under load; where there is none, it says that."""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

import pynvml

from loadtest.cost.figures import MIB, Figure, missing

MEMORY, UTILISATION, POWER = ("GPU memory", "MiB"), ("GPU utilisation", "%"), ("GPU power", "W")
NONE_HERE = "no NVIDIA GPU"


class Reading(NamedTuple):
    """All GPUs of the machine together. memory_bytes: by process. utilisation: mean, in percent."""

    memory_bytes: dict[int, int]
    utilisation: float
    power_w: float


class Gpus(Protocol):
    """What can be asked of the machine's GPUs."""

    def read(self) -> Reading:
        """Return what is used now."""


class Nvml:
    """The GPUs as NVML sees them. Raises NVMLError where there is no driver."""

    def __init__(self) -> None:
        pynvml.nvmlInit()
        self._devices = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]

    def read(self) -> Reading:
        """Return what is used now."""
        memory: dict[int, int] = {}
        for device in self._devices:
            for process in pynvml.nvmlDeviceGetComputeRunningProcesses(device):
                memory[process.pid] = memory.get(process.pid, 0) + (process.usedGpuMemory or 0)
        busy = [pynvml.nvmlDeviceGetUtilizationRates(device).gpu for device in self._devices]
        power_mw = sum(pynvml.nvmlDeviceGetPowerUsage(device) for device in self._devices)
        return Reading(memory, sum(busy) / len(busy), power_mw / 1e3)


def find() -> Gpus | None:
    """Return the machine's GPUs, or None where it has none that can be asked."""
    try:
        gpus = Nvml()
        gpus.read()
    except (pynvml.NVMLError, ZeroDivisionError):
        return None
    return gpus


def figures(readings: Sequence[Reading], pids: Collection[int]) -> list[Figure]:
    """Return memory of the service's processes, utilisation and power of the machine's GPUs while it was loaded."""
    if not readings:
        return [missing(*what, NONE_HERE) for what in (MEMORY, UTILISATION, POWER)]
    memory = max(sum(used for pid, used in one.memory_bytes.items() if pid in pids) for one in readings)
    how = f"NVML, mean of {len(readings)} readings under direct load, all GPUs of the machine"
    return [
        Figure(MEMORY[0], memory / MIB, MEMORY[1], "NVML, of the service's processes, the most under direct load"),
        Figure(UTILISATION[0], sum(one.utilisation for one in readings) / len(readings), UTILISATION[1], how),
        Figure(POWER[0], sum(one.power_w for one in readings) / len(readings), POWER[1], how),
    ]

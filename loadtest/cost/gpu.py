"""What NVIDIA's management library (NVML) says of the GPUs under load; where there is none, it says that."""

from collections.abc import Callable, Collection, Mapping, Sequence
from statistics import fmean
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import pynvml

from loadtest.cost.figures import MIB, Figure, missing

MEMORY, UTILISATION, POWER = ("GPU memory", "MiB"), ("GPU utilisation", "%"), ("GPU power", "W")
NONE_HERE = "no NVIDIA GPU"


class Reading(NamedTuple):
    """All GPUs of the machine together; None where NVML does not tell, as utilisation under MIG.

    memory_bytes: by process. utilisation: mean, in percent. untold: by the figure's name, what NVML says instead.
    """

    memory_bytes: dict[int, int] | None
    utilisation: float | None
    power_w: float | None
    untold: Mapping[str, str] = MappingProxyType({})


class Gpus(Protocol):
    """What can be asked of the machine's GPUs."""

    def read(self) -> Reading:
        """Return what is used now."""


class Nvml:
    """GPUs, one at least, as NVML sees them."""

    def __init__(self, library: Any, devices: Sequence[Any]) -> None:
        self._library = library
        self._devices = devices

    def read(self) -> Reading:
        """Return what is used now."""
        untold: dict[str, str] = {}

        def ask(name: str, counter: Callable[[Any], Any]) -> list[Any]:
            try:
                return [counter(device) for device in self._devices]
            except pynvml.NVMLError as error:
                untold[name] = f"NVML: {error}"
                return []

        running = ask(MEMORY[0], self._library.nvmlDeviceGetComputeRunningProcesses)
        busy = ask(UTILISATION[0], lambda device: self._library.nvmlDeviceGetUtilizationRates(device).gpu)
        power_mw = ask(POWER[0], self._library.nvmlDeviceGetPowerUsage)
        if any(process.usedGpuMemory is None for processes in running for process in processes):
            untold[MEMORY[0]], running = "NVML: not available", []
        memory: dict[int, int] = {}
        for process in (process for processes in running for process in processes):
            memory[process.pid] = memory.get(process.pid, 0) + process.usedGpuMemory
        return Reading(
            memory if running else None,
            sum(busy) / len(busy) if busy else None,
            sum(power_mw) / 1e3 if power_mw else None,
            untold,
        )


def find(library: Any = pynvml) -> Gpus | None:
    """Return the machine's GPUs, or None where it has none."""
    try:
        library.nvmlInit()
        devices = [library.nvmlDeviceGetHandleByIndex(number) for number in range(library.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return None
    return Nvml(library, devices) if devices else None


def figures(readings: Sequence[Reading], pids: Collection[int]) -> list[Figure]:
    """Return memory of the service's processes, utilisation and power of the machine's GPUs while it was loaded."""
    memory = [one.memory_bytes for one in readings if one.memory_bytes is not None]
    used = [sum(each for pid, each in known.items() if pid in pids) / MIB for known in memory]
    busy = [one.utilisation for one in readings if one.utilisation is not None]
    power = [one.power_w for one in readings if one.power_w is not None]
    untold = {name: why for one in readings for name, why in one.untold.items()}

    def figure(
        what: tuple[str, str], values: Sequence[float], of: Callable[[Sequence[float]], float], how: str
    ) -> Figure:
        return Figure(what[0], of(values), what[1], how) if values else missing(*what, untold.get(what[0], NONE_HERE))

    return [
        figure(MEMORY, used, max, "NVML, of the service's processes, the most under direct load"),
        figure(UTILISATION, busy, fmean, _mean_of(busy)),
        figure(POWER, power, fmean, _mean_of(power)),
    ]


def _mean_of(values: Sequence[float]) -> str:
    return f"NVML, mean of {len(values)} readings under direct load, all GPUs of the machine"

"""What of a GPU's counters can be read, by a library that stands for NVML."""

from types import SimpleNamespace
from typing import Any

import pynvml

from loadtest.cost import gpu
from loadtest.cost.figures import MIB


def refused(*_: Any) -> Any:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)


def library(**changed: Any) -> SimpleNamespace:
    """Return NVML with two GPUs; one process uses both."""
    counters: dict[str, Any] = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda number: number,
        "nvmlDeviceGetComputeRunningProcesses": lambda _: [SimpleNamespace(pid=7, usedGpuMemory=100 * MIB)],
        "nvmlDeviceGetUtilizationRates": lambda number: SimpleNamespace(gpu=40 + 20 * number),
        "nvmlDeviceGetPowerUsage": lambda _: 45_000,
    }
    return SimpleNamespace(**(counters | changed))


def test_all_gpus_are_read_together() -> None:
    gpus = gpu.find(library())
    assert gpus is not None
    found = gpu.figures([gpus.read(), gpus.read()], {7})
    assert [figure.value for figure in found] == [200, 50, 90]
    assert "mean of 2 readings" in found[1].note


def test_a_counter_that_a_gpu_lacks_is_the_only_one_that_is_missing() -> None:
    gpus = gpu.find(library(nvmlDeviceGetUtilizationRates=refused))
    assert gpus is not None
    memory, utilisation, power = gpu.figures([gpus.read()], {7})
    assert (memory.value, power.value) == (200, 90)
    assert (utilisation.value, utilisation.note) == (None, "NVML: Not Supported")


def test_memory_that_is_not_told_by_process_is_missing() -> None:
    gpus = gpu.find(
        library(nvmlDeviceGetComputeRunningProcesses=lambda _: [SimpleNamespace(pid=7, usedGpuMemory=None)])
    )
    assert gpus is not None
    memory, _, power = gpu.figures([gpus.read()], {7})
    assert (memory.value, memory.note, power.value) == (None, "NVML: not available", 90)


def test_a_machine_without_a_driver_or_without_gpus_has_none() -> None:
    assert gpu.find(library(nvmlInit=refused)) is None
    assert gpu.find(library(nvmlDeviceGetCount=lambda: 0)) is None

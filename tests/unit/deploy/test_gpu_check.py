from pathlib import Path

import pytest

from deploy.engine import EngineError
from deploy.gpu_check import find_smi, held, memory_by_process

LISTING = "101, 512\n102, 300\n77, [N/A]\n"
ALL = {"torch_svc": {1, 101}, "tf_svc": {102}, "onnx_svc": {101, 102}}


def test_memory_is_counted_by_process_and_service() -> None:
    assert held(ALL, memory_by_process(LISTING)) == {"torch_svc": 512, "tf_svc": 300, "onnx_svc": 812}


def test_services_on_the_cpu_are_all_named() -> None:
    with pytest.raises(EngineError, match="tf_svc, onnx_svc without GPU memory: computing on the CPU"):
        held({**ALL, "tf_svc": {77}, "onnx_svc": set()}, memory_by_process(LISTING))


def test_a_machine_without_a_driver_is_said(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="nvidia-smi is not installed"):
        find_smi(str(tmp_path))


def program(folder: Path, script: str) -> str:
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nvidia-smi").chmod(0o755)
    return str(folder)


def test_a_driver_without_a_gpu_is_said(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="lists no GPU"):
        find_smi(program(tmp_path, "true"))
    with pytest.raises(EngineError, match="couldn't communicate with the NVIDIA driver"):
        find_smi(program(tmp_path, 'echo "it couldn\'t communicate with the NVIDIA driver"; exit 9'))

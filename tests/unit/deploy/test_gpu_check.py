import io
from pathlib import Path

import pytest
from rich.console import Console

from deploy.engine import EngineError
from deploy.gpu_check import IMAGES, find_smi, held, images_for, memory_by_process
from deploy.gpu_check_here import Row, table
from servepath.protocols.paths import PathInfo
from servepath.protocols.stacks import STACKS

LISTING = "101, 512\n102, 300\n77, [N/A]\n"
ALL = {"torch_svc": {1, 101}, "tf_svc": {102}, "onnx_svc": {101, 102}}


def test_memory_is_counted_by_process_and_service() -> None:
    assert held(ALL, memory_by_process(LISTING)) == {"torch_svc": 512, "tf_svc": 300, "onnx_svc": 812}


def test_services_on_the_cpu_are_all_named() -> None:
    with pytest.raises(EngineError, match="tf_svc, onnx_svc without GPU memory: computing on the CPU"):
        held({**ALL, "tf_svc": {77}, "onnx_svc": set()}, memory_by_process(LISTING))


def test_a_stack_that_has_no_image_with_cuda_needs_its_own() -> None:
    assert images_for([STACKS["onnx"]]) == list(IMAGES)
    assert images_for([STACKS["onnx"], STACKS["litert"]]) == [*IMAGES, "litert_svc"]


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


def row(stack: str, engine_version: str, memory_mib: int) -> Row:
    path = PathInfo("m", stack, True, True, "e", engine_version, 1, "", (), (), "fp32", (), 0, 1e-6)  # noqa: FBT003
    return Row(path, 64, (10.0, 2000.0), (12.0, 2500.0) if stack == "onnx" else None, memory_mib)


@pytest.mark.parametrize(
    ("stack", "engine_version", "memory_mib", "said"),
    [
        ("onnx", "1.31.1 (CUDAExecutionProvider)", 300, ""),
        ("onnx:fp16", "1.31.1 (CUDAExecutionProvider)", 300, ""),
        ("onnx", "1.31.1 (CPUExecutionProvider)", 300, "m@onnx computes with 1.31.1 (CPUExecutionProvider), not CUDA"),
        ("torchserve", "0.12.0", 0, "m@torchserve: its service holds no GPU memory"),
        ("torchserve", "0.12.0", 1, ""),
        ("litert", "2.1.2", 0, ""),
    ],
)
def test_a_path_on_the_cpu_is_named(stack: str, engine_version: str, memory_mib: int, said: str) -> None:
    found = row(stack, engine_version, memory_mib).on_cpu
    assert found.startswith(said) if said else found == ""


def test_every_figure_of_a_path_is_in_the_table() -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(
        table([row("onnx", "1.31.1 (CUDAExecutionProvider)", 300), row("torchserve", "0.12.0", 7)], "H200, 580")
    )
    text = console.export_text()
    for figure in ("H200, 580", "m@onnx", "CUDAExecutionProvider", "fp32", "1e-06", "10", "2,000 (64)", "2,500", "300"):
        assert figure in text
    assert " - " in text

"""What `python -m loadtest.cost` does not begin with."""

import os
import sys
import time
from pathlib import Path

import pytest

from loadtest.cost.program import refuse_running
from servepath.runner import processes
from servepath.runner.config import RunPaths, Service
from servepath.runner.processes import RunError, ServiceFiles
from tests.limits import LONG_S


def test_services_that_run_already_are_refused_and_left_alone(tmp_path: Path) -> None:
    files = ServiceFiles(tmp_path, "onnx_svc")
    command = (sys.executable, "-c", "import time; time.sleep(60)")
    process = processes.start(Service("onnx_svc", command, "127.0.0.1:1", (1,), dict(os.environ)), files)
    try:
        deadline = time.monotonic() + LONG_S
        # A process that has just begun shows no environment for a moment.
        while processes.main_process(files) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        with pytest.raises(RunError, match="already running: onnx_svc; it would share memory and cores"):
            refuse_running(RunPaths(tmp_path, tmp_path, tmp_path))
        assert process.poll() is None
    finally:
        processes.stop([files], 10)
        process.wait(LONG_S)
    refuse_running(RunPaths(tmp_path, tmp_path, tmp_path))

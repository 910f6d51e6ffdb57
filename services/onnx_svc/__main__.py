"""python -m services.onnx_svc --models artifacts/exports --port 8001."""

import sys
from pathlib import Path

from services.dataplane.engine import Load
from services.oip_server.program import run
from services.onnx_svc.config import SERVICE, Settings, read_settings
from services.onnx_svc.ort import OrtEngine


def main() -> int:
    """Run the server until a signal stops it; exit code 1 when it cannot start."""
    return run(SERVICE, read_settings, engine_loader)


def engine_loader(settings: Settings) -> Load:
    """Return what loads a version's file."""

    def load(file: Path) -> OrtEngine:
        return OrtEngine(file, settings.device, settings.engine_threads_of(file.parent))

    return load


if __name__ == "__main__":
    sys.exit(main())

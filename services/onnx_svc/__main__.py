"""python -m services.onnx_svc --models artifacts/exports --port 8001."""

import sys
from functools import partial

from services.oip_server.program import run
from services.onnx_svc.config import SERVICE, read_settings
from services.onnx_svc.ort import OrtEngine


def main() -> int:
    """Run the server until a signal stops it; exit code 1 when it cannot start."""
    return run(SERVICE, read_settings, lambda settings: partial(OrtEngine, device=settings.device))


if __name__ == "__main__":
    sys.exit(main())

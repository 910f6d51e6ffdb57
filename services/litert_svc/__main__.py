"""python -m services.litert_svc --models artifacts/exports --port 8011."""

import sys

from services.litert_svc.config import SERVICE, read_settings
from services.litert_svc.litert import load
from services.oip_server.program import run


def main() -> int:
    """Run the server until a signal stops it; exit code 1 when it cannot start."""
    return run(
        SERVICE, read_settings, lambda settings: lambda file: load(file, settings.engine_threads_of(file.parent))
    )


if __name__ == "__main__":
    sys.exit(main())

"""TorchServe, supervised: `python -m services.torch_svc --models artifacts/exports --port 7070`.

Runs in the foreground until SIGTERM or Ctrl-C. Exit code 0: stopped in order; 1: cannot start, or TorchServe ended by
itself; 2: a bad option.
"""

import sys

from servepath.artifacts.manifest import ArtifactError
from servepath.settings import SettingsError
from services.dataplane.lifecycle import log_to_stderr
from services.torch_svc import supervisor
from services.torch_svc.config import read_settings
from services.torch_svc.ports import PortBusyError
from services.torch_svc.run_dir import RunDirError
from services.torch_svc.server import ServerError


def main() -> int:
    """Read the settings, run, and return the exit code."""
    try:
        settings = read_settings()
        log_to_stderr()
        supervisor.run(settings)
    except (SettingsError, ServerError, ArtifactError, PortBusyError, RunDirError, OSError) as error:
        print(f"torch_svc: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Every command by one name: `servepath demo`, `servepath predict my_model@onnx '1 2'`; or `python -m servepath demo`.

Each command is a program of its own with its own --help and exit codes, run as `python -m MODULE` would run it.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from servepath.cli.__main__ import main as run_module

ROOT = Path(__file__).resolve().parents[1]
# Command: the module, and the arguments that come before the user's.
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "demo": ("servepath.demo",),
    "train": ("training",),
    "export": ("export",),
    "import": ("export.importing",),
    "compare": ("servepath.demo.compare",),
    "up": ("servepath.runner", "up"),
    "status": ("servepath.runner", "status"),
    "logs": ("servepath.runner", "logs"),
    "down": ("servepath.runner", "down"),
    "predict": ("servepath.client", "predict"),
    "ask": ("servepath.client", "ask"),
    "paths": ("servepath.client", "paths"),
    "routes": ("servepath.routes",),
    "loadtest": ("loadtest",),
    "report": ("report",),
    "tune": ("loadtest.tune",),
    "recommend": ("report", "recommend"),
    "capacity": ("loadtest.capacity",),
    "cost": ("loadtest.cost",),
    "gate": ("loadtest", "gate"),
    "bench": ("studies.peers",),
    "crosscheck": ("studies.loadgen",),
    "validate-method": ("studies.injected_delay",),
    "simulate": ("studies.simulation",),
    "images": ("deploy.builder",),
    "locks": ("deploy.locks",),
    "pin-images": ("deploy.supply.pins",),
    "release-check": ("deploy.supply.pins", "--check"),
    "sbom": ("deploy.supply",),
    "e2e-compose": ("deploy.e2e",),
    "gpu-check": ("deploy.gpu_check",),
    "primer": ("training.primer",),
}
# Those that work where only the package is installed, with the extra [client].
INSTALLED = frozenset({"predict", "ask", "paths"})
USAGE = f"usage: servepath COMMAND ...\n\ncommands: {', '.join(COMMANDS)}\n`servepath COMMAND --help` says more."


def main() -> int:
    """Run the command that the first argument names, with the others; return 2 where there is no such command."""
    name, words = next(iter(sys.argv[1:]), ""), sys.argv[2:]
    if name in {"-h", "--help"}:
        print(USAGE)
        return 0
    if name not in COMMANDS:
        said = f"{name!r} is not a command" if name else "a command is missing"
        print(f"servepath: {said}; there are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    checkout = (ROOT / "pyproject.toml").is_file()
    if not checkout and name not in INSTALLED:
        print(
            f"servepath {name}: works only in a clone of the repository; in one, run: make setup, "
            f"then .venv/bin/servepath {name}",
            file=sys.stderr,
        )
        return 1
    if checkout:  # the folders beside this package are not installed, and neither is the generated code
        sys.path.insert(0, str(ROOT))
    return _run([*COMMANDS[name], *words], missing_is_told=not checkout)


def _run(words: list[str], *, missing_is_told: bool) -> int:
    sys.argv = ["servepath", *words]
    try:
        run_module()
    except ModuleNotFoundError as error:
        if not missing_is_told:
            raise
        command = "pip install -c constraints.txt '.[client]'"
        print(f"servepath: {error.name} is not installed; run in the clone: {command}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

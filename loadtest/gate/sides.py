"""One tree's services, started by its own code on ports of their own, and stopped whatever happens."""

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtest.gate.children import Shell
from loadtest.gate.trees import Tree, shell_at
from servepath.cli.free_ports import free_ports
from servepath.cli.signals import STOP_SIGNALS
from servepath.protocols.stacks import service_files
from servepath.settings import variables

# `up` gives up by itself before, and `down` kills after 35 s.
UP_S, DOWN_S = 300.0, 120.0


@dataclass(frozen=True, slots=True)
class Side:
    """A tree and where it serves. run_dir: pid and log files. variables: its ports, addresses and services' files."""

    tree: Tree
    run_dir: Path
    variables: Mapping[str, str]

    def file(self) -> str:
        """Return what `python -m loadtest --side` reads."""
        return "".join(f"{name}={value}\n" for name, value in {**self.variables, "EXPORTS": self.tree.exports}.items())


def side_of(tree: Tree, run_dir: Path) -> Side:
    """Return a side on free ports, for every variable of the tree's own .env that names a port."""
    names = list(variables(tree.folder / ".env", {}))
    of_ports = [name for name in names if name.endswith("_PORT")]
    ports = dict(zip(of_ports, map(str, free_ports(len(of_ports))), strict=True))
    own = {name: ports.get(f"{name.removesuffix('_ADDR')}_PORT") for name in names if name.endswith("_ADDR")}
    addresses = {name: f"127.0.0.1:{port}" for name, port in own.items() if port}
    files = {variable: str(path) for variable, path in service_files({}, run_dir).items()}
    return Side(tree, run_dir, ports | addresses | files)


@contextmanager
def serving(side: Side, services: Sequence[str]) -> Iterator[None]:
    """Start services, wait until each of their paths answers correctly, and stop them at the end. Raises GateError."""
    shell = shell_at(side.tree.folder)
    shell = Shell(shell.folder, {**shell.environment, **side.variables})
    words = (str(side.tree.python), "-m", "servepath.runner")
    places = ("--run-dir", str(side.run_dir), "--exports", str(side.tree.exports))
    try:
        shell.run(*words, "up", *services, *places, limit_s=UP_S)
        yield
    finally:
        _stop(shell, (*words, "down", *places))


def _stop(shell: Shell, command: Sequence[str]) -> None:
    try:
        shell.run(*command, limit_s=DOWN_S)
    except KeyboardInterrupt:
        # It may have ended of that before it did anything: told twice we end at once, but leave nothing.
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        shell.run(*command, limit_s=DOWN_S)
        raise

"""What the stages work on, and what more than one of them asks of it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from deploy.compose import ROOT, Project
from deploy.engine import EngineError
from servepath.protocols.deployments_file import read_deployments
from servepath.protocols.paths import PathInfo
from servepath.protocols.probes import NotReady, WrongAnswer
from servepath.protocols.stacks import Stack
from servepath.runner.config import GATEWAY
from servepath.runner.probe import Probe

EXPORTS = ROOT / "artifacts" / "exports"
GATEWAYS = ("gateway", "gateway_2")
RECOVER_S = 120.0
POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Environment:
    """The project and where it is.

    addresses: of the gateways, on this machine. embedded: the images whose bases cannot be had are
    their stand-ins.
    """

    project: Project
    addresses: Mapping[str, str]
    embedded: bool

    @property
    def stacks(self) -> tuple[Stack, ...]:
        """Return the stacks whose servers run: those that have paths."""
        return read_deployments(ROOT / "deployments.toml").own_stacks

    @property
    def services(self) -> tuple[str, ...]:
        """Return the services that run."""
        return (*(stack.service for stack in self.stacks), GATEWAY)


def ask_all(environment: Environment) -> dict[str, str]:
    """Predict on every path through the gateway; return the engine of each path. Raises EngineError."""
    with Probe(environment.addresses["gateway"], EXPORTS) as probe:
        try:
            return {path.name: _engine(path, probe) for path in probe.paths()}
        except (NotReady, WrongAnswer) as error:
            raise EngineError(str(error)) from error


def _engine(path: PathInfo, probe: Probe) -> str:
    served = probe.ask(path).served
    return f"{served.engine} {served.engine_version}"


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition. Raises EngineError when it does not come within RECOVER_S."""
    give_up = time.monotonic() + RECOVER_S
    while not condition():
        if time.monotonic() > give_up:
            raise EngineError(f"{what} did not recover within {RECOVER_S:g} s")
        time.sleep(POLL_S)

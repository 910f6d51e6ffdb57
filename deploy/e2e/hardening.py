"""What containers must and must not have: asked of the engine, of them and of their neighbour."""

import socket
from collections.abc import Iterator

from deploy.compose import Project
from deploy.e2e import security
from deploy.e2e.environment import GATEWAYS, Environment
from deploy.engine import EngineError
from servepath.protocols.addresses import socket_path

CONNECT_S = 2
# Tries to connect to every port of a host and prints those that somebody listens on.
SCAN = """
import socket, sys
host = socket.gethostbyname(sys.argv[1])
for port in range(1, 65536):
    with socket.socket() as probe:
        probe.settimeout(1)
        if not probe.connect_ex((host, port)):
            print(port)
"""


def secure(environment: Environment) -> Iterator[str]:
    """Check every container against the rules, and scan for open ports from their only neighbour, the gateway."""
    project = environment.project
    outside = _outside(project)
    containers = [_look(project, service, outside) for service in environment.services]
    faults = [fault for container in containers for fault in security.faults(container)]
    if not any(container.escapes for container in containers):
        faults += ["S11 is inconclusive: not even the gateway reaches itself on its other network"]
    faults += [*_open_ports(environment), *_leaked_keys(environment)]
    if faults:
        raise EngineError("; ".join(faults))
    rules = f"{len(security.RULES)} rules (S05, S11, S13-S19)"
    yield f"{rules} hold in {len(containers)} containers; open ports (S04) and keys (S03) are as expected"


def _outside(project: Project) -> tuple[str, str]:
    """Return the gateway's address and port on the network without backends, where this machine reaches it."""
    networks = project.inspect("gateway")["NetworkSettings"]["Networks"]
    host = networks[f"{project.name}_front"]["IPAddress"]
    port = project.model()["services"]["gateway"]["environment"]["GATEWAY_PORT"]
    socket.create_connection((host, int(port)), CONNECT_S).close()
    return host, port


def _look(project: Project, service: str, outside: tuple[str, str]) -> security.Container:
    connect = f"timeout {CONNECT_S} bash -c '</dev/tcp/{outside[0]}/{outside[1]}' 2>/dev/null && echo reached; true"
    return security.Container(
        service,
        project.inspect(service),
        project.execute(service, "cat", "/proc/1/status"),
        project.execute(service, "sh", "-c", security.PROBE).splitlines(),
        escapes="reached" in project.execute(service, "bash", "-c", connect),
        published=service in GATEWAYS,
    )


def _open_ports(environment: Environment) -> Iterator[str]:
    """Check S04: of each backend only the ports that the gateway and Prometheus need are open."""
    project = environment.project
    services = project.model()["services"]
    for stack in environment.stacks:
        service, address = stack.service, services["gateway"]["environment"][stack.address_variable]
        # A socket lies in a volume that only the gateway and the load test mount.
        own = [] if socket_path(address) else [port.variable for port in stack.open_ports]
        ports = {services[service]["environment"][variable] for variable in own}
        found = set(project.execute("gateway", "python", "-c", SCAN, service, timeout_s=120).split())
        if found != ports:
            said, wanted = (", ".join(sorted(some)) or "nothing" for some in (found, ports))
            yield f"{service}: S04: listens on {said}, not {wanted}"


def _leaked_keys(environment: Environment) -> Iterator[str]:
    """Check S03: the keys that servers demand are in their shared files alone."""
    project = environment.project
    for stack in environment.stacks:
        if stack.credentials:
            place = project.model()["services"][stack.service]["environment"][stack.credentials.variable]
            yield from _places_of(environment, project.execute(stack.service, "cat", place))


def _places_of(environment: Environment, key: str) -> Iterator[str]:
    project = environment.project
    for service in environment.services:
        log = project.ask("logs", "--no-color", service)
        settings = project.docker("inspect", project.container(service))
        for place, text in (("log", log), ("settings", settings)):
            if not key or key in text:
                yield f"{service}: S03: the key is in its {place}"

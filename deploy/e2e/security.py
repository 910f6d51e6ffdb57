"""What every container must and must not have, by what the engine and the container itself say.

Each rule gives one line for each fault. The numbers are those of the list of checks in SECURITY.md.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

# Docker gives these to every container: memory, of the size that shm_size says, and message queues.
ALWAYS_WRITABLE = frozenset({"/dev/shm", "/dev/mqueue"})  # noqa: S108 - no file of ours
NO_CAPABILITY = "0" * 16
LOOPBACK = "127.0.0.1"
# Prints every mount that its user may write to, and what comes of writing to the root. Devices are left out: Docker
# hides files of /proc behind /dev/null.
PROBE = (
    'while read -r _ m _; do [ -w "$m" ] && [ ! -c "$m" ] && echo "$m"; done </proc/mounts; touch /x && echo /; true'
)


class Container(NamedTuple):
    """One running container.

    inspected: `docker inspect`. status: /proc/1/status. writable: what PROBE printed. escapes: whether it reaches an
    address beyond its own networks. published: whether it may, and be reached from the host.
    """

    service: str
    inspected: Mapping[str, Any]
    status: str
    writable: Collection[str]
    escapes: bool
    published: bool


def not_root(container: Container) -> Iterator[str]:
    """Check S13: no process with id 1 runs as root."""
    ids = _status(container, "Uid").split()
    if not ids or "0" in ids:
        yield f"S13: it runs as uid {' '.join(ids) or 'unknown'}"


def no_capabilities(container: Container) -> Iterator[str]:
    """Check S14: no capability is effective or obtainable."""
    for name in ("CapEff", "CapPrm", "CapBnd"):
        if _status(container, name) != NO_CAPABILITY:
            yield f"S14: {name} is {_status(container, name) or 'unknown'}"


def no_new_privileges(container: Container) -> Iterator[str]:
    """Check S15: no program grants more rights than its caller has."""
    if _status(container, "NoNewPrivs") != "1":
        yield "S15: no-new-privileges is not set"


def writes_only_where_declared(container: Container) -> Iterator[str]:
    """Check S16: the root file system is read-only, and only what the compose file declares is writable."""
    host = container.inspected["HostConfig"]
    volumes = {mount["Destination"] for mount in container.inspected["Mounts"] if mount["RW"]}
    for place in sorted(set(container.writable) - ALWAYS_WRITABLE - set(host["Tmpfs"] or ()) - volumes):
        yield f"S16: it can write to {place}"
    if not host["ReadonlyRootfs"]:
        yield "S16: its root file system is not read-only"


def models_read_only(container: Container) -> Iterator[str]:
    """Check S17: containers that mount the models cannot change them."""
    for mount in container.inspected["Mounts"]:
        if mount["Destination"] == "/models" and mount["RW"]:
            yield "S17: it can change the models"


def limits(container: Container) -> Iterator[str]:
    """Check S18: memory, CPU, processes and descriptors are bounded."""
    host = container.inspected["HostConfig"]
    for key in ("Memory", "NanoCpus", "PidsLimit"):
        if not host[key] or host[key] < 0:
            yield f"S18: there is no limit {key}"
    if "nofile" not in {limit["Name"] for limit in host["Ulimits"] or ()}:
        yield "S18: file descriptors have no limit"


def no_way_to_the_host(container: Container) -> Iterator[str]:
    """Check S19: not privileged, none of the host's namespaces, not the engine's socket."""
    host = container.inspected["HostConfig"]
    if host["Privileged"]:
        yield "S19: it is privileged"
    for key in ("NetworkMode", "PidMode", "IpcMode", "UTSMode"):
        if host[key] == "host":
            yield f"S19: {key} is the host's"
    for mount in container.inspected["Mounts"]:
        if mount["Source"].endswith("docker.sock"):
            yield "S19: it has the engine's socket"


def published_where_meant(container: Container) -> Iterator[str]:
    """Check S05: only the gateway is published, and on loopback."""
    bindings = container.inspected["HostConfig"]["PortBindings"] or {}
    if bindings and not container.published:
        yield f"S05: it is published: {', '.join(bindings)}"
    for port, places in bindings.items():
        yield from (
            f"S05: {port} is published on {place['HostIp'] or 'every address'}"
            for place in places
            if place["HostIp"] != LOOPBACK
        )


def no_way_out(container: Container) -> Iterator[str]:
    """Check S11: what is not published reaches nothing beyond its network."""
    if container.escapes and not container.published:
        yield "S11: it reaches addresses beyond its network"


RULES: tuple[Callable[[Container], Iterator[str]], ...] = (
    not_root,
    no_capabilities,
    no_new_privileges,
    writes_only_where_declared,
    models_read_only,
    limits,
    no_way_to_the_host,
    published_where_meant,
    no_way_out,
)


def faults(container: Container) -> list[str]:
    """Yield every violation of a container, prefixed with its service's name."""
    return [f"{container.service}: {fault}" for rule in RULES for fault in rule(container)]


def _status(container: Container, key: str) -> str:
    found = re.search(rf"^{key}:\s*(.*)$", container.status, re.MULTILINE)
    return found[1].strip() if found else ""

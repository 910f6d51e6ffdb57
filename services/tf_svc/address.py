"""Where tf_svc listens: a TCP port, or a Unix socket where the gateway is on the same machine or in the same pod."""

import socket
from pathlib import Path

from services.dataplane.listener import PortBusyError
from services.tf_svc.config import Settings

CONNECT_S = 1.0


def refuse_taken(settings: Settings) -> None:
    """Find a taken address before seconds are spent on loading; the bind that counts comes later.

    Raises PortBusyError naming the address and what to change.
    """
    if settings.socket is not None:
        _refuse_served(settings.socket)
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise PortBusyError(
                f"port {settings.port} on {settings.host} cannot be bound ({error.strerror}); set TF_SVC_PORT"
            ) from error


def grpc_address(settings: Settings) -> str:
    """Return the address in gRPC's form."""
    return f"unix:{settings.socket}" if settings.socket else f"{settings.host}:{settings.port}"


def _refuse_served(path: Path) -> None:
    """Raise PortBusyError where somebody answers on a socket: gRPC would put its own in that place without a word.

    A socket that a killed server left is removed, so that one that is there means a server.
    """
    if not path.parent.is_dir():
        raise PortBusyError(f"{path.parent} is no folder, and --socket (TF_SVC_SOCKET) is to be in it; make it")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(CONNECT_S)
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            if not path.is_socket():
                raise PortBusyError(f"{path} is no socket; remove it, or set TF_SVC_SOCKET to another path") from None
            path.unlink()
            return
    raise PortBusyError(f"a server listens on {path}; stop it, or set TF_SVC_SOCKET to another path")

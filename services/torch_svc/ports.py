"""Ports: refuse a start on ones that are taken, before anything is started."""

import contextlib
import socket

from services.torch_svc.config import Ports, explain_port, numbers

LOOPBACK = "127.0.0.1"


class PortBusyError(Exception):
    """A port is taken, or its address is not this machine's; the text names it and the fix."""


def check(host: str, ports: Ports) -> None:
    """Bind all five at once, inference on `host`, so that a number given twice is found too. Raises PortBusyError."""
    with contextlib.ExitStack() as sockets:
        for address, number in zip([host, *[LOOPBACK] * 4], numbers(ports), strict=True):
            try:
                listener = sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((address, number))
                listener.listen(1)  # two sockets may be bound to one port, but only one may listen
            except OSError as error:
                raise PortBusyError(
                    f"cannot listen on {address} port {explain_port(ports, number)}: {error.strerror}"
                ) from error

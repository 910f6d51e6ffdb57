"""A busy port is refused by name before anything starts."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from services.torch_svc import ports
from services.torch_svc.config import PORTS, Ports


@contextlib.contextmanager
def bound(count: int) -> Iterator[list[socket.socket]]:
    """Yield sockets bound to free loopback ports, not listening."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        yield sockets


def free_ports() -> Ports:
    with bound(5) as sockets:
        return Ports(*(one.getsockname()[1] for one in sockets))


def test_five_free_ports_pass_and_stay_free() -> None:
    chosen = free_ports()
    ports.check("127.0.0.1", chosen)
    ports.check("127.0.0.1", chosen)


@pytest.mark.parametrize("field", list(PORTS))
def test_each_busy_port_is_named_with_its_variable(field: str) -> None:
    with bound(5) as sockets:
        numbers = [one.getsockname()[1] for one in sockets]
        index = list(PORTS).index(field)
        for position, one in enumerate(sockets):
            if position == index:
                one.listen()
            else:
                one.close()
        with pytest.raises(
            ports.PortBusyError, match=f"port {numbers[index]} .*{PORTS[field].purpose}; set {PORTS[field].variable}"
        ):
            ports.check("127.0.0.1", Ports(*numbers))


def test_one_number_given_twice_is_refused() -> None:
    chosen = free_ports()
    twice = Ports(chosen.inference, chosen.grpc_management, chosen.http, chosen.management, chosen.http)
    with pytest.raises(ports.PortBusyError, match=f"port {chosen.http} "):
        ports.check("127.0.0.1", twice)


def test_an_address_that_is_not_ours_is_refused() -> None:
    with pytest.raises(ports.PortBusyError, match=r"192\.0\.2\.1"):
        ports.check("192.0.2.1", free_ports())

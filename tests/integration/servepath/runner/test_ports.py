import os
import socket

import pytest

from servepath.runner.config import Service
from servepath.runner.ports import accepts, is_busy, refuse_busy
from servepath.runner.processes import RunError


def test_a_port_that_somebody_listens_on_is_refused_with_service_holder_and_variable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        service = Service("tf_svc", (), f"127.0.0.1:{port}", (port,), {})

        with pytest.raises(RunError, match=rf"tf_svc: port {port} is busy \(held by pid {os.getpid()}: .*TF_SVC_PORT"):
            refuse_busy([service])


def test_a_port_on_all_addresses_is_busy_too() -> None:
    with socket.create_server(("0.0.0.0", 0)) as holder:  # noqa: S104 - that is the case
        assert is_busy(holder.getsockname()[1])


def test_a_port_is_free_again_although_its_last_connection_lingers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            server.accept()[0].close()  # the side that closes first is the one that lingers
            client.recv(1)

    assert not is_busy(port)
    assert not accepts(f"127.0.0.1:{port}")


def test_somebody_who_listens_accepts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert accepts(f"127.0.0.1:{server.getsockname()[1]}")

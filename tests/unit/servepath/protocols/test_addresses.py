import pytest

from servepath.protocols.addresses import is_address


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1:50051", "host:1", "a-b.c_d:65535", "[::1]:4", "[fe80::1%eth0]:4", "münchen:1", "unix:/run/socket"],
)
def test_host_and_port_or_a_socket_are_an_address(text: str) -> None:
    assert is_address(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "host",
            "host:",
            ":1",
            "host:0",
            "host:65536",
            "host:+1",
            "host:\uff11",
            "host:1 ",
            " host:1",
            "host:1\n",
        ),
        *("http://host:1", "host:1/path", "user@host:1", "::1:4", "[::1]", "[]:4", "unix:", "dns:///host:1"),
    ],
)
def test_all_else_is_none(text: str) -> None:
    assert not is_address(text)

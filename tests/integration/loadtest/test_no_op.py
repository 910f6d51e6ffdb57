"""The no-op server answers a constant, and does not outlive the process that started it."""

import subprocess
import sys

import grpc

from loadtest import no_op
from tests.limits import LONG_S


def test_it_answers_every_request_with_the_constant() -> None:
    with no_op.endpoint() as address, grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(no_op.METHOD)
        assert {call(request, timeout=LONG_S) for request in (b"", b"anything", b"x" * 10_000)} == {no_op.REPLY}


def test_it_ends_when_its_input_ends() -> None:
    command = [sys.executable, "-m", "loadtest.no_op"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert int(process.stdout.readline()) > 0
        process.stdin.close()
        assert process.wait(LONG_S) == 0

from dataclasses import replace
from pathlib import Path

import pytest
from grpc import StatusCode

from loadtest.plan import NO_OP
from loadtest.run import RunError
from loadtest.targets import no_op_target
from servepath.http2.replies import Reply
from servepath.settings import SettingsError
from studies.loadgen import h2load
from studies.loadgen.instruments import Job
from studies.loadgen.rows import Seen

JOB = Job(NO_OP, "h:1", "m", 200.0, 10, 90, 1, Path("exports"), Path(".env"), Path("folder"))
TRAFFIC = "traffic: 6.8KB (7000) total, 812B (812) headers (space savings 94.66%), 3.6KB ({}) data\n"


def test_each_line_of_its_log_is_a_request_without_a_schedule() -> None:
    assert h2load.read_log("1795438913280133\t200\t412\n1795438913285133\t-1\t90\n", 2) == [
        Seen(None, 1795438913280133000, 412.0, None, ok=True, wrong=None),
        Seen(None, 1795438913285133000, 90.0, None, ok=False, wrong=None),
    ]


def test_a_log_with_lines_missing_is_refused() -> None:
    with pytest.raises(RunError, match="1 of 2 requests"):
        h2load.read_log("1795438913280133\t200\t412\n", 2)


def test_as_many_bytes_as_right_answers_have_are_taken_and_clearly_fewer_are_refusals() -> None:
    reply = Reply(StatusCode.OK, payload=b"x" * 35)
    h2load.check_bytes(TRAFFIC.format(100 * 40), JOB, reply)
    with pytest.raises(RunError, match="some requests failed"):
        h2load.check_bytes(TRAFFIC.format(100 * 40 - 201), JOB, reply)


def test_output_without_a_result_is_quoted() -> None:
    with pytest.raises(RunError, match="Could not resolve host"):
        h2load.check_bytes("Could not resolve host\n", JOB, Reply(StatusCode.OK))


def test_its_connections_share_the_rate_and_begin_one_gap_after_another() -> None:
    target = replace(no_op_target("h:1"), metadata=lambda: (("authorization", "Bearer key"),))
    words = h2load.command(target, JOB, Path("body"), Path("log"))
    assert {"-c4", "-n100", "--rps=50", "-r1", "--rate-period=5ms"} <= set(words)
    assert {"--header=authorization: Bearer key", "--header=content-type: application/grpc"} <= set(words)
    assert words[-1] == "http://h:1/servepath.Null/Answer"


def test_where_it_is_not_installed_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SettingsError, match="apt-get install nghttp2-client"):
        h2load.version()

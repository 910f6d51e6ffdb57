"""A measurement by h2load (nghttp2): evenly spaced requests, one line of its log each.

h2load knows no gRPC. It repeats one request, and of the answers it sees the HTTP status and the number of bytes: so one
answer is checked before, and a measurement whose answers are shorter than that on the whole is refused.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pyarrow as pa

from loadtest.calls import DEADLINE_S, Target
from loadtest.connection import Client
from loadtest.priority import on_time
from loadtest.run import RunError
from servepath.http2.replies import Reply
from servepath.settings import SettingsError
from studies.loadgen.aim import aim, look_at
from studies.loadgen.instruments import Job
from studies.loadgen.rows import Seen, table

OK_STATUS = "200"
PREFIX_BYTES = 5
# The gateway's answers tell two times in microseconds, of 0 to 3 bytes each: so much may a measurement's bytes differ.
SHARE_OF_BYTES = 0.95
MAX_IN_FLIGHT = 100


def version() -> str:
    """Return h2load's version. Raises SettingsError when it is not installed."""
    if shutil.which("h2load") is None:
        raise SettingsError("h2load is not on PATH; install nghttp2's client, such as: apt-get install nghttp2-client")
    done = subprocess.run(["h2load", "--version"], capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    return done.stdout.strip().rpartition("/")[2]


def command(target: Target, job: Job, body: Path, log: Path) -> list[str]:
    """Return the command that loads the path. body: the request with gRPC's prefix."""
    deadline = ("grpc-timeout", f"{DEADLINE_S * 1e3:.0f}m")
    headers = (("content-type", "application/grpc"), ("te", "trailers"), deadline, *target.metadata())
    return [
        *("h2load", "-t1", f"-c{job.connections}", f"-m{MAX_IN_FLIGHT}", f"-n{job.count}"),
        *(f"--rps={job.rate / job.connections:g}", "-r1", f"--rate-period={round(1000 / job.rate)}ms"),
        *(f"--header={name}: {value}" for name, value in headers),
        *(f"--data={body}", f"--log-file={log}", f"http://{target.address}{target.method}"),
    ]


def run(job: Job) -> pa.Table:
    """Load the measurement and return its rows. Raises RunError when h2load does not end, or its answers are none."""
    target, payloads = aim(job)
    client = Client(target.address, target.method)
    reply = client.call(payloads[0].request, target.metadata(), DEADLINE_S).reply
    client.close()
    if look_at(target, payloads[0], reply) != (True, False):
        raise RunError(
            f"{job.measurement}: the response before h2load's measurement is incorrect: "
            f"{reply.code.name} {reply.details}"
        )
    body, log = job.folder / "request", job.folder / "log"
    log.unlink(missing_ok=True)  # h2load appends
    body.write_bytes(b"\0" + len(payloads[0].request).to_bytes(4, "big") + payloads[0].request)
    printed = _run(command(target, job, body, log), job)
    check_bytes(printed, job, reply)
    return table(read_log(log.read_text(), job.count), job.ramp_up)


def _run(words: list[str], job: Job) -> str:
    try:
        with on_time():
            done = subprocess.run(
                words, capture_output=True, text=True, timeout=job.limit_s, check=False, process_group=0
            )
    except subprocess.TimeoutExpired:
        raise RunError(f"{job.measurement}: h2load did not end within {job.limit_s:.0f} s") from None
    return done.stdout + done.stderr


def check_bytes(printed: str, job: Job, reply: Reply) -> None:
    """Raise RunError when h2load's answers are, all together, shorter than `reply`: refusals carry no message."""
    found = re.search(r"^traffic: .*\((\d+)\) data$", printed, re.MULTILINE)
    if found is None:
        raise RunError(
            f"{job.measurement}: h2load printed no result: {' '.join(printed.split())[-200:] or 'nothing at all'}"
        )
    wanted = job.count * (len(reply.payload) + PREFIX_BYTES)
    if int(found[1]) < SHARE_OF_BYTES * wanted:
        raise RunError(f"{job.measurement}: h2load got {found[1]} of {wanted} bytes: some requests failed")


def read_log(text: str, count: int) -> list[Seen]:
    """Read a --log-file: a line is start in microseconds since 1970, HTTP status, microseconds until the reply's end.

    Raises RunError when lines are missing.
    """
    lines = [line.split("\t") for line in text.splitlines()]
    if len(lines) != count:
        raise RunError(f"h2load logged {len(lines)} of {count} requests")
    return [
        Seen(None, 1000 * int(start), float(duration), None, ok=status == OK_STATUS, wrong=None)
        for start, status, duration in (line[:3] for line in lines)
    ]

"""The no-op server: a gRPC server that answers a constant at once; `python -m loadtest.no_op`.

What a request to it takes is the instrument's own part of every other time: client, kernel and the least a server can
do. It is pygrpc-native's server and none of ours: what the gateway's own listener costs is not part of the instrument.
"""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

METHOD = "/servepath.Null/Answer"
REPLY = b"null" * 8
MAX_EVENTS = 256


def main() -> None:
    """Listen on a free port of 127.0.0.1, print it, answer until standard input ends with our parent."""
    from pygrpc_native import EVENT_CALL, NativeGrpcFront  # noqa: PLC0415 - of the server alone

    front = NativeGrpcFront("127.0.0.1:0", [(METHOD, False)], io_threads=1)
    front.start()
    print(front.bound_port, flush=True)  # noqa: T201 - to the process that started us
    threading.Thread(target=lambda: (sys.stdin.read(), front.close()), daemon=True).start()
    while (events := front.recv_batch_details(MAX_EVENTS)) is not None:
        for kind, number, *_ in events:
            if kind == EVENT_CALL:
                front.respond(number, REPLY)


@contextmanager
def endpoint() -> Iterator[str]:
    """Yield the address of a no-op server: a process that ends with the `with` statement, or with us."""
    command = [sys.executable, "-m", "loadtest.no_op"]
    # A process group of its own: the terminal's Ctrl-C is for us alone.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0) as process:
        assert process.stdin is not None  # noqa: S101 - for the type checker
        assert process.stdout is not None  # noqa: S101 - for the type checker
        try:
            port = process.stdout.readline().decode().strip()
            if not port:
                raise OSError("the no-op server does not start; see above")
            yield f"127.0.0.1:{port}"
        finally:
            process.stdin.close()


if __name__ == "__main__":
    main()

"""Callers that ask the gateway at full load while something happens, and count what they are answered.

They do what the documents tell callers to do: a channel with every gateway's address, round robin, and a call that was
refused with UNAVAILABLE is asked again. That is gRPC's own
(https://github.com/grpc/proposal/blob/master/A6-client-retries.md).
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc

from servepath.protocols import servepath
from servepath.protocols.errors import BackendBadReply
from servepath.protocols.probes import ProbeRequest, WrongAnswer, check, read_probe_request

CLIENTS = 4
CALL_S = 10.0
PAUSE_S = 0.01
# A gateway that drains refuses calls for about a second (services/dataplane/data_plane.py) before its connections end,
# and round robin may come back to it each time: five attempts must last longer than that. These last 4.5 s, or 20 %
# less.
RETRY = {
    "maxAttempts": 5,
    "initialBackoff": "0.3s",
    "maxBackoff": "3s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
SERVICE = {"loadBalancingConfig": [{"round_robin": {}}], "methodConfig": [{"name": [{}], "retryPolicy": RETRY}]}
WRONG = "wrong answer"


class Clients:
    """Some threads on one channel. addresses: of gateways, HOST:PORT by IPv4. probe_requests: by MODEL@STACK."""

    def __init__(self, addresses: Sequence[str], probe_requests: Mapping[str, ProbeRequest]) -> None:
        options = (
            ("grpc.service_config", json.dumps(SERVICE)),
            ("grpc.enable_http_proxy", 0),
            ("grpc.max_reconnect_backoff_ms", 500),
        )
        self._channel = grpc.insecure_channel(f"ipv4:{','.join(addresses)}", options)
        self._call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(servepath.METHOD)
        self._probe_requests = probe_requests
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask_on) for _ in range(CLIENTS)]
        self._lock = threading.Lock()
        self.outcomes: Counter[str] = Counter()

    def start(self) -> None:
        """Start calling."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop, after every call has ended."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._channel.close()

    def _ask_on(self) -> None:
        while not self._ended.is_set():
            for path, probe_request in self._probe_requests.items():
                outcome = self._ask(path, probe_request)
                with self._lock:
                    self.outcomes[outcome] += 1
            time.sleep(PAUSE_S)

    def _ask(self, path: str, probe_request: ProbeRequest) -> str:
        try:
            reply = self._call(servepath.encode_request(probe_request.request, path, 0), timeout=CALL_S)
            check(path, servepath.decode_answer(reply), probe_request)
        except grpc.RpcError as error:
            return f"{path} {error.code().name}"
        except (WrongAnswer, BackendBadReply):
            return f"{path} {WRONG}"
        return "OK"


@contextmanager
def calling(addresses: Sequence[str], exports: Path, paths: Sequence[str]) -> Iterator[Clients]:
    """Call all `paths` while the `with` statement runs; `outcomes` counts the results afterwards."""
    clients = Clients(addresses, {path: read_probe_request(exports, *path.split("@")) for path in paths})
    clients.start()
    try:
        yield clients
    finally:
        clients.stop()

"""Several processes of one service on one port: started, replaced when they die, drained together, counted as one.

The first process only watches: the kernel deals out connections among the workers, which each listen on the port
(SO_REUSEPORT). Each runs the service's own command line, and has one socket to its parent: it says there where its
metrics are, and ends when the parent's end is gone.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from services.dataplane.listener import IN_USE, PortBusyError
from services.dataplane.merged_metrics import MergedMetrics
from services.dataplane.metrics_server import NO_PAGES, MetricsServer, Pages, serve_metrics

log = logging.getLogger(__name__)
# Before a worker that died while starting is tried again.
PAUSE_S = 1.0
START_TIMEOUT_S = 300.0
# Makes the pages beside the merged metrics; given what says where the workers' metrics are, HOST:PORT by name.
PagesOf = Callable[[Callable[[], Mapping[str, str]]], Pages]


class WorkerError(Exception):
    """A worker cannot be started, or ended before it listened; then what it wrote says why."""


@dataclass(frozen=True, slots=True)
class BindAddresses:
    """Where a service listens: for gRPC, and for Prometheus. A port of 0 takes a free one."""

    host: str
    port: int
    metrics_host: str
    metrics_port: int


@dataclass(frozen=True, slots=True)
class _Worker:
    """A process that listens. name: never used twice. life: our end of its socket."""

    name: str
    process: asyncio.subprocess.Process
    life: asyncio.StreamWriter
    metrics_port: int


class Workers:
    """`count` processes of `command`, which takes --port, --metrics-port, --workers and --worker-of; a Server.

    start_timeout_s: how long a worker may take until it listens.
    """

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        addresses: BindAddresses,
        *,
        pages_of: PagesOf | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        self._command = tuple(command)
        self._count = count
        self._places = addresses
        self._pages = pages_of(self._metrics_addresses) if pages_of else NO_PAGES
        self._start_timeout_s = start_timeout_s
        self._workers: dict[int, _Worker] = {}
        self._started = 0
        self._reserved: socket.socket | None = None
        self._keepers: list[asyncio.Task[None]] = []
        self._metrics_server: MetricsServer | None = None
        self.port = 0
        self.metrics_port = 0

    async def start(self) -> None:
        """Start the workers and wait until each listens. Raises PortBusyError or WorkerError."""
        self._reserved = _reserve(self._places.host, self._places.port)
        self.port = self._reserved.getsockname()[1]
        registry = CollectorRegistry()
        registry.register(MergedMetrics(self._metrics_addresses))
        places = self._places
        self._metrics_server = serve_metrics(registry, places.metrics_host, places.metrics_port, self._pages)
        self.metrics_port = self._metrics_server.port
        async with asyncio.TaskGroup() as group:
            for index in range(self._count):
                group.create_task(self._start(index))
        self._keepers = [asyncio.create_task(self._keep(index)) for index in range(self._count)]

    async def drain(self) -> None:
        """Drain and stop every worker."""
        await self._stop_keeping()
        for worker in self._workers.values():
            with suppress(ProcessLookupError):
                worker.process.terminate()
        await asyncio.gather(*(worker.process.wait() for worker in self._workers.values()))

    async def close(self) -> None:
        """Stop at once what still runs."""
        await self._stop_keeping()
        for worker in self._workers.values():
            with suppress(ProcessLookupError):
                worker.process.kill()
            await worker.process.wait()
            worker.life.close()
        if self._metrics_server is not None:
            await asyncio.to_thread(self._metrics_server.close)
        if self._reserved is not None:
            self._reserved.close()

    def pass_on(self, number: signal.Signals) -> None:
        """Send a signal to every worker."""
        for worker in self._workers.values():
            with suppress(ProcessLookupError):
                worker.process.send_signal(number)

    async def _stop_keeping(self) -> None:
        """Start no worker any more, and end one that was just being started."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)

    async def _keep(self, index: int) -> None:
        while True:
            code = await self._workers[index].process.wait()
            self._workers.pop(index).life.close()
            log.error("a worker ended with exit code %d; starting another", code)
            while index not in self._workers:
                try:
                    await self._start(index)
                except WorkerError as error:
                    log.error("%s; trying again", error)  # noqa: TRY400 - the text says it all, or the worker's lines
                    await asyncio.sleep(PAUSE_S)
                except Exception:  # whatever it is, the place must not stay empty
                    log.exception("a worker could not be started; trying again")
                    await asyncio.sleep(PAUSE_S)

    async def _start(self, index: int) -> None:
        """Start a worker and wait until it listens. Raises WorkerError."""
        self._started += 1
        name = str(self._started)
        process, ours = await self._begin()
        reader, life = await asyncio.open_connection(sock=ours)
        try:
            async with asyncio.timeout(self._start_timeout_s):  # Python 3.11's wait_for may lose a cancellation
                line = await reader.readline()
            if not line:
                raise WorkerError(f"a worker ended with exit code {await process.wait()} before it listened")  # noqa: TRY301 - one end for every way out
            self._workers[index] = _Worker(name, process, life, int(line))
        except BaseException as error:
            life.close()
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            if isinstance(error, TimeoutError):
                raise WorkerError(f"a worker did not listen within {self._start_timeout_s:g} s") from error
            raise

    async def _begin(self) -> tuple[asyncio.subprocess.Process, socket.socket]:
        """Return a new process and our end of its socket. Raises WorkerError."""
        command = ("--port", str(self.port), "--metrics-port", "0", "--workers", "1", "--worker-of")
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise WorkerError(f"a worker cannot be started: {error.strerror}") from error
        with theirs:
            creating = asyncio.ensure_future(
                asyncio.create_subprocess_exec(
                    *self._command,
                    *command,
                    str(theirs.fileno()),
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,  # Ctrl-C is for the parent, who passes it on once
                )
            )
            try:
                # Shielded: cancelled between fork and its end, asyncio (3.11.7) waits for the process for ever.
                process = await asyncio.shield(creating)
            except asyncio.CancelledError:
                ours.close()
                with suppress(OSError):
                    process = await creating
                    process.kill()
                    await process.wait()
                raise
            except BaseException as error:
                ours.close()
                if isinstance(error, OSError):
                    raise WorkerError(f"a worker cannot be started: {error.strerror}") from error
                raise
        return process, ours

    def _metrics_addresses(self) -> dict[str, str]:
        host = self._places.metrics_host
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared with
        host = f"[{host}]" if ":" in host else host
        return {worker.name: f"{host}:{worker.metrics_port}" for worker in tuple(self._workers.values())}


async def start_workers(module: str, count: int, addresses: BindAddresses, pages_of: PagesOf | None = None) -> Workers:
    """Start `count` workers with this process's own command line. Raises PortBusyError or WorkerError."""
    workers = Workers((sys.executable, "-m", module, *sys.argv[1:]), count, addresses, pages_of=pages_of)
    try:
        await workers.start()
    except BaseException as error:
        await workers.close()
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
    logging.getLogger(module).info(
        "%d workers listen on %s:%d, metrics on %s:%d",
        *(count, addresses.host, workers.port, addresses.metrics_host, workers.metrics_port),
    )
    return workers


async def join(descriptor: int, metrics_port: int) -> None:
    """Notify the parent that this worker listens, and end as by SIGTERM when the parent is gone."""
    loop = asyncio.get_running_loop()
    parent = socket.socket(fileno=descriptor)
    parent.setblocking(False)  # noqa: FBT003 - the standard library's
    await loop.sock_sendall(parent, b"%d\n" % metrics_port)

    def gone() -> None:
        loop.remove_reader(parent)
        os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(parent, gone)


def _reserve(host: str, port: int) -> socket.socket:
    """Reserve the port, so that workers come and go on it; unlike theirs, this socket never listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as alone:  # nobody else may be there
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind((host, port))
            port = alone.getsockname()[1]
        shared = socket.socket(family)
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind((host, port))
    except OSError as error:
        raise PortBusyError(f"cannot listen on {host}:{port}: {IN_USE}") from error
    return shared

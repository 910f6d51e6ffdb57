"""Start what does not run, backends before the gateway, and wait until every path answers, and correctly."""

import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType

from servepath.artifacts.manifest import ArtifactError
from servepath.protocols.probes import NotReady, WrongAnswer
from servepath.protocols.stacks import PATH_STACKS
from servepath.runner import ports, processes
from servepath.runner.config import BACKENDS, GATEWAY, RunPaths, Service
from servepath.runner.probe import Probe
from servepath.runner.processes import RunError, ServiceFiles
from servepath.runner.progress import ProgressDisplay

POLL_S = 0.1
TAIL_LINES = 20
# Longer than what a service takes to drain and close: drain_s, 25 s, and 8 s beside it.
GRACE_S = 35.0
LEFT_OVER_S = 2.0
# How long a service that ran before may take to answer, to pick up a new version for example.
RUNNING_S = 10.0


class Runner:
    """One `up`: knows the services that it started, so that it can stop exactly these.

    external: variable and address of each external server, which must answer too.
    """

    def __init__(
        self,
        services: Mapping[str, Service],
        run_paths: RunPaths,
        timeout_s: float,
        display: ProgressDisplay,
        external: Mapping[str, tuple[str, str]] = MappingProxyType({}),
    ) -> None:
        self._services = services
        self._external = external
        self._run_paths = run_paths
        self._deadline = time.monotonic() + timeout_s
        self._display = display
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, chosen: Collection[str]) -> list[str]:
        """Start the chosen services that do not run, wait until all chosen ones are ready, name the started ones.

        Raises RunError with the end of the log of the service that failed; what was started is then stopped again, on
        KeyboardInterrupt too.
        """
        wanted = []
        for name in (name for name in self._services if name in chosen):
            if process := processes.main_process(self._files(name)):
                self._display.tell(name, f"already running, pid {process.pid}")
            else:
                wanted.append(name)
        self._refuse_missing_exports()
        # Workers that outlived a killed predecessor would hold its ports.
        processes.stop([self._files(name) for name in wanted], LEFT_OVER_S)
        ports.refuse_busy(self._services[name] for name in wanted)
        try:
            self._start_and_wait(wanted)
            self._wait_ready(chosen)
        except BaseException:
            stop_all(self._run_paths, wanted)
            raise
        return wanted

    def _start_and_wait(self, wanted: Collection[str]) -> None:
        for wave in (BACKENDS, (GATEWAY,)):
            names = [name for name in wave if name in wanted]
            for name in names:
                self._display.begin(name)
                self._started[name] = processes.start(self._services[name], self._files(name))
            self._wait(names, self._listens, "listening")

    def _wait_ready(self, chosen: Collection[str]) -> None:
        if processes.main_process(self._files(GATEWAY)) is None:
            return  # some backends were asked for alone: nobody can route to them
        with Probe(self._services[GATEWAY].address, self._run_paths.exports) as probe:
            self._wait([GATEWAY], lambda _: answered(probe.paths), "ready")
            servers = [*(name for name in BACKENDS if name in chosen), *self._external]
            self._wait(servers, lambda name: answered(lambda: ask_paths(probe, name)), "ready")

    def _wait(self, names: Iterable[str], unready: Callable[[str], str], state: str) -> None:
        """Wait until `unready` gives an empty text for each service. Raises RunError at the first that ends."""
        waiting = set(names)
        begin = time.monotonic()
        while waiting:
            self._check_alive()
            for name in sorted(waiting):
                why = self._ask(name, unready)
                if not why:
                    waiting.remove(name)
                    self._display.tell(name, state)
                elif time.monotonic() > self._limit(name, begin):
                    took_s = time.monotonic() - begin
                    raise self._failure(name, f"is not {state} after {took_s:.0f} s ({why})")
            time.sleep(POLL_S if waiting else 0)

    def _limit(self, name: str, begin: float) -> float:
        """Return the deadline: a service that ran before has had its time to start."""
        return self._deadline if name in self._started else min(self._deadline, begin + RUNNING_S)

    def _ask(self, name: str, unready: Callable[[str], str]) -> str:
        try:
            return unready(name)
        except (WrongAnswer, ArtifactError) as error:
            raise self._failure(name, f"cannot be used: {error}") from error

    def _listens(self, name: str) -> str:
        address = self._services[name].address
        return "" if ports.accepts(address) else f"nothing listens on {address}"

    def _check_alive(self) -> None:
        for name, process in self._started.items():
            code = process.poll()
            if code is not None:
                how = f"ended with exit code {code}" if code >= 0 else f"was killed by signal {-code}"
                raise self._failure(name, how)

    def _failure(self, name: str, what: str) -> RunError:
        if name in self._external:
            variable, address = self._external[name]
            return RunError(f"{name} at {address} {what}; it is not started here: start it, or correct {variable}")
        files = self._files(name)
        tail = "\n".join(f"  {line}" for line in files.tail(TAIL_LINES)) or "  (empty)"
        return RunError(f"{name} {what}; the end of {files.log_file}:\n{tail}")

    def _files(self, name: str) -> ServiceFiles:
        return ServiceFiles(self._run_paths.run_dir, name)

    def _refuse_missing_exports(self) -> None:
        if not any(self._run_paths.exports.glob("*/current")):
            raise RunError(f"{self._run_paths.exports} holds no exported model; run: make train export")


def stop_all(run_paths: RunPaths, names: Collection[str], grace_s: float = GRACE_S) -> dict[str, str]:
    """Stop services, the gateway before the backends, and say what was done; another Ctrl-C kills at once."""
    done: dict[str, str] = {}
    for wave in ((GATEWAY,), BACKENDS):
        chosen = [ServiceFiles(run_paths.run_dir, name) for name in wave if name in names]
        try:
            done |= processes.stop(chosen, grace_s)
        except KeyboardInterrupt:
            grace_s = 0.0
            done |= processes.stop(chosen, grace_s)
    return done


def ask_paths(probe: Probe, server: str) -> None:
    """Probe every path of a service, or of an external server. Raises NotReady, WrongAnswer or ArtifactError."""
    for path in probe.paths():
        stack = PATH_STACKS.get(path.stack)
        if server == (stack.service if stack else path.stack):
            probe.ask(path)


def answered(call: Callable[[], object]) -> str:
    """Return "" when the call is answered, else the reason."""
    try:
        call()
    except NotReady as error:
        return str(error)
    return ""

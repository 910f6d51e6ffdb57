"""onnx_svc with a delay injected into it.

`python -m studies.injected_delay.injected --delay-us 20 --models DIR --port N`.

Test equipment. It is services.onnx_svc, started with the same words, but that each call of the engine is followed by a
busy wait. Every reply names the delay as part of the engine, 0 too, and the report refuses such an engine wherever a
run is no comparison of sides (report/validity.py).
"""

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import uvloop

from servepath.artifacts.manifest import ArtifactError
from servepath.artifacts.spec import TensorSpec
from servepath.protocols.types import Tensor
from servepath.settings import SettingsError
from services.dataplane.engine import Engine, EngineError, Load
from services.dataplane.lifecycle import Server, log_to_stderr, serve
from services.dataplane.listener import PortBusyError
from services.oip_server.server import create_server
from services.onnx_svc.config import SERVICE, Settings, read_settings
from services.onnx_svc.ort import OrtEngine
from studies.injected_delay.servers import MAX_DELAY_US


class Delayed:
    """An Engine that computes as another does and then keeps its thread busy for `delay_us`."""

    def __init__(self, engine: Engine, delay_us: float, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self.name = f"{engine.name} with an injected delay of {delay_us:g} us"
        self.version, self.slow_first_runs = engine.version, engine.slow_first_runs
        self._engine = engine
        self._delay_ns = round(1000 * delay_us)
        self._clock_ns = clock_ns

    def declared(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """Return what the other engine declares."""
        return self._engine.declared()

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
        """Compute, then wait. Raises what the other engine raises, at once."""
        found = self._engine.run(inputs, outputs)
        until_ns = self._clock_ns() + self._delay_ns
        while self._clock_ns() < until_ns:
            pass
        return found


def delayed(load: Load, delay_us: float) -> Load:
    """Return a loader of engines that are delayed."""
    return lambda file: Delayed(load(file), delay_us)


async def start(settings: Settings, delay_us: float) -> Server:
    """Start the server and say where it listens."""
    server = await create_server(SERVICE, settings, delayed(partial(OrtEngine, device=settings.device), delay_us))
    logging.getLogger("studies.injected_delay.injected").info("listening on %s:%d", settings.host, server.port)
    return server


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server until a signal stops it; exit code 1 when it cannot start, 2 for a bad value."""
    parser = argparse.ArgumentParser(
        "python -m studies.injected_delay.injected", allow_abbrev=False, epilog="all other options as for onnx_svc"
    )
    parser.add_argument("--delay-us", type=_delay, required=True, help="microseconds of busy wait in each call")
    options, argv = parser.parse_known_args(arguments)
    log_to_stderr()
    try:
        settings = _settings(argv)
        uvloop.run(serve(lambda: start(settings, options.delay_us)))
    except (SettingsError, ArtifactError, EngineError, PortBusyError) as error:
        sys.stderr.write(f"studies.injected_delay.injected: {error}\n")
        return 1
    return 0


def _settings(argv: Sequence[str]) -> Settings:
    settings = read_settings(argv)
    if settings.workers > 1:
        raise SettingsError("--workers: an injected delay is for one process")
    return settings


def _delay(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= MAX_DELAY_US:
        raise argparse.ArgumentTypeError(f"microseconds from 0 to {MAX_DELAY_US:g} are needed, got {text!r}")
    return value


if __name__ == "__main__":
    sys.exit(main())

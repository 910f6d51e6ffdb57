"""A trained model -> StableHLO: what is written and tried, in processes of their own."""

import contextlib
import json
import multiprocessing
import signal
import subprocess
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path

from export import own_process
from export.errors import ExportError
from export.parity import Predict
from export.trained import Trained
from models.registry import Arrays
from servepath.artifacts.manifest import hash_files as contents

__all__ = ["contents", "load", "write"]

LIMIT_S = 600.0
# JAX is imported in other processes alone: it starts threads, after which this one may not fork.
SPAWN = multiprocessing.get_context("spawn")


def write(trained: Trained, folder: Path, version: int) -> Mapping[str, str]:  # noqa: ARG001 - as every format's
    """Write model.stablehlo. Raises ExportError."""
    words = [trained.name, str(trained.path.parent.parent), str(folder)]
    try:
        code, last = own_process.run("export.stablehlo.convert", words, LIMIT_S)
    except subprocess.TimeoutExpired:
        raise ExportError(f"{trained.name} as StableHLO: not written within {LIMIT_S:g} s") from None
    if code:
        why = last or f"its process ended with code {code}"
        raise ExportError(f"{trained.name} as StableHLO: {why}; nothing was kept")
    facts: dict[str, str] = json.loads(last)
    return facts


def load(folder: Path) -> Predict:
    """Return a function that runs the file on the CPU, in a process of its own that ends with the function."""
    return asked(_answer, folder)


def asked(answer: Callable[[Path, Connection], None], folder: Path) -> Predict:
    """Return a function that asks a process of its own, which answers calls."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=answer, args=(folder, theirs), daemon=True)
    process.start()
    theirs.close()

    def predict(inputs: Arrays) -> Arrays:
        try:
            ours.send(dict(inputs))
            if not ours.poll(LIMIT_S):
                process.kill()
                raise ExportError(f"{folder}: the process that runs it did not answer within {LIMIT_S:g} s")
            said = ours.recv()
        except (EOFError, OSError):  # before it read, while it computed or while it answered
            process.join(own_process.CLEANUP_S)
            raise ExportError(f"{folder}: the process that runs it ended with code {process.exitcode}") from None
        if isinstance(said, str):
            raise ExportError(f"{folder}: {said}")
        found: Arrays = said
        return found

    return predict


def _answer(folder: Path, calls: Connection) -> None:
    """Answer calls until their end; what is raised is a text."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asks ends us, by ending
    from export.stablehlo import file  # noqa: PLC0415 - imports JAX

    predict: Predict | None = None
    with contextlib.suppress(EOFError):
        while True:
            inputs = calls.recv()
            try:
                predict = predict or file.load(folder)
                calls.send(predict(inputs))
            except Exception as error:  # noqa: BLE001 - whatever XLA raises
                calls.send(f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}")

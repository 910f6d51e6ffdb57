"""Programs as children: Ctrl-C reaches us alone, and we end what we started, in order; what we cannot ends with us.

`run_and_wait` is for a program that ends by itself, `start` and `end` for a server.
"""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from servepath.cli import die_with_parent
from servepath.cli.signals import STOP_SIGNALS, block_signals

# How long a child may take to clean up after Ctrl-C: a load of services drains for up to 35 s.
CLEANUP_S = 60.0
TAIL_CHARACTERS = 400

Process = subprocess.Popen[bytes]


def run_and_wait(
    command: Sequence[str],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    limit_s: float | None = None,
    cleanup_s: float = CLEANUP_S,
    listening: bool = True,
) -> tuple[int, str]:
    """Run a program to its end; return its exit code and what `stdout` (a pipe) captured.

    A program that is not `listening` starts with Ctrl-C and SIGTERM blocked, and lets them through by itself when it
    can take them, as `python -m servepath.cli` does. Raises OSError when it cannot be started; TimeoutExpired after
    `limit_s` seconds and KeyboardInterrupt, both once it has ended, for which it has `cleanup_s` seconds.
    """
    with contextlib.ExitStack() as born:
        born.enter_context(block_signals())  # in between, it would leave a child that nobody knows
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=stdout,
            stderr=stderr,
            errors="replace",  # and as text
            process_group=0,  # the terminal's Ctrl-C reaches us alone, and the child gets it from us, once
            preexec_fn=_listen if listening else None,  # noqa: PLW1509 - who starts programs so has no threads
        )
        try:
            born.close()
            text, _ = process.communicate(timeout=limit_s)
        except BaseException:
            _interrupt(process, cleanup_s)
            raise
        finally:
            if process.stdout is not None:
                process.stdout.close()
            _signal(process, signal.SIGKILL)  # one that was killed may leave its own children
    return process.returncode, text or ""


def start(
    command: Sequence[str], log: Path, *, environment: Mapping[str, str] | None = None, outlives_us: bool = False
) -> Process:
    """Start a server in a process group of its own; what it says is in `log`, which is new. Raises OSError.

    The kernel kills it when the thread that called this ends, so call it in the main thread; one that `outlives_us`
    lives on, in a session of its own.
    """
    _check_program(command[0])
    log.parent.mkdir(parents=True, exist_ok=True)
    words, variables = (list(command), environment) if outlives_us else ending_with_us(command, environment)
    with log.open("wb") as output:
        return subprocess.Popen(
            words,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=outlives_us,
            process_group=None if outlives_us else 0,
        )


def ending_with_us(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> tuple[list[str], dict[str, str]]:
    """Return the command and environment with which the kernel kills a program when the thread that started it ends.

    Raises OSError where there is no such program.
    """
    _check_program(command[0])
    variables = dict(os.environ if environment is None else environment)
    variables[die_with_parent.PARENT] = str(os.getpid())
    return [sys.executable, "-IS", die_with_parent.__file__, *command], variables


def end(process: "subprocess.Popen[Any]", grace_s: float) -> None:
    """Terminate a program, and kill it when it has not ended after `grace_s` seconds, or at another Ctrl-C."""
    process.terminate()
    try:
        process.wait(grace_s)
    except BaseException as error:
        process.kill()
        process.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise


@contextlib.contextmanager
def running(command: Sequence[str], log: Path, *, grace_s: float) -> Iterator[Process]:
    """Start a server as `start` does, and end it when the `with` statement is left."""
    process = start(command, log)
    try:
        yield process
    finally:
        end(process, grace_s)


def tail(log: Path) -> str:
    """Return the end of a log on one line."""
    return " ".join(log.read_text(errors="replace")[-TAIL_CHARACTERS:].split()) or "(empty)"


def _check_program(name: str) -> None:
    if shutil.which(name) is None:  # else what does not start is the program in between
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)


def _listen() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def _interrupt(process: "subprocess.Popen[str]", cleanup_s: float) -> None:
    """Interrupt a child and its process group as Ctrl-C in a terminal would; kill it the second time."""
    try:
        _signal(process, signal.SIGINT)
        process.wait(cleanup_s)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        process.kill()
        process.wait()


def _signal(process: "subprocess.Popen[str]", number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)

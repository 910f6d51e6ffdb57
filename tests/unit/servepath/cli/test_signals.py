"""How commands end when Ctrl-C, SIGTERM or SIGHUP ends them."""

import signal
import subprocess
import sys

import pytest

from servepath.cli.signals import block_signals

COMMAND = """
import os, signal, sys
from servepath.cli.signals import block_signals, run_main

def command():
    {body}

sys.exit(run_main(command, "it is over"))
"""


def ended(body: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", COMMAND.format(body=body)], check=False, capture_output=True, text=True
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_says_so_and_ends_as_a_shell_would_say(number: signal.Signals) -> None:
    done = ended(f"os.kill(os.getpid(), {number:d})")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "it is over\n")


def test_an_interrupt_that_a_library_turned_into_another_error_is_an_interrupt() -> None:
    body = """
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt as error:
        raise RuntimeError("an import failed") from error
    """
    done = ended(body)
    assert (done.returncode, done.stderr) == (130, "interrupted, and then RuntimeError: an import failed\n")


def test_an_interrupt_counts_although_it_was_ignored_at_the_start() -> None:
    script = COMMAND.format(body="os.kill(os.getpid(), signal.SIGINT); return 0")
    done = subprocess.run(
        ["sh", "-c", 'trap "" INT TERM; exec "$0" -c "$1"', sys.executable, script], check=False, capture_output=True
    )
    assert done.returncode == 130


@pytest.mark.usefixtures("hangups_count")
def test_a_command_whose_terminal_is_gone_ends_in_the_same_way_and_says_nothing() -> None:
    body = """
    try:
        os.kill(os.getpid(), signal.SIGHUP)
    finally:
        print("to nobody", flush=True)
    """
    done = ended(body)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.usefixtures("hangups_count")
def test_a_hangup_that_comes_twice_does_not_disturb_the_cleaning_up() -> None:
    body = """
    try:
        os.kill(os.getpid(), signal.SIGHUP)
    finally:
        os.kill(os.getpid(), signal.SIGHUP)
        sys.exit(3)
    """
    assert ended(body).returncode == 3


def test_a_hangup_that_is_ignored_at_the_start_stays_so() -> None:
    script = COMMAND.format(body="os.kill(os.getpid(), signal.SIGHUP); return 0")
    done = subprocess.run(
        ["sh", "-c", 'trap "" HUP; exec "$0" -c "$1"', sys.executable, script], check=False, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_command_that_was_not_interrupted_ends_with_its_own_code_or_error() -> None:
    assert ended("return 3").returncode == 3
    done = ended("raise ValueError('not a number')")
    assert done.returncode == 1
    assert done.stderr.endswith("ValueError: not a number\n")


def test_a_signal_that_is_held_back_comes_when_the_block_ends() -> None:
    body = """
    with block_signals():
        os.kill(os.getpid(), signal.SIGINT)
        print("the whole block")
    print("and no more")
    """
    done = ended(body)
    assert (done.returncode, done.stdout, done.stderr) == (130, "the whole block\n", "it is over\n")


def test_a_program_that_starts_meanwhile_does_not_hear_the_signal() -> None:
    command = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('still here')"
    with block_signals(signal.SIGINT):
        done = subprocess.run([sys.executable, "-c", command], check=True, capture_output=True)
    assert done.stdout == b"still here\n"


def test_a_signal_is_held_back_although_another_thread_takes_it() -> None:
    body = """
    import threading
    other = threading.Event()
    threading.Thread(target=other.wait, daemon=True).start()
    with block_signals(signal.SIGINT):
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        sum(range(100_000))
        print("the whole block")
    print("and no more")
    """
    done = ended(body)
    assert (done.returncode, done.stdout, done.stderr) == (130, "the whole block\n", "it is over\n")

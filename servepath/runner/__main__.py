"""Run the services on this machine: `python -m servepath.runner up|down|status|logs [SERVICE ...]`.

Exit code 0 when all is well, 1 for a bad setting or a service that fails or is not ready, 2 for bad
arguments, 130 after Ctrl-C.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from servepath.cli.arguments import Parser, seconds, whole
from servepath.cli.signals import leave_terminal, stop_signals
from servepath.protocols.deployments import DeploymentsError
from servepath.protocols.deployments_file import read_deployments
from servepath.runner import logs, status
from servepath.runner.config import GATEWAY, SERVICES, RunPaths, Service, read_external, read_services
from servepath.runner.processes import RunError, ServiceFiles, lock, main_process
from servepath.runner.progress import progress_display
from servepath.runner.tuned import FOLDER, use_tuned
from servepath.runner.up import Runner, stop_all
from servepath.settings import SettingsError


def service(text: str) -> str:
    """Read SERVICE."""
    if text not in SERVICES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a service; known: {', '.join(SERVICES)}")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerOptions:
    """The command line of `python -m servepath.runner`; the last four where the command takes them.

    services: none where none is named. tuned: the folder of tuned settings to start with.
    """

    command: str
    services: Sequence[str]
    run_paths: RunPaths
    timeout: float
    follow: bool
    lines: int
    tuned: Path | None = None


def parse_args(argv: Sequence[str]) -> RunnerOptions:
    """Read the command line; exit code 2 and one line when it is wrong."""
    common = Parser(add_help=False)
    add = common.add_argument
    add("services", nargs="*", type=service, metavar="SERVICE", help=f"{', '.join(SERVICES)} (default: what has paths)")
    add("--run-dir", type=Path, default=Path(".run"), help="folder of pid and log files (default: .run)")
    add("--exports", type=Path, default=Path("artifacts/exports"), help="default: artifacts/exports")
    add("--deployments", type=Path, default=Path("deployments.toml"), help="default: deployments.toml")
    parser = Parser(prog="servepath", description="Run the services on this machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="up|down|status|logs")
    up = commands.add_parser("up", parents=[common], help="start what is not running, wait until every path answers")
    up.add_argument("--timeout", type=seconds, default=120.0, help="seconds to wait for that (default: 120)")
    up.add_argument("--tuned", action="store_true", help="start with the settings that servepath tune found")
    up.add_argument("--tuned-folder", type=Path, default=FOLDER, help=f"where they are (default: {FOLDER})")
    commands.add_parser("down", parents=[common], help="stop: SIGTERM, 35 s to end, SIGKILL")
    commands.add_parser("status", parents=[common], help="which services run and answer; exit code 1 if not all do")
    tail = commands.add_parser("logs", parents=[common], help="the last lines of the logs")
    tail.add_argument("-f", "--follow", action="store_true", help="follow the logs until Ctrl-C")
    tail.add_argument("-n", "--lines", type=whole(0), default=20, help="lines of each log (default: 20)")
    args = parser.parse_args(argv)
    return RunnerOptions(
        command=args.command,
        services=[name for name in SERVICES if name in args.services],
        run_paths=RunPaths(args.run_dir.resolve(), args.exports, args.deployments),
        timeout=getattr(args, "timeout", 0.0),
        follow=getattr(args, "follow", False),
        lines=getattr(args, "lines", 0),
        tuned=args.tuned_folder if getattr(args, "tuned", False) else None,
    )


def up(options: RunnerOptions) -> int:
    """Start and wait."""
    with lock(options.run_paths.run_dir):
        environment = (
            use_tuned(options.tuned, options.run_paths, _chosen(options), print) if options.tuned else os.environ
        )
        services = read_services(options.run_paths, Path(".env"), environment)
        with progress_display() as display:
            Runner(services, options.run_paths, options.timeout, display, _external(options)).start(_chosen(options))
    return 0


def down(options: RunnerOptions) -> int:
    """Stop."""
    services = options.services or SERVICES
    with lock(options.run_paths.run_dir):
        done = stop_all(options.run_paths, services)
    for name in reversed(services):
        print(f"{name:10} {done.get(name, 'not running')}")
    return 0


def show_status(options: RunnerOptions) -> int:
    """Print the table; of what was started, where deployments.toml cannot be read."""
    services, complaint = _services(options), ""
    try:
        chosen, external = _chosen(options), _external(options)
    except DeploymentsError as error:
        chosen, external, complaint = options.services or _started(options), {}, str(error)
    found = status.states(services, options.run_paths, external)
    ready = status.show([state for state in found if state.service in (*chosen, *external)])
    if complaint:
        _complain(options, complaint)
    return 0 if ready and not complaint else 1


def show_logs(options: RunnerOptions) -> int:
    """Print the last lines of the logs; of all that are there, where deployments.toml cannot be read."""
    try:
        chosen = _chosen(options)
    except DeploymentsError as error:
        _complain(options, str(error))
        chosen = [name for name in SERVICES if ServiceFiles(options.run_paths.run_dir, name).log_file.exists()]
    all_files = [ServiceFiles(options.run_paths.run_dir, name) for name in chosen]
    begin = logs.ends(all_files)
    logs.show(all_files, options.lines, lambda line: print(line, flush=True))
    if options.follow:
        logs.follow(all_files, begin, lambda line: print(line, flush=True))
    return 0


COMMANDS: dict[str, Callable[[RunnerOptions], int]] = {
    "up": up,
    "down": down,
    "status": show_status,
    "logs": show_logs,
}


def _external(options: RunnerOptions) -> dict[str, tuple[str, str]]:
    """Return the external servers, which only the gateway calls."""
    return (
        read_external(options.run_paths.deployments, Path(".env")) if GATEWAY in (options.services or [GATEWAY]) else {}
    )


def _chosen(options: RunnerOptions) -> Sequence[str]:
    """Return the services that are named; by default the gateway, the servers that have paths, and what runs.

    Raises DeploymentsError.
    """
    if options.services:
        return options.services
    wanted = {*(stack.service for stack in read_deployments(options.run_paths.deployments).own_stacks), GATEWAY}
    wanted |= set(_running(options))
    return [name for name in SERVICES if name in wanted]


def _running(options: RunnerOptions) -> list[str]:
    return [name for name in SERVICES if main_process(ServiceFiles(options.run_paths.run_dir, name))]


def _started(options: RunnerOptions) -> list[str]:
    return [name for name in SERVICES if ServiceFiles(options.run_paths.run_dir, name).pid_file.exists()]


def _services(options: RunnerOptions) -> dict[str, Service]:
    return read_services(options.run_paths, Path(".env"))


def _complain(options: RunnerOptions, text: str) -> None:
    print(f"servepath {options.command}: {text}", file=sys.stderr)


def _hang_up(number: int, frame: FrameType | None) -> None:
    leave_terminal(number)
    signal.default_int_handler(number, frame)


def main(argv: Sequence[str]) -> int:
    """Run the command; return the exit code."""
    options = parse_args(argv)
    # Anyone who starts this in the background may have had SIGINT ignored; the others would skip the cleaning up.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    if signal.SIGHUP in stop_signals():
        signal.signal(signal.SIGHUP, _hang_up)
    try:
        code = COMMANDS[options.command](options)
        sys.stdout.flush()
    except (SettingsError, RunError, DeploymentsError) as error:
        _complain(options, str(error))
        return 1
    except KeyboardInterrupt:
        _complain(options, "interrupted")
        return 130
    except BrokenPipeError:
        # Anyone who read this has gone, as in `make logs | head`; what is still buffered goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:  # a folder that is full, or not ours to write to
        _complain(options, str(error))
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

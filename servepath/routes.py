"""`servepath routes check FILE`: which path every name goes to, by a deployments file; a mistake names line and key."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from servepath.cli.arguments import Parser
from servepath.protocols.deployments import ALL, Deployment, Deployments, DeploymentsError
from servepath.protocols.deployments_file import read_deployments
from servepath.protocols.stacks import PATH_STACKS

WIDTH = 140


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutesOptions:
    """The command line."""

    what: str
    file: Path


def parse_args(argv: Sequence[str]) -> RoutesOptions:
    """Read the command line; exit code 2 and one line when it is wrong."""
    parser = Parser(prog="servepath routes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["check"], help="read the file and show what it says")
    parser.add_argument(
        "file", type=Path, nargs="?", default=Path("deployments.toml"), help="default: deployments.toml"
    )
    return parser.read(RoutesOptions, argv)


def routes(deployments: Deployments) -> Iterator[tuple[str, str, str, str, str, str]]:
    """Yield name, path, percent of the calls, where those fall back to, the server's variable, the path's limits."""
    stacks = deployments.stacks
    for model in deployments.models:
        names = [(model.model, stack, percent) for stack, percent in model.shares.items()]
        for name, stack, percent in [*names, *((f"{model.model}@{stack}", stack, ALL) for stack in model.stacks)]:
            limits = model.stacks[stack]
            said = f"{limits.max_in_flight} in flight, {limits.max_queue} waiting, {limits.max_merge_rows} rows merged"
            if limits.hedge_percent:
                said += f"; up to {limits.hedge_percent} % hedged"
            others = [other for other in model.fallback if other != stack] if name == model.model else []
            path = f"{model.model}@{stack}"
            yield name, path, f"{percent:g} %", ", ".join(others), stacks[stack].address_variable, said
        yield from _versions(model)
        if shadow := model.shadow:
            said = f"{shadow.max_in_flight} in flight, others dropped"
            if rule := shadow.promote:
                steps = ", ".join(f"{step:g}" for step in rule.steps)
                said += f"; after each {rule.after} equal answers {steps} % of {model.model}"
            path, share = f"{model.model}@{shadow.stack}", f"{shadow.percent:g} % repeated"
            yield model.model, path, share, "", stacks[shadow.stack].address_variable, said


def _versions(model: Deployment) -> Iterator[tuple[str, str, str, str, str, str]]:
    """Yield what each label stands for, percent of the calls without a version, and stacks that may lack it."""
    single = [stack for stack in model.stacks if stack in PATH_STACKS and PATH_STACKS[stack].which_one_version]
    said = "; ".join(f"{stack} has one version at a time, {PATH_STACKS[stack].which_one_version}" for stack in single)
    for label, version in model.version_labels.items():
        percent = model.version_weights.get(label)
        share = "" if percent is None else f"{percent:g} %"
        yield f"{model.model}, version {label}", f"version {version}", share, "", "", said


def main(argv: Sequence[str]) -> int:
    """Show the routes; exit code 1 and one line where the file cannot be used."""
    options = parse_args(argv)
    try:
        found = list(routes(read_deployments(options.file)))
    except DeploymentsError as error:
        sys.stderr.write(f"servepath routes: {error}\n")
        return 1
    table = Table()
    for column in ("asked for", "goes to", "of the calls", "falls back to", "server at", "limits"):
        table.add_column(column, justify="right" if column == "of the calls" else "left")
    for row in found:
        table.add_row(*row)
    console = Console()
    console.width = max(console.width, WIDTH)  # in a pipe, too
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

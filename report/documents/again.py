"""How to do a run again: the command, and what it ran on."""

import shlex
from collections.abc import Iterator

from report.candidates import settings_of
from report.document import Block, Code, Definition, Definitions
from report.documents.phrases import commit_label
from report.summary import Summary
from servepath.results.names import LOCAL

# What decides the load; where files and servers are is another machine's own.
ARGUMENTS: tuple[str, ...]
ARGUMENTS = ("paths", "via", "rounds", "rows", "payloads", "rate", "duration", "min_requests", "warmup", "arrivals")
ARGUMENTS += (
    "difference",
    "minutes",
    "connections",
    "closed_loop",
    "users",
    "processes",
    "targets",
    "environment",
    "allow",
    "seed",
)
# Where the settings' files are still those of the run.
TUNED = "servepath up --tuned && "


def environment(summary: Summary) -> str:
    """Return what the servers ran on, as the run names it."""
    return str(summary.facts["fairness"]["run"].get("environment", {"value": LOCAL})["value"])


def again(summary: Summary) -> Iterator[Block]:
    """Yield the command, and the facts of commit, seed and machine."""
    facts, host = summary.facts, summary.facts["host"]
    tuned = TUNED if _tuned(summary) else ""
    yield Code(f"git checkout {str(facts['git_commit']).partition('-dirty')[0]} && {tuned}{command(summary)}")
    said = {
        "run": facts["run"],
        "commit": commit_label(facts["git_commit"]),
        "seed": str(facts["seed"]),
        "servers": environment(summary),
        "processor": f"{host['cpu']}, {host['cores']} cores",
        "memory": f"{host['memory_bytes'] / 2**30:.1f} GiB",
        "system": f"{host['os']}, Linux {host['kernel']}, Python {host['python']}",
    }
    yield Definitions(tuple(Definition(term, meaning) for term, meaning in said.items()))


def _tuned(summary: Summary) -> bool:
    """Return whether a path had tuned settings; of sides, who starts their servers says so."""
    rows = [row for row in summary.rows if not row.side]
    return any(settings_of(summary.facts, row).origin for row in rows)


def command(summary: Summary) -> str:
    """Return the command line of the load test, from the arguments that it recorded; FILE has a side's addresses."""
    words = ["python", "-m", "loadtest"]
    arguments = summary.facts["arguments"] | {"seed": summary.facts["seed"]}
    idle = "rounds" if arguments.get("difference") else "minutes"
    for name in [name for name in ARGUMENTS if name in arguments and name != idle]:
        value = arguments[name]
        flag = f"--{name.replace('_', '-')}"
        if name == "environment":
            words += [] if value == LOCAL else [flag, shlex.quote(value)]
        elif name == "processes":
            # Who led workers elsewhere had fewer processes, or none, which is refused without --workers.
            words += [flag, str(arguments.get("workers") or value)]
        elif name == "payloads":
            words += [flag, shlex.quote(value)] if value else []
        elif value is True:
            words.append(flag)
        elif isinstance(value, list):
            words += [word for item in value for word in (flag, str(item))]
        elif value is not None and value is not False:
            words += [flag, f"{value:g}" if isinstance(value, float) else str(value)]
    words += [f"--side {side}=FILE" for side in dict.fromkeys(row.side for row in summary.rows if row.side)]
    return " ".join(words)

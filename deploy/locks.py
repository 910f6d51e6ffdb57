"""`python -m deploy.locks [LOCK...]`: write deploy/images/locks, what each image installs, every wheel with its sha256.

Resolved by pip for this platform from pyproject's extras under constraints.txt. Exit code 1 when pip refuses, or where
this is another Python than the images'.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from packaging.utils import canonicalize_name

from deploy.builder.images import IMAGES
from servepath.artifacts.atomic import write_file
from servepath.cli.arguments import Parser
from servepath.cli.requirements import required

FOLDER = Path("deploy/images/locks")
RESOLVE_S = 900
# The images', in which pip resolves: another one may want other wheels.
PYTHON = "3.11"
# Declared by torchserve for Pythons before 3.4; empty on ours, and the one package without a wheel.
LEFT_OUT = frozenset({"enum-compat"})
# Declared by tokenizers for Tokenizer.from_pretrained, which downloads; the gateway reads files. 35 MB with its needs.
GATEWAY_LEFT_OUT = LEFT_OUT | {"huggingface-hub"}
OURSELVES = "servepath"
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
HEAD = f"# Written by `make locks` for Linux x86_64 and Python {PYTHON}: do not edit.\n"


class Lock(NamedTuple):
    """What one image installs.

    torch_cpu: whether PyTorch is the build without CUDA (another file, same version). left_out: packages that others
    declare and that nothing there imports; what they alone need is left out, too.
    """

    extras: tuple[str, ...]
    torch_cpu: bool = True
    left_out: frozenset[str] = LEFT_OUT


# What the other images are built with, and what each installs.
LOCKS: Mapping[str, Lock] = {"proto": Lock(("proto",))} | {
    image.lock: Lock(
        image.extras, torch_cpu=not image.cuda, left_out=GATEWAY_LEFT_OUT if image.lock == "gateway" else LEFT_OUT
    )
    for image in IMAGES.values()
    if image.lock
}


class LockError(Exception):
    """Pip cannot resolve a lock; the text says why."""


def main(argv: Sequence[str], python: str = RUNNING) -> int:
    """Write the locks that are named, all without a name; return the exit code. python: the one that runs this."""
    parser = Parser(prog="servepath locks", description="Pin what each image installs, with hashes.")
    parser.add_argument("locks", nargs="*", metavar="LOCK", help=f"of {', '.join(LOCKS)} (all)")
    names = parser.parse_args(argv).locks or list(LOCKS)
    if python != PYTHON:
        sys.stderr.write(
            f"servepath locks: the images have Python {PYTHON}; run: make clean setup NEWEST=python{PYTHON}\n"
        )
        return 1
    for name in names:
        if name not in LOCKS:
            parser.error(f"unknown lock {name!r}; known: {', '.join(LOCKS)}")
        try:
            lines = render(resolve(LOCKS[name]), LOCKS[name])
        except LockError as error:
            sys.stderr.write(f"servepath locks: {name}: {error}\n")
            return 1
        write_file(FOLDER / f"{name}.txt", lines)
        sys.stdout.write(f"{name}: {lines.count('--hash')} packages\n")
    return 0


def resolve(lock: Lock) -> dict[str, Any]:
    """Return pip's installation report (pip.pypa.io, reference, installation-report). Raises LockError."""
    command = [
        *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"),
        *("--report", "-", "--constraint", "constraints.txt", f".[{','.join(lock.extras)}]"),
    ]
    # Where pip is told to look into a local folder first, that is where the build without CUDA is.
    elsewhere = {} if lock.torch_cpu else {"PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(
        command, env={**os.environ, **elsewhere}, capture_output=True, text=True, timeout=RESOLVE_S, check=False
    )
    if done.returncode:
        raise LockError((done.stderr.strip().splitlines() or ["pip gave no reason"])[-1])
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def render(report: Mapping[str, Any], lock: Lock) -> str:
    """Return the lock file of an installation report: NAME==VERSION --hash=sha256:..., one per line, sorted."""
    wanted = _needed({canonicalize_name(item["metadata"]["name"]): item for item in report["install"]}, lock)
    return HEAD + "".join(sorted(map(_line, wanted), key=str.lower))


def read(file: Path) -> dict[str, str]:
    """Return a lock's versions by package name."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    return dict(line.split()[0].split("==") for line in lines)


def _needed(items: Mapping[str, Mapping[str, Any]], lock: Lock) -> list[Mapping[str, Any]]:
    """Return what the extras need, directly and in turn, but for what is left out."""
    pulled = [(OURSELVES, extra) for extra in lock.extras]
    seen: set[tuple[str, str]] = set()
    while pulled:
        package, extra = pulled.pop()
        if (package, extra) in seen or package in lock.left_out:
            continue
        seen.add((package, extra))
        pulled += required(items[package]["metadata"].get("requires_dist", []), extra)
    return [items[package] for package in {package for package, _ in seen} - {OURSELVES}]


def _line(item: Mapping[str, Any]) -> str:
    metadata, archive = item["metadata"], item["download_info"]["archive_info"]
    # "2.13.0+cpu": the hash tells one build from the other, and an index may leave the suffix out.
    version = str(metadata["version"]).partition("+")[0]
    return f"{metadata['name']}=={version} --hash=sha256:{archive['hashes']['sha256']}\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

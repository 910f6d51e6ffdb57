"""The two trees that are compared: a git ref checked out for the while, and the working tree as it is."""

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtest.config import inherited
from loadtest.gate.children import GateError, Shell
from servepath.protocols.stacks import STACKS

# What an environment is made from, and what models and artifacts are made from.
ENVIRONMENT = ("constraints.txt", "pyproject.toml")
MAKERS = ("training", "export", "models", *(file for stack in STACKS.values() for file in stack.packed))
# What a ref must have, since its own code starts its services.
STARTER = "servepath/runner/__main__.py"
# Setting up downloads 5 GB; training and exporting take half a minute.
MAKE_S = 3600.0
DIGITS = 7

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Tree:
    """One side. name: ref-COMMIT or tree-COMMIT. python: what runs its services. exports: its models."""

    name: str
    folder: Path
    python: Path
    exports: Path


def shell_at(folder: Path) -> Shell:
    """Return the shell of a tree: its folder, and our environment without what git and make set in it."""
    return Shell(folder, inherited(without=("GIT_", "MAKE", "MFLAGS")))


def repository(folder: Path) -> Shell:
    """Return the working tree whose root is `folder`. Raises GateError for any other folder."""
    shell = shell_at(folder)
    code, text = shell.output("git", "rev-parse", "--show-toplevel", passing=(0, 128))
    if code:
        raise GateError(f"{folder} is not a git repository; run the gate in a clone")
    if Path(text.strip()) != folder.resolve():
        raise GateError(f"run the gate from the repository's root, {text.strip()}")
    return shell


def commit_of(here: Shell, ref: str) -> str:
    """Return the 40 digits of a ref. Raises GateError when there is no such commit."""
    words = ("git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    code, text = here.output(*words, passing=(0, 1, 128))
    if code:
        raise GateError(f"{ref!r} is not a commit of this repository; git log --oneline --all lists them")
    return text.strip()


def differ(here: Shell, commit: str, paths: Sequence[str]) -> bool:
    """Return whether the working tree differs from a commit below `paths`, new files included."""
    code, _ = here.output("git", "diff", "--quiet", commit, "--", *paths, passing=(0, 1))
    return bool(code or here.output("git", "ls-files", "--others", "--exclude-standard", "--", *paths)[1])


@contextmanager
def checkout(here: Shell, commit: str) -> Iterator[Path]:
    """Yield a folder with the files of a commit: a git worktree that is removed at the end."""
    place = Path(tempfile.mkdtemp(prefix="gate-")) / "ref"
    try:
        here.run("git", "worktree", "add", "--quiet", "--detach", str(place), commit, limit_s=600)
        yield place
    finally:
        shutil.rmtree(place.parent, ignore_errors=True)
        here.output("git", "worktree", "prune")


def prepare(here: Shell, commit: str, place: Path, exports: Path, say: Say) -> tuple[Tree, Tree]:
    """Return the ref's tree and the working tree, each with environment, generated code and models. Raises GateError.

    What both would make alike is made once: the ref takes this environment when constraints.txt and pyproject.toml are
    the same, and these exports when the environment and all that shapes an artifact are.
    """
    if not (place / STARTER).is_file():
        raise GateError(f"{commit[:DIGITS]} has no {STARTER}, so its services cannot be started; give a newer --ref")
    dirty = bool(here.output("git", "status", "--porcelain")[1])
    head = commit_of(here, "HEAD")[:DIGITS]
    say(f"ref: {commit[:DIGITS]}; working tree: {head}{', with uncommitted changes' if dirty else ''}")
    there, own = shell_at(place), differ(here, commit, ENVIRONMENT)
    _set_up(there, say, own=own)
    theirs = _models(here, there, exports, say, own=own or differ(here, commit, MAKERS))
    tree = Tree(f"tree-{head}{'-dirty' if dirty else ''}", here.folder, Path(sys.executable), exports)
    return Tree(f"ref-{commit[:DIGITS]}", place, place / ".venv/bin/python", theirs), tree


def _set_up(there: Shell, say: Say, *, own: bool) -> None:
    if own:
        say("environment: the ref gets its own, since constraints.txt or pyproject.toml differ (make setup, 5 GB)")
        there.run("make", "--silent", "setup", limit_s=MAKE_S)
    else:
        say("environment: both use this one, since constraints.txt and pyproject.toml are the same")
        (there.folder / ".venv").symlink_to(sys.prefix)
        # Old: whatever the stamp's age, what both share is not installed again.
        there.run("make", "--silent", "--old-file=.venv/.installed", "setup", limit_s=MAKE_S)


def _models(here: Shell, there: Shell, exports: Path, say: Say, *, own: bool) -> Path:
    if not own:
        say(f"models: both serve {exports}, since their sources are the same")
        return exports
    say("models: each tree trains and exports its own (make train export), since their sources differ")
    for shell in (here, there):
        shell.run("make", "--silent", "--old-file=.venv/.installed", "train", "export", limit_s=MAKE_S)
    return there.folder / "artifacts/exports"

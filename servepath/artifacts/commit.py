"""Which commit this code is at, for whatever has to say what it was made or measured with.

An image has no git; its build writes the commit to NOTE.
"""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMIT_FILE = ".commit"
# Where tracked files differ from the commit, and outside git.
DIRTY, UNKNOWN = "-dirty", "unknown"
TIMEOUT_S = 10


def git_commit(root: Path = ROOT) -> str:
    """Return the commit's 40 digits, with "-dirty" when tracked files differ from it, or "unknown" outside git."""
    # Without --exclude an annotated tag would take the place of the digits.
    command = ["git", "-C", str(root), "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return _noted(root / COMMIT_FILE)
    return done.stdout.strip()


def names_code(commit: str) -> bool:
    """Return whether a commit, as `git_commit` has it, says which code it was: the same text is the same code then."""
    return commit != UNKNOWN and not commit.endswith(DIRTY)


def _noted(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return UNKNOWN

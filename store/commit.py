"""Which commit this code is at, for whatever has to say what it was made or measured with."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 10


def git_commit(root: Path = ROOT) -> str:
    """Give the commit's 40 digits, with "-dirty" when tracked files differ from it, or "unknown" outside git."""
    # Without --exclude an annotated tag would take the place of the digits.
    command = ["git", "-C", str(root), "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()

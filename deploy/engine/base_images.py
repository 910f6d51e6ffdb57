"""Base images: there already, pulled, or, where no registry answers, a substitute with the same name.

A substitute for an official Python image is Debian's bookworm with Debian's Python 3.11, made by debootstrap and
labelled `org.servepath.substitute`. It carries what this machine needs to reach its package index (CA bundle, pip's
settings and local wheels), so that no Dockerfile has to know of it: an index's address may hold a password, so neither
a substitute nor what is built on one leaves this machine. /usr/share/substitute lists what is in it.
"""

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

from deploy.engine.client import Engine, EngineError

LABEL = "org.servepath.substitute"
PULL_S = 900.0
DEBOOTSTRAP_S = 900.0
IMPORT_S = 300.0
MIRROR = "http://deb.debian.org/debian"
PACKAGES = ("python3", "python3-venv", "ca-certificates", "netbase", "tzdata")
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
# What else pip may be told is of this machine's user alone, or of one run.
PIP_SETTINGS = ("cert", "index-url", "trusted-host", "find-links", "timeout")


def ensure_base(docker: Engine, name: str) -> str:
    """Ensure that the engine has the image `name`; return "present", "pulled" or "substitute". Raises EngineError.

    A name may end in a digest. A substitute never has it: it is there under the name before the "@".
    """
    if docker.has(name):
        return "substitute" if is_substitute(docker, name) else "present"
    try:
        docker.ask("pull", "--quiet", name, timeout_s=PULL_S)
    except EngineError as error:
        _substitute(docker, name.partition("@")[0], error)
        return "substitute"
    return "pulled"


def _substitute(docker: Engine, name: str, reason: EngineError) -> None:
    if docker.has(name) and is_substitute(docker, name):
        return
    make = SUBSTITUTES.get(name.partition(":")[0])
    if make is None:
        raise EngineError(f"{name} cannot be pulled, and there is no substitute for it: {reason}") from reason
    make(docker, name)


def is_substitute(docker: Engine, name: str) -> bool:
    """Return whether an image is, or is built on, a substitute image. Raises EngineError."""
    return bool(docker.ask("image", "inspect", "--format", f'{{{{index .Config.Labels "{LABEL}"}}}}', name))


def _python(docker: Engine, name: str) -> None:
    _, _, tag = name.partition(":")
    if not tag.startswith("3.11-slim"):
        raise EngineError(f"{name} cannot be pulled, and bookworm has no other Python than 3.11 to make it from")
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        raise EngineError(
            f"{name} cannot be pulled; a substitute needs root and debootstrap: apt-get install debootstrap"
        )
    sys.stderr.write(f"{name} cannot be pulled: building a substitute from Debian bookworm, a minute\n")
    with tempfile.TemporaryDirectory(prefix="servepath-base-", dir="/var/tmp") as folder:
        root = Path(folder)
        _debootstrap(root)
        _finish(root)
        _import(docker, root, name)


SUBSTITUTES: Mapping[str, Callable[[Engine, str], None]] = {"python": _python}


def _debootstrap(root: Path) -> None:
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", "bookworm", str(root), MIRROR]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEBOOTSTRAP_S, check=False)
    if done.returncode:
        last = (done.stdout.strip().splitlines() or ["no reason given"])[-1]
        raise EngineError(f"debootstrap cannot build a substitute: {last}")


def _finish(root: Path) -> None:
    """Make Debian's tree look like the official image's, and configure this machine's package index in it."""
    listing = root / "usr/share/substitute"
    command = ["dpkg-query", f"--admindir={root}/var/lib/dpkg", "-W"]
    listing.write_text(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)
    for alias in ("python", "python3"):
        (root / "usr/local/bin" / alias).symlink_to("/usr/bin/python3.11")
    for folder in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
        shutil.rmtree(root / folder, ignore_errors=True)
    if CA_BUNDLE.exists():
        shutil.copyfile(CA_BUNDLE, root / CA_BUNDLE.relative_to("/"))
    settings = _pip_settings()
    (root / "etc/pip.conf").write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items()))
    for folder in settings.get("find-links", "").split():
        if Path(folder).is_dir():
            shutil.copytree(folder, root / folder.lstrip("/"), dirs_exist_ok=True)


def _pip_settings() -> dict[str, str]:
    command = [sys.executable, "-m", "pip", "config", "list"]
    return portable(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)


def portable(listing: str) -> dict[str, str]:
    """Return what `pip config list` prints that holds in a container too.

    The environment's settings come last there.
    """
    lines = (line.split("=", 1) for line in listing.splitlines() if "=" in line)
    settings = {name.rpartition(".")[2]: " ".join(value.strip("'\"").split()) for name, value in lines}
    # A folder of this machine is no index in a container; the folders of find-links are copied.
    remote = [url for url in settings.pop("extra-index-url", "").split() if not url.startswith("file:")]
    kept = {name: value for name, value in settings.items() if name in PIP_SETTINGS}
    return {**kept, **({"extra-index-url": " ".join(remote)} if remote else {})}


def _import(docker: Engine, root: Path, name: str) -> None:
    """Load the tree as an image; it is not written to disk once more."""
    changes = (f'LABEL {LABEL}="Debian bookworm, {platform.machine()}"', "ENV LANG=C.UTF-8", 'CMD ["python3"]')
    command = [word for change in changes for word in ("--change", change)]
    with _tar(root) as stream:
        subprocess.run(
            [docker.program, "import", *command, "-", name],
            env=docker.environment(),
            stdin=stream,
            stdout=subprocess.DEVNULL,
            timeout=IMPORT_S,
            check=True,
        )


@contextlib.contextmanager
def _tar(root: Path) -> Iterator[IO[bytes] | None]:
    with subprocess.Popen(
        ["tar", "--create", "--numeric-owner", "-C", str(root), "."], stdout=subprocess.PIPE
    ) as process:
        yield process.stdout

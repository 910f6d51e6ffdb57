"""What is in an image, asked of the image itself: Python packages as a CycloneDX bill of materials, and Debian's."""

import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

from deploy.engine import Engine, EngineError
from deploy.supply.programs import program

SITE = "/opt/venv/lib/python3.11/site-packages"
READ_S = 120.0
BILL_S = 300.0


def bill_of_materials(docker: Engine, image: str) -> str:
    """Return CycloneDX JSON of an image's Python packages, licences included.

    Raises EngineError, and ProgramMissingError.
    """
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=False)
        site = Path(folder) / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        _copy_metadata(docker, image, site)
        command = [
            program("cyclonedx-py"),
            "environment",
            "--output-reproducible",
            "--of",
            "JSON",
            f"{folder}/bin/python",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=BILL_S, check=False)
    if done.returncode:
        raise EngineError(f"cyclonedx-py: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    return done.stdout


def debian_packages(docker: Engine, image: str) -> str:
    """Return an image's Debian packages, NAME and VERSION a line. Raises EngineError."""
    words = ("run", "--rm", "--network=none", "--entrypoint=dpkg-query", image, "--show")
    return docker.ask(*words, timeout_s=READ_S) + "\n"


def _copy_metadata(docker: Engine, image: str, site: Path) -> None:
    script = f"cd {SITE} && exec tar --create *.dist-info"
    command = ["run", "--rm", "--network=none", "--entrypoint=sh", image, "-c", script]
    with (
        subprocess.Popen([docker.program, *command], env=docker.environment(), stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as archive,
    ):
        archive.extractall(site, filter="data")
    if process.returncode:
        raise EngineError(f"{image}: cannot read {SITE}: docker run ended with {process.returncode}")

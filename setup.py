"""Generates servepath_pb from proto/ into what is built, so that a fresh clone installs with pip alone."""

import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithMessages(build_py):
    """Builds the packages, then the generated one beside them."""

    def run(self) -> None:
        """Copy the packages and generate servepath_pb. An editable install takes the checkout's (make proto)."""
        super().run()
        if not self.editable_mode:
            _generate(Path(self.build_lib) / "servepath_pb")


def _generate(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    protos = [path.relative_to("proto").as_posix() for path in sorted(Path("proto").rglob("*.proto"))]
    command = ["-m", "grpc_tools.protoc", "-I", "proto", f"--python_out={folder}", f"--pyi_out={folder}", *protos]
    if subprocess.run([sys.executable, *command], check=False).returncode:
        raise SystemExit("setup.py: protoc cannot generate servepath_pb from proto/; what it says is above")


setup(cmdclass={"build_py": BuildWithMessages})

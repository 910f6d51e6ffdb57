"""`python -m deploy.supply [IMAGE...]`: bills of materials and known vulnerabilities of images that are built.

Writes results/supply/IMAGE/: sbom.json (CycloneDX, Python packages), debian.txt (Debian packages: listed, not scanned)
and audit.json (pip-audit). Exit code 1 for an open vulnerability, for a package that could not be audited, and for an
image that does not hold what its lock says; 2 for wrong arguments, 130 after Ctrl-C.
"""

import datetime as dt
import json
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.builder.images import IMAGES, read_variables, tag
from deploy.engine import Engine, EngineError, engine
from deploy.locks import FOLDER as LOCKS
from deploy.locks import read as read_lock
from deploy.supply.audit import AuditError, Waiver, ask_pip_audit, judge, read_waivers
from deploy.supply.contents import bill_of_materials, debian_packages
from deploy.supply.programs import ProgramMissingError
from servepath.artifacts.atomic import write_file
from servepath.cli.arguments import Parser
from servepath.cli.signals import run_main

OUT = Path("results/supply")
WAIVERS = Path("deploy/supply/waivers.toml")


def main(argv: Sequence[str]) -> int:
    """Inspect the images that were named; return the exit code."""
    parser = Parser(prog="servepath sbom", description="List the packages of images, and their known vulnerabilities.")
    parser.add_argument("images", nargs="*", metavar="IMAGE", help=f"of {', '.join(IMAGES)} (those that are built)")
    args = parser.parse_args(argv).images
    for name in args:
        if name not in IMAGES:
            parser.error(f"unknown image {name!r}; known: {', '.join(IMAGES)}")
    try:
        waivers = read_waivers(WAIVERS, dt.datetime.now(dt.UTC).date())
        with engine() as docker:
            variables = read_variables()
            names = args or _built(docker, variables)
            passed = [_look_into(docker, name, variables, waivers) for name in names]
    except (EngineError, AuditError, ProgramMissingError, subprocess.SubprocessError, tarfile.TarError) as error:
        print(f"servepath sbom: {error}", file=sys.stderr)
        return 1
    return int(not all(passed))


def _built(docker: Engine, variables: Mapping[str, str]) -> list[str]:
    names = [name for name in IMAGES if docker.has(tag(name, variables))]
    if not names:
        raise EngineError("no image is built; run: make images")
    return names


def _look_into(docker: Engine, name: str, variables: Mapping[str, str], waivers: Sequence[Waiver]) -> bool:
    image = tag(name, variables)
    debian = debian_packages(docker, image)
    write_file(OUT / name / "debian.txt", debian)
    print(f"{name}: {debian.count(chr(10))} Debian packages, listed and not scanned")
    lock = IMAGES[name].lock
    if not lock:
        print(f"{name}: no Python packages of ours")
        return True
    return all([_check_contents(docker, name, image, lock), _audit(name, lock, waivers)])


def _check_contents(docker: Engine, name: str, image: str, lock: str) -> bool:
    bill = bill_of_materials(docker, image)
    write_file(OUT / name / "sbom.json", bill)
    held = {part["name"].lower().replace("_", "-") for part in json.loads(bill)["components"]}
    locked = {package.lower().replace("_", "-") for package in read_lock(LOCKS / f"{lock}.txt")}
    print(f"{name}: {len(held)} Python packages in sbom.json")
    for package in sorted(held ^ locked):
        print(f"{name}: {package} is in {'the image' if package in held else 'the lock'} alone")
    return held == locked


def _audit(name: str, lock: str, waivers: Sequence[Waiver]) -> bool:
    answer = ask_pip_audit(LOCKS / f"{lock}.txt")
    write_file(OUT / name / "audit.json", json.dumps(answer, indent=2))
    audit = judge(answer, waivers)
    for line in (*audit.vulnerable, *audit.waived):
        print(f"{name}: {line}")
    total = len(answer["dependencies"])
    if audit.skipped:
        print(f"{name}: NOT AUDITED: the service has no data about {len(audit.skipped)} of {total} packages")
    else:
        print(f"{name}: {total} packages audited, {len(audit.vulnerable)} open, {len(audit.waived)} waived")
    return audit.passes()


if __name__ == "__main__":
    sys.exit(run_main(lambda: main(sys.argv[1:])))

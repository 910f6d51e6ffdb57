"""Start services with tuned settings: those of the paths in deployments.toml, copied to where only they are in use."""

import os
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import psutil

from servepath.artifacts.atomic import write_file
from servepath.artifacts.manifest import ArtifactError
from servepath.cli.cores import host_kind
from servepath.protocols import tuned
from servepath.protocols.deployments import read_deployments
from servepath.protocols.tuned import Tuned
from servepath.runner.config import GATEWAY, RunPaths
from servepath.runner.processes import RunError, ServiceFiles, main_process

FOLDER = Path("results/tuned")
Files = Mapping[str, Tuned]


def use_tuned(
    source: Path,
    places: RunPaths,
    services: Collection[str],
    say: Callable[[str], object],
    environment: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """Return the environment that gives services the tuned settings of `source`.

    Raises RunError where there are none, one is for another artifact or machine, or a service runs with others;
    DeploymentsError.
    """
    try:
        files = _files(source, places)
        running = {name: process for name in services if (process := main_process(ServiceFiles(places.run_dir, name)))}
        folder = places.run_dir / "tuned"
        differing = [name for name, process in running.items() if _of(_used_by(process), name) != _of(files, name)]
    except ArtifactError as error:
        raise RunError(str(error)) from error
    if differing:
        raise RunError(f"{', '.join(differing)} already run with other settings; run: make down, then make up TUNED=1")
    shutil.rmtree(folder, ignore_errors=True)
    for name, found in files.items():
        write_file(tuned.file_of(folder, name), found.to_toml())
        say(f"tuned {found}")
    return {**environment, tuned.VARIABLE: str(folder)}


def _files(source: Path, places: RunPaths) -> Files:
    """Return the files of the paths that there are, by the path that was tuned. Raises RunError or ArtifactError."""
    paths = {f"{model}@{stack}" for model, stack in read_deployments(places.deployments).paths}
    found = {name: one for name, one in tuned.find(source).items() if {name, one.path} <= paths}
    if not found:
        raise RunError(f"{source} has no tuned settings of a path in {places.deployments}; run: make tune")
    for name, one in found.items():
        tuned.refuse_stale(tuned.file_of(source, name), one, places.exports, host_kind())
    return found


def _used_by(process: psutil.Process) -> Files:
    try:
        folder = process.environ().get(tuned.VARIABLE)
    except (psutil.Error, OSError):  # it has just ended
        return {}
    return tuned.find(Path(folder)) if folder else {}


def _of(files: Files, service: str) -> dict[str, tuned.Values]:
    """Return what of the settings is a service's own, by path."""
    if service == GATEWAY:
        own = {found.path: found.limits for found in files.values()}
    else:
        own = {found.path: found.of_server for found in files.values() if found.stack.service == service}
    return {path: settings for path, settings in own.items() if settings}

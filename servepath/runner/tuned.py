"""Start services with tuned settings: those of the paths in deployments.toml, copied to where only they are in use."""

import hashlib
import os
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

import psutil

from servepath.artifacts.atomic import write_file
from servepath.artifacts.manifest import ArtifactError
from servepath.cli.cores import host_kind
from servepath.protocols import tuned
from servepath.protocols.deployments_file import read_deployments
from servepath.protocols.stacks import PATH_STACKS
from servepath.protocols.tuned import Tuned
from servepath.runner.config import GATEWAY, RunPaths
from servepath.runner.processes import RunError, ServiceFiles, main_process

FOLDER = Path("results/tuned")
# What a path without a setting of the whole server needs, more than any value that was tried.
ALL_CORES = sys.maxsize
Files = Mapping[str, Tuned]


def use_tuned(
    source: Path,
    run_paths: RunPaths,
    services: Collection[str],
    say: Callable[[str], object],
    environment: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """Return the environment that gives services the tuned settings of `source`.

    Their copies are in a folder that is named by what it holds, so that nothing changes for services that run.

    Raises RunError where there are none, one is for another artifact or machine, or a service runs with others;
    DeploymentsError.
    """
    try:
        files = _in_force(_files(source, run_paths), run_paths, say)
        running = {
            name: process for name in services if (process := main_process(ServiceFiles(run_paths.run_dir, name)))
        }
        differing = [name for name, process in running.items() if _of(_used_by(process), name) != _of(files, name)]
    except ArtifactError as error:
        raise RunError(str(error)) from error
    if differing:
        raise RunError(f"{', '.join(differing)} already run with other settings; run: make down, then make up TUNED=1")
    texts = {name: found.to_toml() for name, found in files.items()}
    folder = run_paths.run_dir / "tuned" / hashlib.sha256(repr(texts).encode()).hexdigest()[:16]
    for name, text in texts.items():
        write_file(tuned.file_of(folder, name), text)
    return {**environment, tuned.VARIABLE: str(folder)}


def _files(source: Path, run_paths: RunPaths) -> Files:
    """Return the files of the paths that there are, by the path that was tuned. Raises RunError or ArtifactError."""
    listed = read_deployments(run_paths.deployments)
    paths = {f"{model}@{stack}" for model, stack in listed.paths}
    found = {name: one for name, one in tuned.find(source).items() if {name, one.path} <= paths}
    if not found:
        raise RunError(f"{source} has no tuned settings of a path in {run_paths.deployments}; run: make tune")
    for name, one in found.items():
        limits = tuned.limits_of(listed, name)
        tuned.refuse_stale(tuned.file_of(source, name), one, run_paths.exports, host_kind(), limits)
    return found


def _in_force(files: Files, run_paths: RunPaths, say: Callable[[str], object]) -> Files:
    """Return the files with what a server has once for all its paths: the largest, or the default where one has none.

    Those of a trial stay as they are: it asks one path alone.
    """
    if any(found.settings and not found.rounds for found in files.values()):
        return files
    found = {one.path: one.settings for one in files.values()}
    paths = [(f"{model}@{name}", name) for model, name in read_deployments(run_paths.deployments).paths]
    own = [(PATH_STACKS[name].service, found.get(path, {})) for path, name in paths if name in PATH_STACKS]

    def largest(service: str, name: str) -> int:
        return max(settings.get(name, ALL_CORES) for other, settings in own if other == service)

    return {
        name: _shared(
            one,
            {each.name: largest(one.stack.service, each.name) for each in one.stack.tunables if each.per_server},
            say,
        )
        for name, one in files.items()
    }


def _shared(found: Tuned, values: Mapping[str, int], say: Callable[[str], object]) -> Tuned:
    """Return a file with the values of its server."""
    changed = {name: value for name, value in values.items() if found.settings.get(name, ALL_CORES) != value}
    if not changed:
        say(f"tuned {found}")
        return found
    settings = {name: value for name, value in {**found.settings, **changed}.items() if value != ALL_CORES}
    say(
        f"tuned {found.path}: {tuned.worded(settings)}; {', '.join(changed)} is one for all paths of "
        f"{found.stack.service}: the largest, or the default where a path has none"
    )
    return replace(found, settings=settings)


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

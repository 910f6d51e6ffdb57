"""The versions that a server may see: links, in a folder of tf_svc's own, to version folders that fit their manifest.

RUN_DIR/served/MODEL/VERSION -> EXPORTS/MODEL/saved_model/VERSION. tensorflow_model_server takes any folder that has a
number for a name as a version, however little of it is there yet, drops the version before it, and never looks at a
refused number again. So it watches a folder where a version appears whole, by one call, after its files were compared.
"""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

from servepath.artifacts.manifest import AGAIN, ArtifactError, Snapshot, snapshot, verify
from services.tf_svc.models_config import FORMAT

log = logging.getLogger(__name__)


class Staging:
    """The newest version of each model that fits its manifest, and no other. `begin` first; one thread."""

    def __init__(self, sources: Mapping[str, Path], root: Path) -> None:
        """sources: each model's folder of versions. root: a folder that belongs to this process alone."""
        self._models = {name: _Model(name, source, root / name) for name, source in sources.items()}
        self._root = root

    @property
    def bases(self) -> dict[str, Path]:
        """Return the folder that the server watches, by model."""
        return {name: model.base for name, model in self._models.items()}

    def begin(self) -> None:
        """Link a version of every model. Raises ArtifactError naming what is wrong with the newest where none fits."""
        shutil.rmtree(self._root, ignore_errors=True)
        for model in self._models.values():
            model.base.mkdir(parents=True)
            model.step()
            if model.linked is None:
                raise ArtifactError(model.wrong or f"{model.source} has no version folder; {AGAIN}")

    def step(self) -> None:
        """Look at the versions once and follow them; what goes wrong is logged and tried again with the next look."""
        for name, model in self._models.items():
            try:
                model.step()
            except Exception:
                log.exception("%s: following its versions failed; trying again", name)


class _Model:
    """One model's link. wrong: why the newest version was refused by the last look."""

    def __init__(self, name: str, source: Path, base: Path) -> None:
        self.source = source
        self.base = base
        self.linked: int | None = None
        self.wrong = ""
        self._name = name
        # Versions that do not fit, as they were then, and why: not read again until they change.
        self._refused: dict[int, tuple[Snapshot, str]] = {}
        # What the log says of them: at once, and again where something else is wrong with a folder that has come to
        # rest. One that is being copied changes with every look.
        self._logged: dict[int, str] = {}
        self._unreadable = False

    def step(self) -> None:
        try:
            folders = version_folders(self.source)
        except OSError as error:
            self._warn_once(error)
            return
        self._unreadable, self.wrong = False, ""
        self._refused = {version: refused for version, refused in self._refused.items() if version in folders}
        self._logged = {version: text for version, text in self._logged.items() if version in folders}
        version = next((version for version in sorted(folders, reverse=True) if self._fits(version, folders)), None)
        if version == self.linked or (version is None and folders):
            return
        self._show(version, folders)
        self.linked = version

    def _show(self, version: int | None, folders: Mapping[int, Path]) -> None:
        """Link a version, then remove all others: the server must never find the folder empty while there is one."""
        self.base.mkdir(parents=True, exist_ok=True)
        link = self.base / str(version)
        if version is not None and not link.is_symlink():
            link.symlink_to(folders[version].resolve())
        for other in self.base.iterdir():
            if other.name != str(version):
                other.unlink()

    def _fits(self, version: int, folders: Mapping[int, Path]) -> bool:
        """Return whether a version may be served; one that is linked was compared, and does not change."""
        if version == self.linked:
            return True
        folder = folders[version]
        try:
            # Before its files are read: what comes meanwhile must be another state than the one that was judged.
            seen = snapshot(folder)
            before, why = self._refused.get(version, (None, ""))
            if before == seen:
                self._refuse(version, why, at_rest=True)
                return False
            check(self._name, version, folder)
        except OSError as error:
            self._refuse(version, str(error))
        except ArtifactError as error:
            if not isinstance(error.__cause__, OSError):  # what cannot be read now may be read later, unchanged
                self._refused[version] = seen, str(error)
            self._refuse(version, str(error))
        else:
            self._logged.pop(version, None)
            return True
        return False

    def _refuse(self, version: int, why: str, *, at_rest: bool = False) -> None:
        self.wrong = self.wrong or why
        logged = self._logged.get(version)
        if logged is None or (at_rest and logged != why):
            still = "nothing is served" if self.linked is None else f"version {self.linked} serves on"
            log.error("%s: version %d refused, %s: %s", self._name, version, still, why)
            self._logged[version] = why

    def _warn_once(self, error: OSError) -> None:
        if not self._unreadable:
            log.warning(
                "%s: its base path cannot be read (%s); loaded versions stay in service", self._name, error.strerror
            )
        self._unreadable = True


def check(model: str, version: int, folder: Path) -> None:
    """Compare a version folder with its manifest. Raises ArtifactError naming what is missing, changed or foreign."""
    manifest = verify(folder)
    if (manifest.model, manifest.format, manifest.version) != (model, FORMAT, version):
        holds = f"{manifest.model} as {manifest.format}, version {manifest.version}"
        raise ArtifactError(f"{folder} holds {holds}, by its manifest; remove it and {AGAIN}")


def version_folders(source: Path) -> dict[int, Path]:
    """Return the folders named as exports name them, `7` and not `007`, by number. Raises OSError."""
    folders = (path for path in source.iterdir() if path.name.isascii() and path.name.isdecimal())
    return {int(path.name): path for path in folders if path.name == str(int(path.name)) and path.is_dir()}

"""Loads and unloads by calls go on to their end, whatever their callers and the watcher do."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path, PosixPath

import pytest

from servepath.protocols.errors import ModelLoading, ModelNotFound, ServeError
from servepath_pb.servepath.oip import oip_pb2 as pb
from services.dataplane.batch_scope import BatchScope
from services.oip_server.artifact import UNBATCHED, Version, load
from services.oip_server.models import Model, Models
from services.oip_server.repository import Repository
from services.oip_server.threads import EngineThreads
from services.oip_server.watch import Watcher
from services.onnx_svc.config import SERVICE
from tests.engines import Gated
from tests.limits import LONG_S
from tests.tiny_onnx import linear, make_export

LOAD = pb.RepositoryModelLoadRequest(model_name="simple_nn")
UNLOAD = pb.RepositoryModelUnloadRequest(model_name="simple_nn")


class Gate:
    """Holds up a thread until the test lets it go on."""

    def __init__(self) -> None:
        self._entered, self._opened = threading.Event(), threading.Event()
        self.open = self._opened.set

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._entered.wait, LONG_S)

    def wait(self) -> None:
        self._entered.set()
        assert self._opened.wait(LONG_S)


def version_of(folder: Path) -> Version:
    artifact = load(folder, SERVICE, Gated())
    return Version(artifact, partial(EngineThreads, threads=1), UNBATCHED, BatchScope())


class Served:
    """simple_nn with version 1 loaded, 2 and 3 exported since, 3 current. changes: what is loaded at each change."""

    def __init__(
        self, exports: Path, make_version: Callable[[Path], Version] = version_of, folder: type[PosixPath] = PosixPath
    ) -> None:
        for version in (1, 2, 3):
            make_export(exports, "simple_nn", version, content=linear(version))
        own = folder(exports / "simple_nn" / "onnx")
        self.model = Model("simple_nn", own, {1: version_of(own / "1")}, 1)
        self.changes: list[list[int]] = []
        models = Models({"simple_nn": self.model}, "onnx")
        self.repository = Repository(models, make_version, "", self._on_change)
        self.watcher = Watcher(models, make_version, self._on_change)

    async def _on_change(self, model: Model) -> None:
        self.changes.append(sorted(model.versions))


async def test_a_load_goes_on_when_its_caller_goes_away(tmp_path: Path) -> None:
    gate = Gate()

    def make_version(folder: Path) -> Version:
        gate.wait()
        return version_of(folder)

    served = Served(tmp_path, make_version)
    calling = asyncio.create_task(served.repository.load(LOAD))
    await gate.reached()
    calling.cancel()
    await asyncio.wait([calling])
    for call in (served.repository.load(LOAD), served.repository.unload(UNLOAD)):
        with pytest.raises(ModelLoading, match="simple_nn is being loaded or unloaded by another call"):
            await call
    gate.open()
    async with asyncio.timeout(LONG_S):
        while not served.changes:  # noqa: ASYNC110 - nobody waits for it
            await asyncio.sleep(0.01)
    assert (served.changes, served.model.current, served.model.ready()) == ([[1, 2, 3]], 3, True)
    async with asyncio.timeout(LONG_S):
        while served.changes == [[1, 2, 3]]:
            with contextlib.suppress(ModelLoading):  # the load is told of before it has ended
                await served.repository.unload(UNLOAD)
            await asyncio.sleep(0)
    assert served.changes == [[1, 2, 3], []]


async def test_a_stop_gives_up_a_load_under_way(tmp_path: Path) -> None:
    gate = Gate()

    def make_version(folder: Path) -> Version:
        gate.wait()
        return version_of(folder)

    served = Served(tmp_path, make_version)
    calling = asyncio.create_task(served.repository.load(LOAD))
    await gate.reached()
    await served.repository.close()
    with pytest.raises(asyncio.CancelledError):
        await calling
    gate.open()
    assert sorted(served.model.versions) == [1]


async def test_the_watcher_brings_no_model_back_that_a_call_unloads_meanwhile(tmp_path: Path) -> None:
    gate = Gate()

    class SlowFolder(PosixPath):
        def iterdir(self):  # type: ignore[no-untyped-def]  # noqa: ANN202 - as Path's
            gate.wait()
            return super().iterdir()

    served = Served(tmp_path, folder=SlowFolder)
    looking = asyncio.create_task(served.watcher.look(served.model))
    await gate.reached()
    unloading = asyncio.create_task(served.repository.unload(UNLOAD))
    for _ in range(10):
        await asyncio.sleep(0)
    gate.open()
    await asyncio.gather(looking, unloading)
    assert served.model.versions == {}


async def test_a_version_that_the_watcher_adopts_is_a_change(tmp_path: Path) -> None:
    served = Served(tmp_path)
    await served.watcher.look(served.model)
    assert (served.changes, served.model.current) == ([[1, 3]], 3)


async def test_a_current_version_that_a_load_could_not_bring_is_tried_again_by_the_watcher(tmp_path: Path) -> None:
    tried: list[str] = []

    def make_version(folder: Path) -> Version:
        tried.append(folder.name)
        if tried.count("3") == 1 and folder.name == "3":
            raise OSError("no memory")
        return version_of(folder)

    served = Served(tmp_path, make_version)
    with contextlib.suppress(OSError, ServeError):
        await served.repository.load(LOAD)
    served.model.current = 3
    with pytest.raises(ModelNotFound, match="simple_nn has no version 3; loaded are"):
        served.model.find(0)
    await served.watcher.look(served.model)
    assert (served.model.current, served.model.serves) == (3, True)


async def test_a_model_whose_folder_is_gone_is_in_the_index_and_cannot_be_loaded_again(tmp_path: Path) -> None:
    served = Served(tmp_path)
    served.model.folder.rename(tmp_path / "elsewhere")
    (entry,) = (await served.repository.index(pb.RepositoryIndexRequest())).models
    assert (entry.version, entry.state) == ("1", "READY")
    await served.repository.unload(UNLOAD)
    with pytest.raises(ModelLoading, match="simple_nn: version 3 cannot be loaded"):
        await served.repository.load(LOAD)

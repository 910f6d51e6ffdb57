"""When the deployments file is read again, and what becomes of what was in use, without sockets."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from servepath.protocols.deployments import DeploymentsError
from servepath.settings import SettingsError
from services.gateway.reload import Reloader, hash_of
from tests.limits import LONG_S


class Shadows:
    def forget(self, _: Any) -> None:
        pass


class Routes:
    """What a Reloader needs of Routes: here, none."""

    def __init__(self) -> None:
        self.deployments = type("None", (), {"models": ()})
        self.paths: dict[Any, Any] = {}
        self.shadows = Shadows()


class Builds:
    """Builds routes, or fails as the test says; notes whether the file was to be read."""

    def __init__(self) -> None:
        self.reads: list[bool] = []
        self.error = self.setting = ""
        self.failing = False

    def __call__(self, _: Any, read: bool) -> Any:  # noqa: FBT001 - a Reloader's
        self.reads.append(read)
        if self.failing:
            raise DeploymentsError("a tokenizer that is just being written")
        if self.setting:
            raise SettingsError(self.setting)
        if self.error and read:
            raise DeploymentsError(self.error)
        return Routes()


@asynccontextmanager
async def watching(
    folder: Path, builds: Builds, used: list[Any], private: Path = Path("/nowhere")
) -> AsyncIterator[Reloader]:
    file = folder / "deployments.toml"
    file.write_text("one")
    routes: Any = Routes()
    reloader = Reloader(
        file, (private,), routes, builds, used.append, content=hash_of(file), look_every_s=0.01, again_s=0.02
    )
    reloader.start()
    try:
        yield reloader
    finally:
        await reloader.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S):
        while not condition():  # noqa: ASYNC110 - a Reloader tells nobody
            await asyncio.sleep(0.005)


async def test_a_file_that_cannot_be_used_is_tried_again_until_it_can_and_told_once(tmp_path: Path) -> None:
    builds, used, told = Builds(), list[Any](), []
    builds.error = "no export of m yet"
    async with watching(tmp_path, builds, used) as reloader:
        reloader.on_reload = lambda: told.append(reloader.error)
        (tmp_path / "deployments.toml").write_text("two")
        await until(lambda: len(builds.reads) > 3)
        assert (reloader.error, used, told) == (builds.error, [], [builds.error])
        builds.error = ""
        await until(lambda: bool(used))
        assert (reloader.error, told[1:]) == ("", [""])
        assert reloader.sha256 == hash_of(tmp_path / "deployments.toml")


async def test_other_addresses_are_followed_while_the_file_cannot_be_used(tmp_path: Path) -> None:
    builds, used = Builds(), list[Any]()
    async with watching(tmp_path, builds, used) as reloader:
        builds.error = "not TOML"
        reloader.ask()
        await until(lambda: bool(reloader.error))
        reloader.follow()
        await until(lambda: bool(used))
        assert reloader.error == "not TOML"
        assert False in builds.reads


async def test_addresses_that_could_not_be_followed_are_tried_again(tmp_path: Path) -> None:
    builds, used = Builds(), list[Any]()
    async with watching(tmp_path, builds, used) as reloader:
        builds.failing = True
        reloader.follow()
        await until(lambda: len(builds.reads) > 2)
        assert (used, reloader.error) == ([], "")
        builds.failing = False
        await until(lambda: bool(used))


async def test_who_asks_again_is_told_again_and_each_cause_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    builds = Builds()
    async with watching(tmp_path, builds, []) as reloader:
        told = list[str]()
        reloader.on_reload = lambda: told.append(reloader.error)
        for count, cause in enumerate(("A_ADDR is wrong", "A_ADDR is wrong", "B_ADDR is wrong"), 1):
            builds.setting = cause
            reloader.ask()
            await until(lambda count=count: len(told) == count)  # type: ignore[misc]
        assert set(told) == {"an address in .env or in the environment cannot be used; the gateway's log has the cause"}
    assert [line.rpartition(": ")[2] for line in caplog.messages] == ["A_ADDR is wrong"] * 2 + ["B_ADDR is wrong"]


@pytest.mark.parametrize(
    ("folder", "text", "told"),
    [
        (Path("artifacts/exports"), "artifacts/exports/m/onnx is missing", "m/onnx is missing"),
        (Path("/"), "/deployments.toml, line 3", "/deployments.toml, line 3"),
        (Path(), "./deployments.toml, line 3.", "./deployments.toml, line 3."),
    ],
)
async def test_callers_are_not_told_where_folders_are(tmp_path: Path, folder: Path, text: str, told: str) -> None:
    builds = Builds()
    builds.error = text
    async with watching(tmp_path, builds, [], folder) as reloader:
        reloader.ask()
        await until(lambda: bool(reloader.error))
        assert reloader.error == told


async def test_routes_that_cannot_be_put_into_use_end_no_watch(tmp_path: Path) -> None:
    builds, used = Builds(), list[Any]()
    async with watching(tmp_path, builds, used) as reloader:
        before, reloader._use = reloader.routes, lambda _: 1 / 0
        reloader.ask()
        await until(lambda: bool(reloader.error))
        assert reloader.routes is before
        assert "the gateway's log has the cause" in reloader.error
        reloader._use = used.append
        await until(lambda: bool(used) and not reloader.error)

"""When the deployments file is read again, and what becomes of what was in use, without sockets."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from servepath.protocols.deployments import DeploymentsError
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
        self.error = ""

    def __call__(self, _: Any, read: bool) -> Any:  # noqa: FBT001 - a Reloader's
        self.reads.append(read)
        if self.error and read:
            raise DeploymentsError(self.error)
        return Routes()


@asynccontextmanager
async def watching(folder: Path, builds: Builds, used: list[Any]) -> AsyncIterator[Reloader]:
    file = folder / "deployments.toml"
    file.write_text("one")
    routes: Any = Routes()
    reloader = Reloader(file, (), routes, builds, used.append, content=hash_of(file), look_every_s=0.01, again_s=0.02)
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
        assert builds.reads[-1] is False or False in builds.reads


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

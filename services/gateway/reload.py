"""The deployments file, read again while calls are under way: on SIGHUP, and when it has changed.

A file that cannot be used changes nothing: the routes in use stay, and log, metric and ListPaths say what is wrong.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from servepath.artifacts.manifest import ArtifactError
from servepath.protocols.deployments import DeploymentsError
from servepath.settings import SettingsError
from services.gateway.paths import Routes
from services.gateway.replicas import Member

log = logging.getLogger(__name__)
# A change counts when the file is found unchanged once more: an editor may be writing it.
LOOK_EVERY_S = 1.0
IDLE_LOOK_S = 0.1


class Reloader:
    """Keeps the routes those of the file.

    error: why the file as it is now is not in use, "" where it is. sha256: of the file that is in use.
    """

    def __init__(
        self,
        file: Path,
        exports: Path,
        routes: Routes,
        build: Callable[[Routes], Routes],
        use: Callable[[Routes], None],
        *,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        """`build`: reads the file and builds its routes of those known. `use`: puts routes into use, at once."""
        self.routes = routes
        self.error = ""
        self.on_reload: Callable[[], None] = _nothing
        self._file = file
        self._exports = exports
        self._build = build
        self._use = use
        self._look_every_s = look_every_s
        self._asked = asyncio.Event()
        self._seen = self._content()
        self.sha256 = self._seen
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Watch the file."""
        self._begin(self._watch())

    async def stop(self) -> None:
        """End watching, and close the paths that still wait for that."""
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def ask(self) -> None:
        """Read the file now, changed or not."""
        self._asked.set()

    async def _watch(self) -> None:
        last = self._seen
        while True:
            try:
                async with asyncio.timeout(self._look_every_s):
                    await self._asked.wait()
            except TimeoutError:
                found = await asyncio.to_thread(self._content)
                if (changed := found != self._seen) and found == last:
                    self._reload(found)
                last = found if changed else self._seen
            else:
                self._asked.clear()
                self._reload(await asyncio.to_thread(self._content))

    def _reload(self, content: str) -> None:
        """Put the file's routes into use, or say why not."""
        self._seen = content
        before = self.routes
        try:
            self.routes = self._build(before)
        except (DeploymentsError, ArtifactError, SettingsError) as error:
            self.error = self._for_clients(str(error))
            log.error("the routes stay as they were: %s", error)  # noqa: TRY400 - the text says it all
        except Exception:
            self.error = f"{self._file.name} cannot be used; the gateway's log has the cause"
            log.exception("the routes stay as they were")
        else:
            self.error, self.sha256 = "", content
            self._use(self.routes)
            kept = {member for path in self.routes.paths.values() for member in path.replicas.members}
            for path in before.paths.values():
                if gone := [member for member in path.replicas.members if member not in kept]:
                    self._begin(_retire(path.name, gone, before.deployments.gateway.max_deadline_s))
            changes = "; ".join(_changes(before, self.routes)) or "nothing that is routed has changed"
            log.info("%s is in use, sha256 %s: %s", self._file, content[:12], changes)
        self.on_reload()

    def _for_clients(self, text: str) -> str:
        """Return a message without the places of this machine's folders."""
        for folder in (self._file.parent, self._exports):
            text = text.replace(f"{folder}/", "")
        return text

    def _content(self) -> str:
        """Return the hash of the file, "" where it cannot be read."""
        try:
            return sha256(self._file.read_bytes()).hexdigest()
        except OSError:
            return ""

    def _begin(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _retire(path: str, members: Sequence[Member], patience_s: float) -> None:
    """Close replicas that no call is routed to any more, when their last call has ended."""
    try:
        async with asyncio.timeout(patience_s):
            while any(member.load for member in members):  # noqa: ASYNC110 - batchers tell nobody
                await asyncio.sleep(IDLE_LOOK_S)
    except TimeoutError:
        log.warning("a replica of %s is closed with calls under way", path)
    finally:
        for member in members:
            await member.batcher.close()


def _changes(before: Routes, after: Routes) -> Iterator[str]:
    """Yield what is routed otherwise, as phrases."""
    old = {one.model: one for one in before.deployments.models}
    new = {one.model: one for one in after.deployments.models}
    for model, one in new.items():
        for stack in one.stacks:
            known, path = before.paths.get((model, stack)), after.paths[model, stack]
            if known is not path:
                count = len(path.origin.addresses)
                yield f"{path.name} is {'built again' if known else 'new'}, at {count} address{'es' * (count > 1)}"
        if model in old and old[model].shares != one.shares:
            shares = ", ".join(f"{stack} {share:g} %" for stack, share in one.shares.items())
            yield f"{model} goes to {shares}"
        if model in old and old[model].fallback != one.fallback:
            yield f"{model} falls back to {', '.join(one.fallback) or 'nothing'}"
        if model in old and old[model].shadow != one.shadow:
            yield f"{model} is repeated otherwise"
    yield from (f"{path.name} is gone" for name, path in before.paths.items() if name not in after.paths)


def _nothing() -> None:
    pass

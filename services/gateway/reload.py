"""The deployments file, read again while calls are under way: on SIGHUP, and when it has changed.

A file that cannot be used changes nothing: the routes in use stay, and log, metric and ListPaths say what is wrong.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from time import monotonic

from servepath.artifacts.manifest import ArtifactError
from servepath.protocols.deployments import DeploymentsError
from servepath.settings import SettingsError
from services.gateway.replicas import Member
from services.gateway.routes import Routes
from services.gateway.version_labels import version_labels

log = logging.getLogger(__name__)
# A change counts when the file is found unchanged once more: an editor may be writing it.
LOOK_EVERY_S = 1.0
# Between two trials of a file that cannot be used.
AGAIN_S = 10.0
# Between two looks at a replica that is to be closed.
IDLE_LOOK_S = 0.1


class Reloader:
    """Keeps the routes those of the file.

    error: why the file as it is now is not in use, "" where it is. sha256: of the file that is in use.
    """

    def __init__(
        self,
        file: Path,
        folders: Sequence[Path],
        routes: Routes,
        build: Callable[[Routes, bool], Routes],
        use: Callable[[Routes], None],
        *,
        content: str,
        look_every_s: float = LOOK_EVERY_S,
        again_s: float = AGAIN_S,
    ) -> None:
        """`folders`: whose names callers are not told. `use`: puts routes into use, at once.

        `build`: builds routes from those known, of the file or, with False, the same ones at the addresses of now.
        `content`: hash of the file as it was before it was read.
        """
        self.routes = routes
        self.error = ""
        self.on_reload: Callable[[], None] = _nothing
        self._file = file
        self._folders = (file.parent, *folders)
        self._build = build
        self._use = use
        self._look_every_s = look_every_s
        self._again_s = again_s
        self._asked = asyncio.Event()
        self._read = self._stale = False
        self._said = ""
        self._watching: asyncio.Task[None] | None = None
        self.sha256 = self._seen = content
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Watch the file."""
        self._watching = self._begin(self._watch())

    async def stop_watching(self) -> None:
        """Read the file no more; calls under way go on."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})

    async def stop(self) -> None:
        """End watching, and close the replicas that still wait for that."""
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def ask(self) -> None:
        """Read the file now, changed or not."""
        self._read = True
        self._asked.set()

    def follow(self) -> None:
        """Build the routes in use again, since names mean other addresses, whatever the file says."""
        self._stale = True
        self._asked.set()

    async def _watch(self) -> None:
        last, again_at = self._seen, 0.0
        while True:
            try:
                async with asyncio.timeout(self._look_every_s):
                    await self._asked.wait()
            except TimeoutError:
                found = await asyncio.to_thread(self._content)
                if (changed := found != self._seen) and found == last:
                    self._reload(found)
                elif (self.error or self._stale) and not changed and monotonic() >= again_at:
                    # What was missing, such as an export, may be there by now.
                    if self.error:
                        self._reload(found)
                    self._follow()
                    again_at = monotonic() + self._again_s
                last = found
            else:
                self._asked.clear()
                read, self._read = self._read, False
                if read:
                    self._said = ""  # who asks is told again
                    self._reload(await asyncio.to_thread(self._content), asked=True)
                self._follow()

    def _reload(self, content: str, *, asked: bool = False) -> None:
        """Put the file's routes into use, or say why not."""
        self._seen, known = content, self.error
        self.error = self._change(read=True)
        if not self.error:
            self.sha256, self._stale = content, False
        if asked or self.error != known or not self.error:
            self.on_reload()

    def _follow(self) -> None:
        """Put the routes in use at the addresses of now."""
        if self._stale:
            self._stale = bool(self._change(read=False))

    def _change(self, *, read: bool) -> str:
        """Put routes into use, of the file or the same ones at other addresses; return why not, "" where it is done."""
        before = self.routes
        try:
            routes = self._build(before, read)
            self._use(routes)
            self.routes = routes
            before.shadows.forget(routes.shadows)
            self._retire(before)
            changes = "; ".join(_changes(before, routes)) or "nothing that is routed has changed"
            log.info("%s: %s", f"{self._file} is in use" if read else "addresses have changed", changes)
        except Exception as error:
            expected = isinstance(error, ArtifactError | DeploymentsError | SettingsError)
            if str(error) != self._said:
                log.error("the routes stay as they were: %s", error, exc_info=None if expected else error)  # noqa: TRY400
                self._said = str(error)
            if isinstance(error, ArtifactError | DeploymentsError):
                return self._for_clients(str(error))
            # Which address it is, callers are not told.
            what = "an address in .env or in the environment" if expected else self._file.name
            return f"{what} cannot be used; the gateway's log has the cause"
        self._said = ""
        return ""

    def _retire(self, before: Routes) -> None:
        kept = {member for path in self.routes.paths.values() for member in path.replicas.members}
        for path in before.paths.values():
            if gone := [member for member in path.replicas.members if member not in kept]:
                self._begin(_retire(path.name, gone, before.deployments.gateway.max_deadline_s))

    def _for_clients(self, text: str) -> str:
        """Return a message without the places of this machine's folders."""
        for folder in (folder for folder in self._folders if folder.name):
            text = text.replace(f"{folder}/", "").replace(str(folder), "a folder")
        return text

    def _content(self) -> str:
        return hash_of(self._file)

    def _begin(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def hash_of(file: Path) -> str:
    """Return the SHA-256 of a file, "" where it cannot be read."""
    try:
        return sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""


async def _retire(path: str, members: Sequence[Member], patience_s: float) -> None:
    """Close replicas that no call is routed to any more, when those that came before have ended.

    patience_s: the longest that a call may take; one may be tried here after it has failed elsewhere.
    """
    try:
        await asyncio.sleep(patience_s)
        async with asyncio.timeout(patience_s):
            while any(member.load for member in members):  # noqa: ASYNC110 - batchers tell nobody
                await asyncio.sleep(IDLE_LOOK_S)
    except TimeoutError:
        log.warning("a replica of %s is closed with calls under way", path)
    finally:
        for member in members:
            member.replica.retired = True
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
        if model in old and version_labels(old[model]) != version_labels(one):
            yield f"of {model}, {', '.join(label.text for label in version_labels(one)) or 'no version has a label'}"
    yield from (f"{path.name} is gone" for name, path in before.paths.items() if name not in after.paths)


def _nothing() -> None:
    pass

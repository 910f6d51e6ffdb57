"""Versions that come, go and break while calls go on; the tests share one model and run in this order."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from servepath.artifacts.manifest import MANIFEST
from servepath_pb.servepath.tfserving import tfserving_pb2 as pb
from tests.limits import LONG_S
from tests.manifests import write_manifest
from tests.tf_server import TfServer, ask, eventually, tensor

pytestmark = pytest.mark.slow

AVAILABLE, END = 30, 50
X = tensor(1, (1, 2), float_val=[1.0, 2.0])


class Caller:
    """Calls one model at full load and keeps (version, answer) of every call."""

    def __init__(self, server: TfServer) -> None:
        self.answers: list[tuple[int, float]] = []
        self.failures: list[str] = []
        self._server = server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                reply = self._server.predict(ask("moving", x=X))
            except grpc.RpcError as error:
                self.failures.append(str(error))
            else:
                self.answers.append((reply.model_spec.version.value, reply.outputs["y"].float_val[0]))

    @contextmanager
    def calling(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()


def place(built: Path, server: TfServer, version: int) -> Path:
    """Put a version folder at its name with one rename, as an export does."""
    base = server.exports / "moving" / "saved_model"
    hidden = base / f".{version}.tmp"
    shutil.copytree(built / "moving" / "saved_model" / str(version), hidden)
    return hidden.rename(base / str(version))


def remove_index(folder: Path) -> None:
    (folder / "variables" / "variables.index").unlink()


def give_foreign_manifest(folder: Path) -> None:
    write_manifest(folder, "linear", "saved_model", int(folder.name.strip(".tmp")))


def copy_slowly(whole: Path, folder: Path, seconds: float, before_last: Callable[[], None]) -> None:
    """Copy file by file, the manifest first: every state in between is one that a server must not take."""
    files = [whole / MANIFEST, *sorted(path for path in whole.rglob("*") if path.is_file() and path.name != MANIFEST)]
    for file in files:
        if file is files[-1]:
            before_last()
        to = folder / file.relative_to(whole)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, to)
        threading.Event().wait(seconds / len(files))


def cut(folder: Path) -> None:
    """Cut the weights in half."""
    weights = next((folder / "variables").glob("variables.data*"))
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def serves(server: TfServer, version: int) -> bool:
    return server.predict(ask("moving", x=X)).model_spec.version.value == version


def refused_lines(server: TfServer) -> list[str]:
    return [line for line in server.log.splitlines() if "moving" in line and "refused" in line]


def test_a_new_version_is_picked_up_under_continuous_calls_and_none_fails(built: Path, server: TfServer) -> None:
    caller = Caller(server)
    with caller.calling():
        eventually(lambda: len(caller.answers) > 100)
        place(built, server, 2)
        eventually(lambda: caller.answers[-1][0] == 2)
    assert caller.failures == []
    assert {version for version, _ in caller.answers} == {1, 2}
    assert all(answer == 5.0 + version for version, answer in caller.answers)


def test_the_version_before_unloads_and_is_not_found_by_its_number(server: TfServer) -> None:
    eventually(lambda: server.states("moving") == {1: (END, 0), 2: (AVAILABLE, 0)})
    with pytest.raises(grpc.RpcError) as caught:
        server.predict(ask("moving", 1, x=X))
    assert caught.value.details() == "Servable not found for request: Specific(moving, 1)"


@pytest.mark.parametrize("damage", [remove_index, cut, give_foreign_manifest])
def test_a_version_that_does_not_fit_its_manifest_is_refused_and_once_fixed_served_under_its_number(
    built: Path, server: TfServer, damage: Callable[[Path], None]
) -> None:
    base = server.exports / "moving" / "saved_model"
    before = server.predict(ask("moving", x=X)).model_spec.version.value
    new = before + 1
    hidden = base / f".{new}.tmp"
    shutil.copytree(built / "moving" / "saved_model" / str(new), hidden)
    damage(hidden)
    said = len(refused_lines(server))
    caller = Caller(server)
    with caller.calling():
        hidden.rename(base / str(new))
        eventually(lambda: len(refused_lines(server)) > said)
        eventually(lambda: len(caller.answers) > 5_000, timeout_s=LONG_S)
        assert {version for version, _ in caller.answers} == {before}
        shutil.rmtree(base / str(new))
        place(built, server, new)
        eventually(lambda: caller.answers[-1][0] == new)
    assert caller.failures == []
    assert {version for version, _ in caller.answers} == {before, new}
    assert all(answer == 5.0 + version for version, answer in caller.answers)
    (line,) = refused_lines(server)[said:]
    assert f"version {new} refused, version {before} serves on" in line
    assert str(base / str(new)) in line


def test_a_version_that_is_copied_in_file_by_file_is_served_when_it_is_whole(built: Path, server: TfServer) -> None:
    caller = Caller(server)

    def asked_enough() -> None:
        eventually(lambda: len(caller.answers) > 5_000, timeout_s=LONG_S)
        assert {version for version, _ in caller.answers} == {5}

    with caller.calling():
        base = server.exports / "moving" / "saved_model"
        copy_slowly(built / "moving" / "saved_model" / "6", base / "6", 5, asked_enough)
        eventually(lambda: caller.answers[-1][0] == 6)
    assert caller.failures == []
    assert {version for version, _ in caller.answers} == {5, 6}


def test_what_is_not_named_as_exports_name_versions_is_ignored(built: Path, server: TfServer) -> None:
    base = server.exports / "moving" / "saved_model"
    for name in ("abc", ".9.tmp", "10.tmp", "-8", "008"):
        (base / name).mkdir()
    (base / "99").write_text("no folder")
    place(built, server, 7)
    eventually(lambda: serves(server, 7))
    assert set(server.states("moving")) == {1, 2, 3, 4, 5, 6, 7}


def test_files_changed_in_place_are_not_noticed(server: TfServer) -> None:
    cut(server.exports / "moving" / "saved_model" / "7")
    threading.Event().wait(1.5)
    assert serves(server, 7)


def test_when_the_newest_goes_the_one_before_it_is_served_again(server: TfServer) -> None:
    base = server.exports / "moving" / "saved_model"
    shutil.rmtree(base / "7")
    eventually(lambda: serves(server, 6))
    eventually(lambda: server.states("moving")[7] == (END, 0))


def test_when_every_version_goes_the_model_unloads_and_comes_back_with_the_next(built: Path, server: TfServer) -> None:
    base = server.exports / "moving" / "saved_model"
    for version in range(1, 7):
        shutil.rmtree(base / str(version))
    eventually(lambda: server.states("moving")[6] == (END, 0))
    with pytest.raises(grpc.RpcError) as caught:
        server.predict(ask("moving", x=X))
    assert (caught.value.code(), caught.value.details()) == (
        grpc.StatusCode.NOT_FOUND,
        "Servable not found for request: Latest(moving)",
    )
    place(built, server, 2)
    eventually(lambda: server.states("moving")[2] == (AVAILABLE, 0))
    assert server.predict(ask("moving", x=X)).outputs["y"] == pb.TensorProto(
        dtype=1, float_val=[7.0], tensor_shape=tensor(1, (1, 1)).tensor_shape
    )


def test_a_base_path_that_vanishes_leaves_the_model_serving(server: TfServer) -> None:
    base = server.exports / "moving" / "saved_model"
    base.rename(base.with_name("elsewhere"))
    eventually(lambda: "base path cannot be read" in server.log)
    assert serves(server, 2)
    base.with_name("elsewhere").rename(base)

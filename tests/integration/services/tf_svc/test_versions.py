"""Versions that come, go and break while calls go on; the tests share one model and run in this order."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from servepath_pb.servepath.tfserving import tfserving_pb2 as pb
from store.manifest import MANIFEST
from tests.tf_server import TfServer, ask, eventually, tensor

AVAILABLE, END = 30, 50
DATA_LOSS = grpc.StatusCode.DATA_LOSS.value[0]
X = tensor(1, (1, 2), float_val=[1.0, 2.0])


class Caller:
    """Calls one model without a pause and keeps (version, answer) of every call."""

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


def place(built: Path, server: TfServer, version: int, name: str = "") -> Path:
    """Put a version folder at its name with one rename, as an export does."""
    base = server.exports / "moving" / "saved_model"
    hidden = base / f".{version}.tmp"
    shutil.copytree(built / "linear" / "saved_model" / str(version), hidden)
    return hidden.rename(base / (name or str(version)))


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


def test_a_corrupt_version_is_refused_once_and_the_old_one_serves_on(built: Path, server: TfServer) -> None:
    base = server.exports / "moving" / "saved_model"
    hidden = base / ".4.tmp"
    shutil.copytree(built / "linear" / "saved_model" / "4", hidden)
    cut(hidden)
    caller = Caller(server)
    with caller.calling():
        hidden.rename(base / "4")
        eventually(lambda: server.states("moving").get(4) == (END, DATA_LOSS))
        seen = len(caller.answers)
        threading.Event().wait(2.5)  # two more looks at the disk
        assert len(caller.answers) > seen
    assert caller.failures == []
    assert {version for version, _ in caller.answers} == {2}
    lines = refused_lines(server)
    assert len(lines) == 1
    assert "version 4 refused, version 2 serves on" in lines[0]
    assert str(base / "4" / "variables") in lines[0]


def test_a_corrupt_version_that_is_put_right_is_taken(built: Path, server: TfServer) -> None:
    shutil.rmtree(server.exports / "moving" / "saved_model" / "4")
    place(built, server, 4)
    eventually(lambda: serves(server, 4))


def test_a_version_without_a_manifest_or_with_another_versions_is_refused(built: Path, server: TfServer) -> None:
    (place(built, server, 7, ".bare") / MANIFEST).unlink()
    (server.exports / "moving" / "saved_model" / ".bare").rename(server.exports / "moving" / "saved_model" / "5")
    eventually(lambda: server.states("moving").get(5) == (END, DATA_LOSS))
    place(built, server, 7, "6")
    eventually(lambda: server.states("moving").get(6) == (END, DATA_LOSS))
    assert serves(server, 4)


def test_a_folder_007_is_version_7_and_names_that_are_no_numbers_are_ignored(built: Path, server: TfServer) -> None:
    base = server.exports / "moving" / "saved_model"
    for name in ("abc", ".9.tmp", "10.tmp", "-8"):
        (base / name).mkdir()
    (base / "99").write_text("no folder")
    place(built, server, 7, "007")
    eventually(lambda: serves(server, 7))
    assert set(server.states("moving")) == {1, 2, 4, 5, 6, 7}


def test_files_changed_in_place_are_not_noticed(server: TfServer) -> None:
    cut(server.exports / "moving" / "saved_model" / "007")
    threading.Event().wait(1.5)
    assert serves(server, 7)


def test_when_the_newest_goes_the_one_before_it_is_served_again(server: TfServer) -> None:
    base = server.exports / "moving" / "saved_model"
    for name in ("007", "6", "5"):
        shutil.rmtree(base / name)
    eventually(lambda: serves(server, 4))
    eventually(lambda: server.states("moving")[7] == (END, 0))


def test_when_every_version_goes_the_model_unloads_and_comes_back_with_the_next(built: Path, server: TfServer) -> None:
    base = server.exports / "moving" / "saved_model"
    for name in ("1", "2", "4"):
        shutil.rmtree(base / name)
    eventually(lambda: server.states("moving")[4] == (END, 0))
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

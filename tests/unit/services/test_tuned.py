"""What services do with tuned settings that are theirs."""

from pathlib import Path

import pytest

from servepath.protocols import tuned
from services.gateway import config as gateway
from services.litert_svc import config as litert_svc
from services.onnx_svc import config as onnx_svc
from services.onnx_svc.__main__ import engine_loader
from services.tf_svc import binary
from services.tf_svc import config as tf_svc
from services.torch_svc import config as torch_svc
from tests.tiny_onnx import linear
from tests.tuned import write_tuned

ROOT = Path(__file__).parents[3]
READERS = [gateway.read_settings, onnx_svc.read_settings, litert_svc.read_settings, tf_svc.read_settings]


@pytest.mark.parametrize("read", [*READERS, torch_svc.read_settings], ids=lambda read: read.__module__)
def test_every_service_is_told_by_the_variable(read: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv(tuned.VARIABLE, raising=False)
    assert callable(read)
    assert read([]).tuned is None
    monkeypatch.setenv(tuned.VARIABLE, "somewhere")
    assert read([]).tuned == Path("somewhere")


def test_a_model_of_an_oip_server_has_its_own_threads(tmp_path: Path) -> None:
    folder = write_tuned(tmp_path / "tuned", "m@onnx", {"threads": 4, "engine_threads": 1})
    settings = onnx_svc.Settings(tmp_path, 0, 0, tuned=folder)

    assert settings.threads_of(Path("exports/m/onnx/1")) == 4
    assert settings.engine_threads_of(Path("exports/m/onnx/1")) == 1
    assert settings.threads_of(Path("exports/other/onnx/1")) == 2
    assert settings.engine_threads_of(Path("exports/other/onnx/1")) is None


def test_an_engine_of_one_width_has_one_session(tmp_path: Path) -> None:
    file = tmp_path / "exports" / "m" / "onnx" / "1" / "model.onnx"
    file.parent.mkdir(parents=True)
    file.write_bytes(linear(1))
    folder = write_tuned(tmp_path / "tuned", "m@onnx", {"engine_threads": 2})

    loaded = engine_loader(onnx_svc.Settings(tmp_path, 0, 0, device="cpu", tuned=folder))(file)

    assert loaded._wide is None
    assert loaded._narrow.get_session_options().intra_op_num_threads == 2


def test_tensorflow_model_server_gets_its_tuned_threads_and_never_batching(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    folder = write_tuned(tmp_path / "tuned", "m@tfserving", {"engine_threads": 7})
    monkeypatch.setenv(tuned.VARIABLE, str(folder))

    command = binary.command("server", tf_svc.read_settings([]), tmp_path / "models.config")

    assert "--tensorflow_intra_op_parallelism=7" in command
    assert not any("batching" in word for word in command)

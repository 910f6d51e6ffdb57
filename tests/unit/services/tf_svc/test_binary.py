import dataclasses
from pathlib import Path

import pytest

from servepath.settings import SettingsError
from services.tf_svc import binary
from services.tf_svc.config import read_settings


def test_the_embedded_engine_asked_for_is_taken_though_the_real_one_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "server"
    program.touch(0o755)
    monkeypatch.setenv("TENSORFLOW_MODEL_SERVER", str(program))
    settings = read_settings([])
    assert binary.find(settings) == str(program)
    assert binary.find(dataclasses.replace(settings, engine="embedded")) is None


def test_a_real_server_asked_for_and_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TENSORFLOW_MODEL_SERVER", raising=False)
    with pytest.raises(SettingsError, match="is not on PATH"):
        binary.find(read_settings(["--engine", "tensorflow_model_server"]))
    monkeypatch.setenv("TENSORFLOW_MODEL_SERVER", "/nowhere")
    with pytest.raises(SettingsError, match="TENSORFLOW_MODEL_SERVER=/nowhere is not a program"):
        binary.find(read_settings([]))


@pytest.mark.parametrize(
    ("script", "version"),
    [
        ("echo 'TensorFlow ModelServer: 2.20.0-rc1+sha'; echo 'TensorFlow Library: 2.20.0'", "2.20.0-rc1+sha"),
        ("exit 1", "version not reported"),
    ],
)
def test_the_real_servers_version_is_what_it_prints_first(tmp_path: Path, script: str, version: str) -> None:
    program = tmp_path / "server"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    assert binary.version_of(str(program)) == version

"""Publishing and renewing the key when TorchServe is late or away."""

import json
import logging
import socket
from pathlib import Path

import pytest

from services.torch_svc.keys import Keys


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_the_first_key_is_published_once_its_file_is_whole(tmp_path: Path, closed_port: int) -> None:
    source, target = tmp_path / "key_file.json", tmp_path / "token"
    keys = Keys(source, target, closed_port, renew_s=100)
    assert not keys.step()
    source.write_text('{"inference": {"key": "ab')
    assert not keys.step()
    assert not target.exists()
    source.write_text(json.dumps({"inference": {"key": "abc"}, "API": {"key": "xyz"}}))
    assert keys.step()
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("abc", 0o600)


def test_a_failed_renewal_keeps_the_key_says_so_once_and_waits(
    tmp_path: Path, closed_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    source, target = tmp_path / "key_file.json", tmp_path / "token"
    source.write_text(json.dumps({"inference": {"key": "abc"}, "API": {"key": "xyz"}}))
    keys = Keys(source, target, closed_port, renew_s=0)
    with caplog.at_level(logging.WARNING):
        assert [keys.step() for _ in range(4)] == [True] * 4
    assert target.read_text() == "abc"
    assert ["cannot renew" in record.message for record in caplog.records] == [True]


def test_a_key_that_was_renewed_without_a_reply_in_time_is_published(tmp_path: Path, closed_port: int) -> None:
    source, target = tmp_path / "key_file.json", tmp_path / "token"
    source.write_text(json.dumps({"inference": {"key": "old"}, "API": {"key": "xyz"}}))
    keys = Keys(source, target, closed_port, renew_s=0)
    keys.step()
    source.write_text(json.dumps({"inference": {"key": "new"}, "API": {"key": "xyz"}}))
    keys.step()
    assert target.read_text() == "new"


def test_a_key_that_cannot_be_published_is_said(
    tmp_path: Path, closed_port: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "key_file.json", tmp_path / "file" / "token"
    source.write_text(json.dumps({"inference": {"key": "abc"}, "API": {"key": "xyz"}}))
    target.parent.write_text("no folder")
    monkeypatch.setattr("services.torch_svc.keys.RETRY_S", 0.0)
    keys = Keys(source, target, closed_port, renew_s=100)
    with caplog.at_level(logging.WARNING):
        assert [keys.step() for _ in range(2)] == [False, False]
    (record,) = caplog.records
    assert record.message.startswith(f"cannot publish the inference key in {target}: ")


def test_a_withdrawn_key_is_gone(tmp_path: Path, closed_port: int) -> None:
    (tmp_path / "token").write_text("abc")
    keys = Keys(tmp_path / "key_file.json", tmp_path / "token", closed_port, renew_s=1)
    keys.withdraw()
    keys.withdraw()
    assert not (tmp_path / "token").exists()

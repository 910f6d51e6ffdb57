from pathlib import Path

import pytest

from loadtest.config import SettingsError, check_targets, parse_targets, read_settings
from servepath.protocols.deployments_file import read_deployments

ADDRESSES = {
    "GATEWAY_ADDR": "h:1",
    "TORCH_SVC_ADDR": "h:2",
    "TF_SVC_ADDR": "h:3",
    "ONNX_SVC_ADDR": "[::1]:4",
    "LITERT_SVC_ADDR": "h:5",
}


def write(folder: Path, values: dict[str, str]) -> Path:
    file = folder / ".env"
    file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    return file


def test_the_environment_overrules_the_file(tmp_path: Path) -> None:
    settings = read_settings(write(tmp_path, ADDRESSES), {"TF_SVC_ADDR": "other:9"})
    assert settings.local
    assert dict(settings.addresses) == {
        "gateway": "h:1",
        "torchserve": "h:2",
        "tfserving": "other:9",
        "onnx": "[::1]:4",
        "litert": "h:5",
    }
    assert settings.files["TORCH_SVC_TOKEN_FILE"] == Path(".run/torch_svc/token")


def test_the_key_file_is_a_variable(tmp_path: Path) -> None:
    settings = read_settings(write(tmp_path, ADDRESSES), {"TORCH_SVC_TOKEN_FILE": "/elsewhere/token"})
    assert settings.files["TORCH_SVC_TOKEN_FILE"] == Path("/elsewhere/token")


def test_the_addresses_of_a_side_overrule_all_others_and_its_file_must_be_there(tmp_path: Path) -> None:
    base = write(tmp_path, ADDRESSES)
    side = tmp_path / "old.env"
    side.write_text("ONNX_SVC_ADDR=127.0.0.1:9001\n")
    settings = read_settings(base, {"ONNX_SVC_ADDR": "other:9"}, side_file=side)
    assert settings.addresses["onnx"] == "127.0.0.1:9001"
    assert settings.addresses["gateway"] == ADDRESSES["GATEWAY_ADDR"]
    with pytest.raises(SettingsError, match=r"gone\.env is missing"):
        read_settings(base, {}, side_file=tmp_path / "gone.env")


def test_a_side_may_serve_other_artifacts_than_those_of_the_load_test(tmp_path: Path) -> None:
    base, side = write(tmp_path, ADDRESSES), tmp_path / "old.env"
    side.write_text("EXPORTS=/elsewhere/exports\n")
    assert read_settings(base, {}, side_file=side).exports == Path("/elsewhere/exports")
    assert read_settings(base, {"EXPORTS": "/wrong"}).exports is None


def test_targets_are_all_addresses_there_are(tmp_path: Path) -> None:
    targets = parse_targets("gateway=far:1, onnx=[::1]:2")
    settings = read_settings(write(tmp_path, ADDRESSES), {"TF_SVC_ADDR": "other:9"}, targets)
    assert dict(settings.addresses) == {"gateway": "far:1", "onnx": "[::1]:2"}
    assert not settings.local


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("far:1", "'far:1' is not far:1=HOST:PORT"),
        ("=far:1", "'=far:1' is not NAME=HOST:PORT"),
        ("onnx=far", "'onnx=far' is not onnx=HOST:PORT"),
        ("onnx=http://far:1", "'onnx=http://far:1' is not onnx=HOST:PORT"),
        ("onnx=far:0", "'onnx=far:0' is not onnx=HOST:PORT"),
        ("onnx=a:1,onnx=b:1", "onnx is given twice"),
        ("", "'' is not NAME=HOST:PORT"),
    ],
)
def test_a_target_that_is_none_is_named(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_targets(text)


def test_a_target_that_is_neither_the_gateway_nor_a_stack_is_named() -> None:
    check_targets(("gateway", "onnx", "theirs"), ("onnx", "theirs"))
    with pytest.raises(ValueError, match="'onnx_svc' names none of gateway, onnx, theirs"):
        check_targets(("gateway", "onnx_svc"), ("onnx", "theirs"))


def test_an_external_servers_address_is_the_variable_of_its_name(tmp_path: Path) -> None:
    file = tmp_path / "deployments.toml"
    file.write_text(
        '[servers.their-server]\nprotocol = "oip"\n[models.m]\ndefault = "their-server"\n'
        "[models.m.stacks.their-server]\n"
    )
    listed = read_deployments(file)
    base = write(tmp_path, ADDRESSES)
    settings = read_settings(base, {"THEIR_SERVER_ADDR": "far:7"}, deployments=listed)
    assert settings.addresses["their-server"] == "far:7"
    with pytest.raises(SettingsError, match="THEIR_SERVER_ADDR is not set"):
        read_settings(base, {}, deployments=listed)

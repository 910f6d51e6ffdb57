"""config.properties as TorchServe gets it."""

from pathlib import Path

from services.torch_svc.config import Ports, Settings
from services.torch_svc.run_dir import RunDir
from services.torch_svc.server import render_config


def render(host: str = "127.0.0.1", folder: Path = Path("/run/t"), *, tokens: bool = True) -> dict[str, str]:
    settings = Settings(
        models=Path("exports"),
        host=host,
        ports=Ports(1, 2, 3, 4, 5),
        run_dir=folder,
        token_file=folder / "token",
        token_minutes=7,
        token_renew_s=60,
        environment={},
        tokens=tokens,
    )
    text = render_config(settings, RunDir(folder, folder / "tmp"), ["two", "one"])
    return dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))


def test_only_grpc_inference_leaves_loopback() -> None:
    addresses = {key: value for key, value in render("0.0.0.0").items() if key.endswith("_address")}  # noqa: S104 - under test
    assert addresses == {
        "grpc_inference_address": "0.0.0.0",  # noqa: S104 - under test
        "grpc_management_address": "127.0.0.1",
        "inference_address": "http://127.0.0.1:3",
        "management_address": "http://127.0.0.1:4",
        "metrics_address": "http://127.0.0.1:5",
    }


def test_nothing_is_open_that_need_not_be() -> None:
    found = render()
    expected = {
        "disable_token_authorization": "false",
        "token_expiration_min": "7",
        "enable_model_api": "false",
        "install_py_dep_per_model": "false",
        "allowed_urls": "file:///run/t/model_store/.*",
        "load_models": "one=one.mar,two=two.mar",
    }
    assert expected.items() <= found.items()


def test_keys_can_be_done_without() -> None:
    assert {"disable_token_authorization": "true"}.items() <= render(tokens=False).items()


def test_folders_with_unusual_names_are_escaped_for_java() -> None:
    found = render(folder=Path("/run/ä\\b"))
    assert found["model_store"] == r"/run/\u00e4\\b/model_store"

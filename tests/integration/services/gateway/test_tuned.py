"""A gateway that is started with tuned settings, also when its deployments file changes."""

from dataclasses import replace
from pathlib import Path

import pytest

from servepath.protocols.deployments import PathLimits
from servepath.protocols.tuned import TunedError
from services.gateway.server import Gateway
from tests.exports import make_export
from tests.fake_stack import FakeBackend, FakeStack
from tests.gateways import running, settings
from tests.integration.services.gateway.test_reload import ON_ONNX, until, write
from tests.tuned import write_tuned


def limits(gateway: Gateway) -> PathLimits:
    return gateway.reloader.routes.deployments.paths["alpha", "onnx"]


async def test_tuned_limits_are_in_use_and_stay_when_the_file_changes(tmp_path: Path) -> None:
    make_export(tmp_path / "exports", "alpha", "onnx")
    stack = await FakeStack(FakeBackend()).start()
    used = settings(tmp_path, f"{ON_ONNX}max_in_flight = 3\n", {"onnx": stack.address})
    tuned = write_tuned(tmp_path / "tuned", "alpha@onnx", {"max_in_flight": 9, "threads": 4})
    try:
        async with running(replace(used, tuned=tuned)) as (gateway, _):
            assert limits(gateway).max_in_flight == 9
            write(tmp_path, f"{ON_ONNX}max_in_flight = 5\nmax_queue = 77\n")
            await until(lambda: limits(gateway).max_queue == 77)
            assert limits(gateway).max_in_flight == 9
    finally:
        await stack.stop()


async def test_callers_are_not_told_where_tuned_settings_are_that_cannot_be_used(tmp_path: Path) -> None:
    folder = tmp_path / "gateway"
    make_export(folder / "exports", "alpha", "onnx")
    tuned = write_tuned(tmp_path / "kept" / "tuned", "alpha@onnx", {"max_in_flight": 9})
    used = settings(folder, ON_ONNX, {"onnx": "127.0.0.1:1"})
    async with running(replace(used, tuned=tuned)) as (gateway, caller):
        (tuned / "alpha@onnx.toml").write_text("[settings]\n")
        gateway.reloader.ask()
        await until(lambda: bool(gateway.reloader.error))
        said = (await caller.list_paths()).deployments_error
    assert said == "alpha@onnx.toml is not a file of tuned settings; remove it and run: servepath tune"


async def test_a_gateway_does_not_start_with_a_file_that_is_none(tmp_path: Path) -> None:
    make_export(tmp_path / "exports", "alpha", "onnx")
    tuned = write_tuned(tmp_path / "tuned", "alpha@onnx", {"max_in_flight": 9})
    (tuned / "alpha@onnx.toml").write_text("[settings]\n")
    used = settings(tmp_path, ON_ONNX, {"onnx": "127.0.0.1:1"})

    with pytest.raises(TunedError, match=r"alpha@onnx\.toml is not a file of tuned settings"):
        async with running(replace(used, tuned=tuned)):
            pass

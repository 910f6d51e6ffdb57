from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.config import Settings
from loadtest.plan import Measurement, ServingPath
from loadtest.targets import batching_of, settings_of, target_of
from servepath.protocols.stacks import service_files
from servepath_pb.servepath.tfserving import tfserving_pb2 as pb
from tests.exports import make_export
from tests.manifests import SPEC
from tests.tuned import make_tuned
from tests.unit.servepath.protocols.test_identity import NAMED


@pytest.mark.parametrize(("said", "precision"), [("fp32", "fp16"), ("tf32", "tf32")])
def test_a_reply_that_does_not_name_its_artifact_is_of_the_precision_in_the_manifest(
    tmp_path: Path, said: str, precision: str
) -> None:
    manifest = make_export(tmp_path, "m", "saved_model", spec=replace(SPEC, precision="fp16"))
    settings = Settings({"tfserving": "127.0.0.1:1"}, service_files({}, tmp_path))
    target = target_of(Measurement(ServingPath("m", "tfserving"), "direct"), settings, tmp_path)
    reply = pb.PredictResponse()
    reply.model_spec.name, reply.model_spec.version.value = "m", 1
    served = target.decode(reply.SerializeToString(), (*NAMED[:2], ("x-servepath-precision", said))).served
    assert (served.sha256, served.precision) == (manifest.sha256, precision)


ENGINE = "onnxruntime 1.31.1"
TUNED = make_tuned("m@onnx", {"max_in_flight": 16, "threads": 4})


def test_the_settings_of_a_path_are_those_of_each_server_on_the_way() -> None:
    files = {"onnx": {"m@onnx": TUNED}, "gateway": {"m@onnx": TUNED}}
    said = "tuned 2026-11-29 for rate; onnx: threads 4; gateway: max_in_flight 16"
    assert settings_of("m@onnx", files, "ab" * 32, ENGINE) == said
    assert (
        settings_of("m@onnx", {"onnx": files["onnx"]}, "ab" * 32, ENGINE)
        == "tuned 2026-11-29 for rate; onnx: threads 4"
    )
    half = {"onnx": {}, "gateway": files["gateway"]}
    assert settings_of("m@onnx", half, "ab" * 32, ENGINE) == "tuned 2026-11-29 for rate; gateway: max_in_flight 16"
    assert settings_of("n@onnx", files, "ab" * 32, ENGINE) == "default"
    assert settings_of("m@onnx", {"onnx": {}, "gateway": {}}, "ab" * 32, ENGINE) == "default"


def test_settings_that_nobody_can_see_are_unknown_and_those_of_another_artifact_or_engine_say_so() -> None:
    assert settings_of("m@onnx", {"onnx": None, "gateway": {}}, "ab" * 32, ENGINE) == "unknown"
    said = settings_of("m@onnx", {"onnx": {"m@onnx": TUNED}}, "cd" * 32, ENGINE)
    assert said == "tuned 2026-11-29 for rate, for another artifact; onnx: threads 4"
    said = settings_of("m@onnx", {"onnx": {"m@onnx": TUNED}}, "ab" * 32, "onnxruntime 1.32.0")
    assert said == "tuned 2026-11-29 for rate, for another engine; onnx: threads 4"


def test_tuned_settings_name_the_requests_that_they_were_found_for() -> None:
    made = make_tuned("m@onnx", {"threads": 4}, requests="64 rows, 4 connections")

    said = settings_of("m@onnx", {"onnx": {"m@onnx": made}}, "ab" * 32, ENGINE)

    assert said == "tuned 2026-11-29 for rate with 64 rows, 4 connections; onnx: threads 4"


def test_the_batching_of_a_path_is_that_of_its_tuned_limits(tmp_path: Path) -> None:
    file = tmp_path / "deployments.toml"
    file.write_text('[models.m]\ndefault = "onnx"\n[models.m.stacks.onnx]\nmax_in_flight = 2\n')
    measurement = Measurement(ServingPath("m", "onnx"), "gateway")
    assert "max_in_flight 2," in batching_of(measurement, file)
    assert "max_in_flight 16," in batching_of(measurement, file, {"max_in_flight": 16})

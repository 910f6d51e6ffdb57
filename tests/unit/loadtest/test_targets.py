from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.config import Settings
from loadtest.plan import Measurement, ServingPath
from loadtest.targets import target_of
from servepath.protocols.stacks import service_files
from servepath_pb.servepath.tfserving import tfserving_pb2 as pb
from tests.exports import make_export
from tests.manifests import SPEC
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

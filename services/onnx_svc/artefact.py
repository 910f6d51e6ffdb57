"""One version of one model: from a verified folder to a chain that answers calls.

The manifest's sha256 proves integrity, that these are the bytes which the export wrote, and not authorship: nothing is
signed. Whoever may write to the exports folder decides what is served.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from services.serving.backend import Backend
from services.serving.burst import Burst
from services.serving.engine import Engine, EngineError, Load
from services.serving.merge import Merge, MergeLimits
from services.serving.validate import Validate
from services.wire.errors import BadInput
from services.wire.signature import Signature
from services.wire.stacks import STACKS
from services.wire.types import Served
from store.manifest import ArtefactError, Manifest, verify
from store.spec import Spec, TensorSpec

STACK = STACKS["onnx"]
FORMAT = STACK.artefact_format
FILE = "model.onnx"
# What stands behind the queue: whatever runs an engine. The arguments are the engine, who answers, and all outputs.
Compute = Callable[[Engine, Served, tuple[str, ...]], Backend]


@dataclass(frozen=True, slots=True)
class Artefact:
    """A loaded version that has answered once."""

    spec: Spec
    signature: Signature
    engine: Engine
    served: Served

    @property
    def version(self) -> int:
        """Give the version's number."""
        return self.served.version


def load(folder: Path, load_engine: Load) -> Artefact:
    """Verify, load and try the artefact in EXPORTS/MODEL/onnx/VERSION. Raises ArtefactError or EngineError."""
    manifest = _verified(folder)
    try:
        signature = Signature(manifest.spec)
    except ValueError as error:
        raise ArtefactError(f"{folder}: {error}; mend the model's spec and run: make export") from error
    engine = load_engine(folder / FILE)
    _check_declared(folder, manifest.spec, engine)
    _try(folder, signature, engine)
    served = Served(
        model=manifest.model,
        stack=STACK.name,
        engine=engine.name,
        engine_version=engine.version,
        version=manifest.version,
        sha256=manifest.sha256,
        sha256_observed=True,
    )
    return Artefact(manifest.spec, signature, engine, served)


class Version:
    """A version at work: validate > merge > compute."""

    def __init__(self, artefact: Artefact, compute: Compute, limits: MergeLimits, burst: Burst) -> None:
        self.artefact = artefact
        if not artefact.spec.row_independent:
            limits = replace(limits, max_rows=1)
        outputs = tuple(tensor.name for tensor in artefact.spec.outputs)
        self.merge = Merge(compute(artefact.engine, artefact.served, outputs), limits, burst)
        self.chain: Backend = Validate(self.merge, artefact.signature, lambda _: artefact.served)


def _verified(folder: Path) -> Manifest:
    """Give the manifest of a folder that holds what it says, and nothing that a model could draw in beside itself."""
    manifest = verify(folder)
    model, artefact_format, version = folder.parts[-3:]
    if (manifest.model, manifest.format, str(manifest.version)) != (model, artefact_format, version):
        raise ArtefactError(
            f"{folder}: its manifest is that of {manifest.model}/{manifest.format}/{manifest.version}; "
            f"remove {folder} and run: make export"
        )
    if manifest.files.keys() != {FILE}:
        # ONNX Runtime refuses external data outside the model's folder; with one file in it there is none inside.
        raise ArtefactError(
            f"{folder} holds {sorted(manifest.files)}, expected {FILE} alone: external data files are not loaded; "
            "export the model as one file"
        )
    return manifest


def _check_declared(folder: Path, spec: Spec, engine: Engine) -> None:
    inputs, outputs = engine.declared()
    for kind, found, wanted in (("inputs", inputs, spec.inputs), ("outputs", outputs, spec.outputs)):
        if sorted(found, key=_name) != sorted(wanted, key=_name):
            raise ArtefactError(
                f"{folder / FILE}: {kind} are {_shown(found)}, the manifest says {_shown(wanted)}; "
                f"remove {folder} and run: make export"
            )


def _try(folder: Path, signature: Signature, engine: Engine) -> None:
    """Run one row of zeros: a model that cannot answer that is not served."""
    wanted = signature.spec.outputs
    try:
        outputs = engine.run(signature.zeros(1), [tensor.name for tensor in wanted])
    except BadInput as error:
        raise EngineError(f"{folder / FILE}: the engine refuses a row of zeros ({error.text})") from error
    found = tuple(TensorSpec(tensor.name, tensor.dtype, tensor.shape) for tensor in outputs)
    expected = tuple(TensorSpec(tensor.name, tensor.dtype, (1, *tensor.shape[1:])) for tensor in wanted)
    if found != expected:
        raise ArtefactError(f"{folder / FILE}: a row of zeros gives {_shown(found)}, expected {_shown(expected)}")


def _name(tensor: TensorSpec) -> str:
    return tensor.name


def _shown(tensors: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"{tensor.name} {tensor.dtype} {list(tensor.shape)}" for tensor in tensors)

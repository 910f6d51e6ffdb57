"""One version of one model: from a verified folder to a chain that answers calls.

The manifest's sha256 proves integrity, that these are the bytes which the export wrote, and not authorship: nothing is
signed. Anyone who may write to the exports folder decides what is served.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from servepath.artifacts.manifest import AGAIN, ArtifactError, Manifest, verify
from servepath.artifacts.reference import find_reference
from servepath.artifacts.spec import OPEN, Spec, TensorSpec
from servepath.protocols.errors import BackendBadReply, BadInput
from servepath.protocols.signature import Signature, probe_inputs
from servepath.protocols.types import Provenance, Request, Tensor
from services.dataplane.backend import Backend
from services.dataplane.batch_scope import BatchScope
from services.dataplane.batcher import Batcher, BatchLimits
from services.dataplane.engine import REJECTED, Engine, EngineError, Load, RunError
from services.dataplane.validate import Validate
from services.oip_server.buckets import Bucketed
from services.oip_server.proof import Proof, RowByRow, prove
from services.oip_server.service import OipService

log = logging.getLogger(__name__)
# What stands behind the queue: whatever runs an engine. The arguments are the engine, who answers, and all outputs.
Compute = Callable[[Engine, Provenance, tuple[str, ...]], Backend]
UNBATCHED = BatchLimits(max_rows=1)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A loaded version that has answered. max_rows: of several calls joined; 1 joins none."""

    spec: Spec
    signature: Signature
    engine: Engine
    served: Provenance
    max_rows: int
    proof: Proof

    @property
    def version(self) -> int:
        """Return the version's number."""
        return self.served.version


def load(folder: Path, service: OipService, load_engine: Load, limits: BatchLimits = UNBATCHED) -> Artifact:
    """Verify, load and prove the artifact in EXPORTS/MODEL/FORMAT/VERSION. Raises ArtifactError or EngineError.

    limits: of calls that are joined. Where there is no reference beside it, its probe alone is tried.
    """
    file = folder / service.file
    manifest = _verified(folder, service)
    signature = Signature(manifest.spec)
    engine = load_engine(file)
    _check_declared(file, manifest.spec, engine)
    probed: Engine = _probed(file, manifest, signature, engine)
    max_rows, proof = manifest.spec.max_rows(limits.max_rows), Proof(None)
    if (reference := find_reference(folder.parents[2], manifest.model, manifest.version)) is not None:
        # The spec of what is served: a reduced precision has tolerances of its own.
        proof = prove(probed, replace(reference, spec=manifest.spec), max_rows, limits.max_bytes)
    if proof.why_unbatched:
        log.warning("%s: rows are computed one by one: %s", manifest.model, proof.why_unbatched)
        probed, max_rows = RowByRow(probed), 1
    elif engine.slow_first_runs and max_rows > 1:
        probed, max_rows = _warmed(probed, manifest, max_rows, limits.max_bytes)
    served = Provenance(
        model=manifest.model,
        stack=service.stacks[manifest.format].name,
        engine=engine.name,
        engine_version=engine.version,
        version=manifest.version,
        sha256=manifest.sha256,
        sha256_observed=True,
        precision=manifest.spec.precision,
    )
    return Artifact(manifest.spec, signature, probed, served, max_rows, proof)


class ProbedEngine:
    """An engine that tells whose fault a failed run is: it is the input's while the probe's inputs still run."""

    def __init__(self, engine: Engine, probe: Sequence[Tensor], outputs: Sequence[str]) -> None:
        """`probe`: inputs that the engine has answered with all its `outputs`."""
        self.name, self.version, self.slow_first_runs = engine.name, engine.version, engine.slow_first_runs
        self.declared = engine.declared
        self._engine = engine
        self._probe = probe
        self._outputs = outputs

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[str]) -> tuple[Tensor, ...]:
        """Return the named outputs. Raises BadInput for inputs that do not run, RunError where nothing does."""
        try:
            return self._engine.run(inputs, outputs)
        except RunError:
            self._engine.run(self._probe, self._outputs)
        try:
            return self._engine.run(inputs, outputs)  # memory, for one, may have been others' a moment ago
        except RunError as error:
            raise BadInput(REJECTED, "CONTENT") from error


class Version:
    """A version at work: validate > merge > compute."""

    def __init__(self, artifact: Artifact, compute: Compute, limits: BatchLimits, batch_scope: BatchScope) -> None:
        self.artifact = artifact
        limits = replace(limits, max_rows=artifact.max_rows, padded=artifact.spec.padded_inputs)
        outputs = tuple(tensor.name for tensor in artifact.spec.outputs)
        self.merge = Batcher(compute(artifact.engine, artifact.served, outputs), limits, batch_scope)
        self.chain: Backend = Validate(self.merge, artifact.signature, lambda _: artifact.served)


def _warmed(engine: Engine, manifest: Manifest, max_rows: int, max_bytes: int) -> tuple[Bucketed, int]:
    """Return an engine of few batch sizes, each of which has been run, and how many rows may be joined.

    Of a model with other open axes, at the probe's sizes alone.
    """
    inputs = probe_inputs(manifest)
    row_bytes = sum(len(tensor.data) for tensor in inputs) // inputs[0].shape[0]
    bucketed = Bucketed(engine, max(1, min(max_rows, max_bytes // max(row_bytes, 1))))
    if not bucketed.warm(inputs, [tensor.name for tensor in manifest.spec.outputs]):
        max_rows = max(bucketed.sizes, default=1)
    return bucketed, max_rows


def _verified(folder: Path, service: OipService) -> Manifest:
    """Return the manifest of a verified folder that holds nothing a model could load beside itself."""
    manifest = verify(folder)
    model, artifact_format, version = folder.parts[-3:]
    if (manifest.model, manifest.format, str(manifest.version)) != (model, artifact_format, version):
        raise ArtifactError(
            f"{folder}: its manifest is that of {manifest.model}/{manifest.format}/{manifest.version}; "
            f"remove {folder} and {AGAIN}"
        )
    if manifest.files.keys() != {service.file}:
        # ONNX Runtime refuses external data outside the model's folder; with one file in it there is none inside.
        raise ArtifactError(
            f"{folder} holds {sorted(manifest.files)}, expected {service.file} alone: external data files are not "
            "loaded; export the model as one file"
        )
    return manifest


def _check_declared(file: Path, spec: Spec, engine: Engine) -> None:
    inputs, outputs = engine.declared()
    for kind, found, wanted in (("inputs", inputs, spec.inputs), ("outputs", outputs, spec.outputs)):
        if not _fit(found, wanted, exactly=kind == "inputs"):
            raise ArtifactError(
                f"{file}: {kind} are {_shown(found)}, the manifest says {_shown(wanted)}; "
                f"remove {file.parent} and {AGAIN}"
            )


def _probed(file: Path, manifest: Manifest, signature: Signature, engine: Engine) -> ProbedEngine:
    """Return the engine, which has run the probe's inputs: a model that cannot answer them is not served."""
    wanted = [tensor.name for tensor in signature.spec.outputs]
    try:
        inputs = probe_inputs(manifest)
        rows = signature.check(Request(manifest.model, 0, inputs))
        signature.check_answer(engine.run(inputs, wanted), rows, wanted)
    except (BadInput, RunError) as error:
        raise EngineError(f"{file}: the engine refuses the probe's inputs ({error})") from error
    except BackendBadReply as error:
        raise ArtifactError(f"{file}: the probe's inputs get a wrong answer ({error})") from error
    return ProbedEngine(engine, inputs, wanted)


def _fit(found: Sequence[TensorSpec], wanted: Sequence[TensorSpec], *, exactly: bool) -> bool:
    """Return whether a file's tensors are those of the spec.

    A file may leave more open than the spec. What it says of outputs is no more than its writer knew: TFLite's calls an
    axis fixed that the data decides.
    """
    by_name = {tensor.name: tensor for tensor in found}
    return by_name.keys() == {tensor.name for tensor in wanted} and all(
        (by_name[tensor.name].dtype, len(by_name[tensor.name].shape)) == (tensor.dtype, len(tensor.shape))
        and all(
            own in (OPEN, size) or (size == OPEN and not exactly)
            for own, size in zip(by_name[tensor.name].sizes, tensor.sizes, strict=True)
        )
        for tensor in wanted
    )


def _shown(tensors: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"{tensor.name} {tensor.dtype} {list(tensor.sizes)}" for tensor in tensors)

"""The policy that a model of token ids takes texts: `text` BYTES [texts] in, `label` BYTES [texts] beside the scores.

It stands before everything else, so that every stack gets the same ids, and requests of a length are merged (ADR 30).
A request that brings the model's own inputs passes as it is.
"""

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from tokenizers import Tokenizer

from servepath.artifacts.manifest import ArtifactError, artifact_folder, read_manifest, verify
from servepath.artifacts.spec import Spec
from servepath.artifacts.text import FORMAT, IDS, LABEL, MASK, TEXT, TOKENIZER, TYPES, read_text_form
from servepath.protocols.errors import BackendBadReply, BadInput, Internal
from servepath.protocols.tensors import fits, pack, unpack
from servepath.protocols.types import Answer, Request, Tensor
from services.dataplane.backend import Backend, Call, Outcome
from services.gateway.artifacts import REFRESH_S

log = logging.getLogger(__name__)
# Of all texts of a request: they are translated on the event loop, 1.3 MB/s (x86_64, 2026-11-29).
MAX_BYTES = 2**15
MAX_TEXTS = 1024
# Of all texts of a request, each filled up to the longest.
MAX_IDS = 2**16
# Lengths are filled up to a multiple of this: requests of nearly one length are merged, and a GPU sees few shapes.
MULTIPLE = 8


class Translator:
    """One version's tokenizer and labels."""

    def __init__(self, folder: Path, spec: Spec) -> None:
        """Read a folder of the text format; spec: of the network that takes the ids. Raises ArtifactError."""
        self.sha256 = verify(folder).sha256
        self.form = read_text_form(folder)
        self._inputs = spec.inputs
        self._outputs = [tensor.name for tensor in spec.outputs]
        if self.form.scores not in self._outputs:
            raise ArtifactError(f"{folder}: the model has no output {self.form.scores!r}; import it again")
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        except Exception as error:  # the library raises Exception itself
            raise ArtifactError(f"{folder / TOKENIZER} cannot be read ({error}); import the model again") from error
        # What the file says of these would cut texts, or fill them up for the longest that there is.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def request(self, request: Request) -> Request:
        """Return the request of ids that a request of texts stands for. Raises BadInput."""
        unknown = [name for name in request.outputs if name not in (*self._outputs, LABEL)]
        if unknown:
            known = sorted([*self._outputs, LABEL])
            raise BadInput(f"unexpected output {unknown[0]!r}; the model has the outputs {known}", "OUTPUTS")
        if len(set(request.outputs)) != len(request.outputs):
            raise BadInput("an output is requested twice", "OUTPUTS")
        outputs = tuple(name for name in request.outputs if name != LABEL)
        if LABEL in request.outputs and self.form.scores not in outputs:
            outputs = (*outputs, self.form.scores)
        return request._replace(inputs=self._ids(_texts(request.inputs[0])), outputs=outputs)

    def answer(self, wanted: Sequence[str], answer: Answer) -> Answer:
        """Return an answer with the label of each text, and of the outputs only the wanted ones (none named: all).

        Raises BackendBadReply.
        """
        if wanted and LABEL not in wanted:
            return answer
        scores = next(tensor for tensor in answer.outputs if tensor.name == self.form.scores)
        rows, width = scores.shape[0], len(self.form.labels)
        if scores.shape != (rows, width):
            raise BackendBadReply(f"output {scores.name!r} of the model server's reply is not of {width} labels")
        values = unpack(scores.dtype, scores.data)
        if any(map(math.isnan, values)):
            raise BackendBadReply(f"output {scores.name!r} of the model server's reply has scores that are no numbers")
        best = [_place_of_largest(values[row * width : (row + 1) * width]) for row in range(rows)]
        labels = pack(LABEL, "BYTES", [self.form.labels[place].encode() for place in best])
        outputs = (*answer.outputs, Tensor(LABEL, "BYTES", (rows,), labels))
        return answer._replace(outputs=tuple(tensor for tensor in outputs if not wanted or tensor.name in wanted))

    def _ids(self, texts: Sequence[str]) -> tuple[Tensor, ...]:
        if len(texts) > MAX_TEXTS:
            raise BadInput(f"{len(texts)} texts, at most {MAX_TEXTS} fit one request", "SHAPE")
        try:
            found = self._tokenizer.encode_batch_fast(texts)
        except Exception as error:  # the library raises Exception itself, as for a word that it has no token for
            raise BadInput("the model's tokenizer does not take these texts", "CONTENT") from error
        most = self.form.max_tokens
        for place, each in enumerate(found):
            if not 0 < len(each) <= most:
                raise BadInput(f"text {place} has {len(each)} tokens; the model takes 1 to {most}", "SHAPE")
        longest = max((len(each) for each in found), default=1)
        length = min(-(-longest // MULTIPLE) * MULTIPLE, most)
        if len(texts) * length > MAX_IDS:
            text = f"{len(texts)} texts, the longest of {longest} tokens, are {len(texts) * length} ids"
            raise BadInput(f"{text}; at most {MAX_IDS} fit one request", "SHAPE")
        return tuple(
            Tensor(
                tensor.name,
                tensor.dtype,
                (len(texts), length),
                pack(tensor.name, tensor.dtype, self._filled(found, tensor.name, length)),
            )
            for tensor in self._inputs
        )

    def _filled(self, found: Sequence[Any], name: str, length: int) -> list[int]:
        elements: list[int] = []
        for each in found:
            own = {IDS: each.ids, MASK: each.attention_mask, TYPES: each.type_ids}[name]
            elements += own
            elements += [0] * (length - len(own))
        return elements


class Translators:
    """The translators of a model's versions, each read when it is first wanted, and again when it is another one."""

    def __init__(self, exports: Path, model: str, spec: Spec, clock: Callable[[], float] = monotonic) -> None:
        self._exports, self._model, self._spec = exports, model, spec
        self._clock = clock
        self._known: dict[int, Translator | Exception] = {}
        self._checked: dict[int, float] = {}

    def has(self, version: int) -> bool:
        """Return whether a version takes texts."""
        return self._folder(version).is_dir()

    def find(self, version: int) -> Translator:
        """Return a version's translator. Raises BadInput where it takes no texts, ArtifactError for a broken one.

        Either is looked at once in REFRESH_S: this is the event loop.
        """
        now = self._clock()
        if now - self._checked.get(version, -REFRESH_S) >= REFRESH_S:
            self._checked[version] = now
            self._known[version] = self._read(version)
        found = self._known[version]
        if isinstance(found, Exception):
            raise found.with_traceback(None)  # which grows with each time that it is raised
        return found

    def _read(self, version: int) -> Translator | Exception:
        folder, known = self._folder(version), self._known.get(version)
        if not self.has(version):
            return BadInput(f"version {version} of the model takes no texts", "INPUTS")
        try:
            same = isinstance(known, Translator) and read_manifest(folder).sha256 == known.sha256
            return known if same and known is not None else Translator(folder, self._spec)
        except ArtifactError as error:
            return error
        except OSError as error:
            return ArtifactError(f"{folder} cannot be read: {error.strerror}")

    def _folder(self, version: int) -> Path:
        return artifact_folder(self._exports, self._model, FORMAT, version)


class TextInput:
    """Puts ids in the place of texts, and labels beside the scores.

    version_of: the version that a call for a version, 0 for the current one, will go to, as far as it is known.
    """

    def __init__(self, inner: Backend, translators: Translators, version_of: Callable[[int], int]) -> None:
        self._inner = inner
        self._translators = translators
        self._version_of = version_of

    def submit(self, call: Call) -> None:
        """Pass a call on, one of texts as the call of ids that it stands for."""
        inputs = call.request.inputs
        if len(inputs) == 1 and inputs[0].name == TEXT:
            try:
                self._translate(call)
            except BadInput as error:
                call.end(error)
                return
            except ArtifactError:
                log.exception("a version's tokenizer cannot be used")
                call.end(Internal())
                return
        self._inner.submit(call)

    def ready(self) -> bool:
        """Return whether the inner backend is ready."""
        return self._inner.ready()

    async def close(self) -> None:
        """Close the inner backend."""
        await self._inner.close()

    def _translate(self, call: Call) -> None:
        translator, wanted = self._translators.find(self._version_of(call.request.version)), call.request.outputs
        call.request = translator.request(call.request)
        call.translate = partial(self._labelled, translator, wanted)

    def _labelled(self, translator: Translator, wanted: Sequence[str], answer: Answer) -> Outcome:
        version = answer.served.version
        try:
            if self._translators.find(self._version_of(version)).sha256 != translator.sha256:
                return BackendBadReply(f"version {version} answered, which has another tokenizer; send the texts again")
            return translator.answer(wanted, answer)
        except BadInput:  # a version without texts has been loaded meanwhile
            return BackendBadReply(f"version {version} answered, which takes no texts")
        except BackendBadReply as error:
            return error


def _texts(tensor: Tensor) -> list[str]:
    """Return the texts of an input. Raises BadInput."""
    if tensor.dtype != "BYTES" or len(tensor.shape) != 1:
        raise BadInput(f"input {TEXT!r} is {tensor.dtype} {list(tensor.shape)}, expected BYTES [-1]", "SHAPE")
    if len(tensor.data) > MAX_BYTES:
        raise BadInput(f"{len(tensor.data)} bytes of texts, at most {MAX_BYTES} fit one request", "SHAPE")
    try:
        fits(tensor)
        return [element.decode() for element in unpack("BYTES", tensor.data)]
    except UnicodeDecodeError:
        raise BadInput(f"input {TEXT!r}: a text is not UTF-8", "BYTES") from None
    except ValueError as error:
        raise BadInput(f"input {TEXT!r}: {error}", "BYTES") from None


def _place_of_largest(scores: Sequence[float]) -> int:
    return max(range(len(scores)), key=scores.__getitem__)

"""Texts in and labels out through a gateway, in front of a real gRPC server that answers ids as it is told."""

import shutil
import struct
from array import array
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from grpc import StatusCode, aio
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from servepath.artifacts.atomic import new_folder, write_file
from servepath.artifacts.manifest import ArtifactError, artifact_folder
from servepath.artifacts.spec import Spec, TensorSpec, Tolerance
from servepath.artifacts.text import FORM, FORMAT, TOKENIZER, TextForm
from servepath.client.clients import AsyncClient
from servepath.protocols import servepath
from servepath.protocols.errors import BadInput
from servepath.protocols.stacks import service_files
from servepath.protocols.tensors import pack, split_strings
from servepath.protocols.types import Answer, Request, Tensor
from services.dataplane.backend import Call
from services.gateway.config import Settings
from services.gateway.server import Gateway, create_gateway
from services.gateway.text import MAX_BYTES, MAX_TEXTS, Translator, Translators
from tests.exports import make_export
from tests.fake_stack import FakeBackend, FakeStack
from tests.integration.test_gateway import reason_of, until
from tests.limits import LONG_S
from tests.manifests import write_manifest

UNKNOWN = "[UNK]"
WORDS = {"[PAD]": 0, "[CLS]": 1, "leave": 2, "pay": 3, "my": 4, UNKNOWN: 5}
LABELS = ("holidays", "money")
MAX_TOKENS = 12
SPEC = Spec(
    inputs=(
        TensorSpec("input_ids", "INT64", ("batch", "length")),
        TensorSpec("attention_mask", "INT64", ("batch", "length")),
    ),
    outputs=(TensorSpec("logits", "FP32", ("batch", 2)), TensorSpec("probabilities", "FP32", ("batch", 2))),
    row_independent=True,
    tolerance=Tolerance(1e-5, 1e-5),
    max_sizes={"length": MAX_TOKENS},
)
SERVED = FakeBackend().served
DEPLOYMENTS = '[gateway]\nprobe_interval_s = 0.05\n[models.policy]\ndefault = "onnx"\n[models.policy.stacks.onnx]\n'


def write_text_form(
    exports: Path, version: int, labels: tuple[str, ...] = LABELS, scores: str = "probabilities"
) -> None:
    tokenizer = Tokenizer(WordLevel(WORDS, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 1)])
    # As libraries leave them in the file: a gateway that went by it would cut texts, or fill them up.
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=64)
    with new_folder(artifact_folder(exports, "policy", FORMAT, version)) as folder:
        tokenizer.save(str(folder / TOKENIZER))
        (folder / FORM).write_text(TextForm(labels, scores, MAX_TOKENS).to_json())
        write_manifest(folder, "policy", FORMAT, version, SPEC)


def classify(call: Call) -> Answer:
    """Answer ids as a model would that counts `pay` against `leave`, where the mask lets it."""
    ids, mask = (
        array("q", tensor.data) for tensor in sorted(call.request.inputs, key=lambda each: each.name != "input_ids")
    )
    rows, length = call.request.inputs[0].shape
    seen = [[ids[place] for place in range(row * length, (row + 1) * length) if mask[place]] for row in range(rows)]
    logits = [value for row in seen for value in (row.count(2), row.count(3))]
    data = struct.pack(f"<{2 * rows}f", *logits)
    tensors = (Tensor("logits", "FP32", (rows, 2), data), Tensor("probabilities", "FP32", (rows, 2), data))
    wanted = call.request.outputs
    return Answer(tuple(t for t in tensors if not wanted or t.name in wanted), SERVED)


@dataclass
class Bench:
    """A gateway whose model takes texts, its stack, and a channel."""

    gateway: Gateway
    backend: FakeBackend
    channel: aio.Channel
    exports: Path

    async def predict(self, *texts: str, outputs: tuple[str, ...] = (), version: int = 0, data: bytes = b"") -> Answer:
        data = data or pack("text", "BYTES", [text.encode() for text in texts])
        request = Request("policy", version, (Tensor("text", "BYTES", (len(texts),), data),), outputs)
        payload = servepath.encode_request(request, request.model, request.version)
        return servepath.decode_answer(await self.channel.unary_unary(servepath.METHOD)(payload, timeout=LONG_S))

    async def refusal(self, *texts: str, **more: object) -> tuple[StatusCode, str, str]:
        with pytest.raises(aio.AioRpcError) as caught:
            await self.predict(*texts, **more)  # type: ignore[arg-type]
        return caught.value.code(), reason_of(caught.value), caught.value.details() or ""

    def asked(self) -> dict[str, tuple[tuple[int, ...], list[int]]]:
        """Return shape and elements of what the stack was asked last that was no probe."""
        call = next(call for call in reversed(self.backend.calls) if call.request.inputs[0].shape != (1, 1))
        return {tensor.name: (tensor.shape, array("q", tensor.data).tolist()) for tensor in call.request.inputs}


def settings(tmp_path: Path, exports: Path, address: str, front: str) -> Settings:
    deployments = tmp_path / "deployments.toml"
    deployments.write_text(DEPLOYMENTS)
    addresses = {"onnx": address, "torchserve": "127.0.0.1:1", "tfserving": "127.0.0.1:1", "litert": "127.0.0.1:1"}
    return Settings(
        deployments=deployments,
        exports=exports,
        host="127.0.0.1",
        port=0,
        metrics_port=0,
        reflection=False,
        addresses=addresses,
        files=service_files({}, tmp_path),
        front=front,
    )


@pytest.fixture
async def bench(tmp_path: Path, front: str) -> AsyncIterator[Bench]:
    exports = tmp_path / "exports"
    make_export(exports, "policy", "onnx", spec=SPEC)
    write_text_form(exports, 1)
    backend = FakeBackend()
    backend.behave = lambda call: classify(call)._replace(served=backend.served)
    stack = await FakeStack(backend).start()
    gateway = await create_gateway(settings(tmp_path, exports, stack.address, front))
    async with aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        await until(gateway.backend.ready)
        yield Bench(gateway, backend, channel, exports)
    await gateway.drain()
    await gateway.close()
    await stack.stop()


def labels_of(answer: Answer) -> list[str]:
    (found,) = (tensor for tensor in answer.outputs if tensor.name == "label")
    assert (found.dtype, found.shape) == ("BYTES", (len(split_strings(found.data)),))
    return [each.decode() for each in split_strings(found.data)]


async def test_texts_of_several_lengths_are_one_request_of_ids(bench: Bench) -> None:
    answer = await bench.predict("my pay", "leave leave my unheard", "pay")
    assert labels_of(answer) == ["money", "holidays", "money"]
    assert [tensor.name for tensor in answer.outputs] == ["logits", "probabilities", "label"]
    ids = [[1, 4, 3], [1, 2, 2, 4, 5], [1, 3]]
    assert bench.asked() == {
        "input_ids": ((3, 8), [element for row in ids for element in row + [0] * (8 - len(row))]),
        "attention_mask": ((3, 8), [element for row in ids for element in [1] * len(row) + [0] * (8 - len(row))]),
    }


async def test_only_the_outputs_that_were_asked_for_come_back(bench: Bench) -> None:
    assert [t.name for t in (await bench.predict("pay", outputs=("label",))).outputs] == ["label"]
    assert [t.name for t in (await bench.predict("pay", outputs=("logits",))).outputs] == ["logits"]
    code, reason, said = await bench.refusal("pay", outputs=("colour",))
    assert (code, reason) == (StatusCode.INVALID_ARGUMENT, "BAD_INPUT.OUTPUTS")
    assert said == "unexpected output 'colour'; the model has the outputs ['label', 'logits', 'probabilities']"
    assert (await bench.refusal("pay", outputs=("label", "label")))[2] == "an output is requested twice"


async def test_no_text_is_cut(bench: Bench) -> None:
    assert labels_of(await bench.predict(" ".join(["my"] * 10 + ["pay"]))) == ["money"]
    assert bench.asked()["input_ids"][0] == (1, MAX_TOKENS)
    code, reason, said = await bench.refusal("pay", "my " * MAX_TOKENS)
    assert (code, reason) == (StatusCode.INVALID_ARGUMENT, "BAD_INPUT.SHAPE")
    assert said == "text 1 has 13 tokens; the model takes 1 to 12"


async def test_many_texts_beside_a_long_one_are_bounded(bench: Bench) -> None:
    code, reason, said = await bench.refusal(*[""] * (MAX_TEXTS + 1))
    assert (code, reason) == (StatusCode.INVALID_ARGUMENT, "BAD_INPUT.SHAPE")
    assert said == "1025 texts, at most 1024 fit one request"


def test_texts_filled_up_to_the_longest_are_bounded(tmp_path: Path) -> None:
    tokenizer = Tokenizer(WordLevel(WORDS, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = Whitespace()
    texts = ["my " * 100, *["my"] * 700]
    request = Request(
        "policy", 0, (Tensor("text", "BYTES", (701,), pack("text", "BYTES", [t.encode() for t in texts])),)
    )
    with pytest.raises(BadInput, match="701 texts, the longest of 100 tokens, are 72904 ids; at most 65536 fit"):
        translator(tmp_path, tokenizer, max_tokens=128).request(request)


async def test_scores_that_are_no_numbers_get_no_label(bench: Bench) -> None:
    def nan(call: Call) -> Answer:
        answer = classify(call)
        rows = call.request.inputs[0].shape[0]
        data = struct.pack(f"<{2 * rows}f", *[float("nan"), 1.0] * rows)
        return answer._replace(outputs=tuple(tensor._replace(data=data) for tensor in answer.outputs))

    bench.backend.behave = nan
    assert (await bench.refusal("pay"))[1] == "BACKEND_BAD_REPLY"


def translator(tmp_path: Path, tokenizer: Tokenizer, max_tokens: int = MAX_TOKENS) -> Translator:
    tokenizer.save(str(tmp_path / TOKENIZER))
    (tmp_path / FORM).write_text(TextForm(LABELS, "probabilities", max_tokens).to_json())
    write_manifest(tmp_path, "policy", FORMAT, 1, SPEC)
    return Translator(tmp_path, SPEC)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "text 0 has 0 tokens; the model takes 1 to 12"),
        ("unheard", "the model's tokenizer does not take these texts"),
    ],
)
def test_a_text_that_has_no_tokens_is_refused(tmp_path: Path, text: str, said: str) -> None:
    tokenizer = Tokenizer(WordLevel({"pay": 0}, unk_token=UNKNOWN))  # which it has no number for
    tokenizer.pre_tokenizer = Whitespace()
    request = Request("policy", 0, (Tensor("text", "BYTES", (1,), pack("text", "BYTES", [text.encode()])),))
    with pytest.raises(BadInput, match=said):
        translator(tmp_path, tokenizer).request(request)


async def test_no_texts_have_no_labels(bench: Bench) -> None:
    answer = await bench.predict()
    assert [(tensor.name, tensor.shape, tensor.data) for tensor in answer.outputs] == [
        ("logits", (0, 2), b""),
        ("probabilities", (0, 2), b""),
        ("label", (0,), b""),
    ]


@pytest.mark.parametrize(
    ("data", "reason", "said"),
    [
        (pack("text", "BYTES", [b"\xff"]), "BAD_INPUT.BYTES", "input 'text': a text is not UTF-8"),
        (pack("text", "BYTES", [b"a", b"b"]), "BAD_INPUT.BYTES", "input 'text': 2 elements, the shape says 1"),
        (
            pack("text", "BYTES", [bytes(MAX_BYTES)]),
            "BAD_INPUT.SHAPE",
            "32772 bytes of texts, at most 32768 fit one request",
        ),
    ],
)
async def test_what_is_no_text_is_refused(bench: Bench, data: bytes, reason: str, said: str) -> None:
    assert await bench.refusal("any", data=data) == (StatusCode.INVALID_ARGUMENT, reason, said)


async def test_a_text_of_another_form_is_refused(bench: Bench) -> None:
    request = Request("policy", 0, (Tensor("text", "FP32", (1,), bytes(4)),))
    payload = servepath.encode_request(request, request.model, request.version)
    with pytest.raises(aio.AioRpcError, match=r"input 'text' is FP32 \[1\], expected BYTES \[-1\]"):
        await bench.channel.unary_unary(servepath.METHOD)(payload, timeout=LONG_S)


async def test_ids_pass_as_they_are(bench: Bench) -> None:
    inputs = tuple(Tensor(tensor.name, "INT64", (1, 2), array("q", [1, 1]).tobytes()) for tensor in SPEC.inputs)
    request = Request("policy", 0, inputs)
    payload = servepath.encode_request(request, request.model, request.version)
    answer = servepath.decode_answer(await bench.channel.unary_unary(servepath.METHOD)(payload, timeout=LONG_S))
    assert [tensor.name for tensor in answer.outputs] == ["logits", "probabilities"]


async def test_an_answer_of_a_version_with_another_tokenizer_is_not_labelled(bench: Bench) -> None:
    make_export(bench.exports, "policy", "onnx", version=2, spec=SPEC)
    write_text_form(bench.exports, 2, labels=("money", "holidays"))
    make_export(bench.exports, "policy", "onnx", version=3, spec=SPEC)
    assert labels_of(await bench.predict("pay")) == ["money"]
    old = bench.backend.served
    # The probes see version 1, a call is answered by version 2, as in the moment of a change.
    bench.backend.behave = lambda call: classify(call)._replace(
        served=old._replace(version=2 if call.request.inputs[0].shape != (1, 1) else 1)
    )
    code, reason, said = await bench.refusal("pay")
    assert (code, reason) == (StatusCode.INTERNAL, "BACKEND_BAD_REPLY")
    assert said == "version 2 answered, which has another tokenizer; send the texts again"
    bench.backend.served = old._replace(version=2)
    bench.backend.behave = lambda call: classify(call)._replace(served=bench.backend.served)
    assert labels_of(await bench.predict("pay", version=2)) == ["holidays"]

    async def known() -> bool:  # the folder is listed once a second
        return (await bench.refusal("pay", version=3))[0] is not StatusCode.NOT_FOUND

    await until(known)
    assert await bench.refusal("pay", version=3) == (
        StatusCode.INVALID_ARGUMENT,
        "BAD_INPUT.INPUTS",
        "version 3 of the model takes no texts",
    )


async def test_texts_are_for_the_version_that_the_path_serves_after_a_call_for_another_one(bench: Bench) -> None:
    make_export(bench.exports, "policy", "onnx", version=2, spec=SPEC)
    write_text_form(bench.exports, 2, labels=("money", "holidays"))
    bench.gateway.reloader.routes.paths["policy", "onnx"].artifacts.find_served(2)  # which looks at once

    def behave(call: Call) -> Answer | None:
        if call.request.inputs[0].shape == (1, 1):
            return None  # a probe, whose answer tells which version the path serves
        return classify(call)._replace(served=SERVED._replace(version=call.request.version or 1))

    bench.backend.behave = behave
    assert labels_of(await bench.predict("pay", version=2)) == ["holidays"]
    assert labels_of(await bench.predict("pay")) == ["money"]


async def test_a_client_sends_texts_and_reads_labels(bench: Bench) -> None:
    async with AsyncClient(f"127.0.0.1:{bench.gateway.port}") as client:
        (path,) = await client.list_paths(timeout_s=LONG_S)
        assert (path.labels, path.max_tokens) == (LABELS, MAX_TOKENS)
        for inputs in (["my pay", "leave"], {"text": ["my pay", "leave"]}):
            prediction = await client.predict("policy@onnx", inputs, timeout_s=LONG_S)
            assert prediction.to_lists()["label"] == [b"money", b"holidays"]


async def test_a_gateway_does_not_start_with_a_tokenizer_that_it_cannot_read(tmp_path: Path) -> None:
    exports = tmp_path / "exports"
    make_export(exports, "policy", "onnx", spec=SPEC)
    write_text_form(exports, 1, scores="elsewhere")
    with pytest.raises(ArtifactError, match="the model has no output 'elsewhere'"):
        await create_gateway(settings(tmp_path, exports, "127.0.0.1:1", "native"))
    folder = artifact_folder(exports, "policy", FORMAT, 1)
    write_file(folder / FORM, TextForm(LABELS, "probabilities", MAX_TOKENS).to_json())
    write_file(folder / TOKENIZER, "{}")
    with pytest.raises(ArtifactError, match="does not match its manifest"):
        await create_gateway(settings(tmp_path, exports, "127.0.0.1:1", "native"))
    write_manifest(folder, "policy", FORMAT, 1, SPEC)
    with pytest.raises(ArtifactError, match=r"tokenizer\.json cannot be read"):
        await create_gateway(settings(tmp_path, exports, "127.0.0.1:1", "native"))


def test_a_version_that_was_made_anew_under_its_number_is_read_again_after_a_second(tmp_path: Path) -> None:
    now = 0.0
    translators = Translators(tmp_path, "policy", SPEC, lambda: now)
    with pytest.raises(BadInput, match="version 1 of the model takes no texts"):
        translators.find(1)
    write_text_form(tmp_path, 1)
    with pytest.raises(BadInput):
        translators.find(1)
    now = 1.0
    first = translators.find(1)
    now = 2.0
    assert translators.find(1) is first
    shutil.rmtree(artifact_folder(tmp_path, "policy", FORMAT, 1))
    write_text_form(tmp_path, 1, labels=("money", "holidays"))
    assert translators.find(1) is first
    now = 3.0
    assert translators.find(1).form.labels == ("money", "holidays")
    write_file(artifact_folder(tmp_path, "policy", FORMAT, 1) / TOKENIZER, "{}")
    write_manifest(artifact_folder(tmp_path, "policy", FORMAT, 1), "policy", FORMAT, 1, SPEC)
    now = 4.0
    with pytest.raises(ArtifactError, match=r"tokenizer\.json cannot be read"):
        translators.find(1)

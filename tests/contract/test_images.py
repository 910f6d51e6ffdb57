"""What every image keeps to, read from its Dockerfile: no root, no shell in front, no secret, what is locked alone."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest
from dotenv import dotenv_values
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.builder.images import DEFAULT, IMAGES
from deploy.locks import FOLDER, LOCKS, read
from deploy.supply import pins
from services.tf_svc import binary, models_config
from services.tf_svc.config import read_settings
from tests.contract.registries import ROOT
from tests.limits import LONG_S

FILES = sorted((ROOT / "deploy/images").glob("*.Dockerfile"))
# What runs in each image of ours.
PROGRAMS = {
    "gateway": ("services.gateway",),
    "onnx_svc": ("services.onnx_svc",),
    "litert_svc": ("services.litert_svc",),
    "torch_svc": ("services.torch_svc",),
    "tf_svc-embedded": ("services.tf_svc",),
    "loadtest": ("loadtest", "report", "servepath.client"),
    "pipeline": ("training", "export"),
}
# What a COPY begins with that takes nothing out of the build context.
MADE = {"--from=build"}
SECRET = re.compile(
    r"(?i)(password|passwd|secret|token|api_?key|credential)\s*[=:]|BEGIN [A-Z ]*PRIVATE KEY|https?://[^\s/]*:[^\s/]*@"
)
# What a builder older than Docker 23 does not know.
BUILDKIT = re.compile(
    r"(?m)^#\s*syntax=|--mount=|--chmod=|--link\b|<<-?\s*['\"]?[A-Z]+|^HEALTHCHECK .*--start-interval"
)


def instructions(text: str) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions and their words, continued lines joined."""
    joined = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", text))
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())
    ]


def final(text: str) -> list[tuple[str, str]]:
    """Return the instructions of the last stage."""
    found = instructions(text)
    return found[max(index for index, (word, _) in enumerate(found) if word == "FROM") :]


def faults(text: str) -> Iterator[str]:
    """Yield what a Dockerfile does that none of ours may."""
    stages = [rest for word, rest in instructions(text) if word == "FROM"]
    if any(not rest.startswith("${BASE}") for rest in stages):
        yield "a stage is not built on BASE"
    last = final(text)
    users = [rest for word, rest in last if word == "USER"]
    if not users or not re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1]):
        yield "it does not run as a numeric user other than root"
    for word, rest in last:
        if word in {"ENTRYPOINT", "CMD"} and not _is_words(rest):
            yield f"{word} is a shell's"
        if word == "RUN" and re.search(r"\b(pip|apt-get|curl|wget) ", rest):
            yield "its last stage installs"
    if not any(word == "ENTRYPOINT" for word, _ in last):
        yield "it has no ENTRYPOINT"
    if any(word == "ADD" for word, _ in instructions(text)):
        yield "ADD fetches and unpacks: COPY is enough"
    if SECRET.search(text):
        yield "it may hold a secret"
    if BUILDKIT.search(text):
        yield "it needs BuildKit or an engine newer than 20.10"


def sources(text: str) -> list[str]:
    """Return what a Dockerfile copies out of the build context."""
    copies = [rest.split() for word, rest in instructions(text) if word == "COPY"]
    return [name for words in copies if words[0] not in MADE for name in words[:-1]]


def closure(names: set[str]) -> set[str]:
    """Return pyproject's extras with those that they name."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    more = {inner for name in names for text in extras[name] for inner in _own_extras(text)}
    return names if more <= names else closure(names | more)


def _own_extras(text: str) -> set[str]:
    requirement = Requirement(text)
    return requirement.extras if requirement.name == "servepath" else set()


def _is_words(text: str) -> bool:
    try:
        words = json.loads(text)
    except json.JSONDecodeError:
        return False
    return isinstance(words, list) and all(isinstance(word, str) for word in words)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_dockerfile_does_what_none_may(file: Path) -> None:
    assert list(faults(file.read_text())) == []


GOOD = 'ARG BASE\nFROM ${BASE}\nUSER 65532:65532\nENTRYPOINT ["a"]\n'


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (GOOD.replace("${BASE}", "python:3"), "a stage is not built on BASE"),
        (GOOD.replace("65532:65532", "root"), "it does not run as a numeric user other than root"),
        (GOOD.replace("65532:65532", "0:0"), "it does not run as a numeric user other than root"),
        (GOOD.replace("USER 65532:65532\n", ""), "it does not run as a numeric user other than root"),
        (GOOD.replace('["a"]', "a b"), "ENTRYPOINT is a shell's"),
        (GOOD + "CMD a\n", "CMD is a shell's"),
        (GOOD + "RUN pip install x\n", "its last stage installs"),
        (GOOD.replace('ENTRYPOINT ["a"]\n', ""), "it has no ENTRYPOINT"),
        (GOOD + "ADD a b\n", "ADD fetches and unpacks: COPY is enough"),
        (GOOD + "ENV API_KEY=abc\n", "it may hold a secret"),
        (GOOD + "ARG INDEX=https://me:word@index\n", "it may hold a secret"),
        (GOOD + "RUN --mount=type=cache,target=/c true\n", "it needs BuildKit or an engine newer than 20.10"),
        (GOOD + "COPY <<EOF /a\nEOF\n", "it needs BuildKit or an engine newer than 20.10"),
    ],
)
def test_each_fault_is_found(text: str, fault: str) -> None:
    assert list(faults(text)) == [fault]


def test_the_shortest_good_dockerfile_has_no_fault() -> None:
    assert list(faults(GOOD)) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_a_dockerfile_copies_is_tracked_and_not_kept_from_the_build(file: Path) -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=LONG_S, check=True)
    names = tracked.stdout.splitlines()
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in sources(file.read_text()):
        for name in [source.replace("${DEVICE}", device) for device in ("cpu", "gpu")]:
            assert any(one == name or one.startswith(f"{name}/") for one in names), f"{name} is not tracked"
            assert any(name == one or name.startswith(f"{one}/") for one in allowed), f"{name} is ignored"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_an_image_has_the_addresses_and_ports_of_env_alone(file: Path) -> None:
    text = file.read_text()
    copies = [rest.split() for word, rest in instructions(text) if word == "COPY" and ".env" in rest.split()]
    assert [words for words in copies if words != [".env", "./"]] == []
    patterns = re.findall(r"^RUN grep -E '(.+)' \.env >app/\.env$", text, re.MULTILINE)
    assert len(patterns) == len(copies)
    lines = [*(ROOT / ".env").read_text().splitlines(), "OTEL_EXPORTER_OTLP_HEADERS=key", "A_TOKEN=B_PORT=1"]
    for pattern in patterns:
        kept = {line.partition("=")[0] for line in lines if re.search(pattern, line)}
        assert kept == {name for name in dotenv_values(ROOT / ".env") if name.endswith(("_ADDR", "_PORT"))}


def test_an_image_has_every_package_that_its_program_imports() -> None:
    ours = {file.parent.name for file in ROOT.glob("*/__init__.py")} - {"deploy"}
    graph = grimp.build_graph(*sorted(ours), cache_dir=None)
    for name, programs in PROGRAMS.items():
        copied = {source.split("/")[0] for source in sources((ROOT / f"deploy/images/{name}.Dockerfile").read_text())}
        imported = {program.split(".")[0] for program in programs}
        for module in [one for one in graph.modules if one.startswith(tuple(f"{program}." for program in programs))]:
            imported |= {upstream.split(".")[0] for upstream in graph.find_upstream_modules(module)}
        assert imported - copied == set(), name


# Runs in a fresh interpreter: the gateway, with all packages hidden but those that are named. A text becomes ids there.
WITH_LOCK_ALONE = """
import sys
from importlib.abc import MetaPathFinder
from importlib.metadata import packages_distributions

locked = set(sys.argv[1:])
hidden = {
    name
    for name, packages in packages_distributions().items()
    if not locked & {package.lower().replace("_", "-").replace(".", "-") for package in packages}
}

class Hiding(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"{name} is not in the lock", name=name)

sys.meta_path.insert(0, Hiding())
import services.gateway.__main__
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

made = Tokenizer.from_str(Tokenizer(WordLevel({"?": 0, "leave": 1}, "?")).to_str())
print(made.encode("leave").ids, "huggingface_hub" in hidden)
"""


def test_the_gateway_runs_and_reads_tokenizers_with_what_its_lock_has_alone() -> None:
    locked = [canonicalize_name(package) for package in read(ROOT / FOLDER / "gateway.txt")]
    command = [sys.executable, "-c", WITH_LOCK_ALONE, "servepath", *locked]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONG_S, check=False)
    assert (done.stdout, done.stderr) == ("[1] True\n", "")


def test_every_image_of_ours_has_its_program_here() -> None:
    assert PROGRAMS.keys() == {file.name.removesuffix(".Dockerfile") for file in FILES} - {"tf_svc"}


def test_hadolint_has_nothing_to_say() -> None:
    command = [f"{Path(sys.executable).parent}/hadolint", *map(str, FILES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG_S, check=False)
    assert done.stdout == ""


def test_every_image_has_its_dockerfile_and_every_dockerfile_is_an_image() -> None:
    assert {image.repository for image in IMAGES.values()} == {file.name.removesuffix(".Dockerfile") for file in FILES}


def test_every_image_names_a_base_and_arguments_that_exist() -> None:
    variables = dotenv_values(ROOT / ".env")
    assert {image.base for image in IMAGES.values()} <= pins.named(variables).keys()
    assert {name for image in IMAGES.values() for name in image.passed} <= variables.keys()
    stand_ins = {image.stand_in for image in IMAGES.values() if image.stand_in}
    assert {*DEFAULT, *stand_ins} <= IMAGES.keys()


def test_every_image_installs_a_lock_that_is_there_and_no_lock_is_left_over() -> None:
    assert {image.lock for image in IMAGES.values() if image.lock} | {"proto"} == LOCKS.keys()
    assert {file.stem for file in (ROOT / FOLDER).glob("*.txt")} == LOCKS.keys()


def test_images_lock_is_whole_or_empty() -> None:
    lock = dotenv_values(ROOT / "images.lock")
    assert not lock or list(pins.gaps(pins.named(dotenv_values(ROOT / ".env")), lock)) == []


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_what_its_extras_name_in_the_versions_of_constraints(name: str) -> None:
    lock = {canonicalize_name(package): version for package, version in read(ROOT / FOLDER / f"{name}.txt").items()}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = {
        canonicalize_name(Requirement(text).name) for one in closure(set(LOCKS[name].extras)) for text in extras[one]
    }
    pairs = [line.split("==") for line in (ROOT / "constraints.txt").read_text().split()]
    pinned = {canonicalize_name(package): version for package, version in pairs}
    assert wanted - {"servepath"} <= lock.keys()
    assert {package: pinned.get(package) for package in lock} == lock
    assert not lock.keys() & LOCKS[name].left_out


@pytest.mark.parametrize("name", LOCKS)
def test_every_line_of_a_lock_has_one_hash(name: str) -> None:
    lines = (ROOT / FOLDER / f"{name}.txt").read_text().splitlines()[1:]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+ --hash=sha256:[0-9a-f]{64}", line)] == []


def test_no_image_has_both_builds_of_onnx_runtime() -> None:
    held = {name: {"onnxruntime", "onnxruntime-gpu"} & read(ROOT / FOLDER / f"{name}.txt").keys() for name in LOCKS}
    assert held["onnx_svc-cpu"] == {"onnxruntime"}
    assert held["onnx_svc-gpu"] == {"onnxruntime-gpu"}
    assert max(len(found) for found in held.values()) == 1


def test_no_cpu_image_has_cuda() -> None:
    cuda = {name: [one for one in read(ROOT / FOLDER / f"{name}.txt") if one.startswith("nvidia")] for name in LOCKS}
    assert {name for name, found in cuda.items() if found} == {"onnx_svc-gpu", "torch_svc-gpu"}


# Stands in for the program of the official image: it records its arguments.
STAND_IN = """#!/bin/sh
if [ "$1" = --version ]; then printf 'TensorFlow ModelServer: 0.0.0-stand-in\\nTensorFlow Library: 1\\n'; exit 0; fi
printf '%s\\n' "$@" > {record}
"""


@pytest.mark.parametrize("words", [(), ("--socket",)], ids=["port", "socket"])
def test_the_official_image_starts_with_the_words_of_tf_svc(tmp_path: Path, words: tuple[str, ...]) -> None:
    last = dict(final((ROOT / "deploy/images/tf_svc.Dockerfile").read_text()))
    shell, script = json.loads(last["ENTRYPOINT"])
    program, record, socket = tmp_path / binary.NAME, tmp_path / "record", tmp_path / "grpc.sock"
    program.write_text(STAND_IN.format(record=record))
    program.chmod(0o755)
    models = tmp_path / "models"
    for folder in ("a/saved_model/12", "b-1.x/saved_model/1", "c/onnx/1", "d/saved_model/.new"):
        (models / folder).mkdir(parents=True)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TMPDIR": str(tmp_path), "TF_SVC_MODELS": str(models)}
    environment |= {"TF_SVC_SOCKET": str(socket)} if words else {}
    script = script.replace("/etc/tf_svc", str(ROOT / "deploy/images/tf_svc"))
    subprocess.run([shell, script, *json.loads(last["CMD"])], env=environment, check=True)
    settings = read_settings([*words, str(socket)] if words else [])
    _, *expected = binary.command(binary.NAME, settings, tmp_path / "models.config")
    assert record.read_text().splitlines() == expected
    assert [path.read_text() for path in tmp_path.glob("version")] == ["0.0.0-stand-in\n"] * len(words)
    assert (tmp_path / "models.config").read_text() == models_config.render(models_config.find(models))


def test_the_official_image_without_a_savedmodel_says_so(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path), "TF_SVC_MODELS": str(tmp_path)}
    words = ["/bin/sh", str(ROOT / "deploy/images/tf_svc/start.sh")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=LONG_S, check=False)
    assert done.returncode == 1
    assert "has no MODEL/saved_model/VERSION folder; run: make export" in done.stderr

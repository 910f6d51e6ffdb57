"""A stack is entered in at most 9 files beyond its own; what else names one is about that product alone, and says why.

Counted from the repository: what git tracks, without its documents and tests, comments and docstrings left out.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import PurePosixPath

import pytest

from export.formats import FORMATS
from servepath.protocols.stacks import STACKS, Stack
from tests.contract.registries import ROOT
from tests.limits import LONG_S

MAX_FILES = 9
# Where every stack is entered, and what of it.
SHARED = {
    "servepath/protocols/stacks.py": "its row: all that the rest of the repository has to know of it",
    ".env": "its address and the defaults of its ports",
    "deployments.toml": "the paths on it, with their limits",
    "pyproject.toml": "its extra, and its layer among the services",
    "constraints.txt": "the versions of what its extra installs",
    "docker-compose.yml": "its container, and the gateway's way to it",
    "docker-compose.gpu.yml": "its image with CUDA",
    "deploy/k8s/base/kustomization.yaml": "its manifests, ports, address and image",
    "deploy/prometheus/prometheus.yml": "what asks its metrics, where it has any",
}
# What names some stacks for what they are, by the beginning of the file's name: a new one is not entered there.
PARTICULAR = {
    "studies/": "each study is about the products that it names",
    "deploy/prometheus/alerts.yml": "onnx_svc alone has paths and metrics of its own by default",
    "deploy/grafana/": "the same",
    "deploy/k8s/components/autoscale/": "the same",
    "deploy/k8s/overlays/gpu/": "onnx_svc alone would compute on the CPU without a word",
    "deploy/gpu_check_here.py": "onnx_svc's engine alone can be run without its server",
    "docker-compose.embedded.yml": "TensorFlow Serving alone has a stand-in",
    "deploy/images/pipeline.Dockerfile": "an .mar contains TorchServe's handler",
    "export/": "the formats; one is called as its stack, and one as its stack's runtime",
    "servepath/artifacts/tflite.py": "the format is called otherwise, its runtime as its stack",
    "models/": "the same",
}
PROSE = {".md", ".svg"}
# The locks are written by `make locks`.
LEFT_OUT = ("tests/", "docs/", "findings/", "deploy/images/locks/")


def own(stack: Stack) -> tuple[str, ...]:
    """Return how the names of a stack's own files begin or what they are."""
    exporters = {made.module for (_, name), made in FORMATS.items() if name == stack.artifact_format}
    return (
        f"services/{stack.service}/",
        f"{stack.codec.replace('.', '/')}.py",
        f"proto/servepath/{stack.codec.rpartition('.')[2]}/",
        *(f"{module.replace('.', '/')}.py" for module in exporters),
        *(f"deploy/images/{image.repository}." for image in stack.images),
        f"deploy/images/{stack.service}/",
        f"deploy/k8s/base/{stack.extra}.yaml",
        f"deploy/k8s/base/kserve/{stack.extra}.yaml",
    )


def names_of(stack: Stack) -> re.Pattern[str]:
    """Return what finds a stack's or its service's name, in any spelling.

    Not within a path's name, MODEL@STACK, nor the end of a file's name.
    """
    others = "|".join(map(re.escape, (stack.service, stack.extra)))
    return re.compile(rf"(?:(?<![@a-z.]){re.escape(stack.name)}|(?<![@a-z])(?:{others}))(?![a-z])", re.IGNORECASE)


@cache
def texts() -> dict[str, str]:
    """Return what is not prose in each file that a stack could be entered in."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=LONG_S, check=True)
    names = [name for name in listed.stdout.splitlines() if not name.startswith(LEFT_OUT)]
    paths = [PurePosixPath(name) for name in names if PurePosixPath(name).suffix not in PROSE]
    return {str(path): without_prose(path, (ROOT / path).read_text()) for path in paths}


def without_prose(path: PurePosixPath, text: str) -> str:
    """Return a file's text without comments and, of Python, without docstrings."""
    if path.suffix == ".py":
        return "\n".join(_words(ast.parse(text)))
    comment = r"//.*" if path.suffix == ".proto" else r"(^|\s)#.*"
    return re.sub(comment, "", text, flags=re.MULTILINE)


def _words(tree: ast.Module) -> Iterator[str]:
    """Yield the names and the strings of a module, and no docstring (a string that is a statement)."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str() as text) if id(node) not in prose:
                yield text
            case ast.Name(id=text) | ast.Attribute(attr=text) | ast.alias(name=text):
                yield text
            case ast.ImportFrom(module=str() as text) | ast.FunctionDef(name=text) | ast.ClassDef(name=text):
                yield text


@cache
def naming(stack: Stack) -> frozenset[str]:
    """Return the files that name a stack and are not its own."""
    pattern = names_of(stack)
    return frozenset(name for name, text in texts().items() if pattern.search(text) and not name.startswith(own(stack)))


def test_a_stack_is_entered_in_few_files() -> None:
    assert len(SHARED) <= MAX_FILES
    assert [name for name in SHARED if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("stack", STACKS.values(), ids=list(STACKS))
def test_every_file_that_names_a_stack_has_its_reason(stack: Stack) -> None:
    unknown = {name for name in naming(stack) - SHARED.keys() if not name.startswith(tuple(PARTICULAR))}
    assert unknown == set()


def test_what_names_every_stack_is_where_a_new_one_is_entered() -> None:
    assert frozenset.intersection(*map(naming, STACKS.values())) <= SHARED.keys()


def test_no_reason_is_left_over() -> None:
    found = frozenset.union(*map(naming, STACKS.values()))
    assert [begin for begin in (*SHARED, *PARTICULAR) if not any(name.startswith(begin) for name in found)] == []


@pytest.mark.parametrize(
    ("path", "text", "named"),
    [
        ("a.py", 'if stack == "torchserve":\n    pass\n', True),
        ("a.py", "from services.torch_svc import server\n", True),
        ("a.py", 'ADDRESS = "TORCH_SVC_ADDR"\n', True),
        ("a.py", "def torchserve() -> None:\n    pass\n", True),
        ("a.py", '"""As torchserve."""\n# torch_svc\nexample = "simple_nn@torchserve"\n', False),
        ("a.yaml", "image: servepath/torch_svc\n", True),
        ("a.yaml", "name: torch-svc # a comment\n", True),
        ("a.yaml", "# torch-svc\nname: x # torch_svc\n", False),
        ("a.proto", "// torchserve\nstring stack = 1;\n", False),
    ],
)
def test_a_name_is_found_in_what_is_not_prose(path: str, text: str, *, named: bool) -> None:
    found = names_of(STACKS["torchserve"]).search(without_prose(PurePosixPath(path), text))
    assert (found is not None) == named

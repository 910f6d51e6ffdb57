"""What no tracked file may hold: calls that turn data into code, and listening on more than this machine by default."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.limits import LONG_S

ROOT = Path(__file__).parents[2]
# Modules whose loaders run what the data says.
UNSAFE_MODULES = frozenset({"pickle", "cPickle", "_pickle", "cloudpickle", "joblib", "dill", "shelve", "marshal"})
UNSAFE_CALLS = frozenset({"eval", "exec", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system", "os.popen"})
UNSAFE_ARGUMENTS = {
    "shell": True,
    "allow_pickle": True,
    "weights_only": False,
    "safe_mode": False,
    "trust_remote_code": True,
}
EVERYWHERE = re.compile(r"0\.0\.0\.0|\[::\]|['\"]::['\"]|INADDR_ANY|in6addr_any")
# Files that speak of listening everywhere, and why none of them does so by default.
DOCUMENTED = {
    "deploy/k8s/base/gateway.yaml": "in a pod: a default-deny NetworkPolicy says who comes in",
    "deploy/k8s/base/onnx-svc.yaml": "in a pod: a default-deny NetworkPolicy says who comes in",
    "deploy/k8s/base/litert-svc.yaml": "in a pod: a default-deny NetworkPolicy says who comes in",
    "deploy/k8s/base/torch-svc.yaml": "in a pod: a default-deny NetworkPolicy says who comes in",
    "deploy/k8s/base/kserve/onnx-svc.yaml": "in a pod: a default-deny NetworkPolicy says who comes in",
    "deploy/k8s/base/kserve/torch-svc.yaml": "in a pod: a default-deny NetworkPolicy says who comes in",
    "docker-compose.yml": "inside containers, on their own networks; what is published is on 127.0.0.1",
    "docker-compose.gpu.yml": "as docker-compose.yml",
    **{
        f"deploy/images/{name}.Dockerfile": "inside a container, whose ports nobody reaches until they are published"
        for name in ("gateway", "onnx_svc", "litert_svc", "torch_svc", "tf_svc-embedded")
    },
    "services/dataplane/workers.py": "compares what the user asked for, to know which address reaches a worker",
    "services/tf_svc/binary.py": "says that tensorflow_model_server has no option for less",
    "services/torch_svc/supervisor.py": "compares what the user asked for, to know whom to probe",
    "tests/e2e/torch_svc/test_life.py": "asks for it, as a user may",
    "tests/integration/servepath/runner/test_ports.py": "a port held on every interface is busy",
    "tests/unit/services/torch_svc/test_server.py": "asks for it, as a user may",
    "tests/contract/test_sources.py": "looks for it",
    "SECURITY.md": "says what listens where",
}


def tracked(*patterns: str) -> list[str]:
    done = subprocess.run(
        ["git", "ls-files", "--", *patterns], cwd=ROOT, capture_output=True, text=True, timeout=LONG_S, check=True
    )
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def unsafe(source: str) -> Iterator[str]:
    """Yield what a Python source imports, calls or asks for that runs data as code, or words in a shell."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (f"imports {name}" for name in names if name.partition(".")[0] in UNSAFE_MODULES)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in UNSAFE_CALLS:
                yield f"calls {called}"
            yield from (f"passes {word.arg}={ast.unparse(word.value)}" for word in node.keywords if _is_unsafe(word))


def _is_unsafe(word: ast.keyword) -> bool:
    # Anything but the safe constant counts: a variable may be the unsafe one.
    wanted = UNSAFE_ARGUMENTS.get(word.arg or "")
    return wanted is not None and not (isinstance(word.value, ast.Constant) and word.value.value is (not wanted))


# What `servepath import --trust-code` lets run, and nothing else does.
TRUSTED = {
    "export/importing/keras_source.py": ["passes safe_mode=not trust_code"],
    "export/importing/torch_module.py": ["passes weights_only=False"],
}


def test_no_source_runs_data_as_code() -> None:
    names = tracked("*.py")
    assert "services/torch_svc/handler.py" in names
    found = {name: found for name in names if (found := list(unsafe((ROOT / name).read_text())))}
    assert found == TRUSTED


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("import pickle", "imports pickle"),
        ("from joblib.externals import x", "imports joblib.externals"),
        ("def f():\n    import dill", "imports dill"),
        ("eval('1')", "calls eval"),
        ("exec(text)", "calls exec"),
        ("yaml.load(text, Loader=yaml.SafeLoader)", "calls yaml.load"),
        ("os.system(text)", "calls os.system"),
        ("subprocess.run(words, shell=True)", "passes shell=True"),
        ("subprocess.run(words, shell=choice)", "passes shell=choice"),
        ("np.load(path, allow_pickle=True)", "passes allow_pickle=True"),
        ("torch.load(path, weights_only=False)", "passes weights_only=False"),
        ("keras.saving.load_model(path, safe_mode=False)", "passes safe_mode=False"),
        ("load(path, trust_remote_code=True)", "passes trust_remote_code=True"),
    ],
)
def test_what_runs_data_as_code_is_found(source: str, line: str) -> None:
    assert list(unsafe(source)) == [line]


def test_what_only_looks_like_it_is_left_alone() -> None:
    lines = ("model.eval()", "yaml.safe_load(t)", "run(w, shell=False)", "load(p, weights_only=True)", "'eval()'")
    assert list(unsafe("\n".join(lines))) == []


def test_no_file_listens_beyond_this_machine_by_default() -> None:
    texts = {name: (ROOT / name).read_bytes().decode(errors="replace") for name in tracked()}
    found = {name for name, text in texts.items() if EVERYWHERE.search(text)}
    assert found == DOCUMENTED.keys() & texts.keys()


@pytest.mark.parametrize("text", ["host = '0.0.0.0'", 'add_insecure_port("[::]:1")', "bind(('::', 1))", "INADDR_ANY"])
def test_what_listens_everywhere_is_found(text: str) -> None:
    assert EVERYWHERE.search(text)


def test_torchserve_listens_on_loopback_but_where_the_user_says() -> None:
    lines = (ROOT / "services/torch_svc/config.properties").read_text().splitlines()
    addresses = dict(line.split("=", 1) for line in lines if re.match(r"\w+_address=", line))
    hosts = {name: re.sub(r"^http://|:\$\w+$", "", value) for name, value in addresses.items()}
    assert hosts.pop("grpc_inference_address") == "$host"
    assert len(hosts) == 4
    assert set(hosts.values()) == {"127.0.0.1"}

"""The check of commands in documents: what each of its rules finds, and what it must leave alone."""

import pytest

from tests.contract.commands import mistakes


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("see `servepath/protocols/gone.py`", "there is no servepath/protocols/gone.py"),
        ("see `docs/gone/README.md`", "there is no docs/gone/README.md"),
        ("run `make train gone`", "make has no target gone"),
        ("```\nmake gone\n```\n", "make has no target gone"),
        ("`make import FILE=a NAME=b && make gone`", "make has no target gone"),
        ("`SLO_P99_MS=5 make report`", "make report takes no SLO_P99_MS"),
        ("`OTEL_TRACES_EXPORTER=otlp make gone`", "make has no target gone"),
        ("`make loadtest RATE=9 GONE=1`", "make loadtest takes no GONE"),
        ("`make import ... GONE=1`", "make import takes no GONE"),
        ("```\nmake down up LESSON='1 2'\n```\n", "make down up takes no LESSON"),
        ("`pip install -c constraints.txt '.[client,gone]'`", "there is no extra gone"),
        ("`pip install\n'servepath[gone]'`", "there is no extra gone"),
        ("`pip install 'jax[tpu]==0.0.1'`", "constraints.txt has no jax==0.0.1"),
        ("`python -m services.gone --help`", "there is no module services.gone"),
        ("`python -m services --help`", "there is no module services"),
        ("`python -m gone.too`", "there is no module gone.too"),
        ("`python -m services.gateway --gone`", "python -m services.gateway has no --gone"),
        ("`python -m client paths --gone`", "python -m client has no --gone"),
        ("`python -m client.gone`", "there is no module client.gone"),
        ("`python -m client pahts`", "python -m client has no pahts"),
        ("`client pahts`", "client has no pahts"),
        ("`python -m servepath.runner dwon`", "python -m servepath.runner has no dwon"),
        ("`servepath routes chekc`", "servepath routes has no chekc"),
        ("`servepath gone`", "servepath has no command gone"),
        ("`servepath predict m --tuned`", "servepath predict has no --tuned"),
        ("```\n.venv/bin/servepath ask MODEL \\\n  --all --gone\n```\n", "servepath ask has no --gone"),
        ("so `servepath ask MODEL\n--gone` does", "servepath ask has no --gone"),
        ("`locust -f loadtest/gone.py`", "there is no loadtest/gone.py"),
        ("`kubectl apply -k deploy/k8s/gone`", "there is no deploy/k8s/gone"),
        ("`grpcurl -import-path proto -proto servepath/v1/gone.proto`", "there is no servepath/v1/gone.proto"),
        ("`make import FILE=docs/gone.onnx NAME=a`", "there is no docs/gone.onnx"),
        ("with `--gone cuda`", "nothing here has --gone"),
        ("with `RATE=9 GONE=rate`", "nothing here takes GONE"),
        ("`GONE=1 servepath up`", "nothing here reads GONE"),
        ("`GONE=1 docker compose up`", "nothing here reads GONE"),
        ("`RATE=9 servepath up`", "nothing here reads RATE"),
    ],
)
def test_what_is_not_there_is_named(text: str, line: str) -> None:
    assert list(mistakes(text)) == [line]


@pytest.mark.parametrize(
    "text",
    [
        "`make loadtest RATE=9 PATHS='a b'`, `make import FILE=a NAME=b && make up`, `make setup NEWEST=python3.11`",
        "`SLO_P99_MS=5 make capacity`, `OTEL_TRACES_EXPORTER=otlp make up`, `make import ... STABLEHLO=1`",
        "```\nkubectl -n servepath delete job/a --ignore-not-found\n```\nthen make it so",
        "`.venv/bin/servepath loadtest --help`, `python -m pytest -q --anything`, `servepath tune MODEL@STACK|all`",
        "`python -m servepath.runner down torch_svc`, `python -m report results/RUN`, `client predict m --version 2`",
        "`ONNX_SVC_PORT=9 servepath up`, `OTEL_TRACES_EXPORTER=otlp docker compose up`",
        "`--device cuda`, `GOAL=rate`, `up --tuned`, `ONNX_SVC_ADDR=10.0.0.1:8001`, `don't`",
        "```python\npython -m gone\n```\n",
    ],
)
def test_what_is_there_is_no_mistake(text: str) -> None:
    assert list(mistakes(text)) == []

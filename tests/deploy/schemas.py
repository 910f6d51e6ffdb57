"""Is a document what Kubernetes takes? By the schemas of one release of Kubernetes, unknown keys refused.

KServe publishes its schemas as CustomResourceDefinitions of 20,000 lines each, which no package carries: for its two
kinds there is a subset of our own in kserve/, written from its Go types; what is Kubernetes' own in them (containers,
volumes, security contexts) refers to Kubernetes' schemas. A document that passes has passed our subset, no more.
"""

import json
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path

import jsonschema
import kubernetes_validate
from referencing import Registry, Resource

from tests.deploy.rendering import Document, title

KUBERNETES = "1.35"
AUTHORITY = f"Kubernetes {KUBERNETES}, strict"
SUBSET = "our own subset of KServe's schemas, not KServe's CRDs"
KSERVE = ("InferenceService", "ServingRuntime")


def authority(document: Document) -> str:
    """Return whose schema validates a document."""
    return SUBSET if document["kind"] in KSERVE else AUTHORITY


def faults(document: Document) -> Iterator[str]:
    """Yield what is wrong with a document, as KIND/NAME: PLACE: WHAT."""
    try:
        if document["kind"] in KSERVE:
            _validator(document["kind"]).validate(document)
        else:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except kubernetes_validate.SchemaNotFoundError as error:
        yield f"{title(document)}: {error.message}"
    except jsonschema.ValidationError as error:
        place = ".".join(map(str, error.absolute_path))
        yield f"{title(document)}: {place}: {error.message.splitlines()[0][-200:]}"


@cache
def _validator(kind: str) -> jsonschema.Draft202012Validator:
    folder = files(kubernetes_validate) / "kubernetes-json-schema" / f"v{KUBERNETES}.0-local-strict"
    definitions = Resource.from_contents(json.loads((folder / "_definitions.json").read_text()))
    schema = json.loads((Path(__file__).parent / "kserve" / f"{kind.lower()}.schema.json").read_text())
    return jsonschema.Draft202012Validator(schema, registry=definitions @ Registry())

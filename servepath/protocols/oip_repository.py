"""The model repository of the Open Inference Protocol, an extension of it: its methods, words and checks."""

from collections.abc import Mapping
from types import MappingProxyType

from servepath.protocols import errors
from servepath.protocols.oip import SERVICE, parameter_value
from servepath_pb.servepath.oip.oip_pb2 import ModelRepositoryParameter

LOAD, UNLOAD = f"/{SERVICE}/RepositoryModelLoad", f"/{SERVICE}/RepositoryModelUnload"
# The extension, as ServerMetadata names it, and the states of a model in its index.
EXTENSION = "model_repository"
READY, UNAVAILABLE = "READY", "UNAVAILABLE"
# The reason of an error: another call is loading or unloading the model.
CHANGING = "MODEL_CHANGING"


def check_call(repository_name: str, parameters: Mapping[str, ModelRepositoryParameter] = MappingProxyType({})) -> None:
    """Raise Unsupported where a call of the model repository names one of several, or how a model is to be loaded."""
    if repository_name:
        raise errors.Unsupported("there is one repository here, the exports folder; leave repository_name out")
    # Triton's client says with each unload that it does not ask for this; no model here depends on others.
    if any(name != "unload_dependents" or parameter_value(parameter) for name, parameter in parameters.items()):
        raise errors.Unsupported("a model is loaded as it was exported; leave parameters out")

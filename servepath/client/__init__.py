"""The Python client of the gateway, and `python -m client`. Imports no framework."""

from servepath.client.clients import AsyncClient, Client
from servepath.client.core import Prediction
from servepath.client.errors import PredictError
from servepath.protocols.comparison import ComparedPath, Comparison, Verdict

__all__ = ["AsyncClient", "Client", "ComparedPath", "Comparison", "PredictError", "Prediction", "Verdict"]

"""The client under its old name: `python -m client`, `from client import Client`. It is servepath.client now."""

import sys

from servepath.client import AsyncClient, Client, PredictError, Prediction
from servepath.client.__main__ import run

__all__ = ["AsyncClient", "Client", "PredictError", "Prediction"]

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))

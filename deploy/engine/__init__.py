"""A Docker engine to build and test on: one that runs, or one of our own.

with engine() as docker:
    ensure_base(docker, "python:3.11-slim-bookworm")
    subprocess.run([...], env=docker.environment())
"""

from deploy.engine.base_images import ensure_base
from deploy.engine.client import Engine, EngineError
from deploy.engine.own import engine

__all__ = ["Engine", "EngineError", "engine", "ensure_base"]

"""What one service of this server is, in a few lines of its own."""

from dataclasses import dataclass

from servepath.protocols.stacks import Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class OipService:
    """A stack that is served by this server with an engine of its own.

    stack: its row. kind: of its models, in sentences. file: what an artifact consists of. platform: as clients know it.
    """

    stack: Stack
    kind: str
    file: str
    platform: str

    @property
    def name(self) -> str:
        """Return the name of its processes, and the beginning of its metrics'."""
        return self.stack.service

    @property
    def module(self) -> str:
        """Return what `python -m` runs."""
        return f"services.{self.name}"

    @property
    def stacks(self) -> dict[str, Stack]:
        """Return what it serves by format: its stack, then the same in its reduced precisions."""
        return {stack.artifact_format: stack for stack in self.stack.in_precisions}

"""Files of the previous schema, read as if they had today's; kept for one release."""

from typing import Any

# The previous schema of each kind of file, which called measurements "blocks".
PREVIOUS = {"run": 2, "crosscheck": 1}


def upgrade(name: str, content: Any) -> Any:
    """Return a file's content in today's schema; content of any other schema than the previous one is unchanged."""
    if not isinstance(content, dict) or name not in PREVIOUS or content.get("schema") != PREVIOUS[name]:
        return content
    renamed = {("measurements" if key == "blocks" else key): value for key, value in content.items()}
    return renamed | {"schema": PREVIOUS[name] + 1}

"""How long a test waits for what must happen: only a hang reaches it, however slow and busy the machine is."""

LONG_S = 500.0

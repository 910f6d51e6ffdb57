"""The processes that serve, and what they share: wire (protocols), serving (the server side of them)."""

"""Import a user's own model: read its signature, try what can be tried, write what the servers load."""

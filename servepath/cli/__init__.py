"""How every command here reads its arguments: one line for a wrong one, and exit code 2."""

"""How every command here reads its words: one line for a wrong one, and exit code 2."""

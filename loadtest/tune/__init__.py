"""Settings under which a path does better than by default, found by measuring beside the default: `servepath tune`.

Settings under trial run on servers of their own beside the default's, both are loaded in the same short rounds, and the
ratio is the score: what the machine does meanwhile falls on both. Why so: docs/adr/0039-tuning.md.
"""

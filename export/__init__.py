"""From weights to artifacts: `python -m export` writes every model in each of its formats, with proof."""

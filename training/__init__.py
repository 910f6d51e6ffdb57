"""From data to weights: `python -m training` trains every model and writes what export needs."""

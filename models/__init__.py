"""The models, a folder each: spec, architecture, training data and start, float64 reference."""

"""The models: architecture, contract and float64 reference of each. No files are read or written here."""

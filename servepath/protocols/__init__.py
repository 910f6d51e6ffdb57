"""The protocols: domain types, errors with their gRPC codes, tensors as bytes, one codec module per protocol."""

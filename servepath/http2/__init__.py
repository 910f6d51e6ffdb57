"""HTTP/2 for unary gRPC, as much of it as a gateway and its servers need: what both sides of a connection share."""

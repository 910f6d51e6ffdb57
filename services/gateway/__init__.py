"""The gateway: one gRPC endpoint in front of every deployment path. Run: python -m services.gateway --help."""

"""The server side of the wire: listeners that take calls in, policies and backends that answer them, life cycle."""

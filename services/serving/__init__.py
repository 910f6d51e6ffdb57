"""The server side of the wire: fronts that take calls in, policies and backends that answer them, life cycle."""

"""HTTP/2 for unary gRPC, as much of it as a gateway, its servers and a load test need.

The modules here do no I/O: bytes that came go into a connection's `receive`, bytes to send go into its `Output`, and
what happened is told to callbacks, all in memory (as in h2, the library). `drivers` joins that to sockets: of asyncio,
of gevent, and blocking ones. An import-linter contract keeps the two apart.
"""

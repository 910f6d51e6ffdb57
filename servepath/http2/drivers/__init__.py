"""Drivers join HTTP/2's connections, which do no I/O, to sockets: of asyncio, of gevent, and blocking ones."""

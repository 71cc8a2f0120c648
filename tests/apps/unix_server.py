"""python3 unix_server.py PATH: asyncio on a unix socket. asyncio removes a socket file that it finds at PATH before it binds."""
import asyncio
import os
import sys


async def serve(reader, writer):
    try:
        await reader.readuntil(b"\r\n\r\n")
        body = b"pid %d\n" % os.getpid()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
        await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_unix_server(serve, sys.argv[1])
    await server.serve_forever()


asyncio.run(main())

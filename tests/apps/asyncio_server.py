"""asyncio streams on every address: asyncio binds 0.0.0.0 and then :: with IPV6_V6ONLY. python3 asyncio_server.py PORT"""
import asyncio
import os
import sys


async def serve(reader, writer):
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            body = b"pid %d\n" % os.getpid()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, None, int(sys.argv[1]))
    await server.serve_forever()


asyncio.run(main())

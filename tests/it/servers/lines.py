"""A TCP and UDP server with a few manners, for the tests: lines.py [ADDRESS [PORT]]

Prints its port, the same one for TCP and UDP, on the first line, and ends with its standard input. The first line of a
connection chooses what it does:

    echo        sends back what comes, and ends when the other side has ended
    sum         reads to the end, then answers "BYTES SHA256" and ends
    late        the same, but reads nothing for a second
    send N      sends N bytes and ends
    reset       resets the connection
    hold        sends nothing and never ends of itself
    half        ends its own direction at once, reads the other to its end, and prints "half BYTES"

A datagram is sent back as it came, after "udp ". Whatever happens is printed, a line each: "tcp", "udp" and the verb.
"""
import asyncio
import hashlib
import resource
import socket
import struct
import sys

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1"
PORT = int(sys.argv[2]) if len(sys.argv) > 2 else 0
FAMILY = socket.AF_INET6 if ":" in ADDRESS else socket.AF_INET


def note(text):
    print(text, flush=True)


async def serve(reader, writer):
    note("tcp")
    try:
        verb, *words = (await reader.readline()).decode().split() or [""]
        note(verb)
        if verb == "echo":
            while chunk := await reader.read(1 << 16):
                writer.write(chunk)
                await writer.drain()
        elif verb in ("sum", "late"):
            await asyncio.sleep(1 if verb == "late" else 0)
            count, digest = 0, hashlib.sha256()
            while chunk := await reader.read(1 << 16):
                count += len(chunk)
                digest.update(chunk)
            writer.write(f"{count} {digest.hexdigest()}\n".encode())
        elif verb == "send":
            left = int(words[0])
            while left > 0:
                writer.write(bytes(min(left, 1 << 16)))
                left -= 1 << 16
                await writer.drain()
        elif verb == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        elif verb == "hold":
            await reader.read()
        elif verb == "half":
            writer.write_eof()
            note(f"half {len(await reader.read())}")
        writer.close()
        await writer.wait_closed()
    except (ConnectionError, BrokenPipeError) as error:
        note(type(error).__name__)


class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        note("udp")
        self.transport.sendto(b"udp " + data, peer)


async def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    while True:
        # A socket of our own: asyncio's takes IPv6 only.
        listener = socket.create_server((ADDRESS, PORT), family=FAMILY, backlog=2048, dualstack_ipv6=ADDRESS == "::")
        server = await asyncio.start_server(serve, sock=listener, backlog=2048, start_serving=False)
        port = listener.getsockname()[1]
        try:
            await asyncio.get_running_loop().create_datagram_endpoint(Datagrams, (ADDRESS, port))
            break
        except OSError:
            # Somebody has this port for UDP.
            server.close()
    await server.start_serving()
    note(port)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())

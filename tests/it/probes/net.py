"""What the scripts that run inside share; they follow below."""
import asyncio, errno, hashlib, os, resource, socket, ssl, struct, sys, time


def name_of(error):
    if isinstance(error, socket.gaierror):
        return {socket.EAI_NONAME: "EAI_NONAME", socket.EAI_NODATA: "EAI_NODATA", socket.EAI_AGAIN: "EAI_AGAIN"}.get(
            error.errno, f"gaierror {error.errno}"
        )
    return errno.errorcode.get(error.errno, type(error).__name__)


def attempt(what, *words):
    """What came of it: the result, or the name of the errno."""
    try:
        return what(*words)
    except OSError as error:
        return name_of(error)


def connect(host, port, family=0, kind=socket.SOCK_STREAM):
    """A connected socket, to the first address of a family."""
    family, kind, proto, _, address = socket.getaddrinfo(host, port, family, kind)[0]
    connection = socket.socket(family, kind, proto)
    connection.settimeout(30)
    connection.connect(address)
    return connection


def ask(connection, line):
    """Sends bytes, ends the direction, and reads what comes to the end."""
    connection.sendall(line)
    connection.shutdown(socket.SHUT_WR)
    return read_all(connection)


def read_all(connection):
    parts = []
    while chunk := connection.recv(1 << 16):
        parts.append(chunk)
    return b"".join(parts)


def try_tcp(host, port, family=0):
    """Says something to the server of an address and gives its answer: `hello` if it is reached and is lines.py's echo."""
    return attempt(lambda: ask(connect(host, port, family), b"echo\nhello").decode() or "EOF")


def try_udp(host, port, family=0):
    """Sends a datagram and gives the answer."""

    def exchange():
        connection = connect(host, port, family, socket.SOCK_DGRAM)
        connection.settimeout(5)
        connection.send(b"hello")
        return connection.recv(100).decode()

    return attempt(exchange)


def question(name, kind, edns=None, number=0x1234, flags=0x0100):
    """A query; the name's labels may hold any bytes."""
    labels = name if isinstance(name, list) else [label.encode() for label in name.rstrip(".").split(".")]
    packet = struct.pack(">6H", number, flags, 1, 0, 0, 0 if edns is None else 1)
    packet += b"".join(bytes([len(label)]) + label for label in labels) + b"\0" + struct.pack(">2H", kind, 1)
    return packet if edns is None else packet + b"\0" + struct.pack(">2HIH", 41, edns, 0, 0)


def resolver():
    with open("/etc/resolv.conf") as conf:
        return next(line.split()[1] for line in conf if line.startswith("nameserver"))


def ask_dns(packet, tcp=False):
    """The answer to a query: bytes. A datagram may be lost where many came before it, so it is sent again, as resolvers do."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as connection:
        connection.settimeout(30 if tcp else 5)
        connection.connect((resolver(), 53))
        if not tcp:
            for _ in range(6):
                connection.send(packet)
                try:
                    return connection.recv(65535)
                except TimeoutError:
                    continue
            raise TimeoutError("no answer to a datagram")
        connection.sendall(struct.pack(">H", len(packet)) + packet)
        answer = b""
        while len(answer) < 2 or len(answer) < 2 + struct.unpack(">H", answer[:2])[0]:
            answer += connection.recv(65535)
        return answer[2:]


def shown(answer):
    """The head of an answer: the code, the number of answers, and whether it is truncated and has an EDNS part."""
    number, flags, questions, answers, authorities, further = struct.unpack(">6H", answer[:12])
    assert number == 0x1234 and flags & 0x8000, answer
    code = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}[flags & 15]
    return code, answers, bool(flags & 0x0200), further

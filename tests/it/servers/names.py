"""A name server for the tests: names.py NAME=ADDRESS[,ADDRESS...][/ADDRESS...]...

Listens at 127.0.0.1, port 53, UDP. What is behind a `/` is the answer to the next query for the name, the last one to all
that follow. Other names don't exist. Prints "53" first, then each name that is asked for; ends with its standard input.
"""
import ipaddress
import socket
import struct
import sys
import threading

TABLE = {}
for word in sys.argv[1:]:
    name, _, answers = word.partition("=")
    TABLE[name] = [[ipaddress.ip_address(one) for one in turn.split(",")] for turn in answers.split("/")]
TURNS = {}


def answer(query):
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]])
        at += 1 + query[at]
    kind = struct.unpack(">H", query[at + 1 : at + 3])[0]
    name = b".".join(labels).decode("latin-1")
    print(name, flush=True)
    turns = TABLE.get(name.lower())
    found = []
    if turns:
        # A and AAAA of one look-up get the same turn.
        turn = TURNS.get((name, kind), 0)
        TURNS[name, kind] = turn + 1
        version = {1: 4, 28: 6}.get(kind)
        found = [one for one in turns[min(turn, len(turns) - 1)] if one.version == version]
    head = query[:2] + struct.pack(">5H", 0x8180 if turns else 0x8183, 1, len(found), 0, 0)
    records = b"".join(
        b"\xc0\x0c" + struct.pack(">2HIH", kind, 1, 0, len(one.packed)) + one.packed for one in found
    )
    return head + query[12 : at + 5] + records


def serve(sock):
    while True:
        query, peer = sock.recvfrom(4096)
        sock.sendto(answer(query), peer)


sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", 53))
print(53, flush=True)
threading.Thread(target=serve, args=[sock], daemon=True).start()
sys.stdin.read()

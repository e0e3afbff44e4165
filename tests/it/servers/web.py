"""A web server of one directory, for the tests: web.py DIR [--bind ADDRESS] [--tls CERT KEY] [--git DIR]

Prints its port on the first line. With --git, /git/ is answered by git-http-backend over the repositories in that
directory. Ends with its standard input.
"""
import argparse
import http.server
import os
import socket
import ssl
import subprocess
import sys
import threading

parser = argparse.ArgumentParser()
parser.add_argument("dir")
parser.add_argument("--bind", default="127.0.0.1")
parser.add_argument("--tls", nargs=2)
parser.add_argument("--git")
options = parser.parse_args()


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *args):
        super().__init__(*args, directory=options.dir)

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.git(b"") if self.path.startswith("/git/") and options.git else super().do_GET()

    def do_POST(self):
        self.git(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def git(self, body):
        path, _, query = self.path.removeprefix("/git").partition("?")
        environment = os.environ | {
            "GIT_PROJECT_ROOT": options.git,
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        answer = subprocess.run(["git", "http-backend"], input=body, env=environment, stdout=subprocess.PIPE).stdout
        head, _, content = answer.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ":" in options.bind else socket.AF_INET

    def server_bind(self):
        # Not HTTPServer's: it looks the address's name up.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.server_address[:2]

    def handle_error(self, request, address):
        # A client that leaves is no fault.
        pass


server = Server((options.bind, 0), Handler)
if options.tls:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*options.tls)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_port, flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()

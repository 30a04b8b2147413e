"""HTTP on loopback: reads calls, writes answers in one piece, and can close a connection without one."""

import json
import socket
import sys
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingMixIn, TCPServer

from .query import Answer, Call

CONTROL = "/_gate/"
# Headers that say where an answer ends: they are written here.
FRAMING = ("connection", "content-length", "transfer-encoding")


class Server(ThreadingMixIn, TCPServer):
    """Serves a gate on a port that the system chooses."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, gate):
        self.gate = gate
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request, client_address):
        """A peer that is gone is no news: providers are killed here all day. Anything else is."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def setup(self):
        """Answers are not held back to be sent with others."""
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, *args):
        """Calls are logged by the gate, and not here."""

    def body(self):
        """What came after the headers."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def serve(self):
        """One call."""
        raw = self.body()
        headers = {name.lower(): value for name, value in self.headers.items()}
        if self.path.startswith(CONTROL):
            told = self.server.gate.control(self.command, self.path[len(CONTROL) :], raw)
            text = json.dumps(told, indent=1, sort_keys=True).encode()
            return self.write(Answer(200, text, [("Content-Type", "application/json")]))
        headers.pop("transfer-encoding", None)
        call = Call.read(self.command, self.path, {**headers, "content-length": str(len(raw))}, raw)
        answer, told = self.server.gate.answer(call)
        if answer is None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return None
        self.write(answer)
        return told()

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = serve

    def write(self, answer):
        """Sends an answer with one write, so that it arrives whole or not at all."""
        lines = [f"HTTP/1.1 {answer.status} {self.responses.get(answer.status, ('Other',))[0]}"]
        lines += [f"{name}: {value}" for name, value in answer.headers if name.lower() not in FRAMING]
        length = dict((name.lower(), value) for name, value in answer.headers).get("content-length")
        known = self.command == "HEAD" and length is not None
        lines.append(f"Content-Length: {length if known else len(answer.body)}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        self.wfile.write(head if self.command == "HEAD" else head + answer.body)

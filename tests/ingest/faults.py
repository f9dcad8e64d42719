"""Two proxies on loopback that break what passes them: one for any TCP connection, one for an S3 server."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class CuttingProxy:
    """Passes TCP connections on, and cuts every one when one of them has brought so many bytes from the server.

    Attributes:
        cut_after: bytes of one connection; None passes everything on. It is None again after a cut.
        on_cut: called before the connections are cut.
        cuts: how often that was.
    """

    def __init__(self, port: int, host: str = "127.0.0.1"):
        self._upstream = ("127.0.0.1", port)
        self._listener = socket.create_server((host, 0))
        self.port = self._listener.getsockname()[1]
        self.cut_after: int | None = None
        self.on_cut: Callable[[], None] = lambda: None
        self.cuts = 0
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        self._cut_all()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._upstream)
            except OSError:
                client.close()
                continue
            self._open += [client, server]
            threading.Thread(target=self._pass, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, True), daemon=True).start()

    def _pass(self, origin: socket.socket, target: socket.socket, counted: bool) -> None:
        passed = 0
        try:
            while data := origin.recv(16384):
                passed += len(data)
                if counted and self._due(passed):
                    self._cut_all()
                    return
                target.sendall(data)
        except OSError:
            pass
        finally:
            for end in (origin, target):
                # Closed alone, it would live on as long as the thread of the other direction waits for what it brings.
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def _due(self, passed: int) -> bool:
        with self._lock:
            if self.cut_after is None or passed < self.cut_after:
                return False
            self.cut_after = None
            self.cuts += 1
            self.on_cut()
            return True

    def _cut_all(self) -> None:
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open.clear()


class FaultyS3:
    """Passes requests on to an S3 server, and answers some of them itself.

    Attributes:
        fault: a status such as 503, `slow` (the request is passed on a little later), `cut` (no answer at all) or
            `altered` (a bit of its body is another).
        left: how many requests are still to be met by it.
        methods: of the requests that are met.
        met: how many were.
    """

    def __init__(self, endpoint: str):
        host, port = endpoint.removeprefix("http://").split(":")
        outer = self
        self.fault: int | str | None = None
        self.left, self.met = 0, 0
        self.methods: tuple[str, ...] = ()
        self._lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fault = outer._take(self.command)
                if fault == "cut":
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                if fault == "slow":
                    time.sleep(0.5)
                elif fault == "altered":
                    body = bytes([body[0] ^ 1]) + body[1:]
                elif fault:
                    self._answer(fault, [("Content-Type", "application/xml")], b"<Error><Code>SlowDown</Code></Error>")
                    return
                upstream = http.client.HTTPConnection(host, int(port), timeout=60)
                upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() != "expect":
                        upstream.putheader(name, value)
                upstream.endheaders(body)
                answer = upstream.getresponse()
                content = answer.read()
                self._answer(answer.status, answer.getheaders(), content)
                upstream.close()

            def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
                self.send_response_only(status)
                length = str(len(content))
                for name, value in headers:
                    if name.lower() == "content-length" and self.command == "HEAD":
                        length = value
                    elif name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                self.send_header("Content-Length", length)
                self.end_headers()
                self.wfile.write(content if self.command != "HEAD" else b"")

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

            def log_message(self, *given: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def inject(self, fault: int | str, times: int, *methods: str) -> None:
        """Meets the next so many requests of these methods, or of any."""
        with self._lock:
            self.fault, self.left, self.methods, self.met = fault, times, methods, 0

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _take(self, method: str) -> int | str | None:
        with self._lock:
            if not self.left or (self.methods and method not in self.methods):
                return None
            self.left -= 1
            self.met += 1
            return self.fault

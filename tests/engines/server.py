"""A real HTTP server on loopback that serves one file, resumes it, and fails in the ways that servers fail."""
import http.server
import socket
import socketserver
import threading
from typing import List, Optional


class FileServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Serves `content` at every path. A context manager.

    cuts      bytes after which a connection is closed early, one entry a connection, first come first
    resumes   whether Range is honoured
    status    an error that every request gets instead
    stalls_after  bytes after which a connection stays open and brings no more; `stalled` is set then
    asked     the Range header of every request so far ('' = none)
    """

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.cuts: List[int] = []
        self.resumes = True
        self.status: Optional[int] = None
        self.stalls_after: Optional[int] = None
        self.stalled = threading.Event()
        self.ended = threading.Event()
        self.asked: List[str] = []
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def url(self, name: str) -> str:
        return "http://127.0.0.1:{}/{}".format(self.server_address[1], name)

    def __enter__(self) -> "FileServer":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.ended.set()
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.server.asked.append(wanted)
        if self.server.status:
            self.send_error(self.server.status)
            return
        start = int(wanted.split("=")[1].rstrip("-")) if wanted and self.server.resumes else 0
        if start >= len(self.server.content) > 0 and wanted:
            self.send_error(416)
            return
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.stalls_after is not None:
            self.wfile.write(body[: self.server.stalls_after])
            self.server.stalled.set()
            self.server.ended.wait(60)
            return
        cut = self.server.cuts.pop(0) if self.server.cuts else len(body)
        self.wfile.write(body[:cut])
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *arguments: object) -> None:
        pass

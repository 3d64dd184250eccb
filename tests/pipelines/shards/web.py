"""A web server of this machine that tells as little of its files as some do."""

from __future__ import annotations

import gzip
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

import fsspec.asyn

from pipelines.shards import storage_places, storage_web


class _Server(ThreadingHTTPServer):
    request_queue_size = 64  # of 5, those who come together wait for a second


class Web:
    """Serves ``files``; folders are shown where they are in it, as pages of links.

    Attributes:
        files: Content by path.
        folder: Status of what is not in ``files``.
        sizes: Whether answers say how long they are.
        ranges: Whether parts of files are sent where they are asked for.
        packed: Whether files are sent packed, whatever is asked for.
        modified: When all files were written, as answers tell; empty if they do not.
        busy: How many requests are answered that the server is busy.
        requests: Method and path of each request.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.folder = 404
        self.sizes = self.ranges = True
        self.packed = False
        self.modified = ""
        self.busy = 0
        self.requests: list[tuple[str, str]] = []
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Web:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for fs in list(storage_web.Web._cache.values()):
            if fs._session is not None:
                fsspec.asyn.sync(fs.loop, fs._session.close)
        storage_web.Web.clear_instance_cache()
        storage_places._filesystem.cache_clear()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(web) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.requests.append((self.command, self.path))
                if web.busy:
                    web.busy -= 1
                    self.send_error(503)
                    return
                data = web.files.get(self.path)
                if data is None:
                    self.send_error(web.folder)
                    return
                asked = self.headers.get("Range", "") if web.ranges else ""
                span = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
                self.send_response(206 if span else 200)
                if span:
                    data = data[int(span[1]) : int(span[2] or len(data)) + 1]
                if web.packed:
                    data = gzip.compress(data)
                    self.send_header("Content-Encoding", "gzip")
                if web.sizes:
                    self.send_header("Content-Length", str(len(data)))
                if web.modified:
                    self.send_header("Last-Modified", web.modified)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(data)

            do_HEAD = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

"""A proxy between a storage client and its server that breaks connections to a plan."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

KINDS = ("reset", "truncate", "500", "503", "stall")
_READ = 1 << 18
_ANSWERS = {
    "403": ("403 Forbidden", "AccessDenied", "Access Denied."),
    "500": ("500 Internal Server Error", "InternalError", "We encountered an internal error."),
    "503": ("503 Service Unavailable", "SlowDown", "Please reduce your request rate."),
}


@dataclass
class Plan:
    """Which requests meet which fault; the same requests in the same order meet the same.

    Attributes:
        kinds: Faults to choose from.
        rate: Chance of a fault.
        limit: How many faults in all; None for no limit.
        stall: Seconds of silence before a stalled connection is closed.
        touches: Whether a request (method, target) may meet a fault at all.
        seed: Of the random choices.
    """

    kinds: Sequence[str] = KINDS
    rate: float = 1.0
    limit: int | None = None
    stall: float = 3600.0
    touches: Callable[[str, str], bool] = lambda method, target: True
    seed: int = 0
    random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def draw(self, method: str, target: str) -> str | None:
        """The fault that the next request meets, or None."""
        if self.limit == 0 or not self.touches(method, target) or self.random.random() >= self.rate:
            return None
        if self.limit is not None:
            self.limit -= 1
        return self.random.choice(self.kinds)


@dataclass
class Peer:
    """One end of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class FaultProxy:
    """Passes HTTP on to a server of this machine; ``plan`` may be replaced at any time.

    Attributes:
        plan: What to break.
        injected: How many faults of each kind there were.
        requests: (method, target) of all requests.
    """

    def __init__(self, upstream: int, plan: Plan | None = None):
        self.plan = plan or Plan(rate=0.0)
        self.injected: Counter[str] = Counter()
        self.requests: list[tuple[str, str]] = []
        self.port = 0
        self._upstream = upstream
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _stop(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0.01)  # for the transports to close

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client, server = Peer(reader, writer), None
        try:
            streams = await asyncio.open_connection("127.0.0.1", self._upstream, limit=1 << 20)
            server = Peer(*streams)
            while await self._exchange(client, server):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # one of both is gone
        finally:
            for peer in filter(None, (client, server)):
                peer.writer.close()
                with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                    await peer.writer.wait_closed()

    async def _exchange(self, client: Peer, server: Peer) -> bool:
        """One request and its answer; whether the connection goes on."""
        head = await client.reader.readuntil(b"\r\n\r\n")
        method, target, fields = _parse(head)
        self.requests.append((method, target))
        fault = self.plan.draw(method, target)
        self.injected.update([fault] if fault else [])
        if "expect" in fields:
            client.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            lines = head.split(b"\r\n")
            head = b"\r\n".join(x for x in lines if not x.lower().startswith(b"expect:"))
        if fault in _ANSWERS:
            await _relay_body(client.reader, None, fields)
            client.writer.write(_refusal(fault, method))
            await client.writer.drain()
            return True
        server.writer.write(head)
        await _relay_body(client.reader, server.writer, fields)
        answer = await server.reader.readuntil(b"\r\n\r\n")
        _, status, fields = _parse(answer)
        if method == "HEAD" or status in ("204", "304"):
            fields = {}
        if fault:  # the server has done what was asked: only its answer is lost
            await self._break(fault, client, server, answer, int(fields.get("content-length", 0)))
            return False
        client.writer.write(answer)
        await _relay_body(server.reader, client.writer, fields)
        return fields.get("connection") != "close"

    async def _break(
        self, fault: str, client: Peer, server: Peer, head: bytes, length: int
    ) -> None:
        if fault == "reset":
            sock = client.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.writer.transport.abort()
            return
        if length and (fault == "truncate" or self.plan.random.random() < 0.5):
            client.writer.write(head)
            await _copy(server.reader, client.writer, self.plan.random.randrange(length))
        if fault == "stall":
            await asyncio.sleep(self.plan.stall)


def _parse(head: bytes) -> tuple[str, str, dict[str, str]]:
    """First and second word of the first line, and the fields by lower-case name."""
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    one, two, *_ = first.split(" ")
    return one, two, {name.strip().lower(): value.strip() for name, _, value in pairs}


def _refusal(fault: str, method: str) -> bytes:
    status, code, message = _ANSWERS[fault]
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    body = "" if method == "HEAD" else body
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


async def _relay_body(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter | None, fields: dict[str, str]
) -> None:
    if fields.get("transfer-encoding") != "chunked":
        await _copy(source, sink, int(fields.get("content-length", 0)))
        return
    size = -1
    while size:
        line = await source.readline()
        size = int(line.split(b";")[0], 16)
        if sink:
            sink.write(line)
        await _copy(source, sink, size + 2)  # no trailers: none of our servers sends any


async def _copy(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter | None, count: int
) -> None:
    while count:
        data = await source.read(min(count, _READ))
        if not data:
            raise ConnectionError("the other end is gone")
        count -= len(data)
        if sink:
            sink.write(data)
            await sink.drain()
    if sink:
        await sink.drain()

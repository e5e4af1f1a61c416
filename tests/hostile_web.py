"""A web server that misbehaves in every way a page of this world does, and a name server."""

import asyncio
import gzip
import io
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address

import numpy as np
from PIL import Image

Write = Callable[[bytes], None]


def picture(seed: int, side_px: int = 24) -> bytes:
    """A PNG of noise; equal seeds, equal bytes."""
    pixels = np.random.default_rng(seed).integers(0, 255, (side_px, side_px, 3), dtype=np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()


@dataclass
class Request:
    """What a client asked for."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def host(self) -> str:
        """Name without the port."""
        return self.headers["host"].partition(":")[0]


def response(
    content: bytes = b"", *headers: str, status: str = "200 OK", length: int | None = None
) -> bytes:
    """The bytes of an answer; the declared length is the true one unless said otherwise."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content) if length is None else length}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + content


Handler = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Web:
    """A running server.

    Attributes:
        scheme: http, or https.
        port: on 127.0.0.1.
        names_port: of the name server, on 127.0.0.1.
        asked: how often each (host, path) was asked for.
        robots: host -> robots.txt, as a whole answer.
        pages: path -> what to do.
        names: host -> addresses; every other name has 127.0.0.1.
    """

    scheme: str = "http"
    port: int = 0
    names_port: int = 0
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    at_a_time: Counter[str] = field(default_factory=Counter)
    most_at_a_time: Counter[str] = field(default_factory=Counter)
    agents: set[str] = field(default_factory=set)
    robots: dict[str, bytes] = field(default_factory=dict)
    pages: dict[str, Handler] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """Where a page is."""
        return f"{self.scheme}://{host}:{self.port}{path}"

    def page(self, path: str, *answers: bytes) -> str:
        """Give these answers in turn, the last for ever; return the url."""
        turns = list(answers)

        async def give(_: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(turns.pop(0) if len(turns) > 1 else turns[0])

        self.pages[path] = give
        return self.url(path)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of a connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode("latin-1").split("\r\n")
                method, path, _ = lines[0].split(" ")
                pairs = (line.partition(":") for line in lines[1:] if line)
                headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
                await self._answer(Request(method, path, headers), writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.asked[request.host, request.path] += 1
        self.agents.add(request.headers.get("user-agent", ""))
        if request.path == "/robots.txt":
            writer.write(self.robots.get(request.host, response(status="404 Not Found")))
            return
        self.at_a_time[request.host] += 1
        most = max(self.most_at_a_time[request.host], self.at_a_time[request.host])
        self.most_at_a_time[request.host] = most
        try:
            handler = self.pages.get(request.path)
            if handler is None:
                writer.write(response(status="404 Not Found"))
            else:
                await handler(request, writer)
        finally:
            self.at_a_time[request.host] -= 1


class _Names(asyncio.DatagramProtocol):
    """Answers A questions (RFC 1035 §4); has no other records."""

    def __init__(self, web: Web) -> None:
        self._web = web

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode())
            at += 1 + data[at]
        question = data[12 : at + 5]
        addresses = self._web.names.get(".".join(labels).lower(), ["127.0.0.1"])
        is_a = question[-4:-2] == b"\x00\x01"
        records = [
            b"\xc0\x0c\x00\x01\x00\x01" + (60).to_bytes(4, "big") + b"\x00\x04" + packed
            for packed in (IPv4Address(each).packed for each in addresses if is_a)
        ]
        flags = b"\x81\x80" if addresses else b"\x81\x83"  # no address: no such name
        counts = b"\x00\x01" + len(records).to_bytes(2, "big") + b"\x00\x00\x00\x00"
        self._transport.sendto(data[:2] + flags + counts + question + b"".join(records), addr)


@contextmanager
def running(context: ssl.SSLContext | None = None) -> Iterator[Web]:
    """Serve on loopback from a thread of its own; over TLS if there is a context."""
    web = Web(scheme="https" if context else "http")
    loop = asyncio.new_event_loop()

    async def start() -> Callable[[], None]:
        server = await asyncio.start_server(web.serve, "127.0.0.1", 0, ssl=context, backlog=1024)
        web.port = server.sockets[0].getsockname()[1]
        names, _ = await loop.create_datagram_endpoint(
            lambda: _Names(web), local_addr=("127.0.0.1", 0), family=socket.AF_INET
        )
        web.names_port = names.get_extra_info("sockname")[1]

        def stop() -> None:
            names.close()
            server.close()

        return stop

    with _on_a_thread(loop, start):
        yield web


Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextmanager
def listening(connected: Connected) -> Iterator[int]:
    """The port on 127.0.0.1 of a server that may speak no HTTP at all."""
    ports = []

    async def start() -> Callable[[], None]:
        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        return server.close

    with _on_a_thread(asyncio.new_event_loop(), start):
        yield ports[0]


@contextmanager
def _on_a_thread(
    loop: asyncio.AbstractEventLoop, start: Callable[[], Awaitable[Callable[[], None]]]
) -> Iterator[None]:
    """Runs what `start` starts, and at the end what that returns."""
    started = threading.Event()
    over = asyncio.Event()

    async def main() -> None:
        stop = await start()
        started.set()
        await over.wait()
        stop()

    def serve() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(main())

    thread = threading.Thread(target=serve)
    thread.start()
    started.wait()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()


async def drip(_: Request, writer: asyncio.StreamWriter) -> None:
    """A byte now and then, for ever."""
    writer.write(response(length=10_000))
    while not writer.is_closing():
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.1)


async def endless(_: Request, writer: asyncio.StreamWriter) -> None:
    """Bytes without end, as fast as they are taken."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"10000\r\n" + bytes(65536) + b"\r\n")
        await writer.drain()


async def silent(_: Request, writer: asyncio.StreamWriter) -> None:
    """Nothing, for ever."""
    while not writer.is_closing():
        await asyncio.sleep(0.1)


async def cut(_: Request, writer: asyncio.StreamWriter) -> None:
    """Less than declared, then the connection ends."""
    writer.write(response(b"short", length=1000))
    await writer.drain()
    writer.close()


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Listen for as long as the other side stays."""
    while await reader.read(1 << 16):
        pass
    writer.close()


def bomb() -> bytes:
    """32 MiB of zeros in 32 KiB."""
    return gzip.compress(bytes(32 * 2**20))

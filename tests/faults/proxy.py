"""A proxy between a client and Redis that can refuse, swallow and cut.

    with FaultProxy(redis_url) as proxy:
        client = Redis.from_url(proxy.url)
        with proxy.outage("blackhole"):
            ...

Modes: `pass_on` (the start), `refuse` (connections are closed as soon as they are made), `blackhole`
(connections stand, what is sent either way vanishes). `cut` ends the connections there are; `drop_reply`
lets one command through and loses its answer. Everything that happens is seen by clients as a real network
would show it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

PASS, REFUSE, BLACKHOLE = "pass", "refuse", "blackhole"


class FaultProxy:
    """Forwards to the Redis at *target* from a free port of 127.0.0.1, or from the unix socket *listen*."""

    def __init__(self, target: str, *, listen: str | None = None) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._mode = PASS
        self._links: list[_Link] = []
        self._drops: list[tuple[bytes, threading.Event]] = []
        self._listener = _listen(listen)
        if listen is None:
            self.url = "redis://127.0.0.1:{1}".format(*self._listener.getsockname())
        else:
            self.url = f"unix://{listen}"
        self._acceptor = threading.Thread(target=self._accept, name="proxy-accept")
        self._acceptor.start()

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def pass_on(self) -> None:
        """Forward again. A connection that lost something stays dead, as behind a firewall that forgot it."""
        with self._lock:
            self._mode = PASS

    def refuse(self) -> None:
        """Cut what there is and close every new connection at once."""
        with self._lock:
            self._mode = REFUSE
        self.cut()

    def blackhole(self) -> None:
        """Swallow everything, in both directions, and answer nothing; connecting still works."""
        with self._lock:
            self._mode = BLACKHOLE

    def cut(self) -> None:
        """End every connection there is; new ones are treated as the mode says."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.cut()

    @contextmanager
    def outage(self, mode: str) -> Iterator[None]:
        """`refuse` or `blackhole` for as long as the block lasts."""
        {REFUSE: self.refuse, BLACKHOLE: self.blackhole}[mode]()
        try:
            yield
        finally:
            self.pass_on()

    def drop_reply(self, needle: bytes) -> threading.Event:
        """Forward the next command containing *needle*, swallow its answer and cut; set once that
        happened."""
        dropped = threading.Event()
        with self._lock:
            self._drops.append((needle, dropped))
        return dropped

    def retarget(self, target: str) -> None:
        """Forward new connections to another server, and cut the old ones: a failover behind one address."""
        with self._lock:
            self._target = target
        self.cut()

    def close(self) -> None:
        """End everything and wait for all threads."""
        with self._lock:
            self._mode = REFUSE
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread
        self._acceptor.join()
        self._listener.close()
        self.cut()
        for link in self._links:
            link.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            target = self._target
            try:
                server = _connect(target)
            except OSError:  # the server is down: the client finds its connection closed
                client.close()
                continue
            link = _Link(self, client, server)
            with self._lock:  # what was set meanwhile counts for this link too
                self._links = [each for each in self._links if each.is_alive]
                self._links.append(link)
                is_welcome = self._mode != REFUSE and self._target == target
                link.start()
            if not is_welcome:
                link.cut()

    def _swallows(self) -> bool:
        return self._mode == BLACKHOLE

    def _take_drop(self, sent: bytes) -> threading.Event | None:
        """The event of the first drop that asks for what was *sent*; each is used once."""
        with self._lock:
            for drop in self._drops:
                if drop[0] in sent:
                    self._drops.remove(drop)
                    return drop[1]
        return None


class _Link:
    """One client's connection, and ours to the server on its behalf."""

    def __init__(self, proxy: FaultProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._dropping: threading.Event | None = None
        self._is_torn = False
        self._running = threading.Semaphore(1)
        self._threads = [
            threading.Thread(target=self._pump, args=pair, name=f"proxy-{way}")
            for way, pair in (("up", (client, server)), ("down", (server, client)))
        ]

    @property
    def is_alive(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def cut(self) -> None:
        # Shut down, not closed: a close alone would leave a thread that is blocked in recv, and its peer,
        # hanging.
        for end in (self._client, self._server):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while chunk := source.recv(65536):
                if self._is_torn or self._proxy._swallows():
                    self._is_torn = True
                    continue
                if source is self._client:
                    self._dropping = self._dropping or self._proxy._take_drop(chunk)
                elif self._dropping is not None:
                    self._dropping.set()
                    break
                sink.sendall(chunk)
        except OSError:
            pass
        self.cut()
        if self._running.acquire(blocking=False):  # the first of the two to end
            return
        self._client.close()
        self._server.close()


def _listen(path: str | None) -> socket.socket:
    if path is None:
        return socket.create_server(("127.0.0.1", 0), backlog=128)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(128)
    return listener


def _connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(parts.path)
        except OSError:
            server.close()
            raise
        return server
    return socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 6379))

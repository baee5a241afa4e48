"""A proxy between a client and Redis that can refuse, swallow and cut.

    with FaultProxy(redis_url) as proxy:
        client = Redis.from_url(proxy.url)
        with proxy.outage("blackhole"):
            ...

Modes: `pass_on` (the start), `refuse` (connections are closed as soon as they are made), `blackhole`
(connections stand, what is sent either way vanishes). `cut` ends the connections there are; `drop_reply`
lets one command through and loses its answer; `hold` keeps one back, so that a process can be met at that very
step. A `judge` decides on each request. Everything that happens is seen by clients as a real network would show it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.faults.resp import commands

PASS, REFUSE, BLACKHOLE = "pass", "refuse", "blackhole"

#: What a judge may do with a request instead of letting it pass: end its connection; keep it, and all that the
#: connection ever carries; let it pass and lose the answer with the connection. Bytes are given as the answer.
CUT, SWALLOW, LOSE_ANSWER = "cut", "swallow", "lose answer"
Judge = Callable[[list[list[bytes]]], str | bytes | None]

#: Where a hold keeps something back: a request with the needle, the answer to it, or an answer with the needle in it.
REQUEST, ANSWER, IN_ANSWER = "request", "answer", "in answer"


class Hold:
    """Traffic that stands still: `reached` is set when there is any, until `release` or `discard`."""

    def __init__(self, needle: bytes, where: str) -> None:
        self.needle = needle
        self.where = where
        self.reached = threading.Event()
        self.is_discarded = False
        self._ended = threading.Event()

    def release(self) -> None:
        """Let it go on, also what has not come yet."""
        self._ended.set()

    def discard(self) -> None:
        """It never arrives; its connection ends."""
        self.is_discarded = True
        self._ended.set()

    def stand(self) -> bool:
        """Wait for the end of the hold; whether to go on."""
        self.reached.set()
        self._ended.wait()
        return not self.is_discarded


class FaultProxy:
    """Forwards to the Redis at *target* from a free port of 127.0.0.1, or from the unix socket *listen*.

    *judge* is asked about each request, from the threads of the connections.
    """

    def __init__(self, target: str, *, listen: str | None = None, judge: Judge | None = None) -> None:
        self._target = target
        self.judge = judge
        self._lock = threading.Lock()
        self._mode = PASS
        self._links: list[_Link] = []
        self._drops: list[tuple[bytes, threading.Event]] = []
        self._holds: list[Hold] = []
        self._all_holds: list[Hold] = []
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

    def move(self, target: str) -> None:
        """Lead new connections to the Redis at *target*; those that are there stay where they are."""
        with self._lock:
            self._target = target

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

    def hold(self, needle: bytes, where: str = REQUEST) -> Hold:
        """Keep back the next thing that has to do with *needle*."""
        hold = Hold(needle, where)
        with self._lock:
            self._holds.append(hold)
            self._all_holds.append(hold)
        return hold

    def retarget(self, target: str) -> None:
        """Forward new connections to another server, and cut the old ones: a failover behind one address."""
        with self._lock:
            self._target = target
        self.cut()

    def close(self) -> None:
        """End everything and wait for all threads."""
        with self._lock:
            self._mode = REFUSE
        for hold in self._all_holds:
            hold.discard()
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

    def _take_hold(self, chunk: bytes, *where: str) -> Hold | None:
        """The first hold at one of these places whose needle is in *chunk*; each is used once."""
        with self._lock:
            for hold in self._holds:
                if hold.where in where and hold.needle in chunk:
                    self._holds.remove(hold)
                    return hold
        return None


class _Link:
    """One client's connection, and ours to the server on its behalf."""

    def __init__(self, proxy: FaultProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._dropping: threading.Event | None = None
        self._holding: Hold | None = None
        self._unjudged = b""
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
                passed = self._of_client(chunk) if source is self._client else self._of_server(chunk)
                if passed is None:
                    break
                sink.sendall(passed)
        except OSError:
            pass
        self.cut()
        if self._running.acquire(blocking=False):  # the first of the two to end
            return
        self._client.close()
        self._server.close()

    def _of_client(self, chunk: bytes) -> bytes | None:
        """What of it the server gets to see; None to end the connection."""
        if self._proxy.judge is not None:
            self._unjudged += chunk
            request = commands(self._unjudged)
            if request is None:  # the rest of it is still to come
                return b""
            chunk, self._unjudged = self._unjudged, b""
            verdict = self._proxy.judge(request)
            if verdict == CUT:
                return None
            if verdict == SWALLOW:
                self._is_torn = True
                return b""
            if verdict == LOSE_ANSWER:
                self._dropping = threading.Event()
            elif isinstance(verdict, bytes):
                self._client.sendall(verdict)
                return b""
        self._dropping = self._dropping or self._proxy._take_drop(chunk)
        hold = self._proxy._take_hold(chunk, REQUEST, ANSWER)
        if hold is not None and hold.where == ANSWER:
            self._holding = hold
        elif hold is not None and not hold.stand():
            return None
        return chunk

    def _of_server(self, chunk: bytes) -> bytes | None:
        """What of it the client gets to see; None to end the connection."""
        if self._dropping is not None:
            self._dropping.set()
            return None
        hold = self._holding or self._proxy._take_hold(chunk, IN_ANSWER)
        self._holding = None
        return chunk if hold is None or hold.stand() else None


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

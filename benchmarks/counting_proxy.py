"""Stands between a client and a Redis and counts round trips: each time a client speaks after the server did."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CountingProxy:
    """Forwards everything, from a unix socket to a unix socket."""

    def __init__(self, listen: Path, target: str) -> None:
        self.url = f"unix://{listen}"
        self.round_trips = 0
        self._target = target
        self._ends: list[socket.socket] = []
        self._counting = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(listen))
        self._listener.listen(32)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End all connections."""
        for end in [self._listener, *self._ends]:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:  # the other side was first
                pass
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._target)
            self._ends += [client, server]
            asked = threading.Event()
            for source, sink, is_client in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pump, args=(source, sink, is_client, asked), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_client: bool, asked: threading.Event) -> None:
        """*asked*: the client has spoken and the server has not answered yet, so more words are the same trip."""
        try:
            while chunk := source.recv(1 << 18):
                if not is_client:
                    asked.clear()
                elif not asked.is_set():
                    asked.set()
                    with self._counting:
                        self.round_trips += 1
                sink.sendall(chunk)
            sink.shutdown(socket.SHUT_RDWR)
        except OSError:  # either side has gone
            pass


@contextmanager
def counting_proxy(url: str) -> Iterator[CountingProxy]:
    """A proxy before the server at *url*, a `unix://` URL."""
    with tempfile.TemporaryDirectory(prefix="cronq-bench-") as directory:
        proxy = CountingProxy(Path(directory) / "proxy.sock", url.removeprefix("unix://"))
        try:
            yield proxy
        finally:
            proxy.close()

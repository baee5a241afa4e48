"""Webhooks of RQ jobs that are not cronq's: RQ would send them from the worker's own process, to wherever a job says.

They are sent by a child of their own that is ended in time, follow no redirect, and reach no address of a private
network unless that is allowed: whoever may queue a job names the address and the headers.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
import ssl
from collections.abc import Mapping
from datetime import datetime
from types import SimpleNamespace
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from rq.webhook import Webhook

from cronq.errors import RunRefused
from cronq.interop.pickles import PickleRefused, read_function
from cronq.interop.sealed import SealedJob
from cronq.safetext import storable

#: All of a job's webhooks together, each of them, and how many of a job are sent.
MOST_S = 30.0
_MOST_EACH_S = 10.0
_MOST = 10
_MOST_ERROR = 20_000
_PORTS = {"http": 80, "https": 443}
#: Ranges that lead into private networks by translation, though they are none.
_TRANSLATED = [ipaddress.ip_network(each) for each in ("64:ff9b::/96", "2002::/16", "2001::/32")]


def order_of(job: SealedJob, status: str, error: str) -> dict[str, Any] | None:
    """The order for a child that sends the webhooks of *job* for *status*; None when there are none."""
    hooks = [hook.to_dict() for hook in job.webhooks if hook.job_status == status]
    if not hooks:
        return None
    try:
        function, _ = read_function(job.stored_data)
    except PickleRefused:  # the webhook is sent all the same, and names no function
        function = ""
    return {
        "webhooks": hooks[:_MOST],
        "id": job.id,
        "function": function,
        "enqueued_at": _iso(job.enqueued_at),
        "ended_at": _iso(job.ended_at),
        "error": error[-_MOST_ERROR:],
    }


def send_all(order: Mapping[str, Any], result_file: BinaryIO, *, allow_private: bool) -> int:
    """Send each webhook of the *order*. Returns the exit code; each failure is a line in the result file."""
    code = 0
    for fields in order["webhooks"]:
        try:
            _send(Webhook.from_dict(fields), order, allow_private=allow_private)
        except Exception as error:  # whatever stands at the other end: the next one is sent all the same
            where = urlsplit(str(fields.get("url"))).hostname
            words = " ".join((str(error) or type(error).__name__).split())
            result_file.write(storable(f"{where}: {words}", 300).encode() + b"\n")
            result_file.flush()
            code = 1
    return code


def _send(hook: Webhook, order: Mapping[str, Any], *, allow_private: bool) -> None:
    url = urlsplit(hook.url)
    host, port = url.hostname or "", url.port or _PORTS[url.scheme]
    timeout_s = min(float(hook.timeout), _MOST_EACH_S)
    connection = _connection(url.scheme, host, port, timeout_s)
    connection.sock = _reach(host, port, timeout_s, allow_private=allow_private)
    if isinstance(connection, http.client.HTTPSConnection):
        connection.sock = ssl.create_default_context().wrap_socket(connection.sock, server_hostname=host)
    body = None
    headers = {"User-Agent": "cronq", **(hook.headers or {})}
    if hook.method == "POST":
        body = json.dumps(hook.get_payload(_told_of(order), exc_string=order["error"])).encode()
        headers = {"Content-Type": "application/json", **headers}
    try:
        connection.request(hook.method, (url.path or "/") + (f"?{url.query}" if url.query else ""), body, headers)
        status = connection.getresponse().status
    finally:
        connection.close()
    if status >= 300:
        raise RunRefused(f"it answered {status}")


def _connection(scheme: str, host: str, port: int, timeout_s: float) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    return kind(host, port, timeout=timeout_s)


def _reach(host: str, port: int, timeout_s: float, *, allow_private: bool) -> socket.socket:
    """A connection to an address of *host*, looked up once: what was checked is what is connected to."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    address = str(found[0][4][0])
    if not allow_private and not is_public(address):
        raise RunRefused(f"{address} is no public address; CRONQ_WEBHOOK_ALLOW_PRIVATE=true lets workers send there")
    return socket.create_connection((address, port), timeout_s)


def is_public(address: str) -> bool:
    """Return True if an address belongs to the internet: neither to a private network nor to this machine."""
    found: Any = ipaddress.ip_address(address.partition("%")[0])
    found = getattr(found, "ipv4_mapped", None) or found
    is_translated = any(found in network for network in _TRANSLATED if network.version == found.version)
    return bool(found.is_global and not found.is_multicast and not is_translated)


def _told_of(order: Mapping[str, Any]) -> Any:
    """The attributes of an RQ job that `Webhook.get_payload` asks for."""
    return SimpleNamespace(
        id=order["id"],
        func_name=order["function"],
        enqueued_at=_moment(order["enqueued_at"]),
        ended_at=_moment(order["ended_at"]),
    )


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _moment(words: str | None) -> datetime | None:
    return None if words is None else datetime.fromisoformat(words)

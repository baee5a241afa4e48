"""URLs that name sentinels and a service: `redis+sentinel://[user:password@]h1:26379,h2/service/db?option=…`.

The sentinels are asked which server is the primary; user and password are the servers'. The sentinels' own are the
options `sentinel_username` and `sentinel_password`. With `rediss+sentinel://` both are spoken to over TLS. All other
options are those of a `redis://` URL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlencode

SCHEMES = ("redis+sentinel://", "rediss+sentinel://")
_FORM = "redis+sentinel://[user:password@]host[:26379][,host…]/service[/db]"
_PORT = 26379
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^][:@/\s]+)(?::(\d{1,5}))?")


@dataclass(frozen=True)
class SentinelUrl:
    """Whom to ask, for which service, and how to speak to the server that they name."""

    sentinels: tuple[tuple[str, int], ...]
    service: str
    server: str  #: a `redis://` or `rediss://` URL with user, password, db and options; its host means nothing
    username: str | None = None  #: of the sentinels
    password: str | None = None

    @property
    def is_tls(self) -> bool:
        """Whether sentinels and servers are spoken to over TLS."""
        return self.server.startswith("rediss:")


def is_sentinel_url(url: str) -> bool:
    """Whether *url* names sentinels rather than a server."""
    return url.startswith(SCHEMES)


def parse_sentinel_url(url: str) -> SentinelUrl:
    """Read a URL with one of `SCHEMES`. Raises ValueError that says what is wrong, without the password."""
    scheme, _, rest = url.partition("+sentinel://")
    rest, _, query = rest.partition("?")
    # Up to the last `@`, as where passwords are hidden: one that should have been quoted does not become a host.
    login, at, rest = rest.rpartition("@")
    hosts, _, path = rest.partition("/")
    service, _, db = path.partition("/")
    if not service:
        raise ValueError(f"it names no service; write {_FORM}")
    if "/" in login:
        raise ValueError("a / in user or password is written %2F")
    if db and not db.isdecimal():
        raise ValueError(f"its database {db[:40]!r} is no number; write {_FORM}")
    options = dict(parse_qsl(query, keep_blank_values=True))
    own = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    tail = f"?{urlencode(options)}" if options else ""
    return SentinelUrl(
        sentinels=tuple(_address(host) for host in hosts.split(",")),
        service=unquote(service),
        server=f"{scheme}://{login}{at}sentinel/{db or 0}{tail}",
        username=own["username"],
        password=own["password"],
    )


def _address(words: str) -> tuple[str, int]:
    found = _HOST.fullmatch(words)
    port = int(found[2] or _PORT) if found else 0
    if found is None or not 0 < port < 65536:
        raise ValueError(f"{words[:60]!r} is no sentinel; write {_FORM}")
    return found[1].strip("[]"), port

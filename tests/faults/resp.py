"""Redis's protocol as clients speak it: which commands a piece of traffic holds."""

from __future__ import annotations


def commands(raw: bytes) -> list[list[bytes]] | None:
    """The commands in *raw*, each a list of words; None when the last of them is not complete."""
    found: list[list[bytes]] = []
    at = 0
    while at < len(raw):
        count, at = _number(raw, at, b"*")
        if at < 0:
            return None
        words: list[bytes] = []
        for _ in range(count):
            size, at = _number(raw, at, b"$")
            if at < 0 or at + size + 2 > len(raw):
                return None
            words.append(raw[at : at + size])
            at += size + 2
        found.append(words)
    return found


def _number(raw: bytes, at: int, kind: bytes) -> tuple[int, int]:
    """The number of a header line and where the next begins, -1 when the line is not whole."""
    end = raw.find(b"\r\n", at)
    if end < 0:
        return 0, -1
    assert raw[at : at + 1] == kind, f"not what a client sends: {raw[at : at + 20]!r}"
    return int(raw[at + 1 : end]), end + 2

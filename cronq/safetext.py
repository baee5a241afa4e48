"""Text from outside, made safe where it enters and where it leaves.

What a job says of itself (an exception, a result, a path) may hold anything that Python calls a string, or
may not even become one. Redis takes UTF-8 only, a terminal obeys escape sequences, and a log line must stay one line.
"""

from __future__ import annotations

#: Characters of a text that is kept for people: an error, a traceback, a reason.
MOST_KEPT = 10_000
_CUT = " … "


def storable(value: object, most: int = MOST_KEPT) -> str:
    """*value* as text that UTF-8 can encode, shortened in its middle to *most* characters; never raises.

    Lone surrogates (a file name that is not UTF-8) become `\\udcff`, NUL becomes `\\x00`, bytes are decoded.
    An object whose `__str__` raises is named by its type.
    """
    words = _words_of(value)
    words = shortened(words, most).replace("\0", "\\x00")
    return words.encode("utf-8", "backslashreplace").decode("utf-8")


def shortened(words: str, most: int) -> str:
    """*words* with its middle left out when it is longer than *most*: the head names the place, the end the cause."""
    if len(words) <= most:
        return words
    head = (most - len(_CUT)) // 3
    return words[:head] + _CUT + words[len(words) - (most - len(_CUT) - head) :]


def printable(words: str) -> str:
    """One line that cannot talk to a terminal or begin a log line, whatever somebody wrote into it."""
    if words.isprintable():
        return words
    shown = (char if char.isprintable() else " " if char.isspace() else "\N{REPLACEMENT CHARACTER}" for char in words)
    return "".join(shown)


def _words_of(value: object) -> str:
    try:
        if isinstance(value, bytes | bytearray):
            return bytes(value).decode("utf-8", "backslashreplace")
        return str.__str__(value) if isinstance(value, str) else str(value)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return f"<{type(value).__name__} whose text cannot be made>"

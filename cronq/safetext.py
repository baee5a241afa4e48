"""Text from outside, made safe where it enters and where it leaves.

What a job says of itself (an exception, a result, a path) may hold anything that Python calls a string, or
may not even become one. Redis takes UTF-8 only, a terminal obeys escape sequences, and a log line must stay one line.
"""

from __future__ import annotations

import logging
from typing import Any

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


def printable_lines(words: str) -> str:
    """The same for a text of several lines, a traceback say: its lines stay lines."""
    return "\n".join(printable(line) for line in words.split("\n"))


class OneLine(logging.Formatter):
    """One event is one line, whatever stands in an id or a description that others wrote; a traceback follows it."""

    def format(self, record: logging.LogRecord) -> str:
        """The event and what follows it; a traceback that another formatter has left in *record* is made anew."""
        kept, record.exc_text = record.exc_text, None
        try:
            return super().format(record)
        finally:
            record.exc_text = kept

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line; what was logged is made printable."""
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """The traceback; each of its lines begins with a blank, so that none can be taken for an event."""
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        """Where it was logged, likewise."""
        return _indented(super().formatStack(stack_info))


def _indented(words: str) -> str:
    """Printable lines that cannot be taken for the beginning of a log line: the error's text may hold line breaks."""
    return "\n".join(f"  {line}" for line in printable_lines(words).split("\n"))


def _words_of(value: object) -> str:
    try:
        if isinstance(value, bytes | bytearray):
            return bytes(value).decode("utf-8", "backslashreplace")
        return str.__str__(value) if isinstance(value, str) else str(value)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return f"<{type(value).__name__} whose text cannot be made>"

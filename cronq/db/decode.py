"""Reads replies of Redis as text, numbers and JSON. A client may decode or not, and Redis may hold anything."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from cronq.errors import BadValue
from cronq.timetext import END_OF_TIME_S

#: Bytes and nesting of a JSON text that is read from Redis or from a child: beyond it is damage, or malice.
MOST_JSON = 8_000_000
MOST_DEPTH = 100
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')

#: Fencing tokens, microseconds of server time, are below it until the year 2255.
_END_OF_WHOLES = 2**53


def text(value: Any) -> str:
    """A reply as text; bytes that are not UTF-8 are shown, not refused."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def texts(values: Mapping[Any, Any]) -> dict[str, str]:
    """A whole hash as text."""
    return {text(key): text(value) for key, value in values.items()}


def number(value: str | None) -> float | None:
    """The number in a text; None when there is none."""
    try:
        return float(value) if value else None
    except ValueError:
        return None


def whole(value: str | None) -> int | None:
    """The whole number in a text, up to the largest that Lua and JSON keep exactly; None for anything else."""
    found = number(value)
    return int(found) if found is not None and abs(found) < _END_OF_WHOLES else None


def seconds(value: str | float | None) -> float | None:
    """Seconds since the epoch, or of a span; None for what is no number, negative, or too long to be shown."""
    found = number(value) if isinstance(value, str) else value
    return found if found is not None and 0 <= found < END_OF_TIME_S else None


def moment(value: str | float | None) -> int | None:
    """A moment in whole epoch seconds; None for what no calendar holds."""
    found = seconds(value)
    return None if found is None else int(found)


def time_s(reply: tuple[int, int]) -> float:
    """The server's answer to TIME as epoch seconds."""
    whole_s, micros = reply
    return whole_s + micros / 1e6


def read_json(raw: Any, *, most: int = MOST_JSON) -> Any:
    """The value of a JSON text that others may have written. Raises BadValue whatever is wrong with it.

    NaN and infinity are refused: compared with them a deadline is over never, or always. Length and depth are bounded
    before the parser sees the text: a walk over what it makes of 100,000 brackets would end this process.
    """
    if len(raw) > most:
        raise BadValue(f"it is longer than {most} bytes")
    words = text(raw)
    if is_deeper(words, MOST_DEPTH):
        raise BadValue(f"it is nested more than {MOST_DEPTH} deep")
    try:
        return _DECODER.decode(words)
    except (ValueError, RecursionError, OverflowError, MemoryError) as error:
        raise BadValue(f"it is no JSON: {error}") from None


def is_deeper(words: str, most: int) -> bool:
    """Return True if a JSON text is nested more than *most* deep. With fewer brackets than that it is not walked."""
    if words.count("[") + words.count("{") <= most:
        return False
    depth = deepest = 0
    for char in re.sub(r"[^][{}]+", "", _STRING.sub("", words)):
        depth += 1 if char in "[{" else -1
        deepest = max(deepest, depth)
    return deepest > most


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number")


def _finite(word: str) -> float:
    number = float(word)
    if number - number != 0:
        raise ValueError(f"{word[:40]} is no number")
    return number


#: Made once: `json.loads` with hooks makes one for each text, a tenth of what a spec takes to be read.
_DECODER = json.JSONDecoder(parse_constant=_no_number, parse_float=_finite)

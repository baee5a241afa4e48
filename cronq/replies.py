"""Redis replies as text: clients may or may not decode, and what is in Redis may be anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def text(value: Any) -> str:
    """A reply as text; bytes that are not UTF-8 are shown, not refused."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def texts(values: Mapping[Any, Any]) -> dict[str, str]:
    """A whole hash as text."""
    return {text(key): text(value) for key, value in values.items()}

"""What Redis or the connection to it says when something is wrong, as people read it."""

from __future__ import annotations

import re


def redis_words(error: Exception) -> str:
    """Return *error* in one line, without what the URL beside it says already."""
    words = " ".join(str(error).split())
    words = re.sub(r"^Error -?\d+ (while )?connecting to \S+?\. ", "", words).rstrip(".")
    return words[:1].lower() + words[1:] if words[1:2].islower() else words

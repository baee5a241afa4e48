"""One line to a file, whole, also when several processes do."""

from __future__ import annotations

import os
from pathlib import Path


def tell(name: str, words: object) -> None:
    """Append *words* to the diary *name*."""
    diary = os.open(Path(os.environ["DIARY"]) / f"{name}.diary", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(diary, f"{words}\n".encode())
    finally:
        os.close(diary)

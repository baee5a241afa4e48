"""What the RQ jobs of these tests call."""

from __future__ import annotations

from typing import Any


def work(*args: Any, **kwargs: Any) -> Any:
    return [list(args), kwargs]

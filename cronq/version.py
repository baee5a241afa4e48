"""The version of this package, for the modules below it; `cronq.__version__` is the same."""

from __future__ import annotations

VERSION = "0.1.0"

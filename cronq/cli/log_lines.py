"""Log lines of the processes on stderr: one event a line, times in UTC."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import click

from cronq.cli.options import call_state
from cronq.safetext import OneLine
from cronq.timetext import utc

if TYPE_CHECKING:
    from cronq.config import Config


def start_logging(ctx: click.Context, config: Config, *, least: str | None = None) -> None:
    """Log on stderr, one event a line. From the level *least* on only, unless a setting or --debug says otherwise."""
    level = config.log_level.lower()
    if least is not None and config.origin("log_level") == "default":
        level = least
    if call_state(ctx).get("debug"):
        level = "debug"
    handler = logging.StreamHandler(sys.stderr)
    formatter = OneLine("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = _utc_fields
    handler.setFormatter(formatter)
    root = logging.getLogger("cronq")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False
    logging.getLogger("rq").setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
    logging.raiseExceptions = False  # whoever read our log went away: that ends no beat and no worker


def _utc_fields(seconds: float | None) -> Any:
    return utc(seconds or 0.0).timetuple()

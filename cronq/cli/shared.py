"""What the verbs share: the application of a call, options, tables, JSON, and times as people read them."""

from __future__ import annotations

import difflib
import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

import click

from cronq.errors import ConfigError, UnknownJob
from cronq.safetext import OneLine, printable
from cronq.timetext import format_duration, parse_duration_s, parse_instant, utc

if TYPE_CHECKING:
    from cronq.app.app import Cronq
    from cronq.config import Config
    from cronq.jobs.stored import StoredJob

F = TypeVar("F", bound=Callable[..., Any])

as_json = click.option("--json", "json_", is_flag=True, help="For programs: stable keys, times in UTC.")
in_utc = click.option("--utc", is_flag=True, help="Show times in UTC instead of the job's zone.")
times_are_utc = click.option("--utc", is_flag=True, expose_value=False, help="Times are in UTC anyway.")


def places(command: F) -> F:
    """The options of `cronq` after the verb too: people write them in either place."""
    decorators = [
        click.option("--debug", is_flag=True, default=None, expose_value=False, callback=_keep, hidden=True),
        click.option("--prefix", expose_value=False, callback=_keep, metavar="WORD", help="Which installation."),
        click.option("--url", expose_value=False, callback=_keep, metavar="URL", help="Which Redis."),
    ]
    for decorate in decorators:
        command = decorate(command)
    return command


def _keep(ctx: click.Context, parameter: click.Parameter, value: str | bool | None) -> None:
    if value is not None:
        call(ctx)[str(parameter.name)] = value


def call(ctx: click.Context) -> dict[str, Any]:
    """What is known of this call of the command line: its url, prefix, debug, and config once it is loaded."""
    found: dict[str, Any] = ctx.find_root().ensure_object(dict)
    return found


def load_config(ctx: click.Context, **flags: Any) -> Config:
    """The settings of this call. Raises ConfigError."""
    from cronq.config import Config

    known = call(ctx)
    given = {name: known.get(name) for name in ("url", "prefix")}
    config = Config.load(**given, **flags)
    known["config"] = config
    for module in config.jobs:
        _refuse_path(module, config.origin("jobs"))
    return config


def _refuse_path(module: str, origin: str) -> None:
    """A file name where the name of a module belongs is the most frequent slip."""
    if "/" in module or module.endswith(".py"):
        name = module.removesuffix("/").removesuffix(".py").strip("./").replace("/", ".")
        raise ConfigError(f"{module!r} (from {origin}) is a path; name the module, as in an import: {name}")


def open_app(ctx: click.Context, **flags: Any) -> Cronq:
    """The application of this call; nothing is sent to Redis yet. Raises ConfigError."""
    from cronq.app.app import Cronq

    app = Cronq(config=load_config(ctx, **flags))
    try:
        pool = app.client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # made, not connected: the URL's options are looked at
    except (ValueError, TypeError) as error:
        raise ConfigError(f"url {app.config.shown_url!r} (from {app.config.origin('url')}): {error}") from None
    return app


@contextmanager
def suggesting(app: Cronq, name: str) -> Iterator[None]:
    """Add to an UnknownJob from within the stored name that *name* may have meant."""
    try:
        yield
    except UnknownJob as error:
        close = difflib.get_close_matches(name, app.jobs.names(), n=1)
        if not close:
            raise
        raise UnknownJob(f"there is no job {name!r}; did you mean {close[0]!r}? See `cronq list`") from error


def find_job(app: Cronq, name: str) -> StoredJob:
    """The job *name*. Raises UnknownJob with a suggestion."""
    with suggesting(app, name):
        return app.jobs.get(name)


def start_logging(ctx: click.Context, config: Config, *, quiet: bool = False) -> None:
    """Log lines of beats and workers on stderr, one event a line; *quiet* without a wish: only warnings."""
    level = config.log_level.lower()
    if quiet and config.origin("log_level") == "default":
        level = "warning"
    if call(ctx).get("debug"):
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


def say(words: object) -> None:
    """Talk: one line on stderr. A reader that went away is no reason to end."""
    try:
        click.echo(f"cronq: {printable(' '.join(str(words).split()))}", err=True)
    except OSError:
        pass


def print_line(words: object) -> None:
    """One line of data on stdout, which cannot talk to a terminal whatever stands in it."""
    click.echo(printable(str(words)))


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(value, indent=2))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Plain columns, as wide as they need: a pipe must not lose anything. One row is one line."""
    cells = [head, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    for row in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def moment(epoch_s: float | None, zone: str, now_s: float, *, force_utc: bool = False) -> str:
    """A time near enough to be read at a glance: `14:35 CET`, `Mon 23 Nov 07:00 CET`, `2027-03-28 03:00 CEST`.

    What the zone cannot show is shown as UTC, and what no calendar holds as `never`; nothing raises.
    """
    if epoch_s is None:
        return "-"
    try:
        tz = ZoneInfo("UTC" if force_utc else zone)
        there, today = datetime.fromtimestamp(epoch_s, tz), datetime.fromtimestamp(now_s, tz)
    except (ValueError, OverflowError, OSError, KeyError):  # beyond the years of a calendar, or a zone unknown here
        return "never" if force_utc or zone == "UTC" else moment(epoch_s, "UTC", now_s)
    clock = f"{there:%H:%M:%S}" if there.second else f"{there:%H:%M}"
    if there.date() == today.date():
        return f"{clock} {there:%Z}"
    if abs(epoch_s - now_s) < 300 * 86400:
        return f"{there:%a %d %b} {clock} {there:%Z}"
    return f"{there:%Y-%m-%d} {clock} {there:%Z}"


def left(epoch_s: float | None, now_s: float) -> str:
    """How far away: `in 3m`, `2m ago`."""
    if epoch_s is None:
        return "-"
    span = epoch_s - now_s
    if not math.isfinite(span):
        return "never"
    return f"in {format_duration(round(span))}" if span >= 0 else f"{format_duration(round(-span))} ago"


def instant_option(value: str | None, option: str) -> float | None:
    """An ISO time of the command line as epoch seconds. Raises BadParameter."""
    if value is None:
        return None
    try:
        return parse_instant(value)
    except ValueError:
        words = f"{value!r} is not a time; write 2026-11-21T07:00 (UTC) or with an offset"
        raise click.BadParameter(words, param_hint=option) from None


def until_option(value: str | None, now_s: float, option: str) -> float | None:
    """A duration from now, or an ISO time to come, as epoch seconds. Raises BadParameter."""
    if value is None:
        return None
    try:
        found: float | None = now_s + parse_duration_s(value)
    except ValueError:
        try:
            found = parse_instant(value)
        except ValueError:
            words = f"{value!r} is neither a span (2h, 30m, 1d) nor a time (2026-11-21T07:00, UTC)"
            raise click.BadParameter(words, param_hint=option) from None
    if found is not None and found <= now_s:
        raise click.BadParameter(f"{value!r} is in the past", param_hint=option)
    return found

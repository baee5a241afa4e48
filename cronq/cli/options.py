"""What a verb is given: options that several verbs have, the settings and the application of a call, a job by name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

import click

from cronq.cli.output import say
from cronq.errors import ConfigError, UnknownJob
from cronq.timetext import parse_duration_s, parse_instant, utc

if TYPE_CHECKING:
    from cronq.app.app import Cronq
    from cronq.app.views import StoredJob
    from cronq.config import Config

_TIME_OF_DAY = re.compile(r"[0-9]{2}:[0-9]{2}(:[0-9]{2})?")

_FRACTION = re.compile(r":[0-9]{2}[.,][0-9]")

F = TypeVar("F", bound=Callable[..., Any])


class _Span(click.ParamType[float]):
    """A duration: seconds, 5m, 1h30m."""

    name = "SPAN"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return parse_duration_s(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


SPAN = _Span()

as_json = click.option("--json", "json_", is_flag=True, help="For programs: stable keys, times in UTC.")
in_utc = click.option("--utc", is_flag=True, help="Show times in UTC instead of the job's zone.")
times_are_utc = click.option("--utc", is_flag=True, expose_value=False, help="Times are in UTC anyway.")
#: Set by `cronq dev`, which has told about the definitions already.
within_dev = click.option("--within-dev", is_flag=True, hidden=True)


def options_of_cronq(command: F) -> F:
    """Accept the options of `cronq` itself after the verb too: people write them in either place."""
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
        call_state(ctx)[str(parameter.name)] = value


def call_state(ctx: click.Context) -> dict[str, Any]:
    """Return what is known of this call of the command line: url, prefix, debug, and config once it is loaded."""
    found: dict[str, Any] = ctx.find_root().ensure_object(dict)
    return found


def load_config(ctx: click.Context, **flags: Any) -> Config:
    """The settings of this call. Raises ConfigError."""
    from cronq.config import Config

    known = call_state(ctx)
    given = {name: known.get(name) for name in ("url", "prefix")}
    config = Config.load(**given, **flags)
    known["config"] = config
    for module in config.jobs:
        _refuse_path(module, config.origin("jobs"))
    return config


def _refuse_path(module: str, origin: str) -> None:
    """Raise ConfigError for a file name where the name of a module belongs, the most frequent slip."""
    if "/" in module or module.endswith(".py"):
        name = module.removesuffix("/").removesuffix(".py").strip("./").replace("/", ".")
        raise ConfigError(f"{module!r} (from {origin}) is a path; name the module, as in an import: {name}")


def open_app(ctx: click.Context, **flags: Any) -> Cronq:
    """The application of this call; nothing is sent to Redis yet. Raises ConfigError."""
    from cronq.app.app import Cronq

    app = Cronq(config=load_config(ctx, **flags))
    app.check_url()
    return app


@contextmanager
def suggesting(app: Cronq, name: str) -> Iterator[None]:
    """Add the stored name that *name* may have meant to an UnknownJob that is raised inside."""
    try:
        yield
    except UnknownJob as error:
        close = difflib.get_close_matches(name, app.job_names(), n=1)
        if not close:
            raise
        raise UnknownJob(f"there is no job {name!r}; did you mean {close[0]!r}? See `cronq list`") from error


def warn_of_unknown_queue(app: Cronq, queue: str) -> None:
    """Say so when *queue* may be a slip: a queue that nobody uses can be paused, but that stops nothing."""
    known = app.queues()
    if queue not in known:
        close = difflib.get_close_matches(queue, known, n=1)
        meant = f"; did you mean {close[0]!r}?" if close else ""
        say(f"no worker serves the queue {queue!r}, and nothing was ever put there{meant}")


def find_job(app: Cronq, name: str) -> StoredJob:
    """The job *name*. Raises UnknownJob with a suggestion."""
    with suggesting(app, name):
        return app.read_job(name)


def env_option(pairs: tuple[str, ...]) -> dict[str, str]:
    """The variables that --env names. Raises BadParameter."""
    for pair in pairs:
        if "=" not in pair:
            raise click.BadParameter(f"{pair!r} has no value; write --env NAME=VALUE", param_hint="--env")
    return dict(pair.split("=", 1) for pair in pairs)


def instant_option(value: str | None, option: str) -> float | None:
    """An ISO time of the command line as epoch seconds. Raises BadParameter."""
    if value is None:
        return None
    try:
        return parse_instant(value)
    except ValueError:
        words = f"{value!r} is not a time; write 2026-11-21T07:00 (UTC) or with an offset"
        raise click.BadParameter(words, param_hint=option) from None


def tick_option(app: Cronq, name: str, value: str | None) -> int | None:
    """The tick (epoch seconds) of the job *name* that --tick names. Raises BadParameter, UnknownJob."""
    from cronq.schedule.moment import parse_moment_s
    from cronq.schedule.zone import find_zone

    if value is None:
        return None
    if _FRACTION.search(value) is not None:
        raise click.BadParameter(f"{value!r} has a fraction of a second, and no tick has", param_hint="--tick")
    zone = find_zone(find_job(app, name).spec.tz)
    written = dated(app, name, value)
    try:
        datetime.fromisoformat(written.strip())
    except ValueError:
        words = f"{value!r} is not a time; write 02:30 or 2026-11-21T02:30 (of the job's zone), or with an offset"
        raise click.BadParameter(words, param_hint="--tick") from None
    try:
        return parse_moment_s(written, zone)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--tick") from None


def dated(app: Cronq, name: str, value: str) -> str:
    """A time of day as `history` shows it, `02:30`, with the date on which the zone of the job *name* had it last.

    Anything else, and the times of a job that is none, stay as they are.
    """
    if _TIME_OF_DAY.fullmatch(value.strip()) is None:
        return value
    try:
        zone, now_s = ZoneInfo(app.read_job(name).spec.tz), app.now_s()
        there, time_of_day = datetime.fromtimestamp(now_s, zone), time.fromisoformat(value.strip())
    except (UnknownJob, ValueError):
        return value
    day = there.date() if time_of_day <= there.time() else there.date() - timedelta(days=1)
    return f"{day}T{time_of_day}"


def due_option(app: Cronq, delay: str | None, instant: str | None) -> datetime | None:
    """The moment that --in or --at say, None when neither does. Raises UsageError, BadParameter."""
    if delay is not None and instant is not None:
        raise click.UsageError("--in and --at both say when; give one of them")
    if delay is not None:
        try:
            return utc(app.now_s() + parse_duration_s(delay))
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--in") from None
    found = instant_option(instant, "--at")
    return None if found is None else utc(found)


def need_modules(config: Config, verb: str) -> None:
    """Raise UsageError when no module that defines jobs is known to *verb*."""
    if not config.jobs:
        raise click.UsageError(f"name the modules that define jobs: cronq {verb} MODULE..., or set CRONQ_JOBS")


def past_option(value: str, now_s: float, option: str) -> float:
    """A duration ago, or an ISO time, as epoch seconds. Raises BadParameter."""
    try:
        return now_s - parse_duration_s(value)
    except ValueError:
        try:
            return parse_instant(value)
        except ValueError:
            words = f"{value!r} is neither a span ago (2h, 30m, 1d) nor a time (2026-11-21T07:00, UTC)"
            raise click.BadParameter(words, param_hint=option) from None


def until_option(value: str, now_s: float, option: str) -> float:
    """A duration from now, or an ISO time to come, as epoch seconds. Raises BadParameter."""
    try:
        found = now_s + parse_duration_s(value)
    except ValueError:
        try:
            found = parse_instant(value)
        except ValueError:
            words = f"{value!r} is neither a span (2h, 30m, 1d) nor a time (2026-11-21T07:00, UTC)"
            raise click.BadParameter(words, param_hint=option) from None
    if found <= now_s:
        raise click.BadParameter(f"{value!r} is in the past", param_hint=option)
    return found


def day_option(app: Cronq, words: str, tz: str, hint: str = "DAY") -> date:
    """The day that a word of the command line says. Raises BadParameter, ScheduleError for the zone."""
    if words in ("today", "yesterday"):
        from cronq.schedule.zone import find_zone

        find_zone(tz)
        today = datetime.fromtimestamp(app.now_s(), ZoneInfo(tz)).date()
        return today if words == "today" else today - timedelta(days=1)
    try:
        return date.fromisoformat(words)
    except ValueError:
        raise click.BadParameter(
            f"{words!r} is not a day; write 2026-11-21, today or yesterday", param_hint=hint
        ) from None

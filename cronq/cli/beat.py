"""`beat` and `run-due`: ticks become runs, for ever or in one pass."""

from __future__ import annotations

import logging
import signal
from types import FrameType
from typing import TYPE_CHECKING

import click

from cronq.app.redis_words import redis_words
from cronq.cli.hangup import Hangup
from cronq.cli.log_lines import start_logging
from cronq.cli.options import open_app, options_of_cronq, within_dev
from cronq.cli.output import say, say_problems
from cronq.clock import Stop

if TYPE_CHECKING:
    from cronq.app.app import Cronq
    from cronq.app.views import SyncReport


def _say_changes(report: SyncReport) -> None:
    for words in ("created", "changed", "removed"):
        names = getattr(report, words)
        if names:
            say(f"{words} {', '.join(names)}")


@click.command("beat")
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@click.option("--allow-eviction", is_flag=True, default=None, help="Go on although Redis may evict keys.")
@within_dev
@options_of_cronq
@click.pass_context
def beat_command(ctx: click.Context, modules: tuple[str, ...], allow_eviction: bool | None, within_dev: bool) -> int:
    """Turn due ticks into runs, each exactly once, however many beats run.

    Imports MODULEs once (default: CRONQ_JOBS), stores their jobs, and goes on until SIGTERM. Never ends because
    Redis is away. SIGHUP makes it begin anew, with the modules as they are then.
    """
    app = open_app(ctx, jobs=modules, allow_eviction=allow_eviction)
    start_logging(ctx, app.config)
    log = logging.getLogger("cronq.beat")
    stop = Stop()
    told: set[int] = set()

    def leave(number: int, _: FrameType | None) -> None:
        told.add(number)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    hangup = Hangup(leave, leave)
    hangup.listen()
    _serve(app, stop, log, within_dev=within_dev)
    return hangup.end(0, told, log)


def _serve(app: Cronq, stop: Stop, log: logging.Logger, *, within_dev: bool) -> None:
    """Be a beat until *stop* is set."""
    from redis.exceptions import RedisError

    said: set[str] = set()
    problems = app.load_jobs()
    if within_dev:
        said |= {str(problem) for problem in problems}
    say_problems(problems, said)
    if not app.wait_until_fit(stop, log):
        return
    beat = app.beat()
    try:
        report = app.sync(remove=False, load=False)
        say_problems(report.problems, said)
        _say_changes(report)
    except (RedisError, OSError) as error:  # the first pass stores them: their Redis looks new to it
        log.error("TROUBLE the jobs are not stored yet: %s", redis_words(error))
    log.info(
        "START-UP beat of %d jobs from %s on %s", len(app.registry.definitions),
        ", ".join(app.config.jobs) or "Redis alone", app.config.shown_url,
    )  # fmt: skip
    beat.run(stop)


@click.command("run-due")
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@options_of_cronq
@click.pass_context
def run_due_command(ctx: click.Context, modules: tuple[str, ...]) -> int:
    """Do what is due and end: for those who start it from cron, say every minute.

    Stores the jobs of MODULEs first. Workers execute what it queues. Says nothing when all is well. When more is due
    than one pass takes it goes on, for 50 s at most. When a run seems lost it stays for CRONQ_LOST_AFTER to make sure,
    and settles it.
    """
    from cronq.app.run_due import run_due

    app = open_app(ctx, jobs=modules)
    start_logging(ctx, app.config, least="warning")
    app.require_fit_redis()
    if app.config.jobs:
        say_problems(app.sync(remove=False).problems)
    return 0 if run_due(app) else 1

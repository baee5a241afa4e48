"""`beat` and `run-due`: ticks become runs, for ever or in one pass."""

from __future__ import annotations

import logging
import signal
import threading
from typing import TYPE_CHECKING

import click

from cronq.cli.errors import redis_words
from cronq.cli.log_lines import start_logging
from cronq.cli.options import open_app, options_of_cronq, within_dev
from cronq.cli.output import say, say_problems
from cronq.clock import boot_s, rest

if TYPE_CHECKING:
    from cronq.app.app import Cronq
    from cronq.beat.chores import Chore
    from cronq.definitions.sync import SyncReport

#: How long `run-due` goes on while there is more: cron starts the next one a minute after it.
_MOST_RUN_DUE_S = 50.0


def _say_changes(report: SyncReport) -> None:
    for words in ("created", "changed", "removed"):
        names = getattr(report, words)
        if names:
            say(f"{words} {', '.join(names)}")


def wait_until_fit(app: Cronq, stop: threading.Event, log: logging.Logger) -> bool:
    """Wait until Redis answers, refuse an unfit one; False when told to stop meanwhile."""
    from redis.exceptions import RedisError

    said = False
    while not stop.is_set():
        try:
            for warning in app.require_fit_redis():
                log.warning("REDIS %s", warning)
            offset = app.clock.offset_s if app.now_s() else None
            if offset is not None and abs(offset) > 2:
                log.warning("CLOCK this host's clock differs from Redis by %+.1f s; ticks follow Redis", offset)
            return True
        except (RedisError, OSError) as error:
            if not said:
                words = redis_words(error)
                log.error("TROUBLE cannot reach Redis at %s: %s; going on trying", app.config.shown_url, words)
            said = True
            rest(1.0, stop)  # not stop.wait: a signal handler sets it
    return False


@click.command("beat")
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@click.option("--allow-eviction", is_flag=True, default=None, help="Go on although Redis may evict keys.")
@within_dev
@options_of_cronq
@click.pass_context
def beat_command(ctx: click.Context, modules: tuple[str, ...], allow_eviction: bool | None, within_dev: bool) -> int:
    """Turn due ticks into runs, each exactly once, however many beats run.

    Imports MODULEs once (default: CRONQ_JOBS), stores their jobs, and goes on until SIGTERM. Never ends because
    Redis is away.
    """
    from redis.exceptions import RedisError

    app = open_app(ctx, jobs=modules, allow_eviction=allow_eviction)
    start_logging(ctx, app.config)
    log = logging.getLogger("cronq.beat")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    said: set[str] = set()
    problems = app.load_jobs()
    if within_dev:
        said |= {str(problem) for problem in problems}
    say_problems(problems, said)
    if not wait_until_fit(app, stop, log):
        return 0
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
    return 0


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
    from cronq.beat.chores import do_chores

    app = open_app(ctx, jobs=modules)
    start_logging(ctx, app.config, quiet=True)
    app.require_fit_redis()
    if app.config.jobs:
        say_problems(app.sync(remove=False).problems)
    beat = app.beat()
    until = boot_s() + _MOST_RUN_DUE_S
    while beat.pass_once().wait_s == 0 and boot_s() < until:  # there is more
        pass
    # It neither says that it lives nor publishes the record for RQ, whose thread would outlive it.
    chores = [chore for chore in beat.chores if chore.name not in ("heartbeat", "rq-cron")]
    troubles: list[Exception] = []
    for chore in chores:
        while do_chores([chore], app.now_s, troubles.append) and boot_s() < until:
            pass
        if chore.name == "sweep" and not chore.is_failing:
            _stay_while_runs_seem_lost(app, chore)
    if troubles:
        raise troubles[0]
    return int(any(chore.said for chore in chores))


def _stay_while_runs_seem_lost(app: Cronq, sweep: Chore) -> None:
    """The sweep settles a vanished run only after it has watched Redis for `lost_after`, and then its job goes on."""
    begun, never = boot_s(), threading.Event()
    while app.seems_lost() and boot_s() - begun < app.config.lost_after + 3:
        rest(0.5, never)
        sweep.work(app.now_s())

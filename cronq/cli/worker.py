"""`worker`: executes runs, one or several at a time."""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from pathlib import Path

import click

from cronq.cli.hangup import Hangup
from cronq.cli.log_lines import start_logging
from cronq.cli.options import open_app, options_of_cronq, within_dev
from cronq.cli.output import say_problems


@click.command("worker")
@click.argument("queues", nargs=-1, metavar="[QUEUE]...")
@click.option("-m", "--module", "modules", multiple=True, metavar="MODULE", help="Defines jobs; else CRONQ_JOBS.")
@click.option(
    "--allow",
    multiple=True,
    metavar="MODULE",
    help="Also run RQ jobs that are not cronq's, of this module or any (*); else CRONQ_ALLOW.",
)
@click.option(
    "--no-commands", is_flag=True, default=None, help="Refuse jobs that are commands; else CRONQ_NO_COMMANDS."
)
@click.option("-n", "count", default=1, type=click.IntRange(1, 256), metavar="N", help="So many runs at a time (1).")
@click.option("--burst", is_flag=True, help="End when the queues are empty.")
@click.option("--allow-eviction", is_flag=True, default=None, help="Go on although Redis may evict keys.")
@within_dev
@options_of_cronq
@click.pass_context
def worker_command(
    ctx: click.Context, queues: tuple[str, ...], modules: tuple[str, ...], allow: tuple[str, ...],
    no_commands: bool | None, count: int, burst: bool, allow_eviction: bool | None, within_dev: bool,
) -> int:  # fmt: skip
    """Execute runs from QUEUEs (default: `default`), the first one first.

    SIGTERM lets the present run end within CRONQ_SHUTDOWN_GRACE; then, or at a second one, it is ended. With -n, this
    process has N workers with a child each: it replaces what dies of them, and ends when all have ended. SIGHUP lets
    present runs end, however long they take, and makes it begin anew, with the modules as they are then.
    """
    from cronq.app.workers import Workers

    app = open_app(ctx, jobs=modules, allow=allow, no_commands=no_commands, allow_eviction=allow_eviction)
    start_logging(ctx, app.config)
    log = logging.getLogger("cronq.worker")
    workers = Workers(app, queues, count=count, burst=burst)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, workers.request_stop)
    hangup = Hangup(workers.finish, workers.request_stop)
    hangup.listen()
    problems = app.load_jobs()
    if not within_dev:
        say_problems(problems)
    if not app.config.jobs and not app.config.allow:
        log.warning("MODULES none: only command jobs can run here; %s", _module_hint(queues))
    code = workers.run() if app.wait_until_fit(workers.stop, log) else 0
    return hangup.end(code, workers.told, log)


def _module_hint(queues: Sequence[str]) -> str:
    for name in queues:
        if Path(f"{name}.py").is_file() or Path(name).is_dir():
            return f"did you mean -m {name}? As an argument it is a queue"
    return "name modules with -m MODULE or CRONQ_JOBS"

"""The verbs. Each one's module is imported only when the verb is used, so that `cronq --help` is quick."""

from __future__ import annotations

import importlib
import io
import sys
from typing import Any

import click

#: verb -> (module, what it does in a line)
VERBS: dict[str, tuple[str, str]] = {
    "dev": ("dev", "Run all of it here: a private Redis, a beat, a worker."),
    "beat": ("beat", "Turn due ticks into runs; start two or more."),
    "worker": ("worker", "Execute runs from queues."),
    "run-due": ("beat", "One pass of a beat, to be started from cron."),
    "list": ("jobs", "All jobs: when next, how they did."),
    "show": ("jobs", "Everything about one job."),
    "next": ("jobs", "The next ticks of one job or of all."),
    "explain": ("explain", "Say in words when a cron expression fires."),
    "history": ("history", "What became of each tick of a job."),
    "graph": ("graph", "Which job waits for which."),
    "why": ("why", "Why a tick ended as it did, or has not run."),
    "diff": ("diff", "What went otherwise than on another day."),
    "stats": ("stats", "How long runs take to begin and to end."),
    "exec": ("exec", "Run a command under a lock, from cron or a shell."),
    "once": ("locks", "Take a lock for a fixed time: once NAME && CMD."),
    "locks": ("locks", "Which locks are held, and by whom."),
    "run": ("run", "Run a job now, beside its schedule."),
    "stop": ("run", "Stop a run, or all runs of a job."),
    "catchup": ("catchup", "Late runs that are held after an outage."),
    "backfill": ("backfill", "Run the past ticks of a job in a span of time."),
    "mark-success": ("amend", "Say that a tick succeeded after all."),
    "reset": ("amend", "Forget how a job did; its history stays."),
    "delayed": ("delayed", "What is held back for later, whoever put it there."),
    "reschedule": ("delayed", "Change when a delayed run is due."),
    "adopt": ("delayed", "Make a job of a repeating job of rq-scheduler."),
    "pause": ("pause", "Let no tick of a job, or no queue, run until `resume`."),
    "skip": ("pause", "Do not run the next ticks of a job."),
    "resume": ("pause", "Let a job, a queue or drained workers run again."),
    "drain": ("drain", "Let workers take no more, before a deploy."),
    "add": ("add", "Store a command as a job."),
    "rm": ("add", "Remove jobs."),
    "calendar": ("calendar", "Days that jobs run on, or do not."),
    "group": ("group", "Named sets of hosts that commands run on."),
    "sync": ("sync", "Store the jobs that modules define."),
    "plan": ("plan", "What a sync would do, and to which ticks."),
    "simulate": ("simulate", "What becomes of each tick in a span of time."),
    "ghosts": ("sync", "Stored jobs that nothing defines any more."),
    "crontab": ("crontab", "Bring crontabs here, and jobs back to one."),
    "check-config": ("config", "Check job modules and settings, without Redis."),
    "config": ("config", "The settings, and where each came from."),
    "host-id": ("status", "The name of this host in groups and histories."),
    "beats": ("status", "The beats, and when each was heard of."),
    "workers": ("status", "The workers, and what each is doing."),
    "check": ("check", "Checks for Nagios: redis, beat, workers, clock."),
}
#: Verbs that are planned: refused by name, because a guess would be worse than a refusal.
NOT_BUILT = (
    "archive", "doctor", "init", "leases", "logs",
    "metrics", "query", "resource", "scan", "token", "top",
    "web",
)  # fmt: skip


class _Verbs(click.Group):
    """Finds verbs by name and imports their module only then."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        module = importlib.import_module(f"cronq.cli.{VERBS[name][0]}")
        command = getattr(module, name.replace("-", "_") + "_command")
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, words) for name, (_, words) in VERBS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[:1] == ["check"]:
            ctx.ensure_object(dict)["nagios"] = True  # a faulty call of it is UNKNOWN, whoever notices
        if args[:1] != ["exec"]:  # whose command may have any words: they are not stored
            for word in args:
                _refuse_bytes(word, ctx)
        if args and args[0] in NOT_BUILT:
            raise click.UsageError(f"the verb {args[0]!r} is not part of this version yet", ctx)
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], VERBS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"there is no verb {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)


def _refuse_bytes(word: str, ctx: click.Context) -> None:
    """Raise UsageError for a word that is not UTF-8: Python hands its bytes on as surrogates."""
    try:
        word.encode()
    except UnicodeEncodeError:
        shown = word.encode("utf-8", "backslashreplace").decode()
        raise click.UsageError(f"{shown!r} is not UTF-8, and nothing else can be stored", ctx) from None


@click.group(cls=_Verbs, subcommand_metavar="VERB ...", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--url", metavar="URL", help="Redis; else CRONQ_REDIS_URL, RQ_REDIS_URL, REDIS_URL.")
@click.option("--prefix", metavar="WORD", help="Which installation on that Redis (cronq).")
@click.option("--debug", is_flag=True, help="Show tracebacks and debug logs.")
@click.version_option(package_name="cronq-rq", prog_name="cronq", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, url: str | None, prefix: str | None, debug: bool) -> None:
    """Distributed cron and a task queue on Redis and RQ: each tick exactly once, each with one recorded outcome.

    Options stand before or after the verb. `cronq VERB --help` tells more.
    """
    ctx.ensure_object(dict)
    ctx.obj.update(url=url, prefix=prefix, debug=debug)


def run() -> int:
    """Do what the words of the command line say. Returns the exit code."""
    call: dict[str, Any] = {}
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows no umlauts shows something instead
            stream.reconfigure(errors="backslashreplace")
    try:
        code = cli.main(prog_name="cronq", standalone_mode=False, obj=call)
        if sys.stdout is not None:
            sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except Exception as error:
        from cronq.cli.errors import tell

        code = tell(error, call)
    return code if isinstance(code, int) else 0

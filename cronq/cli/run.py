"""`run` and `stop`: one run now or later, and the end of open ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cronq.cli.options import (
    due_option,
    find_job,
    open_app,
    options_of_cronq,
    suggesting,
    tick_option,
    warn_of_unknown_queue,
)
from cronq.cli.output import print_line, say
from cronq.errors import BadValue
from cronq.timetext import format_duration, parse_duration_s

if TYPE_CHECKING:
    from cronq.app.app import Cronq
    from cronq.app.views import JobSpec, Run

_FAILED, _TIMED_OUT, _INTERRUPTED = 1, 124, 130


class _WithWords(click.Command):
    """A verb whose call may end with `-- WORD…`; `ctx.meta` has them. What stands before stays as strict as ever."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words: list[str] = []
        if "--" in args:
            at = args.index("--")
            args, words = args[:at], args[at + 1 :]
        ctx.meta[__name__] = tuple(words)
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- WORD...]"]


@click.command("run", cls=_WithWords)
@click.argument("name")
@click.option("--arg", "arguments", multiple=True, metavar="K=V", help="Keyword argument; V is JSON or plain text.")
@click.option("--in", "delay", metavar="SPAN", help="Not now, but so long from now: 5m, 1h30m.")
@click.option("--at", "instant", metavar="TIME", help="Not now, but then (ISO 8601; UTC without an offset).")
@click.option("--if-idle", is_flag=True, help="Do nothing when a run of the job is open.")
@click.option("--force", is_flag=True, help="Run a tick once more: the newest in the history, or that of --tick.")
@click.option("--tick", metavar="TIME", help="With --force: which tick: 02:30, or ISO 8601; of the job's zone.")
@click.option("--wait", is_flag=True, help="Wait for the outcome and pass it on as the exit code.")
@options_of_cronq
@click.pass_context
def run_command(
    ctx: click.Context,
    name: str,
    arguments: tuple[str, ...],
    delay: str | None,
    instant: str | None,
    if_idle: bool,
    force: bool,
    tick: str | None,
    wait: bool,
) -> int:
    """Queue one run of the job NAME, now or later, beside its schedule, and print its id.

    It has the arguments of the job, and those of --arg in place of the job's of that name. Of a command this run has
    the WORDs after its own. With --force it is no further run: a tick runs again, whatever became of it, as the next
    attempt of its run.

    With --wait the exit code is 0 when it succeeded, 124 when it timed out, what the command or sys.exit said when
    that failed, else 1. Ctrl-C leaves the run alone.
    """
    app = open_app(ctx)
    spec = find_job(app, name).spec
    due = due_option(app, delay, instant)
    if force or tick is not None:
        if not force:
            raise click.UsageError("--tick belongs to --force")
        if arguments or ctx.meta[__name__] or if_idle or due is not None:
            raise click.UsageError("--force runs a tick once more, as it was; it takes --tick and --wait alone")
        run_id = app.run_again(name, tick_option(app, name, tick))
    else:
        args, kwargs = _call_of(spec, arguments, ctx.meta[__name__])
        if if_idle and due is not None:
            raise click.UsageError("--if-idle looks at the job now; leave out --in and --at")
        if if_idle:
            run_id, is_new = app.enqueue_if_idle(name, args, kwargs)
            if not is_new:
                say(f"{run_id} is open, so nothing was queued")
                return 0
        else:
            run_id = app.enqueue(name, args, kwargs) if due is None else app.enqueue_at(due, name, args, kwargs)
    return _follow(app, spec, run_id, is_now=due is None, wait=wait)


def _follow(app: Cronq, spec: JobSpec, run_id: str, *, is_now: bool, wait: bool) -> int:
    """Print the id of a run, and wait for its end if that is asked for. Return the exit code."""
    try:
        print_line(run_id)
        if is_now and not app.is_served(spec.queue):
            say(f"no `cronq worker` serves the queue {spec.queue!r} at the moment; the run waits for one")
        if not wait:
            return 0
        run = app.wait_for(run_id)
    except KeyboardInterrupt:
        say(f"{run_id} goes on without us; `cronq stop {run_id}` ends it")
        return _INTERRUPTED
    took = f" after {format_duration(run.duration_s)}" if run.duration_s is not None else ""
    say(f"{run_id} {run.outcome}{took}" + ("" if run.outcome == "succeeded" else f": {run.reason}"))
    return _exit_code(run)


def _call_of(
    spec: JobSpec, arguments: tuple[str, ...], words: tuple[str, ...]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of one run, none for those of its job."""
    kwargs = dict(_argument(text) for text in arguments)
    if kwargs and spec.command is not None:
        raise click.UsageError(f"the job {spec.name!r} is a command and takes no --arg; give it words: -- WORD")
    if words and spec.command is None:
        problem = f"the job {spec.name!r} is a function and takes --arg NAME=VALUE instead of words after --"
        raise click.UsageError(problem)
    return (tuple(spec.args), {**spec.kwargs, **kwargs}) if kwargs else (words, {})


def _exit_code(run: Run) -> int:
    if run.outcome == "succeeded":
        return 0
    if run.outcome == "timed_out":
        return _TIMED_OUT
    return run.exit_code or _FAILED if run.outcome == "failed" else _FAILED


def _argument(text: str) -> tuple[str, Any]:
    from cronq.app.arguments import argument_of

    key, sign, raw = text.partition("=")
    if not sign or not key.isidentifier():
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--arg")
    try:
        return key, argument_of(raw)
    except BadValue as error:
        words = f"the value of {key}: {error}; pass a path or a key instead"
        raise click.BadParameter(words, param_hint="--arg") from None


@click.command("stop")
@click.argument("name_or_run", metavar="NAME|RUN", required=False)
@click.option("--queue", metavar="QUEUE", help="Stop what stands in that queue instead, and has not begun.")
@click.option("--older", metavar="SPAN", help="With --queue: only what has stood there for so long (1h).")
@click.option("--note", default="", metavar="TEXT", help="With --queue: why; it stands in the history.")
@options_of_cronq
@click.pass_context
def stop_command(ctx: click.Context, name_or_run: str | None, queue: str | None, older: str | None, note: str) -> int:
    """Stop one run by its id, or all open runs of a job by its name: TERM, the job's grace, then KILL.

    With --queue the runs of all jobs that stand in that queue; those that have begun go on. Prints the ids of the runs
    that are being stopped.
    """
    if (name_or_run is None) == (queue is None):
        raise click.UsageError("name the run, the job, or the queue: cronq stop NAME|RUN, cronq stop --queue QUEUE")
    if name_or_run is None:
        return _stop_queue(open_app(ctx), str(queue), older, note)
    if older is not None or note:
        raise click.UsageError("--older and --note belong to --queue")
    app = open_app(ctx)
    with suggesting(app, name_or_run):
        stopped = app.stop(name_or_run)
    for run_id in stopped:
        print_line(run_id)
    if not stopped:
        say(f"nothing of {name_or_run} is queued or running")
    return 0


def _stop_queue(app: Cronq, queue: str, older: str | None, note: str) -> int:
    try:
        older_s = 0.0 if older is None else parse_duration_s(older)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--older") from None
    stopped = app.stop_queue(queue, older_s=older_s, note=note)
    for run_id in stopped:
        print_line(run_id)
    if not stopped:
        what = "stands" if older is None else f"has stood for {format_duration(older_s)}"
        say(f"no run {what} in the queue {queue}")
        warn_of_unknown_queue(app, queue)
    return 0

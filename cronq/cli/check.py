"""`check`: what is wrong, as monitoring systems read it."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

import click

from cronq.app.redis_words import redis_words
from cronq.cli.options import call_state, open_app, options_of_cronq
from cronq.cli.output import print_line

if TYPE_CHECKING:
    from cronq.app.app import Cronq
    from cronq.app.views import Finding


#: The exit code of a check that found the worst.
_CRITICAL = 2
_CHECKS_NOT_BUILT = frozenset(["jobs", "queue", "file-age", "disk", "load"])


class _Checks(click.Group):
    """The checks; a faulty call of one exits with 3, which monitoring systems read as UNKNOWN."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        call_state(ctx)["nagios"] = True
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name in _CHECKS_NOT_BUILT:
            raise click.UsageError(f"the check {name!r} is not part of this version yet", ctx)
        if name not in self.commands and not name.startswith("-"):
            close = difflib.get_close_matches(name, self.commands, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"there is no check {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group("check", cls=_Checks, subcommand_metavar="WHAT ...")
@options_of_cronq
def check_command() -> None:
    """Checks after the Nagios plugin rules: one line, exit 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN."""


def _guarded(ctx: click.Context, check: Callable[[Cronq], Finding]) -> int:
    """Run *check* and print its line; a Redis that does not answer is CRITICAL, never OK."""
    from redis.exceptions import RedisError

    app = open_app(ctx)
    try:
        finding = check(app)
    except (RedisError, OSError) as error:
        print_line(f"CRONQ CRITICAL - Redis at {app.config.shown_url} does not answer: {redis_words(error)}")
        return _CRITICAL
    print_line(finding.line)
    return finding.state


@check_command.command("redis", short_help="Whether Redis is fit, how full it is, and will be.")
@options_of_cronq
@click.pass_context
def check_redis_command(ctx: click.Context) -> int:
    """Version, role, eviction policy and persistence of Redis; how full it is, and when it will be."""
    return _guarded(ctx, lambda app: app.check_redis())


@check_command.command("beat")
@click.option(
    "--least", default=1, show_default=True, type=click.IntRange(1), metavar="N",
    help="CRITICAL below so many beats; 1 alone is a WARNING.",
)  # fmt: skip
@options_of_cronq
@click.pass_context
def check_beat_command(ctx: click.Context, least: int) -> int:
    """Whether beats are alive and at work."""
    return _guarded(ctx, lambda app: app.check_beats(least))


@check_command.command("workers")
@click.option(
    "--least", default=1, show_default=True, type=click.IntRange(1), metavar="N", help="CRITICAL below so many workers."
)
@options_of_cronq
@click.pass_context
def check_workers_command(ctx: click.Context, least: int) -> int:
    """Whether workers are alive, and none has fallen silent."""
    return _guarded(ctx, lambda app: app.check_workers(least))


@check_command.command("clock")
@options_of_cronq
@click.pass_context
def check_clock_command(ctx: click.Context) -> int:
    """Clocks of this host and of the beats against that of Redis."""
    return _guarded(ctx, lambda app: app.check_clock())


@check_command.command("groups")
@click.option(
    "--crontab", "crontabs", multiple=True, type=click.File("rb"), metavar="FILE",
    help="Lines of this file that call `cronq exec --group`; may be repeated.",
)  # fmt: skip
@options_of_cronq
@click.pass_context
def check_groups_command(ctx: click.Context, crontabs: tuple[IO[bytes], ...]) -> int:
    """Whether the groups that crontabs name are there."""
    return _guarded(ctx, lambda app: app.check_groups([(file.name, file.read()) for file in crontabs]))


@check_command.command("hosts")
@options_of_cronq
@click.pass_context
def check_hosts_command(ctx: click.Context) -> int:
    """Whether each group that has hosts has one on which a beat or a worker is alive."""
    return _guarded(ctx, lambda app: app.check_hosts())

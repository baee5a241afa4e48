"""`sync`, `ghosts`, `check-config`, `config`: what is defined, and by what settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cronq.app.views import config_document, config_values, ghost_row, sync_document
from cronq.cli.shared import as_json, load_config, open_app, places, print_json, print_line, print_table, say
from cronq.timetext import format_duration

if TYPE_CHECKING:
    from cronq.config import Config

_BAD_DEFINITION = 78


@click.command("sync")
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@as_json
@places
@click.pass_context
def sync_command(ctx: click.Context, modules: tuple[str, ...], json_: bool) -> int:
    """Store the jobs that MODULEs define (default: CRONQ_JOBS) and remove those that they no longer define.

    A job whose definition is refused keeps its old one; the others go on. Exit 78 when any was refused.
    """
    app = open_app(ctx, jobs=modules)
    _need_modules(app.config, "sync")
    report = app.sync()
    if json_:
        print_json(sync_document(report))
    else:
        for words in ("created", "changed", "removed"):
            for name in getattr(report, words):
                print_line(f"{words} {name}")
    for problem in report.problems:
        say(problem)
    if report.same:
        say(f"{_count(report.same, 'job')} {'is as it was' if len(report.same) == 1 else 'are as they were'}")
    if not (app.registry.definitions or report.problems):
        _say_no_job(app.config)
    return _BAD_DEFINITION if report.problems else 0


@click.command("ghosts")
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@as_json
@places
@click.pass_context
def ghosts_command(ctx: click.Context, modules: tuple[str, ...], json_: bool) -> int:
    """Stored jobs that nothing defines any more: neither the MODULEs they came from (default: CRONQ_JOBS), nor the
    crontab they came from when it was imported last. They go on running; `cronq rm` removes them.
    """
    app = open_app(ctx, jobs=modules)
    found = app.ghosts()
    for problem in app.registry.broken_modules.values():
        say(problem)
    if json_:
        print_json([ghost_row(job) for job in found])
    elif found:
        print_table(["NAME", "FROM", "LAST SEEN AT"], [[job.spec.name, job.origin, job.source] for job in found])
    else:
        say("no ghosts")
    return 0


@click.command("check-config")
@click.argument("modules", nargs=-1, metavar="[MODULE]...")
@as_json
@places
@click.pass_context
def check_config_command(ctx: click.Context, modules: tuple[str, ...], json_: bool) -> int:
    """Check the settings and the jobs of MODULEs (default: CRONQ_JOBS) without touching Redis, for CI.

    One line for each fault, with its place and the remedy; exit 78 when there are any.
    """
    from cronq.app.app import Cronq

    config = load_config(ctx, jobs=modules)
    _need_modules(config, "check-config")
    app = Cronq(config=config)
    problems = [str(problem) for problem in app.load_jobs()]
    names = sorted(app.registry.definitions)
    if json_:
        print_json({"jobs": names, "problems": problems})
        return _BAD_DEFINITION if problems else 0
    for problem in problems:
        print_line(problem)
    if names or problems:
        say(f"{_count(names, 'job')} sound, {_count(problems, 'fault')}")
    else:
        _say_no_job(config)
    return _BAD_DEFINITION if problems else 0


def _need_modules(config: Config, verb: str) -> None:
    if not config.jobs:
        raise click.UsageError(f"name the modules that define jobs: cronq {verb} MODULE..., or set CRONQ_JOBS")


def _say_no_job(config: Config) -> None:
    say(f"no job is defined in {', '.join(config.jobs)}; decorate a function with @job(...)")


def _count(found: list[str], word: str) -> str:
    return f"{len(found)} {word}{'' if len(found) == 1 else 's'}"


@click.command("config")
@as_json
@places
@click.pass_context
def config_command(ctx: click.Context, json_: bool) -> int:
    """The settings, and where each came from: command line, environment, cronq.toml, pyproject.toml or default."""
    config = load_config(ctx)
    if json_:
        print_json(config_document(config))
        return 0
    values = config_values(config) | {"host_id": config.host}
    rows = [
        [name, _shown(value), config.origin(name), "CRONQ_REDIS_URL" if name == "url" else f"CRONQ_{name.upper()}"]
        for name, value in values.items()
    ]
    print_table(["SETTING", "VALUE", "FROM", "VARIABLE"], rows)
    return 0


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(str(item) for item in value) or "(none)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return format_duration(value)
    return str(value)

"""`group`: named sets of hosts, on which commands and jobs run."""

from __future__ import annotations

from typing import IO

import click

from cronq.app.group_view import group_row
from cronq.cli.options import as_json, open_app, options_of_cronq
from cronq.cli.output import counted, print_json, print_line, print_table, say
from cronq.errors import UnknownGroup


@click.group("group", subcommand_metavar="VERB ...")
@options_of_cronq
def group_command() -> None:
    """Named sets of hosts and of other groups, kept in Redis: change one, and what names it moves."""


@group_command.command("set", short_help="Store a group, in place of one of that name.")
@click.argument("name")
@click.argument("entries", nargs=-1, metavar="[HOST|GROUP...]")
@options_of_cronq
@click.pass_context
def set_command(ctx: click.Context, name: str, entries: tuple[str, ...]) -> int:
    """Store the group NAME, in place of one of that name. Without hosts nothing that names it runs anywhere.

    \b
        cronq group set mail box1.example box2.example
        cronq group set all mail web

    An entry that is the name of a group stands for its hosts. A command that runs on a host which is no longer in the
    group is stopped within two seconds.
    """
    app = open_app(ctx)
    is_new = app.set_group(name, entries)
    hosts = app.hosts_of_group(name)
    say(f"the group {name} {'has' if is_new else 'is as it was, with'} {counted(len(hosts), 'host')}")
    return 0


@group_command.command("list")
@as_json
@options_of_cronq
@click.pass_context
def list_command(ctx: click.Context, json_: bool) -> int:
    """All groups, with what they were given and the hosts that this comes to."""
    groups = open_app(ctx).read_groups()
    rows = [group_row(groups, name) for name in groups]
    if json_:
        print_json(rows)
    elif rows:
        print_table(
            ["GROUP", "HOSTS", "ENTRIES"],
            [[row["name"], str(len(row["hosts"])), " ".join(row["entries"]) or "(none)"] for row in rows],
        )
    else:
        say("there is no group; `cronq group set NAME HOST…` stores one")
    return 0


@group_command.command("hosts")
@click.argument("name")
@as_json
@options_of_cronq
@click.pass_context
def hosts_command(ctx: click.Context, name: str, json_: bool) -> int:
    """The hosts of the group NAME, those of groups in it included, one a line."""
    hosts = open_app(ctx).hosts_of_group(name)
    if json_:
        print_json(hosts)
        return 0
    for host in hosts:
        print_line(host)
    return 0


@group_command.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@options_of_cronq
@click.pass_context
def rm_command(ctx: click.Context, names: tuple[str, ...]) -> int:
    """Remove groups. What runs by one of them is stopped, and what names it does not run: 78."""
    removed = open_app(ctx).remove_groups(names)
    for name in removed:
        say(f"the group {name} is removed")
    missing = [name for name in names if name not in removed]
    if missing:
        raise UnknownGroup(f"there is no group {', '.join(map(repr, missing))}; see `cronq group list`")
    return 0


@group_command.command("import")
@click.argument("file", type=click.File("rb"))
@options_of_cronq
@click.pass_context
def import_command(ctx: click.Context, file: IO[bytes]) -> int:
    """Store the groups of a JSON FILE in place of all: {"groups": {"mail": ["box1", "box2"], "all": ["mail"]}}.

    A file that is wrong anywhere changes nothing.
    """
    changed = open_app(ctx).import_groups(file.read())
    say(f"{counted(len(changed), 'group')} changed" + (f": {', '.join(changed)}" if changed else ""))
    return 0

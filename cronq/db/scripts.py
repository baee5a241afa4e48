"""Loads the Lua scripts by name, as `runs/claim`.

Each file in `lua/` says at its head what it takes, what it gives and why it is one step.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from cronq.db.keys import RQ

if TYPE_CHECKING:
    from redis import Redis
    from redis.commands.core import Script


#: A line that stands for functions which several scripts have in common.
_PART = re.compile(r"^--@ (\w+)\n", re.MULTILINE)


@cache
def source(name: str) -> str:
    """The text of `lua/<name>.lua`; a line `--@ part` in it is replaced by `lua/parts/<part>.lua`.

    A part may ask for others in the same way; each comes once, where it is first asked for. `{RQ}` is replaced by what
    RQ's keys begin with.
    """
    return _with_parts(name, set()).replace("{RQ}", RQ)


def _with_parts(name: str, there: set[str]) -> str:
    def part(found: re.Match[str]) -> str:
        if found[1] in there:
            return ""
        there.add(found[1])
        return _with_parts(f"parts/{found[1]}", there)

    return _PART.sub(part, (files("cronq") / "lua" / f"{name}.lua").read_text(encoding="utf-8"))


def names() -> list[str]:
    """The names of all scripts, `runs/claim` and so on."""
    root = files("cronq") / "lua"
    rooms = [room for room in root.iterdir() if room.is_dir() and room.name != "parts"]
    return sorted(f"{room.name}/{each.name.removesuffix('.lua')}" for room in rooms for each in room.iterdir())


def load(client: Redis, name: str) -> Script:
    """A callable script bound to *client*; a server that does not know it yet is taught on first use."""
    return client.register_script(source(name))

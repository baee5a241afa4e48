"""Loads the Lua scripts by name; each file in `lua/` says at its head what it takes, gives and why it is one step."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redis import Redis
    from redis.commands.core import Script


@cache
def source(name: str) -> str:
    """The text of `lua/<name>.lua`."""
    return (files("cronq") / "lua" / f"{name}.lua").read_text()


def load(client: Redis, name: str) -> Script:
    """A callable script bound to *client*; a server that does not know it yet is taught on first use."""
    return client.register_script(source(name))
